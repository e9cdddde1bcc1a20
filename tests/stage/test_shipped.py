"""The experts inside the package."""

import pytest

from dd.env.kinetix import Kinetix
from dd.experts.__main__ import LEVELS
from dd.stage.expert import Expert
from dd.store import Store


@pytest.fixture
def shipped(tmp_path):
    return {each.key: each for each in Store.open(tmp_path).entries()}


def test_those_that_can_be_trained_again_are_there_and_no_others(shipped):
    assert shipped.keys() == {Expert(env=Kinetix(level=name)).key() for name in LEVELS}


def test_each_is_whole_and_ends_with_a_checkpoint_that_solves_nine_in_ten(shipped):
    for each in shipped.values():
        each.verify()
        assert each.manifest["summary"]["solve_rates"][-1] >= 0.9
        assert each.manifest["summary"]["num_evals"] == 512
    assert sum(file.stat().st_size for each in shipped.values() for file in each.path.iterdir()) < 40 * 2**20
