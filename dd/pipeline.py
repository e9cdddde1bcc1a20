"""From the stages asked for to their results: drop what the store has, go upstream, group by program, run, commit."""

import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import itertools
import pathlib
import shutil
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dd import fields, progress, source
from dd.devices import Queue
from dd.errors import UserError
from dd.store import Result, Store
from dd.tracking import Run, Tracking

KINDS = ("expert", "demos", "train", "policy", "eval")


@dataclasses.dataclass(frozen=True)
class Row:
    """A stage and where it stands.

    Attributes:
        stage: the stage.
        state: done, stale (done by other code), or todo.
        result: what the store holds, also when stale.
        flagged: modules that changed since a result that is used all the same (shipped, or `stale=keep`).
    """

    stage: Any
    state: str
    result: Result | None = None
    flagged: tuple[str, ...] = ()

    @functools.cached_property
    def program(self) -> str:
        """What it is grouped by."""
        return fields.digest([self.stage.kind, self.stage.program()])


@dataclasses.dataclass(frozen=True)
class Failure:
    """A stage that raised, or one that hangs on it.

    Attributes:
        stage: the stage.
        reason: one line.
        log: the traceback's file; None for a blocked stage.
    """

    stage: Any
    reason: str
    log: pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Results and failures by key."""

    results: dict[str, Result]
    failures: dict[str, Failure]
    ran: int


class Plan:
    """The stages that were asked for and all that must run before them, each with its state."""

    def __init__(self, stages: Iterable[Any], store: Store, *, keep_stale: bool = False):
        self.store, self._keep_stale = store, keep_stale
        self.rows: dict[str, Row] = {}
        self._keys: dict[int, str] = {}
        self._alive: list[Any] = []
        self.asked = list({self.key(stage): stage for stage in stages}.values())
        for stage in self.asked:
            self._add(stage)

    def key(self, stage: Any) -> str:
        """The stage's key, computed once per object."""
        if id(stage) not in self._keys:
            self._keys[id(stage)] = stage.key()
            self._alive.append(stage)  # an id is only the object's while it lives
        return self._keys[id(stage)]

    def _add(self, stage: Any) -> None:
        key = self.key(stage)
        if key in self.rows:
            return
        self.rows[key] = row = self._look(stage, key)
        if row.state != "done":
            for each in stage.upstream():
                self._add(each)

    def _look(self, stage: Any, key: str) -> Row:
        found = self.store.find(stage.kind, key)
        if found is None:
            return Row(stage, "todo")
        found.verify()
        changed = tuple(self.store.changed(found.manifest))
        kept = found.layer or self._keep_stale
        return Row(stage, "stale" if changed and not kept else "done", found, changed)

    def pending(self) -> list[Row]:
        """Rows to run, upstream first."""
        return sorted(
            (row for row in self.rows.values() if row.state != "done"), key=lambda row: KINDS.index(row.stage.kind)
        )

    def programs(self) -> int:
        """Distinct programs among the pending rows."""
        return len({row.program for row in self.pending()})

    def times(self, device: str) -> list[tuple[Row, float | None]]:
        """The pending rows, each with the mean seconds of finished rows of its kind and program; None without any.

        Args:
            device: the name of what computes: what others took tells nothing.
        """
        pending = self.pending()
        if not pending:
            return []
        seen: dict[tuple[str, str], list[float]] = {}
        for manifest in self._manifests:
            if manifest["device"] == device:
                seen.setdefault((manifest["kind"], manifest.get("program")), []).append(manifest["seconds"])
        means = {which: statistics.mean(seconds) for which, seconds in seen.items()}
        return [(row, means.get((row.stage.kind, row.program))) for row in pending]

    @functools.cached_property
    def _manifests(self) -> list[dict[str, Any]]:
        """Of all results at hand, read once; a damaged one that nobody asked for tells nothing."""
        readable = []
        for result in self.store.entries():
            with contextlib.suppress(UserError):
                readable.append(result.manifest)
        return readable

    def first_line(self, device: str, devices: int = 1) -> str:
        """Stages done, stale and to run, programs to compile, and the time expected where known.

        Args:
            device: the name of what computes.
            devices: how many there are of that name; each that comes to a program compiles it, and time is told as if
                all were busy to the end.
        """
        asked = [self.rows[self.key(stage)] for stage in self.asked]
        done = sum(row.state == "done" for row in asked)
        stale = sum(row.state == "stale" for row in asked)
        head = f"{len(asked)} runs: {done} done, {stale} stale, {len(asked) - done - stale} to run"
        pending = self.pending()
        if not pending:
            return f"{head}. Nothing to do."
        counts = ", ".join(f"{sum(row.stage.kind == kind for row in pending)} {kind}" for kind in _kinds(pending))
        times = [seconds for _, seconds in self.times(device)]
        seconds, unknown = sum(each for each in times if each is not None), times.count(None)
        time_ = f"about {progress.duration(seconds / devices)}" if seconds else ""
        rest = f"{unknown} stages not timed here before" if unknown else ""
        expected = " + ".join(part for part in (time_, rest) if part)
        where = f" on up to {devices} devices each" if devices > 1 else ""
        return f"{head}. Stages to run: {counts}; {self.programs()} programs to compile{where}; time: {expected}."

    def notices(self) -> list[str]:
        """Lines a reader should see before work starts: experts that will be trained, results of other code."""
        lines = [
            f"{row.stage.label}: no expert is shipped for these settings; one is trained first, "
            f"for {row.stage.total_steps:,} env steps at most{self._expert_time(row.stage.total_steps)}"
            for row in self.pending()
            if row.stage.kind == "expert" and row.state == "todo"
        ]
        for state, verb in (("done", "kept"), ("stale", "run again")):
            rows = [row for row in self.rows.values() if row.flagged and row.state == state]
            if rows:
                kinds = ", ".join(f"{sum(row.stage.kind == kind for row in rows)} {kind}" for kind in _kinds(rows))
                modules = sorted({module for row in rows for module in row.flagged})
                more = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
                lines.append(f"made by other code and {verb}: {kinds} (changed: {', '.join(modules[:3])}{more})")
        return lines

    def _expert_time(self, steps: int) -> str:
        """How long that takes, from all experts at hand; shipped ones tell of the machine that trained them."""
        rates: dict[str, list[float]] = {}
        for manifest in self._manifests:
            if manifest["kind"] == "expert" and (trained := manifest["summary"].get("steps")):
                rates.setdefault(manifest["device"], []).append(manifest["seconds"] / trained[-1])
        told = [f"{progress.duration(steps * max(each))} on {device}" for device, each in sorted(rates.items())]
        return f" (up to {', '.join(told)})" if told else ""


