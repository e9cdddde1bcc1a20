"""Kill -9 in the middle of the main command, then start it again: `python -m tests.faults.kill [--moments 50]`.

An undisturbed run, on a tiny world, writes down its events: what it does to files in the store, and what it tells of
its progress. Each moment is then a run from nothing that kills itself before one of these events, or after some seconds
of a stage; the same command is started again, and must end with the results of the undisturbed run.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

from tests.compiling import QUICK

ROOT = pathlib.Path(__file__).parents[2]
KINDS = ("expert", "demos", "train", "eval")
COMMAND = (
    *("+experiment=rtc", "env=pointmass", "expert=laptop", "scale=smoke", "wandb.mode=disabled", "train.epochs=6"),
    *("expert.total_steps=16384", "expert.checkpoint_steps=2048", "expert.num_evals=16", "demos.min_solve_rate=0"),
    *("expert.ppo.num_steps=16", "expert.ppo.num_envs=64", "expert.ppo.hidden_dim=16"),
)
_FILES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
_LIMIT = 600  # seconds for one run


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a run kills itself.

    Attributes:
        kind: in a stage of this kind.
        commit: inside `Store.commit`, or outside.
        event: before this event of that kind, from 0; None: after `seconds`.
        seconds: counted from the kind's first stage.
    """

    kind: str
    commit: bool = False
    event: int | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        where = f"{self.kind}{' commit' if self.commit else ''}"
        return f"{where} after {self.seconds:.2f} s" if self.event is None else f"{where} event {self.event}"


