"""Guidance of a continuous policy toward the prefix, by the gradient through its own network."""

from typing import Any

import jax
from jaxtyping import Array, Float

from dd import fields
from dd.decode.base import Prefix
from dd.policy import Policy
from dd.schedule.base import AbstractContinuousProcess, AbstractProcess, Denoise


def guided(
    policy: Policy, denoise: Denoise, prefix: Prefix, weights: Float[Array, "h"], limit: Float[Array, ""] | float
) -> Denoise:
    """The denoiser whose steps are led toward the prefix (real-time chunking, arXiv 2506.07339, algorithm 1).

    The pull on x is J^T (w (y - x_1)): y the prefix, x_1 the chunk that the prediction at x means, J its Jacobian, w
    the weights. It takes a backward pass through the network beside the forward one.

    Args:
        policy: over a continuous process.
        denoise: the network.
        prefix: what to be led to.
        weights: of its entries.
        limit: on the guidance weight; 0 switches guidance off.
    """
    process, target = policy.process, policy.encode(prefix.actions)

    def ask(x: Float[Array, "b h a"], t: Float[Array, "#b #h"]) -> Float[Array, "b h a"]:
        def clean(x: Float[Array, "b h a"]) -> tuple[Float[Array, "b h a"], Float[Array, "b h a"]]:
            prediction = denoise(x, t)
            return process.clean(x, prediction, t), prediction

        meant, back, prediction = jax.vjp(clean, x, has_aux=True)
        (pull,) = back(weights[:, None] * (target - meant))
        return process.guided(prediction, pull, t, limit)

    return ask


def passes(process: AbstractProcess) -> int:
    """Through the network when a method that guides continuous policies asks once: forward, and backward if it does."""
    return 2 if isinstance(process, AbstractContinuousProcess) else 1


def max_guidance_weight() -> Any:
    """The field of the methods that guide continuous policies."""
    return fields.field(5.0, ge=0.0, leaf=True, since=5.0)
