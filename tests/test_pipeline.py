"""Laws of the pipeline, on stages that write one number and need no jax."""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from dd import fields, pipeline
from dd.stage.base import AbstractStage
from dd.store import Store
from dd.tracking import Tracking

ROOT = pathlib.Path(pipeline.__file__).parent.parent
BUILT: list[str] = []
RAN: list[str] = []
FAILING: set[str] = set()


@fields.configuration
class Number(AbstractStage):
    """A stage that adds its number to those upstream."""

    number: int = 1

    @property
    def label(self):
        return f"number {self.number}"

    def program(self):
        return self.kind

    def build(self):
        BUILT.append(self.kind)
        return run


def run(stage, work):
    RAN.append(f"{stage.kind} {stage.label}")
    if RAN[-1] in FAILING:
        raise ValueError(f"{stage.label} is refused\nand more")
    total = stage.number + sum(int((work.result(each) / "total").read_text()) for each in stage.upstream())
    (work.path / "total").write_text(str(total))
    return {"total": total}


@fields.configuration
class Expert(Number):
    kind = "expert"
    total_steps: int = 1000


@fields.configuration
class Training(Number):
    expert: Expert
    kind = "train"


@fields.configuration
class Row(Number):
    policy: Training
    method: str = "naive"
    delay: int = 0
    kind = "eval"

    @property
    def label(self):
        return f"{self.policy.number} {self.method} d={self.delay}"

    def program(self):
        return [self.kind, self.method]


def rows(seeds=(1, 2), methods=("naive", "realtime"), delays=(0, 1)):
    expert = Expert()
    policies = [Training(expert=expert, number=seed) for seed in seeds]
    return [Row(policy=one, method=method, delay=d) for one in policies for method in methods for d in delays]


@pytest.fixture(autouse=True)
def _forget():
    for each in (BUILT, RAN, FAILING):
        each.clear()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def ensure(stages, store, *, finished=lambda *_: None, **keep):
    plan = pipeline.Plan(stages, store, **keep)
    tracking = Tracking(mode="disabled", project="none")
    return pipeline.ensure(plan, device="here", tracking=tracking, logs=store.root.parent / "logs", finished=finished)


def test_each_thing_runs_once_and_everything_upstream_of_it_before(store):
    seen = []
    outcome = ensure(rows(), store, finished=lambda stage, result: seen.append((stage.label, result.key)))
    assert len(RAN) == len(set(RAN)) == outcome.ran == 1 + 2 + 8
    assert [each.split()[0] for each in RAN] == ["expert"] + ["train"] * 2 + ["eval"] * 8
    assert len(seen) == 8
    assert outcome.failures == {}
    totals = {each.label: outcome.results[each.key()].manifest["summary"]["total"] for each in rows()}
    assert totals["2 naive d=1"] == 1 + 2 + 1


def test_rows_of_one_program_share_one_runner(store):
    ensure(rows(), store)
    assert sorted(BUILT) == ["eval", "eval", "expert", "train"]


def test_what_is_done_is_not_run_and_what_is_upstream_of_it_is_not_even_read(store):
    ensure(rows(), store)
    shutil.rmtree(store.root / "expert")
    shutil.rmtree(store.root / "train")
    RAN.clear()
    seen = []
    outcome = ensure(rows(), store, finished=lambda stage, result: seen.append(result.manifest["summary"]["total"]))
    assert (RAN, outcome.ran, sorted(seen)) == ([], 0, [3] * 4 + [4] * 4)


def test_a_row_more_runs_that_row_only(store):
    ensure(rows(delays=(0,)), store)
    RAN.clear()
    ensure(rows(delays=(0, 1)), store)
    assert sorted(RAN) == sorted(f"eval {each.label}" for each in rows(delays=(1,)))


def test_first_line_counts_what_is_done_stale_and_to_run(store):
    ensure(rows(delays=(0,), seeds=(1,)), store)
    line = pipeline.Plan(rows(), store).first_line("here")
    assert line.startswith("8 runs: 2 done, 0 stale, 6 to run. Stages to run: 1 train, 6 eval; 3 programs to compile;")
    assert "not timed here before" not in line
    elsewhere = pipeline.Plan(rows(), store).first_line("elsewhere")
    assert elsewhere.endswith("time: 7 stages not timed here before.")
    fresh = pipeline.Plan(rows(), Store(store.root / "fresh"))
    counts = "8 runs: 0 done, 0 stale, 8 to run. Stages to run: 1 expert, 2 train, 8 eval; 4 programs to compile;"
    assert fresh.first_line("here").startswith(counts)
    assert fresh.notices() == [
        "number 1: no expert is shipped for these settings; one is trained first, for 1,000 env steps at most"
    ]


