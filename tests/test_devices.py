"""Rows over devices: the results of one device bit for bit, each device at work; what fails or ends, ends cleanly."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from flax import nnx

from dd import arrays, config, devices, fields, pipeline
from dd.decode.naive import Naive
from dd.errors import UserError
from dd.model.base import AbstractBackbone, AbstractModel
from dd.optimizer import AdamW
from dd.schedule.flow import Euler, Flow
from dd.stage import train
from dd.stage.base import AbstractStage
from dd.stage.demonstrations import Demonstrations
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.train import Train
from dd.store import Store
from dd.tracking import Tracking
from tests import tiny
from tests.test_lock import holder

ROOT = pathlib.Path(devices.__file__).parent.parent
SEVERAL = (None,) * 3  # threads as for three devices, all of which compute on the one there is


class Matrix(AbstractBackbone):
    """One product, which compiles as fast as any network can."""

    def __init__(self, key, obs, shape):
        self.shape = shape
        self.weights = nnx.Param(jax.random.normal(key, (obs, math.prod(shape))))

    def encode(self, obs):
        return (obs @ self.weights[...]).reshape(-1, *self.shape)

    def denoise(self, condition, x, t):
        return condition - x


@fields.configuration
class Linear(AbstractModel):
    def create(self, *, obs, chunk, action_dim, in_vocab, out_vocab, timed, rngs):
        return Matrix(rngs.params(), obs.shape[0], (chunk, action_dim))


TRAININGS = [
    Train(
        demos=Demos(experts=(Expert(env=tiny.WORLD),)),
        process=Flow(),
        model=Linear(),
        optimizer=AdamW(learning_rate=1e-2, warmup_steps=1),
        epochs=2,
        batch_size=64,
        seed=seed,
    )
    for seed in range(3)
]
ROWS = [
    Eval(policy=policy, decode=Naive(), sampler=Euler(), inference_delay=d, num_evals=6)
    for policy in TRAININGS
    for d in (0, 2)
]


def demonstrations(stage, work):
    draw = np.random.default_rng(0)
    data = Demonstrations(
        obs=draw.normal(size=(960, 4)).astype(np.float32),
        columns=np.arange(4, dtype=np.int32),
        constant=np.zeros(4, np.float32),
        action=draw.uniform(-1, 1, size=(8, 120, 2)).astype(np.float32),
        done=np.broadcast_to(np.arange(120) % 20 == 19, (8, 120)),
        validation=np.broadcast_to(np.arange(8)[:, None] == 5, (8, 120)),
    )
    arrays.write(work.path / "demos.safetensors", data._asdict())
    return {}


def ensure(stages, store, chosen, finished=lambda *_: None):
    plan, tracking = pipeline.Plan(stages, store), Tracking(mode="disabled")
    logs = store.root.parent / "logs"
    return pipeline.ensure(plan, device="here", devices=chosen, tracking=tracking, logs=logs, finished=finished)


def one_and_all(folder):
    """In a process with several devices: all rows on the first, then on all; writes where what was computed."""
    used, programs = [], []

    def note(name, tree):
        used.append([name, sorted({each.id for leaf in jax.tree.leaves(tree) for each in leaf.devices()})])
        return tree

    def noted(name, function):
        programs.append(function)
        return lambda *given: note(name, function(*given))

    def evaluator(stage, build=Eval.build):
        runner = build(stage)
        runner._rollout = noted("rollout", runner._rollout)
        runner._latency._chunk = noted("latency", runner._latency._chunk)
        return runner

    def save(run, state, epoch, save=train._Run._save):
        save(run, note("train", state), epoch)

    Expert.build = lambda self: lambda stage, work: {}
    Demos.build = lambda self: demonstrations
    Eval.build, train._Run._save = evaluator, save
    told = {"name": config.use_device("cpu")}
    for name, chosen in (("one", devices.alike()[:1]), ("all", devices.alike())):
        outcome = ensure(ROWS, Store(folder / name / "store"), chosen)
        assert (outcome.failures, outcome.ran) == ({}, 1 + 1 + 3 + 6)
        told[name] = {"used": list(used), "executables": [each._cache_size() for each in programs]}
        used.clear()
        programs.clear()
    (folder / "told.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    # For both runs: the number of devices decides how products are cut up, too.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=3"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pathlib, tests.test_devices as t; t.one_and_all(pathlib.Path({str(folder)!r}))",
        ],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=600,
    )
    return folder, json.loads((folder / "told.json").read_text())


def results(store):
    """All that must not depend on where it was computed."""
    found = {}
    for path in sorted(store.glob("[a-z]*/*/*")):
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            del manifest["seconds"], manifest["timings"], manifest["created"]
            manifest["files"].pop("timings.csv", None)
            found[str(path.relative_to(store))] = manifest
        elif path.name != "timings.csv":
            found[str(path.relative_to(store))] = path.read_bytes()
    return found


def test_several_devices_give_what_one_gives(ran):
    """Bit for bit: three trainings and six evaluations, no two of them alike."""
    folder, _ = ran
    one, all_ = results(folder / "one" / "store"), results(folder / "all" / "store")
    assert one.keys() == all_.keys()
    assert [name for name in one if one[name] != all_[name]] == []
    assert len({one[name] for name in one if name.endswith("last.safetensors")}) == 3
    assert len({one[name] for name in one if name.endswith("episodes.npz")}) == 6


def test_each_device_works_and_what_it_computes_stays_on_it(ran):
    """No array is spread over two, none strays to the first; each compiles a program once."""
    _, told = ran
    assert {tuple(where) for _, where in told["one"]["used"]} == {(0,)}
    for kind in ("train", "rollout", "latency"):
        places = [tuple(where) for name, where in told["all"]["used"] if name == kind]
        assert set(places) <= {(0,), (1,), (2,)}
        assert len(set(places)) == 3 if kind == "train" else len(set(places)) > 1, (kind, places)
    assert told["one"]["executables"] == [1, 1]
    assert set(told["all"]["executables"]) == {1}
    assert told["name"] == f"cpu, {os.cpu_count()} cores as 3 devices"


DO = {}
RAN: list[str] = []


@fields.configuration
class Step(AbstractStage):
    """Does what the test has entered under its name, if anything; steps may hang on steps."""

    kind = "train"

    name: str
    after: tuple[AbstractStage, ...] = ()

    @property
    def label(self):
        return self.name

    def program(self):
        return self.kind

    def build(self):
        return self._run

    @staticmethod
    def _run(stage, work):
        with work.progress(total=1.0, unit="steps") as advance:
            DO.get(stage.name, lambda _: None)(advance)
        for each in stage.after:
            work.result(each)
        RAN.append(stage.name)
        return {}


def step(name, *after):
    return Step(name=name, after=after)


@pytest.fixture(autouse=True)
def _forget():
    DO.clear()
    RAN.clear()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_as_many_rows_are_worked_on_at_once_as_there_are_devices(store):
    together = threading.Barrier(3, timeout=30)
    DO.update({name: lambda _: together.wait() for name in "abcdef"})
    reported = []
    outcome = ensure([step(name) for name in "abcdef"], store, SEVERAL, lambda stage, _: reported.append(stage.name))
    assert (outcome.failures, outcome.ran, sorted(reported)) == ({}, 6, list("abcdef"))


@pytest.mark.parametrize("chosen", [(None,), SEVERAL], ids=["one", "several"])
def test_a_row_waits_for_one_of_its_own_kind(store, chosen):
    """As a training does that begins with another's parameters."""
    DO["a"] = lambda _: time.sleep(0.2)
    chain = step("c", step("b", step("a")))
    outcome = ensure([chain, step("d")], store, chosen)
    assert outcome.failures == {}
    assert [each for each in RAN if each != "d"] == ["a", "b", "c"]


