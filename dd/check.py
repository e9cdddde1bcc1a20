"""Values against a configuration's annotations and ranges, answered with value, rule and way out."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from dd.errors import UserError

_WORDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_HOLDS = {
    "ge": lambda x, bound: x >= bound,
    "gt": lambda x, bound: x > bound,
    "le": lambda x, bound: x <= bound,
    "lt": lambda x, bound: x < bound,
}
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}


def values(cls: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The given values as the fields of `cls` want them (a list as a tuple, 1 as 1.0).

    Args:
        cls: a configuration.
        given: values by field name; configurations are already built.
        where: the dotted place in the user's configuration, for messages.

    Raises:
        UserError: naming the value, the rule and a way out.
    """
    known = {item.name: item for item in dataclasses.fields(cls)}
    for name in given:
        if name not in known:
            raise UserError(f"{where}.{name}: {cls.__name__} has no such field; {near(name, known, 'fields')}")
    missing = [name for name, item in known.items() if item.default is dataclasses.MISSING and name not in given]
    if missing:
        raise UserError(f"{where}: {cls.__name__} needs {', '.join(missing)}; set {where}.{missing[0]}=<value>")
    return {name: _value(known[name], value, f"{where}.{name}") for name, value in given.items()}


def near(name: str, known: Iterable[str], what: str) -> str:
    """The names that `name` may have been meant to be, else all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"its {what}: {', '.join(known)}"


def shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _value(item: dataclasses.Field, value: Any, where: str) -> Any:
    bounds = item.metadata.get("bounds", {})
    rule = _rule(item.type, bounds)
    try:
        fitted = _fit(item.type, value)
        inside = all(_HOLDS[name](each, bound) for each in _numbers(fitted) for name, bound in bounds.items())
    except TypeError:
        inside = False
    if not inside:
        default = item.default
        plain = isinstance(default, bool | int | float | str)
        way_out = f"for instance {where}={shown(default)}" if plain else f"set {where} to such a value"
        raise UserError(f"{where}={shown(value)}: must be {rule}; {way_out}")
    return fitted


def _fit(kind: Any, value: Any) -> Any:
    """`value` as `kind`; TypeError where it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        for each in arguments:
            try:
                return _fit(each, value)
            except TypeError:
                continue
        raise TypeError
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_fit(each, one) for each, one in zip(kinds, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise TypeError
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise TypeError


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _rule(kind: Any, bounds: Mapping[str, int | float]) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        named = " or ".join(_rule(each, {}) for each in arguments)
    elif origin is tuple:
        named = f"a list like [a,b], each {_rule(arguments[0], {})}"
    else:
        named = _NAMES.get(kind) or f"a {kind.__name__.removeprefix('Abstract')}"
    limits = " and ".join(f"{_WORDS[name]} {bound:.10g}" for name, bound in bounds.items())
    return f"{named} {limits}".strip()
