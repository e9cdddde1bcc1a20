"""Evaluations side by side: the same rows, each compiled once, a failure its own."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from dd import arrays
from dd.decode.bid import Bid
from dd.decode.hard_masking import HardMasking
from dd.optimizer import AdamW
from dd.schedule.masked import MaskGIT
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.train import Train
from tests import tiny
from tests.stage.working import Work

POLICY = tiny.policy()
TRAIN = Train(
    demos=Demos(experts=(Expert(env=tiny.WORLD),)), process=POLICY.process, model=POLICY.model, optimizer=AdamW()
)
KEEPING = dataclasses.replace(TRAIN, checkpoint_epochs=(2,))
ROWS = [
    Eval(policy=TRAIN, decode=HardMasking(), sampler=MaskGIT(), inference_delay=d, execute_horizon=s, num_evals=6)
    for d, s in ((0, 1), (1, 1), (1, 3), (2, 2), (3, 3))
]


class Timing(Work):
    def timed(self, name, seconds):
        self.times = getattr(self, "times", {}) | {name: seconds}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "policy.json").write_text(json.dumps(POLICY.describe()))
    arrays.write(folder / "last.safetensors", tiny.params(POLICY))
    return {"train": folder}


def run(evaluator, stage, trained, folder, following=()):
    work = Timing(folder / stage.key(), trained)
    evaluator.ahead(list(following), work.result)
    summary = evaluator(stage, work)
    return summary, dict(np.load(work.path / "episodes.npz")), work.times


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """Every row through the program with nothing beside it."""
    evaluator = ROWS[0].build()
    return [run(evaluator, stage, trained, tmp_path_factory.mktemp("alone")) for stage in ROWS]


def test_rows_side_by_side_are_the_rows_alone(alone, trained, tmp_path):
    """Bit for bit, through one compiled program; latency is measured once for rows that differ in delay alone."""
    evaluator = ROWS[0].build()
    evaluator._side_by_side, begun = 3, []
    begin = evaluator._rollout
    evaluator._rollout = lambda *given: begun.append(1) or begin(*given)
    found = [run(evaluator, stage, trained, tmp_path, ROWS[i + 1 :]) for i, stage in enumerate(ROWS)]
    assert len(begun) == len(ROWS)
    assert begin._cache_size() == 1
    for (summary, episodes, times), (expected, theirs, _) in zip(found, alone, strict=True):
        assert summary == expected
        assert all(np.array_equal(episodes[name], theirs[name]) for name in theirs)
        assert times == found[0][2]
    assert len({summary["returned_episode_lengths"] for summary, _, _ in found}) > 1


def test_a_row_that_fails_beside_others_fails_alone(alone, trained, tmp_path):
    evaluator = ROWS[0].build()
    evaluator._side_by_side = 3
    run(evaluator, ROWS[0], trained, tmp_path)
    broken = dataclasses.replace(ROWS[1], epoch="best")  # no such file
    assert run(evaluator, ROWS[4], trained, tmp_path, [broken, ROWS[2]])[0] == alone[4][0]
    with pytest.raises(FileNotFoundError):
        run(evaluator, broken, trained, tmp_path)
    assert run(evaluator, ROWS[2], trained, tmp_path, ROWS[3:])[0] == alone[2][0]


def test_a_decode_is_given_the_epoch_that_it_names_beside_the_policy_s_own(trained, tmp_path):
    """The weak policy's file is read, and the network asked once more for each sample."""
    stage = dataclasses.replace(ROWS[1], decode=Bid(n_samples=4, weak=2, bid_k=2), policy=KEEPING)
    arrays.write(trained["train"] / "epoch_2.safetensors", weak := tiny.params(POLICY, 1))
    expected = {"policy": tiny.params(POLICY), "weak": weak}
    assert jax.tree.all(jax.tree.map(np.array_equal, stage.params(trained["train"]), expected))
    summary, _, _ = run(stage.build(), stage, trained, tmp_path)
    assert summary["network_evaluations"] == 2 * 4 * 5


def test_network_evaluations_are_those_of_a_chunk(alone):
    assert [summary["network_evaluations"] for summary, _, _ in alone] == [5.0] * len(ROWS)
    assert jax.default_backend() == "cpu" or ROWS[0].build()._side_by_side == 1
