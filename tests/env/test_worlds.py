"""Worlds side by side are worlds one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.env.worlds import worlds_last


def affine(shared, x, start):
    """x and start are [n, w], shared [n, w] or [n, 1]; a loop whose carry must not change its shape."""
    assert x.shape[-1] == start.shape[-1]
    return jax.lax.fori_loop(0, 3, lambda _, y: shared * y + x, start), shared


@pytest.mark.parametrize("batched", [(None, 0, 0), (None, 0, None), (None, None, 0), (0, 0, 0), (0, None, None)])
def test_a_world_among_others_is_the_world_alone(batched):
    each = worlds_last(affine)
    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.normal(size=(3,) if axis is None else (5, 3)), jnp.float32) for axis in batched]
    together = jax.jit(jax.vmap(each, batched))(*arguments)
    for world in range(5):
        alone = each(*(x if axis is None else x[world] for x, axis in zip(arguments, batched, strict=True)))
        jax.tree.map(lambda a, b, w=world: np.testing.assert_allclose(a[w], b, rtol=1e-6), together, alone)


def test_batches_of_batches_and_scans():
    each = worlds_last(affine)
    x = jnp.arange(24.0).reshape(2, 4, 3)
    shared = jnp.array([0.5, 0.25, 2.0])

    def run(x):
        return jax.lax.scan(lambda y, _: (each(shared, x, y)[0], None), jnp.zeros(3), None, length=2)[0]

    nested = jax.vmap(jax.vmap(run))(x)
    np.testing.assert_allclose(nested, [[run(one) for one in row] for row in x], rtol=1e-6)
