"""Writes that a crash leaves either undone or done."""

import contextlib
import errno
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from dd.errors import UserError


@contextlib.contextmanager
def writing(root: pathlib.Path) -> Iterator[None]:
    """Turn what the file system refuses into one line for the user."""
    try:
        yield
    except OSError as error:
        way_out = "name a folder that can with store= or DD_STORE"
        raise UserError(f"store {root} can't be written ({error.strerror or error}): {way_out}") from error


def sync(path: pathlib.Path) -> None:
    """Have a file's or folder's content on the disk before what comes next."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network file systems have no fsync of a folder
            raise
    finally:
        os.close(descriptor)


def write(path: pathlib.Path, text: str) -> None:
    """Write a file whole: readers see the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    fresh.write_text(text, encoding="utf-8")
    sync(fresh)
    os.replace(fresh, path)
    sync(path.parent)


def visible(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files below a folder, sorted, without those that have a name beginning with `.` on their path."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from visible(entry)
        else:
            yield entry


def sync_all(folder: pathlib.Path) -> None:
    """Sync every visible file below a folder and the folders that hold them."""
    files = list(visible(folder))
    for path in files:
        sync(path)
    for path in sorted({folder, *(each for file in files for each in file.parents if folder in each.parents)}):
        sync(path)


def drop_hidden(folder: pathlib.Path) -> None:
    """Delete everything below a folder whose name begins with `.`."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry) if entry.name.startswith(".") else drop_hidden(entry)
        elif entry.name.startswith("."):
            entry.unlink()


def size(folder: pathlib.Path) -> int:
    """Bytes in the files below a folder, hidden ones too."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
