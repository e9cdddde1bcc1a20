"""Decoding a chunk against the same network in plain nnx layers, with the operations that each form computes.

    python -m tests.benchmarks.decode [--batches 512 1] [--schedules masked flow] [--decodes naive bid] [--turns 8]

Each cell decodes a chunk for every observation of a batch in five reverse steps, in three forms with equal parameters
and keys, through the same sampling loop, jitted:
  dd      the observation's part of the network computed once for each observation, the time's once for each step;
  plain   nnx layers, observation concatenated into every token and time in every token, in every step;
  frugal  the same layers, tokens looked up in a table and one time for a chunk. Here XLA itself takes the observation's
          product out of the loop, where it was looked up.
They take turns; times are medians, ratios medians over the turns, with the lowest and the highest.

Equal: the largest difference of a step's predictions, both asked along dd's own path, in units of their norm; then of
the actions that each form decodes for itself, and the share of chunks that are more than 1e-3 apart. Draws, the order
of commitment and bid's choice are discrete: where rounding turns one, the chunk goes another, equally likely way.
"""

import argparse
import functools
import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PyTree

from dd import fields
from dd.decode.base import POLICY, AbstractDecode, Prefix
from dd.decode.bid import Bid
from dd.decode.naive import Naive
from dd.model.base import AbstractBackbone
from dd.policy import Policy
from dd.schedule.base import AbstractProcess
from dd.schedule.flow import Flow
from dd.schedule.masked import Masked
from tests.benchmarks import operations
from tests.benchmarks.plain import PlainModel, adopt
from tests.benchmarks.sizes import ACTION, CHUNK, LAPTOP, OBS, REFERENCE, SPEC, Size
from tests.benchmarks.timing import in_turns

FORMS = ("dd", "plain", "frugal")
SIZES = {size.name: size for size in (REFERENCE, LAPTOP)}
TARGET, TOLERANCE = 1.5, 1e-5
MANY = 1024  # chunks, from which on a cell takes a quarter of the turns
ONE_BLOCK = 16  # chunks whose token mixing is one block at every size: XLA counts a loop's body once


class Form(NamedTuple):
    """A policy and its parameters."""

    policy: Policy
    params: PyTree[Array]


def forms(process: AbstractProcess, size: Size) -> list[Form]:
    """The three, with equal parameters; none of them is 0, as gates are at initialisation."""
    shape = {"chunk": CHUNK, "action_dim": ACTION, "timed": process.timed, "rngs": nnx.Rngs(0)}
    vocab = {"in_vocab": process.in_vocab, "out_vocab": process.out_vocab}
    models = [size.model, PlainModel(size.model), PlainModel(size.model, frugal=True)]
    networks: list[AbstractBackbone] = [model.create(obs=SPEC.obs, **shape, **vocab) for model in models]
    initial, structure = jax.tree.flatten(nnx.state(networks[0], nnx.Param))
    keys = jax.random.split(jax.random.key(0), len(initial))
    shaken = [x + 0.02 * jax.random.normal(key, x.shape) for x, key in zip(initial, keys, strict=True)]
    nnx.update(networks[0], jax.tree.unflatten(structure, shaken))
    for plain in networks[1:]:
        adopt(plain, networks[0])
    return [
        Form(Policy(process, model, SPEC, CHUNK), nnx.state(network, nnx.Param))
        for model, network in zip(models, networks, strict=True)
    ]


class Cell:
    """One schedule, decode and batch: a batch's chunks in each form."""

    def __init__(self, forms: list[Form], decode: AbstractDecode, batch: int):
        self._forms, self._decode = forms, decode
        obs, keys, plan = jax.random.split(jax.random.key(1), 3)
        self._inputs = (
            jax.random.split(keys, batch),
            jax.random.normal(obs, (batch, OBS)),
            jax.random.uniform(plan, (batch, CHUNK, ACTION)),
            {f"decode.{name}": jnp.asarray(x) for name, x in fields.leaves(decode)},  # traced, as in an evaluation
        )
        # Compiled one by one: a form's own time and memory.
        self.compiled = [
            jax.jit(self._decoded(form.policy)).lower(form.params, *self._inputs).compile() for form in forms
        ]

    def call(self, i: int) -> Callable[[], Array]:
        """What decodes in form i."""
        return functools.partial(self.compiled[i], self._forms[i].params, *self._inputs)

    def _decoded(self, policy: Policy) -> Callable[..., Array]:
        def chunk(params: PyTree[Array], keys: Array, obs: Array, plan: Array, leaves: dict[str, Array]) -> Array:
            decode = fields.bind(self._decode, leaves, "decode.")
            prefix = Prefix(plan, jnp.int32(1), jnp.int32(1))
            return decode.chunk(policy, policy.process.sampler(), {POLICY: params}, keys, obs, prefix).actions

        return chunk

    def apart(self, i: int) -> float:
        """The largest difference of a step's predictions between dd and form i, along dd's path, in their norm."""
        seen: list[float] = []
        ours, other = self._forms[0], self._forms[i]

        class Both(Policy):
            """dd's policy, which asks the other at every step."""

            def denoiser(self, params: Any, obs: Any, samples: int = 1) -> Any:
                asked = [form.policy.denoiser(p, obs, samples) for form, p in zip((ours, other), params, strict=True)]

                def ask(x: Array, t: Array | None) -> Array:
                    found, expected = (denoise(x, t) for denoise in asked)
                    difference = jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)
                    jax.debug.callback(lambda value: seen.append(float(value)), difference)
                    return found

                return ask

        both = Both(ours.policy.process, ours.policy.model, SPEC, CHUNK)
        jax.block_until_ready(jax.jit(self._decoded(both))((ours.params, other.params), *self._inputs))
        jax.effects_barrier()
        assert len(seen) == self._decode.num_flow_steps
        return max(seen)


