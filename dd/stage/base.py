"""What a stage is: a frozen configuration that holds its upstream stages and knows how to work."""

import abc
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from dd import fields


@runtime_checkable
class Work(Protocol):
    """A stage's view of the pipeline while it runs.

    Attributes:
        path: a folder of its own that outlives a crash; what lies in it when the stage returns is the result. Files
            whose names begin with `.` (a stage's own resume state) are dropped from the result.
    """

    path: pathlib.Path

    def result(self, stage: "AbstractStage") -> pathlib.Path:
        """The folder of an upstream stage's result, verified."""

    def say(self, line: str) -> None:
        """One line for the reader, on the terminal and in the log."""

    def progress(self, *, total: float, unit: str) -> contextlib.AbstractContextManager[Callable[[float], None]]:
        """A bar with rate and time left (terminal) or plain lines (log); yields a function that advances it."""

    def log(self, metrics: dict[str, int | float], step: int) -> None:
        """Metrics of a training for the experiment tracker."""


Runner = Callable[[Any, Work], dict[str, Any]]


class AbstractStage(abc.ABC):
    """One kind of work. Subclasses are `fields.configuration`s; fields that are stages are upstream."""

    kind: ClassVar[str]
    """The folder of the store, and the word in messages: expert, demos, train, eval."""

    def upstream(self) -> tuple["AbstractStage", ...]:
        """The stages whose results this one reads."""
        found: list[AbstractStage] = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            found += [value] if isinstance(value, AbstractStage) else []
            found += [each for each in value if isinstance(each, AbstractStage)] if isinstance(value, tuple) else []
        return tuple(found)

    def key(self) -> str:
        """sha256 over the whole canonical content, upstream included."""
        return fields.digest(fields.content(self))

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """A short name for tables and messages, for instance `h17_unicycle seed=0 realtime d=3`."""

    @abc.abstractmethod
    def program(self) -> Any:
        """JSON-ready content of all that the compiled program closes over; stages with equal programs share it."""

    @abc.abstractmethod
    def build(self) -> Runner:
        """Make the runner that serves every stage of this `program()`.

        The runner is called as `runner(stage, work)`, writes its files into `work.path` and returns the result's
        summary: JSON-ready numbers and strings, equal for equal runs (no timings). It must take up partial work found
            in
        `work.path` after a crash.
        """