@pytest.mark.parametrize(("chosen", "begun"), [((None,), list("bcdecdedee")), (SEVERAL, [])], ids=["one", "several"])
def test_rows_are_begun_ahead_of_their_turn_on_one_device_only(store, monkeypatch, chosen, begun):
    """Threads of a runner's own would come on top of those of the devices."""

    class Runner:
        def __call__(self, stage, work):
            return {}

        def ahead(self, stages, result):
            ahead.extend(each.name for each in stages)

    ahead = []
    monkeypatch.setattr(Step, "build", lambda self: Runner())
    assert ensure([step(name) for name in "abcde"], store, chosen).ran == 5
    assert ahead == begun


def test_a_row_that_fails_costs_itself_and_what_hangs_on_it(store):
    def fail(advance):
        raise ValueError("refused")

    DO["b"] = fail
    bad = step("b")
    asked = [step("a"), step("c", bad), step("d", step("c", bad), step("e")), step("f", step("e"))]
    outcome = ensure(asked, store, SEVERAL)
    told = {each.stage.name: each.reason for each in outcome.failures.values()}
    needs = "needs train {}, which failed"
    assert told == {"b": "ValueError: refused", "c": needs.format("b"), "d": needs.format("c")}
    assert sorted(RAN) == ["a", "e", "f"]


def refuse(_):
    raise UserError("there is no room")


def interrupt(_):
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.parametrize(("end", "raised"), [(refuse, UserError), (interrupt, KeyboardInterrupt)])
def test_what_ends_the_sweep_ends_it_on_every_device(store, monkeypatch, end, raised):
    """At work, waiting for a row, or for another process; what has finished stays, and the same stages go on there."""

    said = []
    monkeypatch.setattr(pipeline.progress, "say", said.append)

    def ends(advance):
        while not (at_work.is_set() and any("another process" in line for line in said)):
            time.sleep(0.01)
        end(advance)

    def goes_on(advance):
        at_work.set()
        for _ in range(6000):
            advance(1e-4)
            time.sleep(0.01)

    at_work = threading.Event()
    DO.update({"b": ends, "c": goes_on})
    elsewhere = step("elsewhere")
    asked = [step("a"), elsewhere, step("b"), step("c"), step("d", step("c"))]
    before = threading.active_count()
    with holder(store.root / ".locks" / elsewhere.key()), pytest.raises(raised):
        ensure(asked, store, SEVERAL)
    assert threading.active_count() == before
    assert "a" in RAN
    assert "c" not in RAN

    DO.clear()
    finished = len(RAN)
    outcome = ensure(asked, store, SEVERAL)
    assert (outcome.failures, outcome.ran) == ({}, 5 - finished)
