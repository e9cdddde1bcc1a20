"""What a backbone must offer to a policy."""

import abc

import jax
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree


class AbstractBackbone(nnx.Module):
    """A network over a chunk of actions, in two parts, so that a chunk's reverse steps share the observation's part."""

    @abc.abstractmethod
    def encode(self, obs: PyTree[Array]) -> PyTree[Array]:
        """Observation [b, ...] to the condition that every reverse step of this chunk uses."""

    @abc.abstractmethod
    def denoise(
        self, condition: PyTree[Array], x: Int[Array, "b h a"] | Float[Array, "b h a"], t: Float[Array, "#b #h"] | None
    ) -> Float[Array, "b h a v"] | Float[Array, "b h a"]:
        """Noisy chunk to logits over `out_vocab` classes (tokens), or to one value per action (continuous).

        Where all chunks or all entries have one time, t may hold it once.
        """


class AbstractModel(abc.ABC):
    """A backbone's sizes, a frozen configuration."""

    @abc.abstractmethod
    def create(
        self,
        *,
        obs: PyTree[jax.ShapeDtypeStruct],
        chunk: int,
        action_dim: int,
        in_vocab: int | None,
        out_vocab: int | None,
        timed: bool,
        rngs: nnx.Rngs,
    ) -> AbstractBackbone:
        """Initialise the network.

        Args:
            obs: shape and dtype of one observation.
            chunk: h, the actions of a chunk.
            action_dim: a, the dimensions of an action.
            in_vocab: classes of an input token (MASK included), or None when the noisy chunk is continuous.
            out_vocab: classes predicted per action dimension, or None when one value is predicted.
            timed: the corruption process has a time to condition on; `denoise` then takes t.
            rngs: the parameters' stream.
        """
