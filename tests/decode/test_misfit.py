"""Which decode fits which schedule: the README's table."""

import pytest

from dd.decode.bid import Bid
from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from dd.decode.prefix import GivenPrefix
from dd.decode.realtime import Realtime
from dd.schedule.flow import Flow
from dd.schedule.masked import Masked
from dd.schedule.uniform import Uniform

TOKENS = [Masked(), Uniform()]


@pytest.mark.parametrize("process", [*TOKENS, Flow()])
@pytest.mark.parametrize("decode", [Naive(), HardMasking(), Realtime(), Bid()])
@pytest.mark.parametrize("simulated_delay", [True, False])
def test_these_fit_every_schedule(decode, process, simulated_delay):
    assert decode.misfit(process, simulated_delay=simulated_delay) is None


@pytest.mark.parametrize("process", TOKENS)
def test_given_prefixes_are_of_continuous_policies(process):
    assert "use decode=hard_masking" in GivenPrefix().misfit(process, simulated_delay=True)


def test_given_prefixes_need_a_training_that_gave_them():
    assert "set train.simulated_delay" in GivenPrefix().misfit(Flow(), simulated_delay=False)
    assert GivenPrefix().misfit(Flow(), simulated_delay=True) is None


@pytest.mark.parametrize(
    ("decode", "process", "name"),
    [
        (Realtime(strength=0.1), Flow(), "decode.strength is read with schedules over tokens only"),
        (Realtime(sigma=0.2), Flow(), "decode.sigma is read with schedules over tokens only"),
        (Realtime(max_guidance_weight=1.0), Masked(), "decode.max_guidance_weight is read with continuous schedules"),
        (HardMasking(max_guidance_weight=1.0), Uniform(), "decode.max_guidance_weight is read with continuous"),
    ],
)
def test_a_number_that_would_do_nothing_is_refused(decode, process, name):
    assert name in decode.misfit(process, simulated_delay=False)