def test_an_experts_time_is_told_from_the_experts_at_hand(store):
    ensure(rows(), store)
    (manifest,) = store.root.glob("expert/*/manifest.json")
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"seconds": 30.0, "summary": {"steps": [100, 200]}}))
    other = Training(expert=Expert(number=7), number=1)
    notice = pipeline.Plan([other], store).notices()[-1]
    assert notice.endswith("for 1,000 env steps at most (up to 2 min 30 s on here)")


def test_time_expected_is_the_mean_of_finished_rows_of_the_program(store):
    ensure(rows(), store)
    for path in store.root.glob("eval/*/manifest.json"):
        text = path.read_text()
        begin = text.index('"seconds": ') + len('"seconds": ')
        path.write_text(text[:begin] + "30.0" + text[text.index(",", begin) :])
    plan = pipeline.Plan(rows(delays=(0, 1, 2)), store)
    assert [seconds for _, seconds in plan.times("here")] == [30.0] * 4
    assert [seconds for _, seconds in plan.times("elsewhere")] == [None] * 4
    assert plan.first_line("here").endswith("4 eval; 2 programs to compile; time: about 2 min.")
    assert plan.first_line("here", 3).endswith("2 programs to compile on up to 3 devices each; time: about 40 s.")


def test_a_failed_stage_costs_itself_and_what_depends_on_it(store):
    FAILING.update({"train number 2", "eval 1 naive d=1"})
    outcome = ensure(rows(), store)
    by_label = {f"{each.stage.kind} {each.stage.label}": each for each in outcome.failures.values()}
    assert set(by_label) == {"train number 2", "eval 1 naive d=1"} | {f"eval {each.label}" for each in rows(seeds=(2,))}
    failed, blocked = by_label["train number 2"], by_label["eval 2 naive d=0"]
    assert failed.reason == "ValueError: number 2 is refused"
    assert "raise ValueError" in failed.log.read_text()
    assert (blocked.reason, blocked.log) == ("needs train number 2, which failed", None)
    assert outcome.ran == 1 + 1 + 3

    FAILING.clear()
    RAN.clear()
    outcome = ensure(rows(), store)
    assert outcome.failures == {}
    assert sorted(RAN) == sorted(by_label)


def test_a_damaged_result_is_refused_before_anything_runs(store):
    ensure(rows(delays=(0,)), store)
    (damaged,) = [each for each in store.root.glob("train/*/total") if each.read_text() == "3"]
    damaged.write_text("4")
    RAN.clear()
    with pytest.raises(pipeline.UserError, match=r"damaged result .* total is not what was written"):
        ensure(rows(delays=(0, 1)), store)
    assert RAN == []


MODULE = '''
"""Somebody's own stages."""
from dd import fields
from dd.stage.base import AbstractStage

@fields.configuration
class {name}(AbstractStage):
    kind = "{kind}"
    upper: AbstractStage | None = None
    world: object = None
    label = "{name}"

    def program(self):
        return "{name}"

    def build(self):
        def runner(stage, work):
            resumed = (work.path / ".state").exists()
            (work.path / ".state").write_text("half")
            if (work.path.parents[1] / "stop").exists():
                raise KeyboardInterrupt
            for each in stage.upstream():
                work.result(each)
            (work.path / "number").write_text("1")
            return {{"resumed": resumed}}
        return runner
'''


WORLD = """
from dd import fields

@fields.configuration
class World:
    size: int = 1
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A stage with another upstream of it that plays in a world, each in a module of its own that may be edited."""
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "code")
    files = {"World": tmp_path / "code" / "own_world.py"}
    files["World"].write_text(WORLD)
    for name, kind in (("Upper", "train"), ("Lower", "eval")):
        files[name] = tmp_path / "code" / f"own_{name.lower()}.py"
        files[name].write_text(MODULE.format(name=name, kind=kind))
    made = {name: importlib.import_module(f"own_{name.lower()}") for name in files}
    stage = made["Lower"].Lower(upper=made["Upper"].Upper(world=made["World"].World()))
    yield stage, files
    for name in made.values():
        del sys.modules[name.__name__]


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def states(stage, store, **keep):
    plan = pipeline.Plan([stage], store, **keep)
    return {row.stage.label: row.state for row in plan.rows.values()}


def test_an_edit_makes_stale_what_ran_the_module_and_what_depends_on_it(modules, store):
    stage, files = modules
    ensure([stage], store)
    assert states(stage, store) == {"Lower": "done"}
    for old, new in (("half", "halb"), ("halb", "half")):
        edit(files["Lower"], old, new)
        expected = {"Lower": "stale", "Upper": "done"} if new == "halb" else {"Lower": "done"}
        assert states(stage, store) == expected
    edit(files["Upper"], "half", "halb")
    assert states(stage, store) == {"Lower": "stale", "Upper": "stale"}
    plan = pipeline.Plan([stage], store)
    assert plan.first_line("here").startswith("1 runs: 0 done, 1 stale, 0 to run. Stages to run: 1 train, 1 eval;")
    assert plan.notices() == ["made by other code and run again: 1 train, 1 eval (changed: own_upper)"]
    assert ensure([stage], store).ran == 2
    assert states(stage, store) == {"Lower": "done"}


