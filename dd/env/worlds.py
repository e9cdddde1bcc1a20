"""Many worlds side by side, as the last axis of every array, so that each operation runs over contiguous numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree


def worlds_last(function: Callable[..., PyTree[Array]]) -> Callable[..., PyTree[Array]]:
    """An ordinary function, for one world, made of one for many: under `vmap`, `function` gets all worlds at once.

    Args:
        function: takes and returns trees of arrays whose last axis is worlds. The first argument is what the worlds
            share: where they do, length 1 stands there. Results of that length are every world's.
    """

    @custom_vmap
    def one(*arguments: PyTree[Array]) -> PyTree[Array]:
        results = function(*jax.tree.map(lambda x: jnp.asarray(x)[..., None], arguments))
        return jax.tree.map(lambda x: x[..., 0], results)

    @one.def_vmap
    def many(size: int, batched: Any, *arguments: PyTree[Array]) -> tuple[Any, Any]:
        def widened(x: Array) -> Array:
            return jnp.broadcast_to(x, (*x.shape[:-1], size))

        last = jax.tree.map(lambda x, b: jnp.moveaxis(x, 0, -1) if b else x[..., None], arguments, tuple(batched))
        results = jax.tree.map(widened, function(last[0], *jax.tree.map(widened, last[1:])))
        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), results), jax.tree.map(lambda _: True, results)

    return one
