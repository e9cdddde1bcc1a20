"""Exclusive locks between processes, on one machine or on several that share a file system.

A lock is a POSIX record lock (`fcntl.lockf`) on a file: NFSv4 carries it, and the kernel or the file server releases it
when its process dies, however it dies. Such a lock belongs to the whole process and goes when *any* descriptor of the
file is closed, so each process keeps one descriptor per file, and its threads take turns at a mutex in front of it.

The file is never deleted: whoever waits would lock a file that newcomers no longer see.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from dd.errors import UserError

_PATIENCE = (0.02, 0.5)  # seconds between two attempts: the first, and the most it grows to


class BusyError(UserError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def hold(
    path: pathlib.Path,
    on_wait: Callable[[str], None] | None = None,
    *,
    wait: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock on `path`, which is created where missing; the thread that holds it may take it again.

    Args:
        path: the lock file.
        on_wait: called once, with who holds the lock, if it is not free.
        wait: False to be refused at once instead.
        sleep: passes the seconds between two attempts; what it raises ends the waiting for another process.

    Raises:
        BusyError: without `wait`, where the lock is not free.
        UserError: on a file system that can't be written or has no locks.
    """
    lock = _of(path)
    lock.acquire(on_wait, wait=wait, sleep=sleep)
    try:
        yield
    finally:
        lock.release()


class _Lock:
    """This process's side of one lock file."""

    def __init__(self, path: str):
        self.path = path
        self.turn = threading.RLock()
        self.depth = 0
        self.descriptor = -1

    def acquire(self, on_wait: Callable[[str], None] | None, *, wait: bool, sleep: Callable[[float], None]) -> None:
        waited = not self.turn.acquire(blocking=False)
        if waited:
            self._meet("another thread of this process", on_wait, wait=wait)
            self.turn.acquire()
        try:
            if self.depth == 0:
                self._lock_file(None if waited else on_wait, wait=wait, sleep=sleep)
            self.depth += 1
        except BaseException:
            self.turn.release()
            raise

    def release(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            os.close(self.descriptor)
        self.turn.release()

    def _lock_file(self, on_wait: Callable[[str], None] | None, *, wait: bool, sleep: Callable[[float], None]) -> None:
        with _refused(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            pause, most = _PATIENCE
            while not self._take():
                self._meet(self._owner(), on_wait, wait=wait)
                on_wait = None
                # Asked again and again rather than left to the kernel: its search for deadlocks takes a process for one
                # thread and finds some where there are none, and over NFS a grant can be lost.
                sleep(pause)
                pause = min(2 * pause, most)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _take(self) -> bool:
        with _refused(self.path):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise
            started = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": started}
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps(owner).encode(), 0)
            return True

    def _owner(self) -> str:
        try:
            owner = json.loads(os.pread(self.descriptor, 4096, 0))
            return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
        except (OSError, ValueError, TypeError, KeyError):  # it has the lock and has not yet written who it is
            return "another process"

    def _meet(self, owner: str, on_wait: Callable[[str], None] | None, *, wait: bool) -> None:
        if not wait:
            raise BusyError(f"{os.path.basename(self.path)} is in the hands of {owner}: try again when it is done")
        if on_wait is not None:
            on_wait(owner)


@contextlib.contextmanager
def _refused(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        way_out = "choose a folder that can be written and locked with store= or DD_STORE"
        raise UserError(f"{path} can't be locked ({error.strerror}): {way_out}") from error


_locks: dict[str, _Lock] = {}
_registry = threading.Lock()


def _of(path: pathlib.Path) -> _Lock:
    with _registry:
        return _locks.setdefault(os.path.realpath(path), _Lock(os.path.realpath(path)))


def _forget() -> None:
    """A forked child holds none of its parent's locks."""
    global _registry
    _locks.clear()
    _registry = threading.Lock()


os.register_at_fork(after_in_child=_forget)
