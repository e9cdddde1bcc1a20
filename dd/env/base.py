"""What a world must offer: a level as arrays, and pure functions that reset, observe and step it."""

import abc
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Key, PyTree


class Spec(NamedTuple):
    """What a policy has to know of a world.

    Attributes:
        obs: shape and dtype of one observation (a pytree of `jax.ShapeDtypeStruct`; a vector for Kinetix).
        action_low: lower end of each action dimension's range, length a.
        action_high: upper end, length a.
        max_steps: env steps after which an episode ends.
    """

    obs: PyTree[jax.ShapeDtypeStruct]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_steps: int


class Outcome(NamedTuple):
    """What one env step brought.

    Attributes:
        reward: the world's own reward; an episode's return is its sum.
        shaping: progress toward the goal in this step (a dense signal for the expert's training; 0 where there is
            none).
        done: the episode is over with this step.
        solved: it is over because its goal is reached.
    """

    reward: Float[Array, ""]
    shaping: Float[Array, ""]
    done: Bool[Array, ""]
    solved: Bool[Array, ""]


class AbstractEnv(abc.ABC):
    """A world with one level chosen, a frozen configuration.

    `reset`, `observe` and `step` are pure, work on one episode (callers vmap) and read the level from their argument,
    so that one compiled program serves every level of the same `program()`.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The level's name in tables, for instance `l/h17_unicycle`."""

    @property
    def published(self) -> bool:
        """Whether the level is, by content, one of the real-time-chunking benchmark's, and figures comparable."""
        return False

    @abc.abstractmethod
    def spec(self) -> Spec:
        """Shapes, ranges and episode length; equal for all levels of one `program()`."""

    @abc.abstractmethod
    def load(self) -> PyTree[Array]:
        """The level as arrays, an argument of compiled programs."""

    @abc.abstractmethod
    def level_id(self) -> int:
        """A 32-bit number drawn from the level's content; the environment's noise is keyed by it."""

    @abc.abstractmethod
    def program(self) -> Any:
        """JSON-ready content of all that `reset`, `observe` and `step` close over; equal contents share a program."""

    @abc.abstractmethod
    def reset(self, level: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The state at an episode's start."""

    @abc.abstractmethod
    def observe(self, level: PyTree[Array], state: PyTree[Array]) -> PyTree[Array]:
        """The observation of a state, as `spec().obs` says."""

    @abc.abstractmethod
    def step(
        self, level: PyTree[Array], state: PyTree[Array], action: Float[Array, "a"], key: Key[Array, ""]
    ) -> tuple[PyTree[Array], Outcome]:
        """Advance by one env step; `key` drives this step's environment noise and nothing else."""
