"""Digests of the source that a result comes from.

A module counts by its syntax tree: docstrings, comments and layout don't. The modules of a result are the import
closure of those that define its stage, found by reading, never by importing, so that a listing needs neither jax nor a
simulator.
"""

import ast
import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping

from dd.errors import UserError

INFRASTRUCTURE = frozenset(
    {
        "dd.store",
        "dd.lock",
        "dd.devices",
        "dd.source",
        "dd.pipeline",
        "dd.errors",
        "dd.progress",
        "dd.tracking",
        "dd.config",
        "dd.run",
        "dd.loading",
    }
)
"""Modules (and what lies below them) that only move results: no result depends on them."""


def modules(start: Iterable[str]) -> dict[str, str]:
    """The modules that `start` runs, each with its digest.

    Args:
        start: dotted names of the modules that define a stage and what it holds.

    Returns:
        name -> digest (16 hex characters), sorted, for the closure of `start` over import statements, those inside
        functions included and those under `if TYPE_CHECKING` not; packages' `__init__` count. It stays within the
        top-level packages of `start` and `dd`.

    Raises:
        UserError: where a module of `start` has no source file (a notebook's or script's `__main__`).
    """
    waiting = list(start)
    for name in waiting:
        if name == "__main__" or _locate(name) is None:
            way_out = "put the class in a module that can be imported by name"
            raise UserError(f"module {name!r} has no source file: {way_out}")
    inside = {name.partition(".")[0] for name in waiting} | {"dd"}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in inside or _is_infrastructure(name):
            continue
        # A name that leads nowhere is what `from module import thing` gives for a thing that is no module.
        if (place := _locate(name)) is None:
            continue
        if place.file is not None:
            code = _read(place.file)
            found[name] = code.digest
            waiting += code.imported(name, is_package=place.folders is not None)
        waiting += [parent for parent in [name.rpartition(".")[0]] if parent]
    return dict(sorted(found.items()))


def digest(name: str) -> str | None:
    """Today's digest of one module; None where there is no such module."""
    place = _locate(name)
    return None if place is None or place.file is None else _read(place.file).digest


def changed(recorded: Mapping[str, str]) -> list[str]:
    """The modules whose digest is no longer the recorded one, those that are gone included."""
    return sorted(name for name, known in recorded.items() if digest(name) != known)


def _is_infrastructure(name: str) -> bool:
    return name in INFRASTRUCTURE or any(name.startswith(f"{each}.") for each in INFRASTRUCTURE)


@dataclasses.dataclass(frozen=True)
class _Place:
    file: str | None  # None for a package without __init__
    folders: tuple[str, ...] | None  # where a package's modules lie; None for a plain module


_places: dict[tuple[str, ...], _Place] = {}


def _locate(name: str) -> _Place | None:
    """Where a module lies. The finders are asked level by level: importlib's own search would import the parents."""
    at = (name, *sys.path)
    known = _places.get(at)
    if known is not None and (known.file is None or os.path.exists(known.file)):
        return known
    _places.pop(at, None)
    above, _, leaf = name.rpartition(".")
    folders = None
    if above:
        parent = _locate(above)
        if parent is None or parent.folders is None:
            return None
        folders = list(parent.folders)
    spec = _spec(name, folders)
    if spec is not None and spec.origin is not None:
        within = spec.submodule_search_locations
        place = _Place(spec.origin, None if within is None else tuple(within)) if spec.has_location else None
    else:
        within = [path for each in folders or sys.path if os.path.isdir(path := os.path.join(each, leaf))]
        place = _Place(None, tuple(within)) if within else None
    if place is not None:
        _places[at] = place
    return place


def _spec(name: str, folders: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        # KeyError: a package without __init__ below another, which importlib can't describe before that is imported.
        with contextlib.suppress(KeyError):
            if (spec := finder.find_spec(name, folders)) is not None:
                return spec
    return None


@dataclasses.dataclass(frozen=True)
class _Code:
    digest: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]  # level of a relative import, module, names taken from it

    def imported(self, name: str, *, is_package: bool) -> Iterator[str]:
        """Every dotted name that the statements may mean as a module."""
        package = name if is_package else name.rpartition(".")[0]
        for level, module, taken in self.imports:
            if level > len(package.split(".")):  # beyond the top: Python refuses it too
                continue
            base = importlib.util.resolve_name("." * level + module, package) if level else module
            yield base
            yield from (f"{base}.{each}" for each in taken)


_codes: dict[tuple[str, int, int], _Code] = {}
_reading = threading.Lock()  # parsing sets aside the filters of warnings, which are the whole process's


def _read(file: str) -> _Code:
    state = os.stat(file)
    at = (file, state.st_mtime_ns, state.st_size)
    with _reading:
        if at not in _codes:
            _codes[at] = _parse(pathlib.Path(file).read_bytes())
    return _codes[at]


def _parse(text: bytes) -> _Code:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        form = ascii(_form(tree)).encode()
        imports = tuple(_imports(tree))
    except (SyntaxError, ValueError, RecursionError):  # compiled, half edited, too deep: by its bytes
        form, imports = text, ()
    return _Code(hashlib.sha256(form).hexdigest()[:16], imports)


_UNSEEN = {"ctx", "kind", "type_comment"}  # what follows from position, or changes nothing that runs


def _form(node: object) -> object:
    """The tree as nested tuples. Empty fields are left out, so that Python versions that know more fields agree."""
    if isinstance(node, list):  # bare strings are docstrings, of attributes too
        return tuple(_form(each) for each in node if not (isinstance(each, ast.Expr) and _is_text(each.value)))
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(_joined(node.values))
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _UNSEEN]
    return (type(node).__name__, *((name, _form(value)) for name, value in fields if value is not None and value != []))


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, adjacent text as one: Python versions cut it differently."""
    joined: list[ast.expr] = []
    for part in parts:
        if _is_text(part) and joined and _is_text(joined[-1]):
            joined[-1] = ast.Constant(joined[-1].value + part.value)
        elif not _is_text(part) or part.value:
            joined.append(part)
    return joined


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _imports(node: ast.AST) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.level, node.module or "", tuple(alias.name for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for each in node.orelse:
            yield from _imports(each)
    else:
        for each in ast.iter_child_nodes(node):
            yield from _imports(each)
