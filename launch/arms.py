"""The arms of a sweep: what tells its rows apart beyond level, seed, delay, horizon, steps and epoch."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dd import fields
from dd.stage.eval import Eval

_COLUMNS = {"inference_delay", "execute_horizon", "policy.seed", "decode.num_flow_steps", "epoch", "slots"}
_TOLD = {"decode._target_", "sampler._target_"}  # by the method's name, and by the schedule
_TOLD |= {"policy.digest", "policy.demos.digest"}  # by the file or folder named, in which each level has a file
_WORDS = {"process": "schedule"}  # what a user sets it by


def names(stages: Sequence[Eval]) -> list[str]:
    """A name for each row's arm: its decode, and whatever else was swept, for instance `realtime schedule=flow`.

    A value is named where rows of one decode differ in it; a row whose arm lacks it is named without.
    """
    described = [dict(_flat(fields.content(stage, everything=True), "")) for stage in stages]
    swept: dict[str, set[str]] = {}
    for stage, one in zip(stages, described, strict=True):
        for path, value in one.items():
            if _is_arm(path):
                swept.setdefault(f"{stage.method} {path}", set()).add(str(value))
    return [
        " ".join(
            [
                stage.method,
                *(_said(path, one[path]) for path in one if len(swept.get(f"{stage.method} {path}", "")) > 1),
            ]
        )
        for stage, one in zip(stages, described, strict=True)
    ]


def _is_arm(path: str) -> bool:
    # A level differs in its own columns' name, and what it brings along (its experts' world) is no arm of its own.
    return path not in _COLUMNS | _TOLD and ".env." not in path


def _said(path: str, value: Any) -> str:
    *_, above, name = f".{path}".split(".")
    if name != "_target_":
        return f"{name}={value}"
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", value.rpartition(".")[2]).lower()
    return f"{_WORDS.get(above, above)}={words}"


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            yield from _flat(each, f"{prefix}.{number}")
    else:
        yield prefix, value
