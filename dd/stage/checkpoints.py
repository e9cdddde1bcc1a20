"""What an expert leaves behind: its actor at several points of training, compact; and how demonstrations act by it."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from safetensors import numpy as safetensors

from dd import arrays
from dd.model import actor
from dd.model.actor import FRAMES, Actor, History, Network

FILE = "checkpoints.safetensors"


class Checkpoints(NamedTuple):
    """The content of the file: n checkpoints of one training, in order.

    Attributes:
        actors: float16, n first.
        columns: the entries of the flattened observation that the actors read, ascending.
        steps: env steps trained.
        solve_rates: share of the evaluation's episodes that the stochastic policy solved.
    """

    actors: Actor
    columns: Int[np.ndarray, "k"]
    steps: Int[np.ndarray, "n"]
    solve_rates: Float[np.ndarray, "n"]


class Mixture(NamedTuple):
    """Actors of one level by which episodes act: float32, m first, over the union of the columns they read."""

    actors: Actor
    columns: Int[np.ndarray, "k"]


def compact(policy: Actor, columns: Int[np.ndarray, "k"]) -> Actor:
    """Half precision, and without the first layer's rows for padding (columns of -1)."""
    kept = np.concatenate([np.tile(columns >= 0, FRAMES), np.full(policy.log_std.shape[-1], True)])
    mean = policy.mean._replace(input=np.asarray(policy.mean.input)[kept])
    return jax.tree.map(lambda x: np.asarray(x, np.float16), policy._replace(mean=mean))


def spread(policy: Actor, columns: Int[np.ndarray, "j"], wider: Int[np.ndarray, "k"]) -> Actor:
    """In float32 over `wider` columns: rows of zeros for those that the actor does not read.

    Args:
        policy: a compact actor.
        columns: the j columns that it reads.
        wider: k columns that include them; -1 is padding.
    """
    places = np.searchsorted(columns, wider)
    read = np.isin(wider, columns)
    compacted = np.asarray(policy.mean.input, np.float32)
    frames = compacted[: FRAMES * len(columns)].reshape(FRAMES, len(columns), -1)
    widened = np.where(read[:, None], frames[:, np.where(read, places, 0)], 0).reshape(FRAMES * len(wider), -1)
    mean = policy.mean._replace(input=np.concatenate([widened, compacted[FRAMES * len(columns) :]]))
    return jax.tree.map(lambda x: np.asarray(x, np.float32), policy._replace(mean=mean))


def save(folder: pathlib.Path, checkpoints: Checkpoints) -> None:
    """Write the file, whole or not at all."""
    arrays.write(folder / FILE, checkpoints)


def load(folder: pathlib.Path) -> Checkpoints:
    """Read an expert's result."""
    named = safetensors.load_file(folder / FILE)
    mean = Network(*(named[f"actors/mean/{name}"] for name in Network._fields))
    actors = Actor(mean, named["actors/log_std"])
    return Checkpoints(actors, named["columns"], named["steps"], named["solve_rates"])


def mix(chosen: Sequence[tuple[Checkpoints, int]]) -> Mixture:
    """Put checkpoints of experts of one level side by side.

    Args:
        chosen: m pairs of an expert's checkpoints and the index of the one to act by.
    """
    columns = np.unique(np.concatenate([checkpoints.columns for checkpoints, _ in chosen]))
    alike = [
        spread(jax.tree.map(lambda x, i=index: x[i], checkpoints.actors), checkpoints.columns, columns)
        for checkpoints, index in chosen
    ]
    return Mixture(jax.tree.map(lambda *each: np.stack(each), *alike), columns)


def act(
    actors: Actor,
    index: Int[Array, ""],
    history: History,
    key: Key[Array, ""],
    low: tuple[float, ...],
    high: tuple[float, ...],
) -> Float[Array, "a"]:
    """One episode's action, drawn from one actor of a mixture.

    All actors are asked and one is heard: under vmap over episodes their parameters are then shared, not gathered.

    Args:
        actors: of a `Mixture`.
        index: the episode's actor, below m.
        history: the episode's, over the mixture's columns.
        key: of the draw.
        low, high: the action's range (`Spec`).
    """
    seen = actor.inputs(history)
    mean = jax.vmap(actor.apply, in_axes=(0, None))(actors.mean, seen)[index]
    noise = jnp.exp(actors.log_std[index]) * jax.random.normal(key, mean.shape)
    return actor.squash(mean + noise, low, high)
