"""Windows of h actions over streams of demonstrations."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def episode_numbers(done: Bool[np.ndarray, "e t"]) -> Int[np.ndarray, "e t"]:
    """The episode's number of each transition, counted through all streams; the ending step belongs to it."""
    before = np.cumsum(done, axis=1) - done
    per_stream = before[:, -1] + 1
    return (before + (np.cumsum(per_stream) - per_stream)[:, None]).astype(np.int32)


def starts(done: Bool[np.ndarray, "e t"], chunk: int) -> Bool[np.ndarray, "e t"]:
    """Where a window of `chunk` steps may start: it stays within its stream."""
    steps = done.shape[1]
    return np.broadcast_to(np.arange(steps) + chunk <= steps, done.shape)


def chunks(
    action: Float[Array, "e t a"], done: Bool[Array, "e t"], start: Int[Array, " b"], chunk: int
) -> Float[Array, "b h a"]:
    """The actions of windows that start at flat index `start`; from the action that ends the episode on they are zero.

    The rule is the benchmark's: what follows an ending belongs to another episode and must not be imitated.
    """
    index = start[:, None] + jnp.arange(chunk)
    over = jnp.cumsum(done.reshape(-1)[index], axis=1) > 0
    return jnp.where(over[..., None], 0.0, action.reshape(-1, action.shape[-1])[index])
