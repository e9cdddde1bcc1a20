"""One result: its folder and its manifest."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any, NoReturn

from dd.errors import UserError
from dd.store import durable

MANIFEST = "manifest.json"

# Field of a manifest -> what it must be; `object` where the store only keeps it.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "key": str,
    "label": str,
    "config": dict,  # the whole canonical content
    "source": dict,  # module -> digest, of the stage's own modules
    "upstream": dict,  # key -> its kind, source and upstream
    "summary": dict,
    "commit": object,  # of git
    "versions": object,
    "device": object,
    "seconds": (int, float),
    "created": str,  # ISO 8601
    # "timings", where there are any: name -> seconds, beside the result as "seconds" is
    "files": dict,  # path below the folder -> its size in bytes and sha256
}


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished result.

    Attributes:
        kind, key: which stage it is of.
        path: its folder.
        root: the store or layer that it lies in.
        layer: it comes from a read-only layer.
    """

    kind: str
    key: str
    path: pathlib.Path
    root: pathlib.Path
    layer: bool

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """What is known about the result; read when first asked for.

        Raises:
            UserError: where it is missing, can't be parsed or lacks a field.
        """
        try:
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            self._damaged(f"its {MANIFEST} can't be read ({type(error).__name__})")
        if fault := fault_of(manifest):
            self._damaged(f"its {MANIFEST} {fault}")
        if (manifest["kind"], manifest["key"]) != (self.kind, self.key):
            self._damaged(f"its {MANIFEST} is of {manifest['kind']}/{manifest['key'][:12]}")
        return manifest

    @property
    def label(self) -> str:
        """The short name that the stage gave it."""
        return self.manifest["label"]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return durable.size(self.path)

    def verify(self, *, cheap: bool = False) -> None:
        """Hold the files against the manifest.

        Args:
            cheap: look at existence and size only, not at content.

        Raises:
            UserError: where something differs, saying how to be rid of the result.
        """
        for name, known in self.manifest["files"].items():
            path = self.path / name
            if not path.is_file():
                self._damaged(f"{name} is missing")
            if (size := path.stat().st_size) != known["size"]:
                self._damaged(f"{name} has {size} bytes, not {known['size']}")
            if not cheap and sha256(path) != known["sha256"]:
                self._damaged(f"{name} is not what was written")

    def _damaged(self, what: str) -> NoReturn:
        way_out = f"`python -m dd.store --store {self.root} prune {self.key[:12]}`, then run again"
        if self.layer:
            way_out = "restore that layer, or leave it out"
        raise UserError(f"damaged result {self.path}: {what}; way out: {way_out}")


def fault_of(manifest: Any) -> str | None:
    """What is wrong with a manifest, if anything is."""
    if not isinstance(manifest, dict):
        return "is not a table of fields"
    for name, kind in FIELDS.items():
        if name not in manifest:
            return f"lacks {name}"
        if not isinstance(manifest[name], kind):
            return f"has {name}={manifest[name]!r:.40}"
    files = manifest["files"].values()
    if not all(isinstance(each, dict) and {"size", "sha256"} <= each.keys() for each in files):
        return "lists files without their size and sha256"
    return None if _is_lineage(manifest) else "does not tell the source of all that is upstream"


def _is_lineage(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("kind"), str)
        and isinstance(entry.get("source"), dict)
        and isinstance(entry.get("upstream"), dict)
        and all(_is_lineage(each) for each in entry["upstream"].values())
    )


def listing(folder: pathlib.Path) -> dict[str, dict[str, int | str]]:
    """The visible files of a folder but its manifest, each with size and sha256."""
    paths = (path for path in durable.visible(folder) if path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths
    }


def sha256(path: pathlib.Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