class Watched:
    """The command in this process, with its events counted."""

    def __init__(self, store: pathlib.Path, moment: Moment | None):
        self.store, self.moment = f"{store}/", moment
        self.kind, self.committing = "", False
        self.events: dict[tuple[str, bool], list[str]] = collections.defaultdict(list)
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def event(self, name: str) -> None:
        """Something is about to happen."""
        if not self.kind or threading.current_thread() is not threading.main_thread():
            return
        seen = self.events[self.kind, self.committing]
        moment = self.moment
        if moment and (moment.kind, moment.commit, moment.event) == (self.kind, self.committing, len(seen)):
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(name)

    def on_file(self, name: str, told: tuple[Any, ...]) -> None:
        """The interpreter is about to touch a file."""
        if name not in _FILES or not told or not isinstance(told[0], str | os.PathLike):
            return
        path = os.fspath(told[0])
        reads = name == "open" and not (isinstance(told[2], int) and told[2] & (os.O_WRONLY | os.O_RDWR))
        if isinstance(path, str) and path.startswith(self.store) and "/.cache/" not in path and not reads:
            self.event(name)

    def stage(self, row: Callable[..., Any]) -> Callable[..., Any]:
        """Around `_Execution._row`: the kind of the stage at work."""

        def around(execution: Any, asked: Any, *rest: Any) -> Any:
            self.kind, moment = asked.stage.kind, self.moment
            if self.kind not in self.began:
                self.began[self.kind] = time.monotonic()
                if moment and moment.event is None and moment.kind == self.kind:
                    threading.Timer(moment.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            try:
                return row(execution, asked, *rest)
            finally:
                self.ended[self.kind], self.kind = time.monotonic(), ""

        return around

    def commit(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        """Around `Store.commit`."""

        def around(*arguments: Any) -> Any:
            self.committing = True
            try:
                return commit(*arguments)
            finally:
                self.committing = False

        return around

    def told(self, name: str, tell: Callable[..., Any]) -> Callable[..., Any]:
        """Around what a stage tells of its progress."""

        def around(*arguments: Any, **named: Any) -> Any:
            self.event(name)
            return tell(*arguments, **named)

        return around

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command."""
        figures = types.ModuleType("analysis.plots")  # a second of imports, and no part of what is tested
        figures.draw = lambda *_: []
        sys.modules["analysis.plots"] = figures

        import jax

        from dd import pipeline, run
        from dd.store import Store
        from launch import sweep

        def cache(store: Any) -> None:
            jax.config.update("jax_compilation_cache_dir", os.fspath(store.cache))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

        sweep._use_compile_cache = cache
        os.fsync = self.told("fsync", lambda _: None)  # for a power cut: no kill can show what it is for
        pipeline._Execution._row = self.stage(pipeline._Execution._row)
        for name in ("say", "log", "result"):
            setattr(pipeline._Work, name, self.told(name, getattr(pipeline._Work, name)))
        Store.commit = self.commit(Store.commit)
        sys.addaudithook(self.on_file)
        sys.argv[1:] = arguments
        return run.main()


def child(told: dict[str, Any]) -> int:
    """One run, in a process of its own: with the moment at which it dies, or a file for what it saw."""
    watched = Watched(pathlib.Path(told["store"]), Moment(**told["moment"]) if told["moment"] else None)
    code = watched.run(told["arguments"])
    if told["seen"]:
        events = [[kind, committing, names] for (kind, committing), names in watched.events.items()]
        seconds = {kind: watched.ended[kind] - watched.began[kind] for kind in watched.began}
        pathlib.Path(told["seen"]).write_text(json.dumps({"events": events, "seconds": seconds}))
    return code


def start(folder: pathlib.Path, command: Sequence[str], moment: Moment | None = None, seen: str = "") -> int:
    """Run the command on the store in `folder`; its exit code, negative for a signal."""
    arguments = [*command, f"store={folder}/store", f"hydra.sweep.dir={folder}/out"]
    told = {"store": f"{folder}/store", "moment": moment and dataclasses.asdict(moment), "seen": seen}
    process = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill", "--child", json.dumps(told | {"arguments": arguments})],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{moment}: exit code {process.returncode}\n{process.stdout}\n{process.stderr}")
    return process.returncode


def undisturbed(folder: pathlib.Path, command: Sequence[str], *, warm: bool) -> dict[str, Any]:
    """Run the command from nothing; what it did. `warm`: once more, all compiled, to know how long that takes."""
    seen = f"{folder}/seen.json"
    folder.mkdir(parents=True)
    if warm:
        start(folder, command)
        fresh(folder, folder)
    assert start(folder, command, seen=seen) == 0
    return json.loads(pathlib.Path(seen).read_text())


def fresh(folder: pathlib.Path, reference: pathlib.Path) -> None:
    """An empty store with nothing but the compiled programs."""
    cache = reference / "store" / ".cache"
    kept = pathlib.Path(shutil.copytree(cache, reference / "cache", dirs_exist_ok=True))
    shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.copytree(kept, folder / "store" / ".cache")


def results(folder: pathlib.Path) -> dict[str, Any]:
    """All that a run leaves which must not depend on when it was killed."""
    found: dict[str, Any] = {"results.csv": (folder / "out" / "results.csv").read_text()}
    found["unfinished"] = sorted(path.name for path in (folder / "store" / ".partial").iterdir())
    for path in sorted((folder / "store").glob("[a-z]*/*/**/*")):
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            del manifest["seconds"], manifest["timings"], manifest["created"]
            manifest["files"].pop("timings.csv", None)
            found[str(path.relative_to(folder))] = manifest
        elif path.is_file() and path.name != "timings.csv":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names under which two runs' results differ."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def moments(seen: dict[str, Any], count: int, seed: int) -> list[Moment]:
    """Spread over the run: of 50, 9 before events in each stage, 2 in commits of each, the rest at random times."""
    events = {(kind, committing): len(names) for kind, committing, names in seen["events"]}
    chosen = [
        Moment(kind, committing, (2 * place + 1) * events[kind, committing] // (2 * share))
        for committing, share in ((False, max(1, 9 * count // 50)), (True, max(1, 2 * count // 50)))
        for kind in KINDS
        for place in range(share)
    ]
    draw = random.Random(seed)
    while len(chosen) < count:
        kind = draw.choice(KINDS)
        chosen.append(Moment(kind, seconds=draw.uniform(0, seen["seconds"][kind])))
    draw.shuffle(chosen)  # whoever stops early has seen something of everything
    return chosen


def main(count: int, seed: int) -> int:
    """Try each moment; 1 when a result differs."""
    with tempfile.TemporaryDirectory() as made:
        reference, folder = pathlib.Path(made) / "reference", pathlib.Path(made) / "killed"
        seen = undisturbed(reference, COMMAND, warm=True)
        expected, wrong, tally = results(reference), 0, collections.Counter()
        chosen = moments(seen, count, seed)
        for number, moment in enumerate(chosen):
            fresh(folder, reference)
            while start(folder, COMMAND, moment) == 0:  # faster than the undisturbed run was: sooner, then
                assert moment.event is None, f"{moment} never came"
                moment = dataclasses.replace(moment, seconds=moment.seconds / 2)
                fresh(folder, reference)
            tally[f"{moment.kind}{' commit' if moment.commit else ''}"] += 1
            assert start(folder, COMMAND) == 0
            differing = differences(results(folder), expected)
            wrong += bool(differing)
            print(f"{number + 1}/{len(chosen)} {moment}: {differing or 'same results'}", flush=True)
        print(f"{len(chosen)} kills ({', '.join(f'{n} in {kind}' for kind, n in tally.items())}), {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.exit(child(asked.child) if asked.child else main(asked.moments, asked.seed))
