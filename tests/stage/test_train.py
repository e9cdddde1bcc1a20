"""Laws of imitation: it learns, resumes bit for bit, stops at a loss that is no number, and loads as it was saved."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dd import arrays
from dd.env.pointmass import PointMass
from dd.model.mixer import Mixer
from dd.optimizer import AdamW, Plateau
from dd.policy import LoadedPolicy
from dd.schedule.flow import Flow
from dd.schedule.masked import Masked, MaskGIT
from dd.schedule.uniform import Uniform
from dd.stage.demonstrations import Demonstrations
from dd.stage.demos import Demos
from dd.stage.expert import Expert
from dd.stage.train import DivergedError, Train
from tests.stage.working import Killed, Work

TRAIN = Train(
    demos=Demos(experts=(Expert(env=PointMass()),)),
    process=Masked(num_bins=8),
    model=Mixer(num_layers=1, channel_dim=32, channel_hidden_dim=32, token_hidden_dim=8),
    optimizer=AdamW(learning_rate=1e-2, warmup_steps=5),
    action_chunk_size=4,
    epochs=3,
    batch_size=8,
    checkpoint_epochs=(2,),
    seed=1,
)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Streams in which the action is a fixed function of the observation, episodes of 20 steps."""
    folder = tmp_path_factory.mktemp("demos")
    draw = np.random.default_rng(0)
    obs = draw.normal(size=(8, 120, 4)).astype(np.float32)
    action = np.where(obs[..., :2] > 0, 0.8, -0.8).astype(np.float32)
    done = np.broadcast_to(np.arange(120) % 20 == 19, (8, 120))
    episode = np.arange(120) // 20 + 6 * np.arange(8)[:, None]
    data = Demonstrations(
        obs=obs.reshape(-1, 4),
        columns=np.arange(4, dtype=np.int32),
        constant=np.zeros(4, np.float32),
        action=action,
        done=done,
        validation=np.isin(episode, [3, 17, 40]),
    )
    arrays.write(folder / "demos.safetensors", data._asdict())
    return {"demos": folder}


@pytest.fixture(scope="module")
def runner():
    return TRAIN.build()


@pytest.fixture(scope="module")
def whole(runner, demos, tmp_path_factory):
    work = Work(tmp_path_factory.mktemp("whole"), demos)
    return work, runner(TRAIN, work)


def metrics(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_the_loss_falls_and_the_files_tell_it(whole):
    work, summary = whole
    rows = metrics(work.path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    losses = [float(row["loss"]) for row in rows]
    assert losses[2] < losses[0] - 0.05
    assert summary["loss"] == losses[2]
    assert float(rows[2]["validation_loss"]) == pytest.approx(losses[2], abs=0.3)
    # MaskGIT's cosine masks 2 / pi of the tokens on average.
    assert all(float(row["masked_fraction"]) == pytest.approx(2 / np.pi, abs=0.05) for row in rows)
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
    assert [step for step, _ in work.logged] == [1, 2, 3]
    assert all(metrics["samples_per_second"] > 0 for _, metrics in work.logged)


def test_equal_runs_have_equal_files_but_for_timings(whole, runner, demos, tmp_path):
    work, summary = whole
    again = Work(tmp_path / "again", demos)
    assert runner(TRAIN, again) == summary
    names = {path.name for path in work.path.iterdir() if not path.name.startswith(".")}
    assert names == {
        "metrics.csv",
        "timings.csv",
        "policy.json",
        "last.safetensors",
        "best.safetensors",
        "epoch_2.safetensors",
    }
    for name in names - {"timings.csv"}:
        assert (work.path / name).read_bytes() == (again.path / name).read_bytes(), name


def test_another_seed_gives_other_parameters_through_the_same_program(whole, runner, demos, tmp_path):
    step, _, _ = next(iter(runner._programs.values()))
    compiled = step._cache_size()
    other = Work(tmp_path / "other", demos)
    runner(dataclasses.replace(TRAIN, seed=2), other)
    assert step._cache_size() == compiled == 1
    assert (other.path / "last.safetensors").read_bytes() != (whole[0].path / "last.safetensors").read_bytes()


@pytest.mark.parametrize("alive", [0, 5, 10])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(whole, runner, demos, tmp_path, alive):
    work = Work(tmp_path / "work", demos, alive=alive)
    with pytest.raises(Killed):
        runner(TRAIN, work)
    resumed = Work(work.path, demos)
    assert runner(TRAIN, resumed) == whole[1]
    assert any("goes on after" in line for line in resumed.lines) == (alive > 0)
    for name in ("last", "best", "epoch_2"):
        file = f"{name}.safetensors"
        assert (work.path / file).read_bytes() == (whole[0].path / file).read_bytes(), name


def test_a_loss_that_is_no_number_names_epoch_step_and_what_to_try(demos, tmp_path):
    wild = dataclasses.replace(TRAIN, optimizer=AdamW(learning_rate=1e30, warmup_steps=0, clip_norm=1e30))
    message = r"epoch 1, step \d+ of \d+; try a smaller optimizer.learning_rate \(now 1e\+30\)"
    with pytest.raises(DivergedError, match=message):
        wild.build()(wild, Work(tmp_path / "wild", demos))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 5000}, "batch_size=5000 is more than the"), ({"action_chunk_size": 121}, "is more than the 0")],
)
def test_data_too_small_is_said(demos, tmp_path, change, message):
    stage = dataclasses.replace(TRAIN, **change)
    with pytest.raises(ValueError, match=message):
        stage.build()(stage, Work(tmp_path / "small", demos))


