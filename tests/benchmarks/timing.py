"""Wall times of things that are compared, taken in turns, so that what else the machine does falls on all alike."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call, its result waited for."""
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def in_turns(works: Sequence[Callable[[], Any]], turns: int) -> list[tuple[float, ...]]:
    """Of each work, its wall times: all are called once untimed, then one after the other, `turns` times."""
    for work in works:
        jax.block_until_ready(work())
    return list(zip(*([seconds(work) for work in works] for _ in range(turns)), strict=True))
