"""Recorded demonstrations become what experts' own would have, by content, and nothing doubtful is learnt."""

import dataclasses
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from dd.env.pointmass import PointMass
from dd.errors import UserError
from dd.stage import level_file, npz, recorded
from dd.stage.demonstrations import Demonstrations
from dd.stage.demos import Demos
from dd.stage.expert import Expert
from dd.stage.recorded import Recorded, UnusableError
from tests import others
from tests.stage.working import Work

ENV = PointMass()


@pytest.fixture
def given(tmp_path):
    """A stage for a file with these arrays."""

    def call(arrays, save=np.savez, name="demos.npz"):
        save(tmp_path / name, **arrays)
        return Recorded(env=ENV, source=str(tmp_path / name), digest=level_file.digest(tmp_path / name))

    return call


def run(stage, folder):
    work = Work(folder)
    return stage.build()(stage, work), Demonstrations.read(work.path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("block", [2**26, 1000])
def test_the_data_are_those_recorded_environments_first(given, tmp_path, monkeypatch, save, block):
    monkeypatch.setattr(npz, "_BLOCK", block)
    arrays = others.recording() | {"more": np.arange(3)}
    arrays["obs"][:, :, 1] = 0.25
    summary, data = run(given(arrays, save), tmp_path / "work")
    assert np.array_equal(data.columns, [0, 2, 3])
    flat = np.swapaxes(arrays["obs"], 0, 1).reshape(-1, 4)
    assert np.array_equal(data.observations(jnp.arange(len(flat))), flat)
    for name in ("action", "done"):
        assert np.array_equal(getattr(data, name), np.swapaxes(arrays[name], 0, 1))
    assert summary == {
        "transitions": 960,
        "episodes": 48,
        "solve_rate": 0.5,
        "mean_length": 20.0,
        "validation_episodes": 2,
    }


def test_episodes_are_held_out_as_from_experts_demonstrations(given, tmp_path):
    stage = dataclasses.replace(given(others.recording()), validation_fraction=0.3, seed=4)
    _, data = run(stage, tmp_path / "work")
    experts = Demos(experts=(Expert(env=ENV),), validation_fraction=0.3, seed=4)
    held_out = experts.hold_out(48).reshape(8, 6)
    assert held_out.sum() == 14
    assert np.array_equal(data.validation, np.repeat(held_out, 20, axis=1))


def test_the_key_is_the_content_s(given):
    arrays = others.recording()
    stage, moved = given(arrays), given(arrays, name="moved.npz")
    assert stage.source != moved.source
    assert stage.key() == moved.key()
    arrays["obs"][3, 2, 1] += 1e-6
    assert given(arrays).key() != stage.key()
    assert (
        dataclasses.replace(stage, seed=1).key()
        != stage.key()
        != dataclasses.replace(stage, env=PointMass(hold=3)).key()
    )
    assert (stage.size, stage.upstream()) == (960, ())


def test_a_file_that_changes_meanwhile_is_not_taken_for_the_other(given, tmp_path):
    stage = given(others.recording())
    given(others.recording(seed=1))
    with pytest.raises(UnusableError, match="has changed since this command began; run it again"):
        run(stage, tmp_path / "work")


def _objects(arrays):
    arrays["obs"] = arrays["obs"].astype(object)


def _lacking(arrays):
    del arrays["done"], arrays["obs"]


def _environments_first(arrays):
    arrays["obs"] = np.swapaxes(arrays["obs"], 0, 1)


def _flat(arrays):
    arrays["action"] = arrays["action"].reshape(-1, 2)


def _empty(arrays):
    arrays |= {name: each[:0] for name, each in arrays.items()}


def _wide(arrays):
    arrays["obs"] = np.zeros((120, 8, 5), np.float32)


def _of_integers(arrays):
    arrays["action"] = arrays["action"].astype(np.int32)


def _other_actions(arrays):
    arrays["action"] = arrays["action"][..., :1]


def _fortran(arrays):
    arrays["obs"] = np.asfortranarray(arrays["obs"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_objects, "no readable .npz of plain arrays .*obs.npy holds objects"),
        (_lacking, r"holds action, length, return_, solved but no obs and no done; needed is steps x environments"),
        (_environments_first, r"holds obs of shape \[8, 120, 4\]; needed is steps x environments first"),
        (_flat, r"holds action of shape \[960, 2\]; needed is"),
        (_empty, r"holds obs of shape \[0, 8, 4\]"),
        (_wide, "holds obs of 5 numbers where the level has 4; choose the level"),
        (_of_integers, "holds action of kind int32; needed are floats"),
        (_other_actions, "holds action of 1 numbers where the level has 2"),
        (_fortran, "Fortran's order: save numpy.ascontiguousarray"),
    ],
)
def test_arrays_of_another_layout_are_refused_unread(given, change, message):
    arrays = others.recording()
    change(arrays)
    with pytest.raises(UserError, match=rf"env\.demos: .*{message}"):
        recorded.check(given(arrays).file(), ENV)


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04"])
def test_another_file_is_refused(tmp_path, data):
    (tmp_path / "file.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"is no readable \.npz of plain arrays"):
        recorded.check(tmp_path / "file.npz", ENV)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("obs", (70, 3, 2), np.nan, "obs 2 of step 70 in environment 3 is not finite; leave that environment out"),
        ("action", (5, 0, 1), np.inf, "action 1 of step 5 in environment 0 is not finite"),
        ("action", (5, 0, 1), 1.5, "action 1 goes from -0.8 to 1.5 where the level has -1 to 1; put the actions in"),
        ("solved", (5, 0), 0.5, "solved holds other numbers than 0 and 1"),
    ],
)
def test_numbers_that_are_none_are_named(given, tmp_path, monkeypatch, name, place, value, message):
    monkeypatch.setattr(npz, "_BLOCK", 1000)
    arrays = others.recording()
    arrays[name][place] = value
    with pytest.raises(UnusableError, match=message):
        run(given(arrays), tmp_path / "work")


def test_a_flipped_bit_is_found(given, tmp_path):
    stage = given(others.recording())
    file = stage.file()
    whole = bytearray(file.read_bytes())
    whole[2000] ^= 1
    file.write_bytes(whole)
    with pytest.raises(npz.DamagedError, match=r"demos\.npz is torn .*CRC.*; copy it again"):
        run(dataclasses.replace(stage, digest=level_file.digest(file)), tmp_path / "work")


def test_doubles_are_taken_as_floats(given, tmp_path):
    arrays = others.recording()
    _, expected = run(given(arrays), tmp_path / "floats")
    double = {name: each.astype(np.float64) if each.dtype == np.float32 else each for name, each in arrays.items()}
    _, found = run(given(double), tmp_path / "doubles")
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_entries_that_never_vary_are_never_all_in_memory(given, tmp_path, monkeypatch):
    """64 MB of observations of which one entry in 250 varies."""
    monkeypatch.setattr(npz, "_BLOCK", 2**20)
    arrays = others.recording(steps=2000)
    obs = np.zeros((2000, 8, 1000), np.float32)
    obs[..., :4] = arrays["obs"]
    stage = given(arrays | {"obs": obs})
    del obs
    tracemalloc.start()
    found = recorded._Recording(stage.file()).observations(lambda steps: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["obs"].shape == (16000, 4)
    assert peak < 2**23
