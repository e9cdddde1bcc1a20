"""Rows shared out over the devices of a process: a thread for each takes the next row that can be worked on."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import jax

Item = TypeVar("Item")


def alike() -> list[jax.Device]:
    """The devices of this process that are of the first one's kind: times on others could not be set beside its."""
    first, *rest = jax.local_devices()
    return [first, *(each for each in rest if each.device_kind == first.device_kind)]


class Stopped(BaseException):
    """The work has been ended, by the user or by what went wrong on another device."""


class Queue(Generic[Item]):
    """Items of which some wait for others, worked off on one device or on several.

    What `ready` goes by changes under `changing`. The first item in the list that is ready is taken first, so that on
    one device the order depends on nothing else.

    Args:
        items: in the order wanted; as long as some are left, one is ready or will be when others are done.
        ready: whether an item can be worked on now.
    """

    def __init__(self, items: Iterable[Item], ready: Callable[[Item], bool]):
        self.left = list(items)
        self.alone = True
        self._ready = ready
        self._changed = threading.Condition()
        self._stopping = threading.Event()

    def work_off(self, work: Callable[[Iterator[Item]], None], devices: Sequence[jax.Device | None]) -> None:
        """Call `work` with the items to be done, which it is handed one at a time.

        With several devices it is called once for each, side by side, in threads in which jax computes on that device.
        Where one of these calls raises, or this thread is interrupted, the others end with the next item they ask for,
        or where they `require_going` or `pause`.

        Raises:
            BaseException: what the first call that raised did.
        """
        if len(devices) == 1 or len(self.left) <= 1:
            work(self._take())
            return
        self.alone = False
        problems: list[BaseException] = []

        def on(device: jax.Device | None) -> None:
            try:
                with jax.default_device(device):
                    work(self._take())
            except BaseException as problem:
                problems.append(problem)
                self._stop()

        threads = [threading.Thread(target=on, args=(device,)) for device in devices[: len(self.left)]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        if problems:
            raise problems[0]

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """For one thread at a time; then those that wait look again at what is ready."""
        with self._changed:
            yield
            self._changed.notify_all()

    def require_going(self) -> None:
        """Raise `Stopped` when the work has been ended."""
        self.pause(0)

    def pause(self, seconds: float) -> None:
        """Sleep, unless the work has been ended or is ended meanwhile: then raise `Stopped`."""
        if self._stopping.wait(seconds):
            raise Stopped

    def _take(self) -> Iterator[Item]:
        while (item := self._next()) is not None:
            yield item

    def _next(self) -> Item | None:
        with self._changed:
            while self.left and not self._stopping.is_set():
                for place, item in enumerate(self.left):
                    if self._ready(item):
                        return self.left.pop(place)
                self._changed.wait()
            return None

    def _stop(self) -> None:
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
