"""The time of one chunk: one program, and one measurement for equal numbers."""

from dd.decode.base import POLICY
from dd.decode.hard_masking import HardMasking
from dd.latency import Latency
from dd.rollout import leaves
from dd.schedule.masked import MaskGIT
from tests import tiny


def numbers(steps=5, delay=1, seed=0):
    decode = HardMasking(num_flow_steps=steps)
    return leaves(
        decode, MaskGIT(), inference_delay=delay, execute_horizon=2, env_seed=seed, policy_seed=seed, level_id=seed
    )


def test_rows_that_differ_in_seeds_level_and_delay_share_it():
    policy = tiny.policy()
    latency, params = Latency(policy, HardMasking(), MaskGIT()), {POLICY: tiny.params(policy)}
    assert not latency.knows(numbers(1))
    for steps in (1, 9):
        latency.measure(params, numbers(steps))
        assert latency[numbers(steps)] > 0
    assert latency[numbers(1, seed=7, delay=2)] == latency[numbers(1)]
    assert not latency.knows(numbers(2))
    assert latency._chunk._cache_size() == 1


def test_where_a_chunk_ends_early_it_depends_on_delay_and_horizon():
    policy = tiny.policy()
    latency = Latency(policy, HardMasking(), MaskGIT(early_stop=True))
    latency.measure({POLICY: tiny.params(policy)}, numbers(1))
    assert latency.knows(numbers(1, seed=3))
    assert not latency.knows(numbers(1, delay=2))
