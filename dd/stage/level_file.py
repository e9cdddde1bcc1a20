"""The file that belongs to a level, among those that others published."""

import functools
import hashlib
import pathlib
from typing import Any

from dd import check
from dd.errors import UserError


def find(source: Any, level: str, *, ending: str, inside: str, where: str) -> pathlib.Path:
    """A file given as it is, or the one in a folder that is named after the level.

    Names are those of the real-time-chunking benchmark's public code, which writes a level file's path with
    underscores (`worlds_l_h17_unicycle`), or shorter (`l_h17_unicycle`, `h17_unicycle`). A folder may be that of a
    whole run: then it is looked for in `<folder>/<inside>` and in `<folder>/<last epoch>/<inside>` as well.

    Args:
        source: a file or a folder.
        level: its name, for instance `l/h17_unicycle`.
        ending: of the file's name, for instance `.npz`.
        inside: the folder of a run in which such files lie.
        where: the key that gave `source`, for messages.

    Raises:
        UserError: where there is none, or several.
    """
    example = f"for instance {where}=<folder with {_names(level)[-1]}{ending}>"
    if not isinstance(source, str) or not source:
        raise UserError(f"{where}={check.shown(source)}: must be a file or a folder of files; {example}")
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{where}={source}: no such file or folder; give one that exists, {example}")
    epochs = [each for each in path.iterdir() if each.name.isdecimal() and each.is_dir()]
    last = sorted(epochs, key=lambda each: int(each.name))[-1:]
    for folder in (path, path / inside, *(each / inside for each in last)):
        found = [file for name in _names(level) if (file := folder / f"{name}{ending}").is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(file.name for file in found)
            raise UserError(f"{where}={source}: {both} may both be meant for {level}; give the file itself")
    names = " or ".join(f"{name}{ending}" for name in _names(level))
    raise UserError(f"{where}={source}: the folder holds nothing for {level}; name its file {names}")


def _names(level: str) -> list[str]:
    parts = level.split("/")
    own = ["_".join(parts[start:]) for start in range(len(parts))]
    sizes = parts[-2:-1] if parts[-2:-1] in (["l"], ["m"], ["s"]) else ["l", "m", "s"]
    return list(dict.fromkeys([*(f"worlds_{size}_{parts[-1]}" for size in sizes), *own]))


def digest(path: pathlib.Path) -> str:
    """That of the file's bytes, as `dd.fields.file_digest` gives it; a large file is not read at once, nor twice."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)
def _digest(path: pathlib.Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
