"""Where results are kept, found and finished after a crash.

    <root>/<kind>/<key>/     a result: its files and manifest.json
    <root>/.partial/<key>/   work that goes on, or will be taken up again
    <root>/.locks/<key>      held by whoever works on the key; never deleted
    <root>/.trash/           what was replaced or removed, on its way out
    <root>/.cache            jax's compilation cache
    <root>/version           of this layout

A commit lists the files in a manifest, written last, and then renames the partial folder to its final place. A partial
folder with a whole manifest is therefore finished, and whoever meets it does the rename that a crash prevented.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dd import lock, source
from dd.errors import UserError
from dd.store import durable
from dd.store.result import MANIFEST, Result, fault_of, listing

_VERSION = 1
_SHIPPED = pathlib.Path(__file__).parents[1] / "experts"


class Store:
    """A writable root over read-only layers. Nothing is created before something is to be written.

    Args:
        root: the folder of the store.
        layers: stores that are read but never written, first come first.

    Raises:
        UserError: where one of them has another layout, or is no folder.
    """

    def __init__(self, root: pathlib.Path, layers: Sequence[pathlib.Path] = ()):
        self.root = pathlib.Path(root).expanduser().absolute()
        self.layers = tuple(pathlib.Path(layer).expanduser().absolute() for layer in layers)
        for layer in self.layers:
            if not layer.is_dir():
                raise UserError(f"store layer {layer} is no folder: correct store.layers or leave it out")
        for each in (self.root, *self.layers):
            _check_version(each)

    @classmethod
    def open(cls, path: str | pathlib.Path | None = None, layers: Sequence[str | pathlib.Path] = ()) -> "Store":
        """The store at `path`, else at DD_STORE, else at outputs/store; below `layers` lies what is shipped with dd."""
        root = path or os.environ.get("DD_STORE") or "outputs/store"
        shipped = [_SHIPPED] if _SHIPPED.is_dir() else []
        return cls(pathlib.Path(root), [*map(pathlib.Path, layers), *shipped])

    @property
    def cache(self) -> pathlib.Path:
        """jax's compilation cache."""
        return self.root / ".cache"

    @contextlib.contextmanager
    def hold(
        self,
        key: str,
        on_wait: Callable[[str], None] | None = None,
        *,
        wait: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[None]:
        """Hold the lock of a key; see `lock.hold`. Whoever writes a key holds it."""
        self._prepare()
        with lock.hold(self.root / ".locks" / key, on_wait, wait=wait, sleep=sleep):
            yield

    def find(self, kind: str, key: str) -> Result | None:
        """The result, from the root or else the first layer that has it; not verified."""
        for folder in (self.root, self.root / kind, self.root / ".partial"):
            _look_again(folder)
        if (self._partial(key) / MANIFEST).exists():
            # Somebody who is busy will finish it himself; where the root can't be written there is nothing to finish.
            with contextlib.suppress(UserError), self.hold(key, wait=False):
                self.recover(kind, key)
        for root in (self.root, *self.layers):
            if (root / kind / key).is_dir():
                return Result(kind, key, root / kind / key, root, layer=root != self.root)
        return None

    def work(self, kind: str, key: str) -> pathlib.Path:
        """The folder to work in, with what an interrupted attempt left there. The caller holds the key.

        Raises:
            UserError: where the root can't be written.
        """
        self._prepare()
        self.recover(kind, key)
        with durable.writing(self.root):
            self._partial(key).mkdir(parents=True, exist_ok=True)
        return self._partial(key)

    def commit(self, kind: str, key: str, manifest: Mapping[str, Any]) -> Result:
        """Make the partial folder the result; what was there before goes. The caller holds the key.

        Args:
            kind, key: which stage it is of.
            manifest: the fields of `result.FIELDS`; kind, key and files are filled in here.

        Raises:
            UserError: where the root can't be written.
            ValueError: for a manifest that lacks a field or holds a NaN.
        """
        partial = self._partial(key)
        with durable.writing(self.root):
            durable.sync_all(partial)
            full = {**manifest, "kind": kind, "key": key, "files": listing(partial)}
            if fault := fault_of(full):
                raise ValueError(f"the manifest of {kind}/{key} {fault}")
            durable.write(partial / MANIFEST, json.dumps(full, indent=1, allow_nan=False))
        self._publish(kind, key)
        return Result(kind, key, self.root / kind / key, self.root, layer=False)

    def recover(self, kind: str, key: str) -> bool:
        """Finish a commit that a crash interrupted; False where there is none. The caller holds the key."""
        left = Result(kind, key, self._partial(key), self.root, layer=False)
        try:
            left.verify(cheap=True)
        except UserError:
            return False
        self._publish(kind, key)
        return True

    def remove(self, kind: str, key: str) -> None:
        """Remove a result from the root.

        Raises:
            lock.BusyError: while somebody works on the key.
            UserError: where the root has no such result.
        """
        path = self.root / kind / key
        if not path.is_dir():
            raise UserError(f"no result {kind}/{key} in {self.root}: read-only layers are left alone")
        with self.hold(key, wait=False):
            self._discard(path)

    def abandon(self, key: str) -> None:
        """Remove the partial work on a key.

        Raises:
            lock.BusyError: while somebody works on it.
        """
        with self.hold(key, wait=False):
            self._discard(self._partial(key))

    def empty_trash(self) -> None:
        """Delete what replacements and removals left because of a crash or an open file."""
        shutil.rmtree(self.root / ".trash", ignore_errors=True)

    def entries(self) -> Iterator[Result]:
        """All results of the root, then of the layers, by kind and key; damaged ones too."""
        for root in (self.root, *self.layers):
            for kind in _folders(root):
                for path in _folders(kind):
                    yield Result(kind.name, path.name, path, root, layer=root != self.root)

    def partials(self) -> list[pathlib.Path]:
        """Folders of unfinished work, named by key."""
        return _folders(self.root / ".partial")

    def lookup(self, row: str) -> Result:
        """The one result with this beginning of a key, or this in its label.

        Raises:
            UserError: where none or several fit.
        """
        fitting = {(each.kind, each.key): each for each in reversed(list(self.entries())) if _fits(each, row)}
        if not fitting:
            raise UserError(f"no result {row!r} in {self.root}: `python -m dd.store ls` names them")
        if len(fitting) > 1:
            some = ", ".join(key[:12] for _, key in sorted(fitting)[:4])
            raise UserError(f"{row!r} fits {len(fitting)} results ({some} ...): give more of the key")
        return next(iter(fitting.values()))

    def changed(self, manifest: Mapping[str, Any]) -> list[str]:
        """Modules that are no longer what a result, or one upstream of it, was made with; none: the result is fresh.

        Upstream results that lie in a read-only layer are kept, whatever their age.
        """
        names = set(source.changed(manifest["source"]))
        for key, above in manifest["upstream"].items():
            if not self._is_kept(key, above):
                names |= set(self.changed(above))
        return sorted(names)

    def _is_kept(self, key: str, above: Mapping[str, Any]) -> bool:
        for layer in self.layers:
            shared = Result(above["kind"], key, layer / above["kind"] / key, layer, layer=True)
            with contextlib.suppress(UserError):
                if shared.manifest["source"] == above["source"]:
                    return True
        return False

    def _partial(self, key: str) -> pathlib.Path:
        return self.root / ".partial" / key

    def _prepare(self) -> None:
        with durable.writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / "version").exists():
                durable.write(self.root / "version", f"{_VERSION} (dd {_release()})\n")

    def _publish(self, kind: str, key: str) -> None:
        partial, final = self._partial(key), self.root / kind / key
        with durable.writing(self.root):
            # Only now: until the manifest is whole, a crash is taken up from these.
            durable.drop_hidden(partial)
            final.parent.mkdir(exist_ok=True)
            replaced = self._set_aside(final) if final.exists() else None
            os.rename(partial, final)
            for folder in (final.parent, partial.parent, self.root):
                durable.sync(folder)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)  # a file that a reader has open over NFS stays: prune's work

    def _discard(self, path: pathlib.Path) -> None:
        with durable.writing(self.root):
            aside = self._set_aside(path)
        shutil.rmtree(aside, ignore_errors=True)

    def _set_aside(self, path: pathlib.Path) -> pathlib.Path:
        """One rename, so that no reader meets a result half deleted."""
        aside = self.root / ".trash" / f"{path.name}.{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        os.rename(path, aside)
        return aside


def _check_version(root: pathlib.Path) -> None:
    if root.is_file():
        raise UserError(f"store {root} is no folder: name one with store= or DD_STORE")
    try:
        written = (root / "version").read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        way_out = "name another with store= or DD_STORE"
        raise UserError(f"store {root} can't be read ({error.strerror}): {way_out}") from error
    if written.split(" ")[0] != str(_VERSION):
        way_out = "use that version, or another folder with store= or DD_STORE"
        raise UserError(f"store {root} has layout {written or 'unknown'}, this dd reads {_VERSION}: {way_out}")


def _release() -> str:
    try:
        return importlib.metadata.version("dd")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _look_again(folder: pathlib.Path) -> None:
    """Opening a folder has an NFS client ask the server anew; else it may go on denying what others put there."""
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def _fits(result: Result, row: str) -> bool:
    if result.key.startswith(row):
        return True
    with contextlib.suppress(UserError):
        return row in result.label
    return False
