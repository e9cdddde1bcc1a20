"""Pytrees go through files unchanged, and a write that breaks off leaves the old file."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors import numpy as safetensors

from dd import arrays
from tests import tiny


def same(a, b):
    alike = jax.tree.map(lambda x, y: np.shape(x) == np.shape(y) and x.dtype == y.dtype and (x == y).all(), a, b)
    return all(jax.tree.leaves(alike))


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    """Scalars, empty arrays, transposed views and all kinds of numbers; also the state of an optimizer."""
    tree = {
        "scalar": np.float32(0.1),
        "count": jnp.int32(3),
        "empty": np.zeros((0, 4), np.float32),
        "turned": np.arange(6.0, dtype=np.float16).reshape(2, 3).T,
        "nested": [np.array([True, False]), (np.array([2**32 - 1], np.uint32),)],
        "odd": np.array([np.inf, -0.0, 1e-45], np.float32),
    }
    arrays.write(tmp_path / "tree.safetensors", tree)
    back = arrays.read(tmp_path / "tree.safetensors", tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert same(back, tree)
    assert np.signbit(back["odd"][1])


def test_a_policy_and_its_optimizer_are_read_by_their_shapes(tmp_path):
    policy = tiny.policy()
    tx = optax.adamw(optax.linear_schedule(0.0, 1e-3, 5))

    def begin(key):
        params = policy.create(key)
        return params, tx.init(params)

    state = jax.jit(begin)(jax.random.key(0))
    arrays.write(tmp_path / "state.safetensors", state)
    like = jax.eval_shape(begin, jax.random.key(0))
    back = arrays.read(tmp_path / "state.safetensors", like)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert same(back, state)
    assert len(jax.tree.leaves(back)) > 30


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays.write(path, {"w": np.zeros((2, 3)), "b": np.zeros(3)})
    with pytest.raises(ValueError, match="does not hold what is asked for: c differ"):
        arrays.read(path, {"w": np.zeros((2, 3)), "b": np.zeros(3), "c": np.zeros(1)})
    with pytest.raises(ValueError, match=r"w has shape \(2, 3\) where \(3, 2\)"):
        arrays.read(path, {"w": np.zeros((3, 2)), "b": np.zeros(3)})


def test_metadata_lies_beside_the_arrays(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays.write(path, {"w": np.zeros(2)}, {"rows": "[1, 2]"})
    assert arrays.metadata(path) == {"rows": "[1, 2]"}
    arrays.write(path, {"w": np.zeros(2)})
    assert arrays.metadata(path) == {}


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    """The process dies after half of the bytes: the name holds the old arrays, whole; what is left over is hidden."""
    path = tmp_path / "a.safetensors"
    arrays.write(path, {"w": np.ones(1000)})

    def broken(named, file, metadata=None):
        whole = safetensors.save(named, metadata)
        file.write_bytes(whole[: len(whole) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors, "save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        arrays.write(path, {"w": np.zeros(1000)})
    assert (arrays.read(path, {"w": np.zeros(1000)})["w"] == 1).all()
    assert all(each.name.startswith(".") for each in tmp_path.iterdir() if each != path)
