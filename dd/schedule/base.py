"""What a corruption process and its sampler must offer.

The process (how data are corrupted, what the network is asked, what it loses) is part of a training's key. The sampler
(how one reverse step is taken) belongs to the decode: training never sees it. Time t is in [0, 1], t = 0 is the prior,
t = 1 is data.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dd.tokens import Bins

State = PyTree[Array]
"""A chunk on its way from the prior to data. One of its arrays is `known`, Bool [h]: the entries that were imposed."""
Denoise = Callable[[Any, Any], Any]
"""(noisy x, t) -> the network's prediction, batched over chunks; t is None for a process without time."""


class AbstractProcess(abc.ABC):
    """A corruption process over chunks, a frozen configuration."""

    sampler: ClassVar[type["AbstractSampler"]]
    """The sampler this process brings along; its fields are set under `decode`."""
    timed: ClassVar[bool]
    """Whether the network is conditioned on the time, one for each entry of a chunk."""

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
        """Actions to the space the process works in (tokens, or values)."""

    @abc.abstractmethod
    def decode(self, x: Array, low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
        """Back to actions; `decode(encode(.))` is the identity up to the process's resolution."""

    @abc.abstractmethod
    def loss(
        self, key: Key[Array, ""], x: Array, kept: Bool[Array, "b h"], denoise: Denoise
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Corrupt a batch x [b, h, a] at random times and score the network's prediction.

        Args:
            key: of the corruption.
            x: the data, in the process's space.
            kept: entries that are shown as they are, at time 1, and not scored.
            denoise: the network.

        Returns:
            The mean loss, and metrics by name, each a (sum, count) pair, so that batches pool exactly.
        """

    @abc.abstractmethod
    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> State:
        """One chunk's state at t = 0, nothing imposed."""

    @abc.abstractmethod
    def impose(self, state: State, x: Array, where: Bool[Array, "h"]) -> State:
        """Fix the entries `where` to those of x [h, a]: known from now on, never changed, not counted."""

    @abc.abstractmethod
    def noisy(self, state: State) -> Array:
        """The part of a state that the network reads, [h, a]."""


class AbstractTokenProcess(AbstractProcess):
    """A process over tokens: actions in bins, predictions are logits over the bins."""

    num_bins: int

    @property
    def out_vocab(self) -> int:
        """v bins."""
        return self.num_bins

    def encode(
        self, actions: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]
    ) -> Int[Array, "*b a"]:
        """Actions to bins."""
        return Bins(low, high, self.num_bins).encode(actions)

    def decode(self, x: Int[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
        """Bins to their centres."""
        return Bins(low, high, self.num_bins).decode(x)


class AbstractContinuousProcess(AbstractProcess):
    """A process over real values, whose reverse steps can be guided toward known ones."""

    @abc.abstractmethod
    def clean(
        self, x: Float[Array, "b h a"], prediction: Float[Array, "b h a"], t: Float[Array, "#b #h"]
    ) -> Float[Array, "b h a"]:
        """The data that a prediction at time t means."""

    @abc.abstractmethod
    def guided(
        self,
        prediction: Float[Array, "b h a"],
        pull: Float[Array, "b h a"],
        t: Float[Array, "#b #h"],
        limit: Float[Array, ""] | float,
    ) -> Float[Array, "b h a"]:
        """A prediction that leads by `pull`, a gradient on x, toward what is known, weighted at most by `limit`."""


class AbstractSampler(abc.ABC):
    """How one reverse step is taken, a frozen configuration whose numbers are leaves."""

    early_stop: bool = False
    """Whether a chunk is finished once the entries that somebody will read are."""

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

    def finished(self, process: Any, state: State, needed: Bool[Array, "h"]) -> Bool[Array, ""]:
        """Whether the entries `needed` of one chunk will not change any more; asked only with `early_stop`."""
        return jnp.zeros((), bool)

    def corrections(
        self, t: Float[Array, ""], t_next: Float[Array, ""]
    ) -> tuple[int | Int[Array, ""], Float[Array, ""]]:
        """How often, after a step, a chunk is taken back by `back` and stepped forth again, and back to what time."""
        return 0, t

    def back(
        self, process: Any, key: Key[Array, ""], state: State, t: Float[Array, ""], t_next: Float[Array, ""]
    ) -> State:
        """One chunk's state at t_next corrupted to that at t; asked only where there are corrections."""
        return state
