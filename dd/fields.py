"""Fields of the configuration dataclasses: leaf or static, their range, and the canonical content that a key hashes.

Every schedule, decode, model, optimizer, env and stage is a frozen dataclass: the object is the configuration. Each
field is

- a **leaf**, whose value may differ inside one compiled program (it enters as an array), or
- **static**, where another value means another program.

A field added after results exist declares `since=value`, the value that reproduces the old behaviour; it is left out of
the content at that value, so old keys stay valid.
"""

import copy
import dataclasses
import hashlib
import importlib
import json
import pathlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, dataclass_transform

_UNSET = object()


def field(
    default: Any = dataclasses.MISSING,
    *,
    ge: int | float | None = None,
    gt: int | float | None = None,
    le: int | float | None = None,
    lt: int | float | None = None,
    leaf: bool = False,
    hashed: bool = True,
    since: Any = _UNSET,
) -> Any:
    """A dataclass field with its range.

    Args:
        default: value when not given; without one the field is required.
        ge, gt, le, lt: the range of a number (of each element, for a tuple), checked by `dd.check`.
        leaf: the value enters a compiled program as an array instead of being closed over.
        hashed: False for what names or locates a thing without being part of it (a level's name beside its content).
        since: the value that reproduces the behaviour from before the field existed.
    """
    bounds = {name: bound for name, bound in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if bound is not None}
    metadata = {"bounds": bounds, "leaf": leaf, "hashed": hashed, "since": since}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def configuration(cls: type) -> type:
    """Make `cls` a frozen, keyword-only dataclass whose content is its configuration."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    items = dataclasses.fields(made)
    if any(isinstance(item.type, str) for item in items):  # `from __future__ import annotations` leaves texts
        kinds = typing.get_type_hints(made)
        for item in items:
            item.type = kinds[item.name]
    return made


def qualified_name(cls: type) -> str:
    """The dotted path under which `cls` is imported; written into every content."""
    return f"{cls.__module__}.{cls.__qualname__}"


def content(value: Any, *, leaves: bool = True, everything: bool = False) -> Any:
    """The canonical, JSON-ready content of a configuration.

    Args:
        value: a configuration, or anything found in one.
        leaves: False leaves the leaves out: what remains is what a compiled program closes over.
        everything: True adds the fields that are not hashed, for a reader.

    Raises:
        TypeError: for a value that has no canonical content.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        described = {"_target_": qualified_name(type(value))}
        for item in dataclasses.fields(value):
            current = getattr(value, item.name)
            if not leaves and item.metadata.get("leaf", False):
                continue
            if not everything and (
                not item.metadata.get("hashed", True) or current == item.metadata.get("since", _UNSET)
            ):
                continue
            described[item.name] = content(current, leaves=leaves, everything=everything)
        if hasattr(value, "identity"):  # what a path stands for: the digest of the file it leads to
            described |= value.identity()
        return described
    if isinstance(value, Mapping):
        return {str(key): content(value[key], leaves=leaves, everything=everything) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [content(item, leaves=leaves, everything=everything) for item in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    raise TypeError(f"{value!r} ({type(value).__name__}) has no canonical content")


def digest(described: Any) -> str:
    """sha256 (hex, 32 characters) of a JSON-ready content; numbers that are equal hash alike (1 and 1.0)."""
    plain = json.dumps(_numbers(described), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def file_digest(path: pathlib.Path) -> str:
    """sha256 (hex, 32 characters) of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration and of the configurations it holds, as (dotted name, number)."""
    for item in dataclasses.fields(value):
        current = getattr(value, item.name)
        name = f"{prefix}{item.name}"
        if item.metadata.get("leaf", False):
            yield name, float(current) if item.type is float else current
        else:
            yield from _leaves_held(current, name)


def _leaves_held(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        yield from leaves(value, f"{name}.")
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _leaves_held(each, f"{name}.{index}")


def bind(value: Any, arrays: Mapping[str, Any], prefix: str = "") -> Any:
    """A view of `value` whose leaves read from `arrays` (dotted name -> traced scalar), inside a compiled program."""
    bound = copy.copy(value)
    for item in dataclasses.fields(value):
        name = f"{prefix}{item.name}"
        current = getattr(value, item.name)
        if item.metadata.get("leaf", False):
            # Past the constructor: the value is a tracer, which no field's annotation admits.
            object.__setattr__(bound, item.name, arrays[name])
        else:
            object.__setattr__(bound, item.name, _bound_held(current, arrays, name))
    return bound


def _bound_held(value: Any, arrays: Mapping[str, Any], name: str) -> Any:
    if dataclasses.is_dataclass(value):
        return bind(value, arrays, f"{name}.")
    if isinstance(value, tuple):
        return tuple(_bound_held(each, arrays, f"{name}.{index}") for index, each in enumerate(value))
    return value


def rebuild(described: Any) -> Any:
    """The configuration that a content describes (hashed fields only; a field it leaves out has its `since` value).

    Raises:
        ImportError, AttributeError, TypeError: when its class is gone or has other fields now.
    """
    if isinstance(described, list):
        return tuple(rebuild(item) for item in described)
    if not isinstance(described, dict) or "_target_" not in described:
        return described
    module, _, name = described["_target_"].rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    old = {item.name: item.metadata.get("since", _UNSET) for item in dataclasses.fields(cls)}
    given = {name: value for name, value in old.items() if value is not _UNSET}
    given |= {key: rebuild(value) for key, value in described.items() if key != "_target_"}
    return cls(**given)
