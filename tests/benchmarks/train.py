"""Training steps of the mixer against the same network in plain nnx layers, in one run.

    python -m tests.benchmarks.train

Both take the masked schedule's loss, AdamW and clipping, in a jitted step whose state is donated. They take turns, so
that what else the machine does falls on both; figures are medians over the turns. Share: the products of forward and
backward pass, as a part of the fastest float32 matrix product measured in the same run.
"""

import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Key

from dd.model.base import AbstractBackbone
from dd.optimizer import AdamW
from dd.schedule.masked import Masked
from tests.benchmarks import operations
from tests.benchmarks.plain import PlainModel, adopt, parameters
from tests.benchmarks.sizes import ACTION, CHUNK, LAPTOP, OBS, REFERENCE, SPEC, Size
from tests.benchmarks.timing import in_turns, seconds

TURNS, STEPS = 5, 3


def forward_flops(size: Size) -> int:
    """Floating-point operations of one sample's forward products; the backward pass takes twice as many."""
    products = operations.of_a_decode(size.model, Masked(num_bins=size.num_bins), batch=1, samples=1, steps=1)
    return sum(product.flops * product.ours for product in products)


def peak_flops(n: int = 4096) -> float:
    """Floating-point operations per second of an n x n float32 matrix product, the best of five."""
    x = jnp.ones((n, n))
    product = jax.jit(jnp.matmul)
    return 2 * n**3 / min(seconds(lambda: product(x, x)) for _ in range(5))


class Training:
    """A network under training on one batch."""

    def __init__(self, network: AbstractBackbone, size: Size):
        graph, params = nnx.split(network)
        params = jax.tree.map(jnp.copy, params)  # the two networks share arrays, and a step gives its own away
        process, tx = Masked(num_bins=size.num_bins), AdamW().create(total_steps=10_000)

        def loss(params: Any, key: Key[Array, ""], obs: Array, x: Array) -> Array:
            module = nnx.merge(graph, params)
            condition = module.encode(obs)
            kept = jnp.zeros(x.shape[:2], bool)
            return process.loss(key, x, kept, lambda noisy, t: module.denoise(condition, noisy, t))[0]

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params: Any, opt_state: Any, *batch: Array) -> tuple[Any, Any]:
            updates, opt_state = tx.update(jax.grad(loss)(params, *batch), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        self._step, self._graph, self._gradient = step, graph, jax.jit(jax.value_and_grad(loss))
        self._state = (params, tx.init(params))
        self._batch = batch_of(size)

    def gradient(self) -> tuple[float, nnx.Module]:
        """Loss, and the gradient in the network's own form, of the batch."""
        loss, gradient = self._gradient(self._state[0], *self._batch)
        return float(loss), nnx.merge(self._graph, gradient)

    def advance(self) -> Any:
        """Take `STEPS` steps."""
        for _ in range(STEPS):
            self._state = self._step(*self._state, *self._batch)
        return self._state


def batch_of(size: Size) -> tuple[Key[Array, ""], Array, Array]:
    """Noise key, observations, clean tokens."""
    noise, obs, tokens = jax.random.split(jax.random.key(0), 3)
    x = jax.random.randint(tokens, (size.batch, CHUNK, ACTION), 0, size.num_bins)
    return noise, jax.random.normal(obs, (size.batch, OBS)), x


def trainings(size: Size) -> tuple[Training, Training]:
    """The network under test and the plain one, with equal parameters."""
    vocab = {"in_vocab": size.num_bins + 1, "out_vocab": size.num_bins}
    network, plain = (
        model.create(obs=SPEC.obs, chunk=CHUNK, action_dim=ACTION, timed=False, rngs=nnx.Rngs(0), **vocab)
        for model in (size.model, PlainModel(size.model, frugal=True))
    )
    adopt(plain, network)
    return Training(network, size), Training(plain, size)


def difference(ours: Training, plain: Training) -> tuple[float, float]:
    """Relative difference of the losses; the largest of a parameter's gradient (norm of difference over norm)."""
    (loss, gradient), (plain_loss, plain_gradient) = ours.gradient(), plain.gradient()
    relative = (
        float(jnp.linalg.norm(expected[...] - value) / jnp.linalg.norm(expected[...]))
        for _, expected, value in parameters(plain_gradient, gradient)
    )
    return abs(loss - plain_loss) / plain_loss, max(relative)


def main() -> None:
    """Print the comparison at both sizes."""
    peak = peak_flops()
    print(f"float32 matrix product: {peak / 1e9:.0f} GFLOP/s")
    for size in (REFERENCE, LAPTOP):
        pair = trainings(size)
        loss, gradient = difference(*pair)
        times = in_turns([training.advance for training in pair], TURNS)
        rates = [STEPS * size.batch / statistics.median(taken) for taken in times]
        shares = [3 * forward_flops(size) * rate / peak for rate in rates]
        print(f"{size.name}: batch {size.batch}, {size.num_bins} bins, {size.model}")
        for name, rate, share in zip(("dd", "plain nnx"), rates, shares, strict=True):
            print(f"  {name:10} {rate:7.0f} samples/s  {share:6.1%} of peak")
        ratio = statistics.median(slow / fast for fast, slow in zip(*times, strict=True))
        print(f"  ratio {ratio:.2f}; relative difference: loss {loss:.1e}, gradients at most {gradient:.1e}")


if __name__ == "__main__":
    main()