def _kinds(rows: Iterable[Row]) -> list[str]:
    found = {row.stage.kind for row in rows}
    return [kind for kind in KINDS if kind in found]


def ensure(
    plan: Plan,
    *,
    device: str,
    tracking: Tracking,
    logs: pathlib.Path,
    finished: Callable[[Any, Result], None],
    devices: Sequence[Any] = (None,),
) -> Outcome:
    """Run what is pending and return everything that was asked for.

    A stage that raises costs itself and what depends on it; the rest finish. What a user can put right, Ctrl-C and what
    `finished` raises end everything.

    Args:
        plan: what to do.
        device: the device's name, for the manifests.
        tracking: where training metrics go.
        logs: folder for tracebacks.
        finished: called with every row that was asked for, as soon as its result is there, once at a time.
        devices: jax's, of one kind: on several, rows are worked on side by side. None is where jax computes anyway.

    Raises:
        UserError: for what a user can put right.
    """
    return _Execution(plan, device, tracking, logs, finished).run(devices)


class _Execution:
    def __init__(
        self,
        plan: Plan,
        device: str,
        tracking: Tracking,
        logs: pathlib.Path,
        finished: Callable[[Any, Result], None],
    ):
        self.plan, self.store, self.device = plan, plan.store, device
        self.tracking, self.logs, self.finished = tracking, logs, finished
        self.results = {key: row.result for key, row in plan.rows.items() if row.state == "done" and row.result}
        self.failures: dict[str, Failure] = {}
        self.asked = {plan.key(stage) for stage in plan.asked}
        self.ran = 0
        groups: dict[str, list[Row]] = {}
        for row in plan.pending():
            groups.setdefault(row.program, []).append(row)
        self.queue = Queue(itertools.chain.from_iterable(groups.values()), self._ready)

    def run(self, devices: Sequence[Any]) -> Outcome:
        for stage in self.plan.asked:
            if (key := self.plan.key(stage)) in self.results:
                self.finished(stage, self.results[key])
        self.queue.work_off(self._work, devices)
        return Outcome(self.results, self.failures, self.ran)

    def _work(self, rows: Iterator[Row]) -> None:
        """One device's share: its rows of a program one after the other share a runner, which is its own."""
        for _, group in itertools.groupby(rows, lambda row: row.program):
            self._group(group)

    def _group(self, rows: Iterator[Row]) -> None:
        build = None
        for row in rows:
            # Built by the first row that really has to run: another process may have done them all meanwhile.
            build = build or functools.cache(row.stage.build)
            key = self.plan.key(row.stage)
            if blocking := self._blocking(row.stage):
                with self.queue.changing():
                    self.failures[key] = Failure(row.stage, f"needs {blocking}, which failed", None)
                continue
            try:
                result = self._row(row, key, build)
            except UserError:
                raise
            except Exception as problem:
                self._failed(row.stage, key, problem)
                continue
            with self.queue.changing():
                self.results[key] = result
                if key in self.asked:
                    self.finished(row.stage, result)

    def _ready(self, row: Row) -> bool:
        return self._complete(row.stage) or self._blocking(row.stage) is not None

    def _complete(self, stage: Any) -> bool:
        """Whether all that it reads is there."""
        return all(self.plan.key(each) in self.results for each in stage.upstream())

    def _blocking(self, stage: Any) -> str | None:
        bad = [each for each in stage.upstream() if self.plan.key(each) in self.failures]
        return f"{bad[0].kind} {bad[0].label}" if bad else None

    def _failed(self, stage: Any, key: str, problem: Exception) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{stage.kind}-{key[:12]}.txt"
        log.write_text("".join(traceback.format_exception(problem)))
        text = str(problem).strip() or "no message"
        reason = f"{type(problem).__name__}: {text.splitlines()[0]}"
        with self.queue.changing():
            self.failures[key] = Failure(stage, reason, log)
        progress.say(f"{stage.kind} {stage.label}: FAILED, {reason} ({log})")

    def _row(self, row: Row, key: str, build: Callable[[], Any]) -> Result:
        stage = row.stage

        def waits(owner: str) -> None:
            progress.say(f"{stage.kind} {stage.label}: another process works on it ({owner}), waiting for its result")

        with self.store.hold(key, on_wait=waits, sleep=self.queue.pause):
            found = self.store.find(stage.kind, key)
            if found is not None and not self.store.changed(found.manifest):
                found.verify()
                return found
            origin = self._origin(stage)
            path = _partial(self.store, stage.kind, key, fields.digest(origin))
            begin = time.monotonic()
            with self._tracked(stage, key) as run:
                work, runner = _Work(self, stage, path, run), build()
                if hasattr(runner, "ahead") and self.queue.alone:
                    # It computes some rows side by side; all else happens here, row by row.
                    runner.ahead(self._following(row), work.result)
                summary = runner(stage, work)
            seconds = time.monotonic() - begin
            with self.queue.changing():
                self.ran += 1
            told = {"summary": summary, "timings": work.timings, "seconds": round(seconds, 3)}
            result = self.store.commit(stage.kind, key, self._manifest(row, origin) | told)
        progress.say(f"{stage.kind} {stage.label}: done in {progress.duration(seconds)}{_told(summary)}")
        return result

    def _following(self, row: Row) -> Iterator[Any]:
        """The stages of its program that come next."""
        following = itertools.takewhile(lambda each: each.program == row.program, self.queue.left)
        return (each.stage for each in following if self._complete(each.stage))

    @contextlib.contextmanager
    def _tracked(self, stage: Any, key: str) -> Iterator[Run]:
        if stage.kind != "train":
            yield Run(None)
            return
        run = self.tracking.start(key, stage.label, fields.content(stage, everything=True))
        try:
            yield run
        finally:
            run.finish()

    def _origin(self, stage: Any) -> dict[str, Any]:
        """The code a result comes from: its stage's modules, and the origin of every upstream result it reads."""
        upstream = {}
        for each in stage.upstream():
            key = self.plan.key(each)
            manifest = self.results[key].manifest
            upstream[key] = {name: manifest[name] for name in ("kind", "source", "upstream")}
        return {"source": source.modules(_modules(stage)), "upstream": upstream}

    def _manifest(self, row: Row, origin: dict[str, Any]) -> dict[str, Any]:
        return {
            "label": row.stage.label,
            "config": fields.content(row.stage, everything=True),
            **origin,
            "program": row.program,
            "versions": versions(),
            "commit": commit(),
            "device": self.device,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }


