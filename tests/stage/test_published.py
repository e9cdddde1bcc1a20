"""A published policy stands where a training would: by content, one set of parameters, a seed for its sampling."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest

from dd.env.pointmass import PointMass
from dd.errors import UserError
from dd.policy import LoadedPolicy
from dd.schedule.flow import Flow
from dd.stage import level_file, published
from dd.stage.published import ChangedError, Published
from tests import others
from tests.stage.working import Work

ENV = PointMass()


@pytest.fixture
def given(tmp_path):
    """A stage for a file that holds these parameters."""

    def call(tree, name="policy.pkl"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(tree))
        found = published.look(file, ENV)
        digest = level_file.digest(file)
        shared = {"env": ENV, "process": Flow(), "source": str(file), "digest": digest}
        return Published(model=found.model, action_chunk_size=found.chunk, **shared)

    return call


def test_its_result_is_a_trained_policy_s(given, tmp_path):
    """The chunk of the loaded policy is Euler's on the published network, from the noise that the key gives."""
    tree = others.parameters(layers=1)
    stage = given(tree)
    work = Work(tmp_path / "work")
    assert stage.build()(stage, work) == {"parameters": sum(x.size for x in jax.tree.leaves(tree))}
    assert {file.name for file in work.path.iterdir()} == {"last.safetensors", "policy.json"}
    assert json.loads((work.path / "policy.json").read_text())["chunk"] == 4
    loaded = LoadedPolicy.read(work.path, stage.checkpoint(None))
    assert loaded.policy == stage.policy()
    key, obs = jax.random.key(5), np.array([0.3, -0.2, 0.1, 0.0], np.float32)
    x = np.asarray(loaded.policy.prior(key[None]).x, np.float64)
    for k in range(3):
        x = x + others.velocity(tree, obs[None], x, k / 3) / 3
    assert np.abs(loaded.action(key, obs, 3) - x[0]).max() < 1e-5


def test_the_key_is_the_content_s_and_the_seed_s(given):
    stage, moved = given(others.parameters(seed=1)), given(others.parameters(seed=1), "moved.pkl")
    assert (stage.key(), stage.source == moved.source) == (moved.key(), False)
    assert dataclasses.replace(stage, seed=1).key() != stage.key() != given(others.parameters(seed=2)).key()
    assert (stage.kind, stage.upstream()) == ("policy", ())


def test_a_file_that_changes_meanwhile_is_not_taken_for_the_other(given, tmp_path):
    stage = given(others.parameters(seed=1))
    given(others.parameters(seed=2))
    with pytest.raises(ChangedError, match="has changed since this command began; run it again"):
        stage.build()(stage, Work(tmp_path / "work"))


@pytest.mark.parametrize("epoch", ["best", 3, 0])
def test_there_is_no_other_epoch(given, epoch):
    with pytest.raises(UserError, match=f"{epoch}: policy.checkpoint gives the parameters after one epoch only"):
        given(others.parameters()).checkpoint(epoch)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (others.parameters(obs_dim=5), "is for observations of 5 numbers where the level has 4; choose the level"),
        (others.parameters(action_dim=3), "is for actions of 3 numbers where the level has 2"),
        ({"actor": {}}, r"holds other parameters \(in_proj/kernel is missing\); give a flow policy"),
        ([], "holds other parameters"),
        (np.load, "names numpy.load; only arrays"),
    ],
)
def test_what_is_no_such_policy_is_refused(given, tree, message):
    with pytest.raises(UserError, match=rf"policy\.checkpoint: .*policy.pkl.*{message}"):
        given(tree)