def flops_of_a_pass(form: Form) -> float:
    """What XLA counts for one network pass over `ONE_BLOCK` chunks."""
    process = form.policy.process
    x = jnp.zeros((ONE_BLOCK, CHUNK, ACTION), jnp.float32 if process.in_vocab is None else jnp.int32)
    t = jnp.full((1, 1), 0.3) if process.timed else None
    once = jax.jit(lambda params, obs, x, t: form.policy.denoiser(params, obs)(x, t))
    return once.lower(form.params, jnp.zeros((ONE_BLOCK, OBS)), x, t).compile().cost_analysis()["flops"]


def print_operations(size: Size, process: AbstractProcess, batch: int, samples: int, steps: int) -> None:
    """Each layer's products and how often they are run, by form."""
    products = operations.of_a_decode(size.model, process, batch=batch, samples=samples, steps=steps)
    print(f"    {'GFLOP':26}{'one run':>12}" + "".join(f"{f'{form} runs':>14}{form:>9}" for form in FORMS))
    for product in products:
        runs = "".join(f"{runs:14,}{runs * product.flops / 1e9:9.2f}" for runs in product[2:])
        print(f"    {product.layer:26}{product.flops / 1e9:12.6f}{runs}")
    totals = [sum(product.flops * product[2 + i] for product in products) / 1e9 for i in range(len(FORMS))]
    print(f"    {'all':38}" + "".join(f"{total:23.2f}" for total in totals), end="")
    print("   x dd: " + ", ".join(f"{total / totals[0]:.2f}" for total in totals[1:]))


def compare(name: str, size: Size, process: AbstractProcess, decode: AbstractDecode, batch: int, turns: int) -> None:
    """Print one cell."""
    samples = getattr(decode, "n_samples", 1)
    turns = turns if batch * samples <= MANY else math.ceil(turns / 4)
    cell = Cell(forms(process, size), decode, batch)
    calls = [cell.call(i) for i in range(len(FORMS))]
    times = in_turns(calls, turns)
    actions = [call() for call in calls]
    print(f"{name}, batch {batch}, {turns} turns")
    print_operations(size, process, batch, samples, decode.num_flow_steps)
    for i, form in enumerate(FORMS):
        memory = cell.compiled[i].memory_analysis().temp_size_in_bytes / 2**20
        line = f"  {form:8}{1e3 * statistics.median(times[i]):10.1f} ms  {memory:8.0f} MiB"
        if i:
            ratios = [slow / fast for slow, fast in zip(times[i], times[0], strict=True)]
            ratio = statistics.median(ratios)
            missed = f" (target {TARGET})" if form == "plain" and batch > 1 else ""
            difference = actions[i] - actions[0]
            chunks = jnp.linalg.norm(difference, axis=(1, 2)) > 1e-3 * jnp.linalg.norm(actions[0], axis=(1, 2))
            apart = cell.apart(i)
            line += (
                f"  ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}){missed}; predictions {apart:.1e} apart"
                f"{'' if apart <= TOLERANCE else f', MORE THAN {TOLERANCE}'}, actions "
                f"{float(jnp.linalg.norm(difference) / jnp.linalg.norm(actions[0])):.1e}, "
                f"{int(chunks.sum())} of {batch} chunks another way"
            )
        print(line, flush=True)


def main() -> None:
    """Print each cell's operations, times and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 1], help="observations side by side")
    parser.add_argument("--schedules", nargs="+", choices=["masked", "flow"], default=["masked", "flow"])
    parser.add_argument("--decodes", nargs="+", choices=["naive", "bid"], default=["naive", "bid"])
    parser.add_argument("--samples", type=int, default=16, help="n of bid")
    parser.add_argument("--steps", type=int, default=5, help="reverse steps per chunk")
    parser.add_argument("--size", choices=list(SIZES), default="reference")
    parser.add_argument("--turns", type=int, default=8, help=f"of each form; a quarter of them above {MANY} chunks")
    chosen = parser.parse_args()

    size = SIZES[chosen.size]
    processes = {"masked": Masked(num_bins=size.num_bins), "flow": Flow()}
    decodes = {
        "naive": Naive(num_flow_steps=chosen.steps),
        "bid": Bid(num_flow_steps=chosen.steps, n_samples=chosen.samples),
    }
    print(f"{size.name} size: {size.model}, {chosen.steps} steps, {jax.devices()[0].device_kind}")
    for schedule in chosen.schedules:
        products = operations.of_a_decode(size.model, processes[schedule], batch=ONE_BLOCK, samples=1, steps=1)
        for i, (form, each) in enumerate(zip(FORMS, forms(processes[schedule], size), strict=True)):
            by_hand = sum(product.flops * product[2 + i] for product in products)
            counted = flops_of_a_pass(each)
            print(
                f"{schedule}, {form}: one pass of {ONE_BLOCK} chunks {by_hand / 1e6:.1f} MFLOP in products by hand,",
                end="",
            )
            print(f" {counted / 1e6:.1f} in all by XLA's count ({counted / by_hand:.2f})")
    for batch in chosen.batches:
        for decode in chosen.decodes:
            for schedule in chosen.schedules:
                name = f"{schedule} {decode}" + (f" n={chosen.samples}" if decode == "bid" else "")
                compare(name, size, processes[schedule], decodes[decode], batch, chosen.turns)


if __name__ == "__main__":
    main()
