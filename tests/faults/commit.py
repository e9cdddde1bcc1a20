"""Kill -9 at every step of a commit: `python -m tests.faults.commit ACT FOLDER` prints what each kill left, as JSON.

A step is a line of `dd.store`, the first two times it is passed, or a file operation anywhere.
Each kill happens in a forked child, on a fresh store.
"""

import collections
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable

from dd.errors import UserError
from dd.store import Store, durable, store

KIND, KEY = "train", "ab" * 16
OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")
SOURCES = (durable.__file__, store.__file__)


def manifest(label: str) -> dict:
    """The fields that the caller of a commit gives."""
    told = {"label": label, "config": {"name": label}, "source": {}, "upstream": {}, "summary": {}}
    return told | {"commit": "-", "versions": {}, "device": "-", "seconds": 1.0, "created": "2026-01-01T00:00:00"}


def work(root: pathlib.Path, label: str) -> None:
    """What a stage leaves in its folder: results, and the state that it would resume from."""
    folder = Store(root).work(KIND, KEY)
    for name in ("weights.bin", "epochs/1.bin", ".resume/state"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{name} of {label}" * 100)


def commit(root: pathlib.Path, label: str) -> None:
    """Commit what `work` left."""
    opened = Store(root)
    with opened.hold(KEY):
        opened.commit(KIND, KEY, manifest(label))


def state(root: pathlib.Path) -> str:
    """What a reader finds: the label of a whole result, `absent`, or what is wrong."""
    try:
        if (result := Store(root).find(KIND, KEY)) is None:
            return "absent"
        result.verify()
        return result.label
    except UserError as error:
        return str(error)


def contents(root: pathlib.Path) -> str:
    """Digest over names and bytes of the result."""
    folder = root / KIND / KEY
    files = [(str(path.relative_to(folder)), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(repr(files).encode()).hexdigest()


def killed(step: int, act: Callable[[], None]) -> bool:
    """Run `act` in a child that kills itself at a step; False where it ended before."""
    if child := os.fork():
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count, visits = 0, collections.Counter()

    def advance(place: object) -> None:
        nonlocal count
        visits[place] += 1
        count += visits[place] <= 2
        if count == step and visits[place] <= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in SOURCES:
            return None
        advance((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.addaudithook(lambda event, told: advance((event, told)) if event in OPERATIONS else None)
    sys.settrace(trace)
    act()
    os._exit(0)


def prepared(root: pathlib.Path, act: str) -> Callable[[], object]:
    """A store as it is before `act`, and the act."""
    shutil.rmtree(root, ignore_errors=True)
    if act in ("replace", "recover", "remove"):
        work(root, "old")
        commit(root, "old")
    if act == "remove":
        return lambda: Store(root).remove(KIND, KEY)
    work(root, "new")
    if act == "recover":
        opened = Store(root)
        opened._publish = lambda *_: None  # a commit that ends where its manifest is whole
        opened.commit(KIND, KEY, manifest("new"))
        return lambda: Store(root).find(KIND, KEY)
    return lambda: commit(root, "new")


def main(act: str, folder: str) -> None:
    """Kill at step 1, 2, ... until the act outlives it."""
    os.fsync = lambda _: None  # it matters to a power cut, which no kill can show, and takes two thirds of the time
    root, seen, step = pathlib.Path(folder) / "store", [], 0
    while True:
        step += 1
        if not killed(step, prepared(root, act)):
            break
        found = state(root)
        resumable = (root / ".partial" / KEY / ".resume" / "state").exists()
        if found != "new":
            work(root, "new")
            commit(root, "new")
        seen.append({"state": found, "resumable": resumable, "after": state(root), "contents": contents(root)})
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
