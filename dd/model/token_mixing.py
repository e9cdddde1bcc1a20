"""Token mixing, the MLP over a chunk's time steps, computed in blocks that stay in cache.

A chunk has 8 steps where the hidden width is 64, so the hidden activations are eight times the layer's input and little
is computed with each: on a CPU, writing them to memory and reading them back is most of the cost. The columns are
independent; taken a block at a time, their hidden activations never leave the cache, and the backward pass computes
them again. An accelerator, whose cost is the number of kernels, takes all columns at once.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from dd.model.layers import gelu, gelu_slope, lecun_normal

BLOCK_SIZE = 2**18
"""Hidden activations of a block: 1 MiB in float32, so that each of a block's few arrays fits second-level caches."""

Rows = Float[Array, "h n"]
Kernel = Float[Array, "k h"]


class TokenMixing(nnx.Module):
    """MLP over the chunk's tokens, alike for every channel (MLP-Mixer, arXiv 2105.01601, eq. 1)."""

    def __init__(self, chunk: int, hidden: int, *, rngs: nnx.Rngs):
        # Both kernels are [hidden, chunk]: products with the short side last are the fast ones, forward and backward.
        self.widen = nnx.Param(lecun_normal(rngs.params(), (chunk, hidden)).T)
        self.narrow = nnx.Param(lecun_normal(rngs.params(), (hidden, chunk)))

    def __call__(self, x: Float[Array, "h b c"]) -> Float[Array, "h b c"]:
        """Mix along h."""
        return mix(x.reshape(x.shape[0], -1), self.widen[...], self.narrow[...]).reshape(x.shape)


@jax.custom_vjp
def mix(x: Rows, widen: Kernel, narrow: Kernel) -> Rows:
    """narrow^T gelu(widen x)."""
    return lax.platform_dependent(x, widen, narrow, cpu=_forward_in_blocks, default=_forward)


def _mix_forward(x: Rows, widen: Kernel, narrow: Kernel) -> tuple[Rows, tuple[Rows, Kernel, Kernel]]:
    return mix(x, widen, narrow), (x, widen, narrow)


def _mix_backward(saved: tuple[Rows, Kernel, Kernel], dy: Rows) -> tuple[Rows, Kernel, Kernel]:
    return lax.platform_dependent(*saved, dy, cpu=_backward_in_blocks, default=_backward)


mix.defvjp(_mix_forward, _mix_backward)


def _product(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    return lax.dot_general(left, right, (((left_axis,), (right_axis,)), ((), ())))


def _forward(x: Rows, widen: Kernel, narrow: Kernel) -> Rows:
    return _product(narrow, gelu(_product(widen, x, 1, 0)), 0, 0)


def _backward(x: Rows, widen: Kernel, narrow: Kernel, dy: Rows) -> tuple[Rows, Kernel, Kernel]:
    u = _product(widen, x, 1, 0)
    du = _product(narrow, dy, 1, 0) * gelu_slope(u)
    return _product(widen, du, 0, 0), _product(du, x, 1, 1), _product(gelu(u), dy, 1, 1)


def block_columns(columns: int, hidden: int) -> int:
    """Columns of a block: the largest divisor of `columns` with at most `BLOCK_SIZE` hidden activations."""
    largest = max(1, min(columns, BLOCK_SIZE // hidden))
    return next(size for size in range(largest, 0, -1) if columns % size == 0)


def _forward_in_blocks(x: Rows, widen: Kernel, narrow: Kernel) -> Rows:
    size = block_columns(x.shape[1], widen.shape[0])
    take = functools.partial(lax.dynamic_slice_in_dim, slice_size=size, axis=1)

    def one(i: Array, y: Rows) -> Rows:
        return lax.dynamic_update_slice_in_dim(y, _forward(take(x, i * size), widen, narrow), i * size, axis=1)

    return lax.fori_loop(0, x.shape[1] // size, one, jnp.empty_like(x))


def _backward_in_blocks(x: Rows, widen: Kernel, narrow: Kernel, dy: Rows) -> tuple[Rows, Kernel, Kernel]:
    size = block_columns(x.shape[1], widen.shape[0])
    take = functools.partial(lax.dynamic_slice_in_dim, slice_size=size, axis=1)

    def one(i: Array, sums: tuple[Rows, Kernel, Kernel]) -> tuple[Rows, Kernel, Kernel]:
        dx, d_widen, d_narrow = _backward(take(x, i * size), widen, narrow, take(dy, i * size))
        return lax.dynamic_update_slice_in_dim(sums[0], dx, i * size, axis=1), sums[1] + d_widen, sums[2] + d_narrow

    start = (jnp.empty_like(x), jnp.zeros_like(widen), jnp.zeros_like(narrow))
    return lax.fori_loop(0, x.shape[1] // size, one, start)
