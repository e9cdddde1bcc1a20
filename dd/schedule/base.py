"""What a corruption process and its sampler must offer.

The process (how data are corrupted, what the network is asked, what it loses) is part of a training's key. The sampler
(how one reverse step is taken) belongs to the decode: training never sees it. Time t is in [0, 1], t = 0 is the prior,
t = 1 is data.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Array, Bool, Float, Key, PyTree

State = PyTree[Array]
Prediction = PyTree[Array]
Denoise = Callable[[Any, Any], Any]
"""(noisy x, t) -> the network's prediction, batched over chunks; t is None for a process without time."""


class AbstractProcess(abc.ABC):
    """A corruption process over chunks, a frozen configuration."""

    sampler: ClassVar[type["AbstractSampler"]]
    """The sampler this process brings along; its fields are set under `decode`."""
    timed: ClassVar[bool]
    """Whether the network is conditioned on the time."""

    @property
    @abc.abstractmethod
    def in_vocab(self) -> int | None:
        """Classes of an input token, or None for continuous input."""

    @property
    @abc.abstractmethod
    def out_vocab(self) -> int | None:
        """Classes predicted per action dimension, or None for one value."""

    @abc.abstractmethod
    def encode(self, actions: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]) -> Array:
        """Actions to the space the process works in (tokens, or scaled values)."""

    @abc.abstractmethod
    def decode(self, x: Array, low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
        """Back to actions; `decode(encode(.))` is the identity up to the process's resolution."""

    @abc.abstractmethod
    def loss(self, key: Key[Array, ""], x: Array, denoise: Denoise) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Corrupt a batch x [b, h, a] at random times and score the network's prediction.

        Returns:
            The mean loss, and metrics by name, each a (sum, count) pair, so that batches pool exactly.
        """

    @abc.abstractmethod
    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> State:
        """One chunk's state at t = 0."""

    @abc.abstractmethod
    def noisy(self, state: State) -> Array:
        """The part of a state that the network reads, [h, a]."""


class AbstractTokenProcess(AbstractProcess):
    """A process over action tokens: entries can be imposed, and predictions are logits over bins."""

    num_bins: int

    @abc.abstractmethod
    def impose(self, state: State, x: Array, where: Bool[Array, "h 1"]) -> State:
        """Fix the entries `where` to the tokens of x [h, a]: known from now on, never redrawn, not counted."""


class AbstractSampler(abc.ABC):
    """How one reverse step is taken, a frozen configuration whose numbers are leaves."""

    @abc.abstractmethod
    def step(
        self,
        process: Any,
        key: Key[Array, ""],
        state: State,
        prediction: Array,
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> State:
        """One chunk's state from time t to t_next, given the network's prediction; t_next = 1 finishes the chunk."""

    def network_evaluations(self, num_flow_steps: int) -> int:
        """Passes through the network that a chunk of `num_flow_steps` reverse steps takes."""
        return num_flow_steps