def test_a_saved_policy_gives_the_chunk_of_the_trained_parameters(whole):
    folder = whole[0].path
    loaded = LoadedPolicy.read(folder)
    policy = TRAIN.policy()
    assert loaded.policy == policy
    obs, key = jnp.array([0.5, -0.5, 0.1, 0.2]), jax.random.key(3)
    params = arrays.read(folder / "last.safetensors", jax.eval_shape(policy.create, key))
    denoise = policy.denoiser(jax.tree.map(jnp.asarray, params), obs[None])
    state, _ = policy.sample(denoise, MaskGIT(), key[None], policy.prior(key[None]), 5)
    assert np.array_equal(loaded.action(key, obs, 5), policy.actions(state)[0])
    assert loaded.action(key, obs, 5).shape == (4, 2)
    # What was learnt: the first action follows the observation's signs.
    first = np.stack([loaded.action(jax.random.key(i), obs, 5)[0] for i in range(100)])
    assert np.mean(first[:, 0] > 0) > 0.8
    assert np.mean(first[:, 1] < 0) > 0.8


def test_an_observation_of_another_shape_is_refused(whole):
    loaded = LoadedPolicy.read(whole[0].path)
    with pytest.raises(TypeError, match=r"shape \(5,\) where \(4,\) was trained on"):
        loaded.action(jax.random.key(0), jnp.zeros(5))


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(whole):
    work, summary = whole
    rows = metrics(work.path)
    lowest = min(rows, key=lambda row: float(row["validation_loss"]))
    assert summary["best_epoch"] == int(lowest["epoch"])
    kept = "epoch_2.safetensors" if lowest["epoch"] == "2" else "last.safetensors"
    if lowest["epoch"] in ("2", "3"):
        best, same = load_file(work.path / "best.safetensors"), load_file(work.path / kept)
        assert all(np.array_equal(best[name], same[name]) for name in best)
    assert json.loads((work.path / "policy.json").read_text())["chunk"] == 4


@pytest.fixture
def hopeless():
    """The validation loss can't fall: the rate is as good as 0."""
    return dataclasses.replace(TRAIN, optimizer=AdamW(learning_rate=1e-12, weight_decay=0.0), epochs=9)


def test_with_patience_it_ends_where_the_validation_loss_has_not_fallen(hopeless, demos, tmp_path):
    """Each epoch validates on the same corruption: a loss that does not move has not fallen. Also after a crash."""
    stage = dataclasses.replace(hopeless, checkpoint_epochs=(), patience=2)
    work = Work(tmp_path / "work", demos)
    runner = stage.build()
    summary = runner(stage, work)
    losses = [float(row["validation_loss"]) for row in metrics(work.path)]
    ends = next(n for n in range(3, 10) if min(losses[n - 2 : n]) >= min(losses[: n - 2]))
    assert len(losses) == ends < 9
    assert runner(stage, Work(work.path, demos)) == summary
    assert len(metrics(work.path)) == ends


def test_a_training_begins_with_the_parameters_of_another(hopeless, whole, demos, tmp_path):
    """After the epoch that is named; the rate here is as good as 0, so they stay what they were."""
    begun_anew = dataclasses.replace(hopeless, epochs=1, checkpoint_epochs=(), seed=5)
    runner = begun_anew.build()
    for epoch, file in ((2, "epoch_2"), (None, "last"), ("best", "best")):
        stage = dataclasses.replace(begun_anew, init=TRAIN, init_epoch=epoch)
        work = Work(tmp_path / file, demos | {"train": whole[0].path})
        runner(stage, work)
        begun, ended = load_file(whole[0].path / f"{file}.safetensors"), load_file(work.path / "last.safetensors")
        assert all(ended[name] == pytest.approx(begun[name], abs=1e-7) for name in begun)
    assert stage.upstream() == (stage.demos, TRAIN)
    assert stage.program() == dataclasses.replace(begun_anew, seed=1).program()


def test_with_a_rate_that_falls_on_a_plateau_it_resumes_bit_for_bit(demos, tmp_path):
    """The factor follows from the epochs before, which a resumed training knows."""
    falling = AdamW(learning_rate=1e-2, warmup_steps=5, lr_schedule=Plateau(patience=1, factor=0.1))
    stage = dataclasses.replace(TRAIN, optimizer=falling, epochs=4)
    runner = stage.build()
    at_once = Work(tmp_path / "at_once", demos)
    runner(stage, at_once)
    work = Work(tmp_path / "work", demos, alive=10)
    with pytest.raises(Killed):
        runner(stage, work)
    runner(stage, Work(work.path, demos))
    assert (work.path / "last.safetensors").read_bytes() == (at_once.path / "last.safetensors").read_bytes()


@pytest.mark.parametrize(
    "process", [Masked(num_bins=8), Uniform(num_bins=8), Flow()], ids=["masked", "uniform", "flow"]
)
def test_every_process_learns_with_prefixes_given(process, demos, tmp_path):
    """The first action follows the observation's signs, with five reverse steps."""
    stage = dataclasses.replace(TRAIN, process=process, simulated_delay=3, epochs=6)
    work = Work(tmp_path / "work", demos)
    stage.build()(stage, work)
    loaded = LoadedPolicy.read(work.path)
    assert loaded.policy.simulated_delay
    first = np.stack([loaded.action(jax.random.key(i), jnp.array([0.5, -0.5, 0.1, 0.2]))[0] for i in range(100)])
    assert np.mean(first[:, 0] > 0) > 0.8
    assert np.mean(first[:, 1] < 0) > 0.8
