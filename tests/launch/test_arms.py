"""Names of a sweep's arms: what tells its rows apart, in the words a user sets it by."""

import dataclasses

import pytest

from dd.decode.naive import Naive
from dd.decode.realtime import Realtime
from dd.decode.weights import Linear
from dd.env.pointmass import PointMass
from dd.model.mixer import Mixer
from dd.optimizer import AdamW
from dd.schedule.flow import Euler, Flow
from dd.schedule.masked import Masked, MaskGIT
from dd.schedule.ratio import OneMinusCosine
from dd.schedule.remask import Rescale
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.published import Published
from dd.stage.recorded import Recorded
from dd.stage.train import Train
from launch import arms

TRAIN = Train(demos=Demos(experts=(Expert(env=PointMass()),)), process=Masked(), model=Mixer(), optimizer=AdamW())
ROW = Eval(policy=TRAIN, decode=Naive(), sampler=MaskGIT())


def trained(**values):
    return dataclasses.replace(ROW, policy=dataclasses.replace(TRAIN, **values))


def decoded(decode, sampler=None):
    return dataclasses.replace(ROW, decode=decode, sampler=sampler or ROW.sampler)


def recorded(source, digest):
    return trained(demos=Recorded(env=PointMass(), source=source, digest=digest))


def published(source, digest):
    given = {"env": PointMass(), "process": Flow(), "model": Mixer(), "action_chunk_size": 8}
    return dataclasses.replace(FLOW, policy=Published(source=source, digest=digest, **given))


FLOW = dataclasses.replace(trained(process=Flow()), sampler=Euler())


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([ROW, decoded(Realtime())], ["naive", "realtime"]),
        ([ROW, FLOW], ["naive schedule=masked", "naive schedule=flow"]),
        ([ROW, trained(simulated_delay=5)], ["naive simulated_delay=None", "naive simulated_delay=5"]),
        (
            [ROW, trained(process=Masked(train_mask_schedule=OneMinusCosine()))],
            ["naive train_mask_schedule=cosine", "naive train_mask_schedule=one_minus_cosine"],
        ),
        (
            [decoded(Realtime()), decoded(Realtime(prefix_attention_schedule=Linear())), ROW],
            ["realtime prefix_attention_schedule=exp", "realtime prefix_attention_schedule=linear", "naive"],
        ),
        (
            [decoded(Naive(), MaskGIT(use_remask=True)), decoded(Naive(), MaskGIT(use_remask=True, remask=Rescale()))],
            ["naive remask=cap", "naive remask=rescale"],
        ),
        ([published("a", "1"), published("b", "2")], ["naive source=a", "naive source=b"]),
        ([published("a", "1"), published("a", "2")], ["naive", "naive"]),  # a folder, another level
        ([recorded("a", "1"), recorded("b", "2")], ["naive source=a", "naive source=b"]),
        ([recorded("a", "1"), recorded("a", "2")], ["naive", "naive"]),
        ([ROW, trained(seed=3)], ["naive", "naive"]),
        ([ROW, dataclasses.replace(ROW, inference_delay=2, slots=3)], ["naive", "naive"]),
    ],
)
def test_what_is_swept_is_named_and_nothing_else(rows, names):
    assert arms.names(rows) == names