@dataclasses.dataclass(frozen=True)
class _Work:
    """See `dd.stage.base.Work`."""

    _execution: _Execution
    _stage: Any
    path: pathlib.Path
    _run: Run
    timings: dict[str, float] = dataclasses.field(default_factory=dict)

    def result(self, stage: Any) -> pathlib.Path:
        result = self._execution.results[self._execution.plan.key(stage)]
        result.verify()
        return result.path

    def say(self, line: str) -> None:
        progress.say(f"  {line}")

    @contextlib.contextmanager
    def progress(self, *, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        with progress.progress(f"{self._stage.kind} {self._stage.label}", total, unit) as advance:

            def advanced(units: float) -> None:
                self._execution.queue.require_going()
                advance(units)

            yield advanced

    def log(self, metrics: dict[str, int | float], step: int) -> None:
        self._run.log(metrics, step)

    def timed(self, name: str, seconds: float) -> None:
        self.timings[name] = seconds


def _partial(store: Store, kind: str, key: str, origin: str) -> pathlib.Path:
    """The stage's work folder; what other code left in it is dropped, for it could not be resumed from."""
    path = store.work(kind, key)
    marker = path / ".origin"
    if not marker.exists() or marker.read_text() != origin:
        shutil.rmtree(path)
        marker = store.work(kind, key) / ".origin"
        marker.write_text(origin)
    return path


def _told(summary: dict[str, Any]) -> str:
    named = {
        "returned_episode_solved": "solved",
        "solve_rate": "solved",
        "loss": "loss",
        "episodes": "episodes",
        "mean_length": "mean length",
    }
    told = [
        f"{short} {summary[name]:.4g}" for name, short in named.items() if isinstance(summary.get(name), int | float)
    ]
    return ": " + ", ".join(told) if told else ""


def _modules(stage: Any) -> set[str]:
    """The modules that define a stage and the configurations in it, those inside its upstream stages included.

    An evaluation runs the world that its policy's demonstrations come from. That the world's code is part of the
    experts' source too is not enough: an expert of a read-only layer is kept, whatever its age.
    """
    return {type(stage).__module__} | _configurations(stage)


def _configurations(value: Any) -> set[str]:
    """The modules of the configurations in `value` that are no stages."""
    if isinstance(value, tuple):
        return {name for each in value for name in _configurations(each)}
    if not dataclasses.is_dataclass(value):
        return set()
    held = {name for item in dataclasses.fields(value) for name in _configurations(getattr(value, item.name))}
    return held if hasattr(value, "upstream") else held | {type(value).__module__}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what decides a result's digits."""
    return {name: importlib.metadata.version(name) for name in ("dd", "jax", "jaxlib", "flax", "optax", "kinetix-env")}


@functools.cache
def commit() -> str:
    """The git commit of the source tree, `+` where it differs from it, or `unknown` outside a checkout."""
    folder = pathlib.Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return name.stdout.strip()
