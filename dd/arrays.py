"""Arrays in files: pytrees as safetensors, whole or not at all."""

import os
import pathlib
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors
from safetensors import safe_open


def _names(tree: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def write(path: pathlib.Path, tree: Any, metadata: dict[str, str] | None = None) -> None:
    """Write a pytree of arrays; an interrupted write leaves the old file."""
    named = {name: np.asarray(leaf, order="C") for name, leaf in zip(_names(tree), jax.tree.leaves(tree), strict=True)}
    partial = path.with_name(f".{path.name}.tmp")
    safetensors.save_file(named, partial, metadata)
    os.replace(partial, path)


def read(path: pathlib.Path, like: Any) -> Any:
    """Read a pytree with the structure of `like` (arrays or shapes).

    Raises:
        ValueError: when the file's names or shapes are not those of `like`.
    """
    named = safetensors.load_file(path)
    leaves, structure = jax.tree.flatten(like)
    names = _names(like)
    if sorted(names) != sorted(named):
        odd = sorted(set(names) ^ set(named))
        raise ValueError(f"{path} does not hold what is asked for: {', '.join(odd[:5])} differ")
    for name, leaf in zip(names, leaves, strict=True):
        if named[name].shape != tuple(leaf.shape):
            raise ValueError(f"{path}: {name} has shape {named[name].shape} where {tuple(leaf.shape)} is needed")
    return jax.tree.unflatten(structure, [named[name] for name in names])


def metadata(path: pathlib.Path) -> dict[str, str]:
    """The text written beside a file's arrays."""
    with safe_open(path, "np") as file:
        return dict(file.metadata() or {})