@pytest.mark.parametrize(
    ("old", "new"),
    [("def runner", "# why\n        def runner"), ("Somebody's own", "My"), ("{}", "{}"), ("\n\n", "\n\n\n")],
    ids=["comment", "docstring", "nothing", "layout"],
)
def test_an_edit_that_changes_nothing_makes_nothing_stale(modules, store, old, new):
    stage, files = modules
    ensure([stage], store)
    for file in files.values():
        file.write_text(file.read_text().replace(old, new))
    assert states(stage, store) == {"Lower": "done"}


def test_stale_results_may_be_kept(modules, store):
    stage, files = modules
    ensure([stage], store)
    edit(files["Upper"], "half", "halb")
    plan = pipeline.Plan([stage], store, keep_stale=True)
    assert [row.state for row in plan.rows.values()] == ["done"]
    assert plan.notices() == ["made by other code and kept: 1 eval (changed: own_upper)"]
    assert ensure([stage], store, keep_stale=True).ran == 0


def test_results_of_a_layer_are_kept_and_flagged(modules, store, tmp_path):
    stage, files = modules
    ensure([stage.upper], store)
    edit(files["Upper"], "half", "halb")
    over = Store(tmp_path / "mine", [store.root])
    plan = pipeline.Plan([stage], over)
    assert {row.stage.label: row.state for row in plan.rows.values()} == {"Lower": "todo", "Upper": "done"}
    assert plan.notices() == ["made by other code and kept: 1 train (changed: own_upper)"]
    assert ensure([stage], over).ran == 1
    assert states(stage, over) == {"Lower": "done"}  # made from the layer's result, of whatever code


def test_a_world_s_code_counts_also_where_what_was_made_in_it_lies_in_a_layer(modules, store, tmp_path):
    stage, files = modules
    ensure([stage.upper], store)
    over = Store(tmp_path / "mine", [store.root])
    ensure([stage], over)
    edit(files["World"], "size: int = 1", "size: int = 1\n    height: int = fields.field(2, since=2)")
    assert states(stage, over) == {"Lower": "stale", "Upper": "done"}


@pytest.mark.parametrize(
    ("old", "new", "resumed"),
    [("half", "halb", False), ("half", "half", True), ("def runner", "# why\n        def runner", True)],
)
def test_interrupted_work_goes_on_unless_the_code_has_changed(modules, store, old, new, resumed):
    stage, files = modules
    store.root.mkdir()
    (store.root / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        ensure([stage.upper], store)
    (store.root / "stop").unlink()
    edit(files["Upper"], old, new)
    outcome = ensure([stage.upper], store)
    assert outcome.results[stage.upper.key()].manifest["summary"] == {"resumed": resumed}


def test_interrupted_work_on_results_of_other_code_is_dropped(modules, store):
    """What lies above has been made anew meanwhile."""
    stage, files = modules
    ensure([stage.upper], store)
    (store.root / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        ensure([stage], store)
    (store.root / "stop").unlink()
    edit(files["Upper"], "half", "halb")
    outcome = ensure([stage], store)
    assert outcome.results[stage.key()].manifest["summary"] == {"resumed": False}


@fields.configuration
class Slow(Number):
    """Writes down who ran it."""

    kind = "eval"
    folder: str = fields.field("", hashed=False)

    def build(self):
        def runner(stage, work):
            with (pathlib.Path(stage.folder) / "ran").open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(1.0)
            return run(stage, work)

        return runner


def one_of_two(folder):
    """A process that plans, waits until the other has planned, and runs."""
    store = Store(pathlib.Path(folder) / "store")
    stage = Slow(folder=folder)
    plan = pipeline.Plan([stage], store)
    (pathlib.Path(folder) / f"planned-{os.getpid()}").touch()
    while len(list(pathlib.Path(folder).glob("planned-*"))) < 2:
        time.sleep(0.01)
    tracking = Tracking(mode="disabled", project="none")
    logs = pathlib.Path(folder) / "logs"
    outcome = pipeline.ensure(plan, device="here", tracking=tracking, logs=logs, finished=lambda *_: None)
    print(outcome.ran, outcome.results[stage.key()].manifest["summary"]["total"])


def test_of_two_processes_one_works_and_the_other_takes_the_result(tmp_path):
    code = f"from tests.test_pipeline import one_of_two; one_of_two({str(tmp_path)!r})"
    command = [sys.executable, "-c", code]
    two = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [each.communicate(timeout=120)[0].splitlines() for each in two]
    assert [each.returncode for each in two] == [0, 0]
    assert len((tmp_path / "ran").read_text().splitlines()) == 1
    assert sorted(each[-1] for each in told) == ["0 1", "1 1"]
    waiting = next(each for each in told if each[-1] == "0 1")
    assert "another process works on it" in waiting[0]
