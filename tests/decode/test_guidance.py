"""Guidance of a continuous policy: the published algorithm for a linear denoiser, and its identities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.decode.base import Prefix
from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from dd.decode.realtime import Realtime
from dd.decode.weights import Exp, Linear, Ones, Zeros
from dd.schedule.flow import Euler

H, A, STEPS, LIMIT = 8, 2, 5, 5.0


def published(matrix, start, target, weights, limit, steps=STEPS):
    """arXiv 2506.07339, algorithm 1, for v(x) = M x: the pull is J^T W (y - J x) with J = I + (1 - t) M."""
    x = start.astype(np.float64)
    full = np.repeat(weights, A)
    for k in range(steps):
        t = k / steps
        jacobian = np.eye(H * A) + (1 - t) * matrix
        r2 = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
        weight = limit if t == 0 else min(limit, (1 - t) / (t * r2))
        x = x + (matrix @ x + weight * jacobian.T @ (full * (target - jacobian @ x))) / steps
    return x


@pytest.mark.parametrize("given_prefixes", [False, True], ids=["one time", "a time each"])
@pytest.mark.parametrize("limit", [0.0, 2.0, LIMIT, 50.0])
@pytest.mark.parametrize(
    ("decode", "schedule"),
    [
        (lambda limit: Realtime(max_guidance_weight=limit), Exp()),
        (lambda limit: Realtime(max_guidance_weight=limit, prefix_attention_schedule=Linear()), Linear()),
        (lambda limit: Realtime(max_guidance_weight=limit, prefix_attention_schedule=Ones()), Ones()),
        (lambda limit: HardMasking(max_guidance_weight=limit), Zeros()),
    ],
    ids=["exp", "linear", "ones", "hard_masking"],
)
def test_a_chunk_is_the_published_algorithms_for_a_linear_denoiser(
    flow, prefix, decode, schedule, limit, given_prefixes
):
    """M is not symmetric, so the Jacobian and its transpose differ; d = 2, s = 3; relative 1e-4."""
    matrix = np.random.default_rng(1).normal(scale=0.1, size=(H * A, H * A))
    plan = Prefix(jnp.asarray(prefix), jnp.int32(2), jnp.int32(3))
    keys = jax.random.split(jax.random.key(3), len(prefix))
    flow = dataclasses.replace(flow, simulated_delay=given_prefixes)
    start = flow.prior(keys)

    def denoise(x, t):
        return (x.reshape(-1, H * A) @ jnp.asarray(matrix.T, jnp.float32)).reshape(x.shape)

    guided = decode(limit).during(flow, denoise, plan)
    state, _ = jax.jit(lambda start: flow.sample(guided, Euler(), keys, start, STEPS))(start)
    weights = np.asarray(schedule(2, H - 3, H), np.float64)
    for i in range(0, len(prefix), 5):
        expected = published(matrix, np.asarray(start.x[i]).ravel(), prefix[i].ravel(), weights, limit)
        assert np.asarray(state.x[i]).ravel() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("decode", [Realtime, HardMasking])
@pytest.mark.parametrize(("d", "s"), [(0, 1), (3, 3)])
def test_guidance_of_weight_0_is_naive(flow_chunks, decode, d, s):
    assert (flow_chunks(decode(max_guidance_weight=0.0), d, s) == flow_chunks(Naive(), d, s)).all()


def test_hard_masking_without_delay_is_naive(flow_chunks):
    assert (flow_chunks(HardMasking(), 0, 1) == flow_chunks(Naive(), 0, 1)).all()


@pytest.mark.parametrize("d", [1, 4])
def test_without_overlap_realtime_is_hard_masking(flow_chunks, d):
    assert (flow_chunks(Realtime(), d, 8 - d) == flow_chunks(HardMasking(), d, 8 - d)).all()


def test_at_no_delay_realtime_still_differs_from_naive(flow_chunks):
    """The published weights at d = 0, s = 1 are .71 .49 ..."""
    assert (flow_chunks(Realtime(), 0, 1) != flow_chunks(Naive(), 0, 1)).any()


def test_guidance_brings_the_committed_part_near_the_plan(flow_chunks, prefix):
    def apart(decode):
        return np.abs(flow_chunks(decode, 3, 3) - prefix)[:, :3].mean()

    assert apart(HardMasking()) < 0.5 * apart(Naive())
    assert apart(Realtime()) < 0.5 * apart(Naive())


def test_the_backward_pass_is_counted(flow_chunks, chunks):
    assert (flow_chunks(Naive(), 1, 1, whole=True).evaluations == 5).all()
    assert (flow_chunks(Realtime(), 1, 1, whole=True).evaluations == 10).all()
    assert (flow_chunks(HardMasking(num_flow_steps=3), 1, 1, whole=True).evaluations == 6).all()
    assert (chunks(Realtime(), 1, 1, whole=True).evaluations == 5).all()
