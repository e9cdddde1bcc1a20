"""What a chunk's decoding computes: the matrix products of each layer, and how often each of them is run."""

from typing import NamedTuple

from dd.model.mixer import Mixer
from dd.schedule.base import AbstractProcess
from tests.benchmarks.sizes import ACTION, CHUNK, OBS


class Product(NamedTuple):
    """A layer's products.

    Attributes:
        layer: its name.
        flops: floating-point operations of one run.
        ours: runs in dd's form.
        plain: runs in the plain form.
        frugal: runs in the frugal plain form (`tests.benchmarks.plain`).
    """

    layer: str
    flops: int
    ours: int
    plain: int
    frugal: int


def of_a_decode(model: Mixer, process: AbstractProcess, *, batch: int, samples: int, steps: int) -> list[Product]:
    """The products of decoding `batch` chunks, the best of `samples` each, in `steps` network passes.

    Norms, activations, softmax and draws, which are no products, are left out; all forms have the same.
    """
    c, chunks = model.channel_dim, batch * samples * steps
    tokens = chunks * CHUNK
    values = ACTION if process.in_vocab is None else 0  # tokens are rows of a table
    one_hot = 0 if process.in_vocab is None else ACTION * process.in_vocab
    # XLA takes a product of the observation alone out of the loop over the steps, for it is the same in every one.
    frugal_obs = tokens if process.in_vocab is None else tokens // steps
    products = [
        Product("first, observation", 2 * OBS * c, batch, tokens, frugal_obs),
        Product("first, action", 2 * values * c, tokens, tokens, tokens),
        Product("first, one-hots", 2 * one_hot * c, 0, tokens, 0),
        Product("token mixing", 4 * CHUNK * model.token_hidden_dim * c * model.num_layers, chunks, chunks, chunks),
        Product("channel mixing", 4 * model.channel_hidden_dim * c * model.num_layers, tokens, tokens, tokens),
        Product("last", 2 * c * ACTION * (process.out_vocab or 1), tokens, tokens, tokens),
    ]
    if process.timed:
        linears = 2 + 2 * 3 * model.num_layers + 2  # the time's own; scale, shift, gate of each branch; the last norm's
        products.append(Product("time, scale, shift, gate", 2 * c * c * linears, steps, tokens, chunks))
    return [product for product in products if product.flops]
