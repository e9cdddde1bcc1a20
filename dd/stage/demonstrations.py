"""Demonstrations as training reads them, and what every stage that brings some has to offer."""

import abc
import pathlib
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from safetensors import numpy as safetensors

from dd import arrays
from dd.env.base import AbstractEnv
from dd.stage import windows
from dd.stage.base import AbstractStage

_FILE = "demos.safetensors"


class Demonstrations(NamedTuple):
    """Streams of transitions of one level, e streams of t steps, an episode after the other.

    Attributes:
        obs: the entries of each observation that ever vary, [e t, k].
        columns: which entries these are.
        constant: an observation; its other entries hold for all.
        action: what the expert asked for, before the environment's noise.
        done: the episode ended with this step.
        validation: the step belongs to a held-out episode.
    """

    obs: Float[Array, "n k"]
    columns: Int[Array, "k"]
    constant: Float[Array, "o"]
    action: Float[Array, "e t a"]
    done: Bool[Array, "e t"]
    validation: Bool[Array, "e t"]

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Demonstrations":
        """The data of a demos result."""
        named = safetensors.load_file(folder / _FILE)
        return cls(**{name: jnp.asarray(named[name]) for name in cls._fields})

    def observations(self, index: Int[Array, " b"]) -> Float[Array, "b o"]:
        """Whole observations at flat indices."""
        whole = jnp.broadcast_to(self.constant, (index.shape[0], self.constant.shape[0]))
        return whole.at[:, self.columns].set(self.obs[index])

    def split(self, chunk: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """Flat start indices of the training and of the validation windows of `chunk` steps."""
        fits = windows.starts(np.asarray(self.done), chunk).reshape(-1)
        held_out = np.asarray(self.validation).reshape(-1)
        return np.flatnonzero(fits & ~held_out).astype(np.int32), np.flatnonzero(fits & held_out).astype(np.int32)


class AbstractDemos(AbstractStage):
    """A stage that brings demonstrations of one level."""

    env: AbstractEnv
    """The level that they are of."""
    validation_fraction: float
    """Of the episodes, held out."""
    seed: int
    """Of whatever is drawn, the episodes held out among it."""

    kind: ClassVar[str] = "demos"

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Transitions asked for; trainings on data of one size share a program."""

    @property
    def label(self) -> str:
        """Level and size."""
        return f"{self.env.name} {self.size} transitions"

    def hold_out(self, episodes: int) -> Bool[np.ndarray, " n"]:
        """Which episodes are for validation: the fraction asked for, but one at least and never all."""
        count = np.clip(round(self.validation_fraction * episodes), 1, max(episodes - 1, 1))
        return np.random.default_rng([self.seed, 2**31]).permutation(episodes) < count

    def write(
        self,
        folder: pathlib.Path,
        *,
        obs: Float[np.ndarray, "n k"],
        columns: Int[np.ndarray, "k"],
        constant: Float[np.ndarray, "o"],
        action: Float[np.ndarray, "e t a"],
        done: Bool[np.ndarray, "e t"],
        solved: Bool[np.ndarray, "e t"],
    ) -> dict[str, Any]:
        """Hold episodes out and write the result's file; return its summary.

        Args:
            folder: the result's.
            obs, columns, constant, action, done: see `Demonstrations`.
            solved: the episode ended with this step because its goal was reached.
        """
        episode = windows.episode_numbers(done)
        held_out = self.hold_out(int(episode.max()) + 1)
        data = Demonstrations(obs, columns, constant, action, done, held_out[episode])
        arrays.write(folder / _FILE, data._asdict())
        ended = int(done.sum())
        lengths = np.bincount(episode.reshape(-1))[np.unique(episode[done])]
        return {
            "transitions": int(done.size),
            "episodes": ended,
            "solve_rate": float(solved.sum() / ended) if ended else None,
            "mean_length": float(lengths.mean()) if ended else None,
            "validation_episodes": int(held_out.sum()),
        }
