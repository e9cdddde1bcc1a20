"""A stage's work folder without a pipeline."""

import contextlib
import math


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


class Work:
    """Killed after a number of advances, if one is given; upstream results lie where `upstream` says, by kind."""

    def __init__(self, path, upstream=None, alive=math.inf):
        self.path, self.upstream, self.alive = path, upstream or {}, alive
        self.lines, self.logged = [], []
        path.mkdir(parents=True, exist_ok=True)

    def result(self, stage):
        return self.upstream[stage.kind]

    def say(self, line):
        self.lines.append(line)

    @contextlib.contextmanager
    def progress(self, *, total, unit):
        yield self.advance

    def advance(self, amount):
        self.alive -= 1
        if self.alive < 0:
            raise Killed

    def log(self, metrics, step):
        self.logged.append((step, metrics))
