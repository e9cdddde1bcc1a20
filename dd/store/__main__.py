"""`python -m dd.store`: what the store holds, why a result is or isn't current, and clearing up."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from dd.errors import UserError
from dd.lock import BusyError
from dd.store import durable
from dd.store.result import Result
from dd.store.store import Store


def main(arguments: list[str]) -> int:
    """Run one command; 0, or 2 where the user can put something right."""
    try:
        asked = _parser().parse_args(arguments)
        store = Store.open(asked.store)
        for line in asked.command(store, asked):
            print(line)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        sys.stderr.close()
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see `python -m dd.store --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m dd.store", description=__doc__)
    parser.add_argument("--store", metavar="PATH", help="default: DD_STORE, else outputs/store")
    commands = parser.add_subparsers(metavar="ls | why | prune | path", required=True, parser_class=_Parser)
    listed = commands.add_parser("ls", help="a table of all results, layers included")
    listed.set_defaults(command=_ls)
    why = commands.add_parser("why", help="which field or module makes a result current, or not")
    why.add_argument("row", metavar="ROW", help="the beginning of a key, or part of a label")
    why.set_defaults(command=_why)
    prune = commands.add_parser("prune", help="remove damaged results and what crashes left in the trash")
    prune.add_argument("keys", metavar="KEY", nargs="*", help="remove these (beginnings of keys), nothing else")
    prune.add_argument("--stale", action="store_true", help="stale results too")
    prune.add_argument("--partial", action="store_true", help="unfinished work too: it would have been resumed")
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed")
    prune.set_defaults(command=_prune)
    path = commands.add_parser("path", help="print the store's folder")
    path.set_defaults(command=lambda store, _: [str(store.root)])
    return parser


def _ls(store: Store, _: argparse.Namespace) -> Iterator[str]:
    head = ("kind", "key", "label", "seconds", "size", "date", "layer", "state")
    rows = [_row(store, result) for result in store.entries()]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in [head, *rows] if rows else []:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    partials = store.partials()
    unfinished = f", {len(partials)} unfinished ({_megabytes(sum(map(durable.size, partials)))})" if partials else ""
    yield f"{len(rows)} results in {store.root} and its layers{unfinished}"


def _row(store: Store, result: Result) -> tuple[str, ...]:
    label = seconds = date = "-"
    with contextlib.suppress(UserError):
        label, date = result.label, result.manifest["created"][:16]
        seconds = f"{result.manifest['seconds']:.1f}"
    layer = result.root.name if result.layer else "-"
    return result.kind, result.key[:12], label, seconds, _megabytes(result.size), date, layer, _state(store, result)


def _state(store: Store, result: Result) -> str:
    try:
        result.verify(cheap=True)
        stale = store.changed(result.manifest)
    except UserError:
        return "damaged"
    return ("kept" if result.layer else "stale") if stale else "fresh"


def _why(store: Store, asked: argparse.Namespace) -> Iterator[str]:
    unfinished = [path.name for path in store.partials() if path.name.startswith(asked.row)]
    try:
        result = store.lookup(asked.row)
    except UserError:
        if len(unfinished) != 1:
            raise
        yield f"{unfinished[0][:12]} is unfinished: it runs, or was interrupted and goes on when asked for again"
        return
    result.verify(cheap=True)
    yield f"{result.kind} {result.key[:12]} {result.label}: {_state(store, result)}"
    stale = store.changed(result.manifest)
    for name in stale:
        where = "its own" if name in result.manifest["source"] else "upstream"
        yield f"  module {name} changed ({where})"
    if stale and result.layer:
        yield f"  kept all the same: it lies in the read-only layer {result.root}"
    if not stale:
        yield f"  unchanged: {len(result.manifest['source'])} modules of its own, and all upstream"
    if nearest := _nearest(store, result):
        other, differing = nearest
        yield f"  nearest other {result.kind}, {other.key[:12]} {other.label}, differs in"
        yield from (f"    {name}: {there} there, {here} here" for name, here, there in differing)


def _nearest(store: Store, result: Result) -> tuple[Result, list[tuple[str, str, str]]] | None:
    """The result of the same kind that differs in the fewest fields, and these: name, value here, value there."""
    others = []
    here = dict(_flat(result.manifest["config"]))
    for other in store.entries():
        if other.kind != result.kind or other.key == result.key:
            continue
        with contextlib.suppress(UserError):
            there = dict(_flat(other.manifest["config"]))
            names = sorted(here.keys() | there.keys())
            pairs = [(name, here.get(name, "absent"), there.get(name, "absent")) for name in names]
            others.append((other, [each for each in pairs if each[1] != each[2]]))
    return min(others, key=lambda each: len(each[1]), default=None)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield prefix, str(value)
        return
    for name, each in items:
        yield from _flat(each, f"{prefix}.{name}" if prefix else str(name))


def _prune(store: Store, asked: argparse.Namespace) -> Iterator[str]:
    verb = "would remove" if asked.dry_run else "removed"
    total = 0
    for what, path, remove in _condemned(store, asked):
        if path is None:
            yield what
            continue
        size = durable.size(path)
        try:
            if not asked.dry_run:
                remove()
        except BusyError as busy:
            yield f"left {what}: {busy}"
            continue
        total += size
        yield f"{verb} {what} ({_megabytes(size)})"
    yield f"{verb} {_megabytes(total)} from {store.root}"


def _condemned(store: Store, asked: argparse.Namespace) -> Iterator[tuple[str, Any, Any]]:
    """What is to go: its description, folder, and how to remove it; without a folder, a word on what stays."""
    chosen = {_whole(store, key) for key in asked.keys}
    for result in store.entries():
        state = "asked for" if result.key in chosen else None if chosen else _reason(store, result, stale=asked.stale)
        if state is None:
            continue
        name = f"{result.kind} {result.key[:12]}, {state}"
        if result.layer:
            yield f"left {name}: {result.root} is a read-only layer", None, None
        else:
            yield name, result.path, lambda each=result: store.remove(each.kind, each.key)
    for path in store.partials():
        if path.name in chosen or (asked.partial and not chosen):
            yield f"unfinished {path.name[:12]}", path, lambda each=path: store.abandon(each.name)
    if not chosen and (trash := store.root / ".trash").is_dir():
        yield "the trash", trash, store.empty_trash


def _reason(store: Store, result: Result, *, stale: bool) -> str | None:
    try:
        result.verify()
    except UserError:
        return "damaged"
    return "stale" if stale and not result.layer and store.changed(result.manifest) else None


def _whole(store: Store, beginning: str) -> str:
    keys = {each.key for each in store.entries()} | {path.name for path in store.partials()}
    fitting = sorted(key for key in keys if key.startswith(beginning))
    if not fitting:
        raise UserError(f"no key begins with {beginning!r} in {store.root}: `python -m dd.store ls` names them")
    if len(fitting) > 1:
        some = ", ".join(key[:12] for key in fitting[:4])
        raise UserError(f"{beginning!r} begins {len(fitting)} keys ({some} ...): give more of it")
    return fitting[0]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
