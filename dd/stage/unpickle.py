"""Arrays, dicts, lists, tuples, texts and numbers out of a pickle, by a reader that can make nothing else.

A pickle is a program for a stack machine; Python's own runs whatever functions the file names. This one knows no
function at all: it reads the few instructions that build plain values, and recognises by their names the handful of
ways in which numpy and jax write an array. Nothing that a file names is ever imported or called.
"""

import dataclasses
import math
import pathlib
import pickletools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dd.errors import UserError

_ARRAY, _DTYPE, _EMPTY, _SCALAR, _BUFFER, _JAX = range(6)
_KNOWN = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("jax._src.array", "_reconstruct_array"): _JAX,
    **{
        (f"numpy.{core}.{module}", name): meaning
        for core in ("core", "_core")  # numpy 1 and 2
        for module, name, meaning in (
            ("multiarray", "_reconstruct", _EMPTY),
            ("multiarray", "scalar", _SCALAR),
            ("numeric", "_frombuffer", _BUFFER),
        )
    },
}
_CODE = re.compile(r"b1|[iu][1248]|f[248]")
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FRAMING = {"PROTO", "FRAME", "STOP"}


class _RefusedError(Exception):
    """What a file asks for that is not read."""


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that numpy or jax writes; stands where Python would have imported it."""

    meaning: int


@dataclasses.dataclass
class _Dtype:
    code: str
    order: str = "<"


@dataclasses.dataclass
class _Array:
    """An array as soon as its state is there."""

    value: np.ndarray | None = None


def read(path: pathlib.Path) -> Any:
    """The value that a pickle file describes; scalars of numpy as arrays without dimensions.

    Raises:
        UserError: for a file that is damaged, or that holds or does anything else.
    """
    try:
        machine = _Machine()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, in what is no pickle
            for opcode, argument, _ in pickletools.genops(path.read_bytes()):
                machine.run(opcode.name, argument)
        return _finished(machine.only(), {})
    except _RefusedError as problem:
        way_out = "only arrays, dicts, lists, texts and numbers are read, so save the parameters as these"
        raise UserError(f"{path}: {problem}; {way_out}") from problem
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as problem:
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0][:100]
        raise UserError(f"{path}: not a readable pickle of arrays ({reason}); copy or save it again") from problem


class _Machine:
    """The stack machine; `_marks` are the heights of the stack at which an unfinished container began."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def only(self) -> Any:
        """What is left at the end."""
        (value,) = self._stack
        return value

    def run(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name not in _FRAMING:
            raise _RefusedError(f"holds the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise ValueError("an instruction finds its operands missing")
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _since_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _top(self, kind: type) -> Any:
        """The last value, which must be of a kind."""
        (value,) = self._pop(1)
        if type(value) is not kind:
            raise _RefusedError(f"changes a {type(value).__name__.strip('_')}")
        self._stack.append(value)
        return value

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _append(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def _set(self, values: list[Any]) -> None:
        into = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _RefusedError(f"has a {type(key).__name__.strip('_')} as a key")
            into[key] = value

    def _dict(self, _: None) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set(values)

    def _remember(self, place: int) -> None:
        (value,) = self._pop(1)
        self._stack.append(value)
        self._memo[place] = value

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise _RefusedError(f"names {module}.{name}")
        self._stack.append(_Name(_KNOWN[module, name]))

    def _name_from_stack(self, _: None) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _RefusedError("names what is no text")
        self._name(module, name)

    def _make(self, _: None) -> None:
        made, given = self._pop(2)
        if not isinstance(made, _Name) or not isinstance(given, tuple):
            raise _RefusedError(f"calls a {type(made).__name__.strip('_')}")
        self._stack.append(_made(made.meaning, given))

    def _build(self, _: None) -> None:
        value, state = self._pop(2)
        if isinstance(value, _Dtype):
            # Version, order, and nothing of what only structured and object types have.
            _, value.order, *rest = state
            if value.order not in ("<", ">", "|", "=") or tuple(rest) != (None, None, None, -1, -1, 0):
                raise _RefusedError("holds an array of structured or odd numbers")
        elif isinstance(value, _Array) and value.value is None:
            value.value = _from_state(state)
        else:
            raise _RefusedError(f"sets the state of a {type(value).__name__.strip('_')}")
        self._stack.append(value)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": lambda machine, _: machine._pop(1),
    "POP_MARK": lambda machine, _: machine._since_mark(),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "DICT": _Machine._dict,
    "LIST": lambda machine, _: machine._stack.append(machine._since_mark()),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._since_mark())),
    "APPEND": lambda machine, _: machine._append(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
    "SETITEM": lambda machine, _: machine._set(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set(machine._since_mark()),
    "MEMOIZE": lambda machine, _: machine._remember(len(machine._memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine._remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, at: machine._stack.append(machine._memo[at])),
    "GLOBAL": lambda machine, names: machine._name(*names.split(" ", 1)),
    "STACK_GLOBAL": _Machine._name_from_stack,
    "REDUCE": _Machine._make,
    "BUILD": _Machine._build,
}


def _made(meaning: int, given: tuple[Any, ...]) -> _Dtype | _Array:
    """What numpy's or jax's function of that name would have made of its arguments."""
    if meaning == _DTYPE:
        if not isinstance(given[0], str) or not _CODE.fullmatch(given[0]):
            raise _RefusedError(f"holds an array of kind {given[0]!r}")
        return _Dtype(given[0])
    if meaning == _EMPTY:
        return _Array()
    if meaning == _SCALAR:
        dtype, data = given
        return _Array(_array(data, dtype, (), "C"))
    if meaning == _BUFFER:
        return _Array(_array(*given))
    if meaning == _JAX:
        return _Array(_from_state(given[2]))
    raise _RefusedError("calls numpy.ndarray")


def _from_state(state: Any) -> np.ndarray:
    _, shape, dtype, fortran, data = state
    return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise _RefusedError("holds an array of objects")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("an array's shape is no shape")
    stored = np.dtype(dtype.code).newbyteorder(dtype.order)
    if len(data) != math.prod(shape) * stored.itemsize:
        raise ValueError("an array has more or fewer bytes than its shape says")
    return np.frombuffer(data, stored).astype(stored.newbyteorder("=")).reshape(shape, order=order)


def _finished(value: Any, seen: dict[int, Any]) -> Any:
    """With arrays for what stood for them; what is held twice is looked at once."""
    if id(value) in seen:
        if seen[id(value)] is _Machine:
            raise _RefusedError("holds itself")
        return seen[id(value)]
    seen[id(value)] = _Machine  # stands for: not yet finished
    if isinstance(value, dict):
        found: Any = {key: _finished(each, seen) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_finished(each, seen) for each in value)
    elif isinstance(value, _Array) and value.value is not None:
        found = value.value
    elif value is None or isinstance(value, str | int | float):
        found = value
    else:
        raise _RefusedError(f"holds a {type(value).__name__.strip('_').lower()}")
    seen[id(value)] = found
    return found
