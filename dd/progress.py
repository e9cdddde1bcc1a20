"""What a reader sees while a stage works: a bar on a terminal, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

_LOG_EVERY = 15.0  # seconds between two lines of one task in a log file


def say(line: str) -> None:
    """One line on standard output, above any bar."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(line, flush=True)


@contextlib.contextmanager
def progress(label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
    """Show how far a task is, its rate and the time left; yields a function that advances it.

    Args:
        label: what is being done.
        total: units until done.
        unit: what is counted, in the plural, for instance `steps`.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", desc=label, unit_scale=True, dynamic_ncols=True, leave=False) as bar:
            yield bar.update
        print(end="\r", file=sys.stderr, flush=True)  # from the end of the line that a bar below others leaves blank
        return
    begin = last = time.monotonic()
    count = 0.0

    def advance(units: float) -> None:
        nonlocal count, last
        count, now = count + units, time.monotonic()
        if now - last >= _LOG_EVERY and count < total:
            last, rate = now, count / (now - begin)
            left = (total - count) / rate
            say(f"  {label}: {100 * count / total:.0f} %, {rate:,.0f} {unit}/s, {duration(left)} left")

    yield advance


def duration(seconds: float) -> str:
    """Seconds as a reader says them: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
