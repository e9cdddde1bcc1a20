"""The arms of a sweep: what tells its rows apart beyond level, seed, delay, horizon and steps."""

from collections.abc import Iterator, Sequence
from typing import Any

from dd import fields
from dd.stage.eval import Eval

_COLUMNS = {"inference_delay", "execute_horizon", "policy.seed", "decode.num_flow_steps"}


def names(stages: Sequence[Eval]) -> list[str]:
    """A name for each row's arm: its decode, and whatever else was swept, for instance `realtime strength=0.1`.

    A value is named where rows of one decode differ in it; a row whose arm lacks it is named without.
    """
    described = [dict(_flat(fields.content(stage), "")) for stage in stages]
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
    return path not in _COLUMNS and ".env." not in path and not path.endswith("_target_")


def _said(path: str, value: Any) -> str:
    return f"{path.rpartition('.')[2]}={value}"


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            yield from _flat(each, f"{prefix}.{number}")
    else:
        yield prefix, value
