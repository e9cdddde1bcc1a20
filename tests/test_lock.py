"""Locks hold between processes and threads, and go with their process."""

import contextlib
import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from dd.errors import UserError
from dd.lock import BusyError, hold

HOLDER = """
import pathlib, sys
from dd.lock import hold
with hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

COUNTER = """
import pathlib, sys
from dd.lock import hold
path, count = map(pathlib.Path, sys.argv[1:])
for _ in range(60):
    with hold(path):
        count.write_text(str(int(count.read_text() or 0) + 1))
"""

ASKER = """
import pathlib, sys
from dd.lock import BusyError, hold
try:
    with hold(pathlib.Path(sys.argv[1]), wait=False):
        print("free")
except BusyError:
    print("busy")
"""


def child(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def holder(path):
    with child(HOLDER, path) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.stdin.close()


def asked_elsewhere(path):
    with child(ASKER, path) as process:
        return process.stdout.read().strip()


def test_processes_take_turns(tmp_path):
    """Three processes add one 60 times each to a file, reading and writing it: 180."""
    count = tmp_path / "count"
    count.write_text("")
    running = [child(COUNTER, tmp_path / "locks" / "a", count) for _ in range(3)]
    for each in running:
        with each:
            each.communicate(timeout=60)
        assert each.returncode == 0
    assert count.read_text() == "180"


def test_threads_take_turns(tmp_path):
    """Four threads, 25 times each: 100."""
    count = [0]

    def add():
        for _ in range(25):
            with hold(tmp_path / "a"):
                seen = count[0]
                time.sleep(1e-4)
                count[0] = seen + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert count == [100]


def test_a_killed_process_holds_nobody_up(tmp_path):
    told = []
    with holder(tmp_path / "a") as process:
        threading.Timer(0.3, process.send_signal, [signal.SIGKILL]).start()
        begin = time.monotonic()
        with hold(tmp_path / "a", told.append):
            waited = time.monotonic() - begin
    assert 0.2 < waited < 3
    assert len(told) == 1
    assert f"process {process.pid} on {os.uname().nodename} since 20" in told[0]


def test_who_will_not_wait_is_told_who_holds(tmp_path):
    with (
        holder(tmp_path / "a") as process,
        pytest.raises(BusyError, match=f"process {process.pid} "),
        hold(tmp_path / "a", wait=False),
    ):
        pass
    with hold(tmp_path / "a", wait=False):
        assert asked_elsewhere(tmp_path / "a") == "busy"
    assert asked_elsewhere(tmp_path / "a") == "free"


def test_the_holder_may_take_it_again(tmp_path):
    with hold(tmp_path / "a"):
        with hold(tmp_path / "a", wait=False):
            pass
        assert asked_elsewhere(tmp_path / "a") == "busy"


def test_a_refused_thread_does_not_release_its_process(tmp_path):
    """POSIX drops a process's locks on a file with any of its descriptors."""
    refused = []

    def ask():
        try:
            with hold(tmp_path / "a", wait=False):
                refused.append(False)
        except BusyError:
            refused.append(True)

    with hold(tmp_path / "a"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert refused == [True]
        assert asked_elsewhere(tmp_path / "a") == "busy"


def test_the_name_of_the_file_does_not_matter(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with hold(tmp_path / "a"), hold(tmp_path / "link" / "a", wait=False):
        assert asked_elsewhere(tmp_path / "a") == "busy"
    assert asked_elsewhere(tmp_path / "a") == "free"


def test_a_failure_inside_releases(tmp_path):
    with contextlib.suppress(ZeroDivisionError), hold(tmp_path / "a"):
        _ = 1 / 0
    assert asked_elsewhere(tmp_path / "a") == "free"


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, refusal):
    def refuse(*_):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(UserError, match=f"{tmp_path}/a can't be locked .*store=") as caught, hold(tmp_path / "a"):
        pass
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", pathlib.Path("/proc/none/a")):
        with pytest.raises(UserError, match=r"can't be locked .*store="), hold(path):
            pass
