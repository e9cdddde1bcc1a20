"""Demonstrations that others recorded and published."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from dd import fields
from dd.env.base import AbstractEnv, Spec
from dd.errors import UserError
from dd.stage import level_file, npz
from dd.stage.base import Runner, Work
from dd.stage.demonstrations import AbstractDemos
from dd.stage.npz import Header

WHERE = "env.demos"
_DIMS = {"obs": 3, "action": 3, "done": 2, "solved": 2}
_OUTSIDE = 1e-3  # by how much an action may lie beyond its range: rounding, not another order of the actions


class UnusableError(Exception):
    """The numbers of a recording can't be learnt from."""


@fields.configuration
class Recorded(AbstractDemos):
    """Demonstrations read from an .npz file in the layout of the real-time-chunking benchmark (arXiv 2506.07339).

    Arrays, steps x environments first: `obs` [s, e, o] before each step, `action` [s, e, a] asked for in it, `done`
    [s, e] the episode ended with it, `solved` [s, e] successfully (read where an episode ended). Other arrays are left
    alone. The file is known by its content; `source` is where it was found.
    """

    env: AbstractEnv
    source: str = fields.field(hashed=False)
    digest: str
    validation_fraction: float = fields.field(0.05, gt=0.0, lt=1.0)
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)

    @property
    def size(self) -> int:
        """Every transition of the file."""
        steps, envs = npz.headers(self.file())["done"].shape
        return steps * envs

    def file(self) -> pathlib.Path:
        """The level's file."""
        return find(self.source, self.env)

    def program(self) -> Any:
        """Nothing is compiled."""
        return "recorded"

    def build(self) -> Runner:
        """Reads one file."""

        def run(stage: Recorded, work: Work) -> dict[str, Any]:
            file = stage.file()
            if level_file.digest(file) != stage.digest:
                raise UnusableError(f"{file} has changed since this command began; run it again")
            spec = stage.env.spec()
            recording = _Recording(file)
            done = recording.flags("done")
            found = {"done": done, "solved": recording.flags("solved") & done, "action": recording.actions(spec)}
            with work.progress(total=2 * done.shape[1], unit="steps") as advance:
                return stage.write(work.path, **found, **recording.observations(advance))

        return run


def find(source: Any, env: AbstractEnv) -> pathlib.Path:
    """The file of a level: `source`, or the one in that folder.

    Raises:
        UserError: where there is none.
    """
    return level_file.find(source, env.name, ending=".npz", inside="data", where=WHERE)


def check(file: pathlib.Path, env: AbstractEnv) -> None:
    """Compare names, shapes and kinds of the arrays with what the layout and the level want; reads no numbers.

    Raises:
        UserError: naming the first that does not fit.
    """
    try:
        problem = _misfit(npz.headers(file), env.spec())
    except npz.DamagedError as fault:
        problem = f"is no readable .npz of plain arrays ({fault}); save it again with numpy.savez"
    if problem:
        raise UserError(f"{WHERE}: {file} {problem}")


def _misfit(found: Mapping[str, Header], spec: Spec) -> str | None:
    layout = "steps x environments first: obs [s, e, o], action [s, e, a], done [s, e], solved [s, e]"
    if missing := [name for name in _DIMS if name not in found]:
        return f"holds {', '.join(sorted(found)) or 'no array'} but no {' and no '.join(missing)}; needed is {layout}"
    for name, dims in _DIMS.items():
        shape, dtype = found[name]
        if len(shape) != dims or shape[:2] != found["done"].shape or 0 in shape:
            return f"holds {name} of shape {list(shape)}; needed is {layout}"
        if dtype.kind not in ("f" if dims == 3 else "biuf"):
            return f"holds {name} of kind {dtype}; needed are {'floats' if dims == 3 else 'booleans'}"
    if not isinstance(spec.obs, jax.ShapeDtypeStruct) or len(spec.obs.shape) != 1:
        return f"holds observations that are vectors; this level's are {spec.obs}, so record for this world instead"
    for name, want in (("obs", spec.obs.shape[0]), ("action", len(spec.action_low))):
        if (dims := found[name].shape[2]) != want:
            return f"holds {name} of {dims} numbers where the level has {want}; choose the level it was recorded on"
    return None


class _Recording:
    """A file whose arrays have been checked, read into the layout of `Demonstrations`: environments first."""

    def __init__(self, file: pathlib.Path):
        self.file = file
        self.steps, self.envs = npz.headers(file)["done"].shape

    def flags(self, name: str) -> Bool[np.ndarray, "e t"]:
        """An array of 0 and 1."""
        whole = np.concatenate(list(npz.blocks(self.file, name)))
        if not np.isin(whole, (0, 1)).all():
            raise UnusableError(f"{self.file}: {name} holds other numbers than 0 and 1")
        return np.ascontiguousarray(whole.astype(bool).T)

    def actions(self, spec: Spec) -> Float[np.ndarray, "e t a"]:
        """The actions; they must lie within the level's range."""
        action = np.concatenate([block for _, block in self._numbers("action")])
        for index, (low, high) in enumerate(zip(spec.action_low, spec.action_high, strict=True)):
            least, most = float(action[..., index].min()), float(action[..., index].max())
            if least < low - _OUTSIDE or most > high + _OUTSIDE:
                raise UnusableError(
                    f"{self.file}: action {index} goes from {least:g} to {most:g} where the level has {low:g} to "
                    f"{high:g}; put the actions in the level's order, or clip them"
                )
        return np.ascontiguousarray(action.swapaxes(0, 1))

    def observations(self, advance: Any) -> dict[str, np.ndarray]:
        """`obs`, `columns` and `constant`, read twice: which entries vary, then these, each into its place."""
        constant, varies = None, False
        for _, block in self._numbers("obs"):
            constant = block[0, 0] if constant is None else constant
            varies = varies | (block != constant).any(axis=(0, 1))
            advance(len(block))
        columns = np.flatnonzero(varies).astype(np.int32)
        obs = np.empty((self.envs, self.steps, len(columns)), np.float32)
        for start, block in self._numbers("obs"):
            obs[:, start : start + len(block)] = block[..., columns].swapaxes(0, 1)
            advance(len(block))
        return {"obs": obs.reshape(-1, len(columns)), "columns": columns, "constant": constant.copy()}

    def _numbers(self, name: str) -> Iterator[tuple[int, Float[np.ndarray, "s e k"]]]:
        """Blocks of finite numbers, and the step at which each begins."""
        start = 0
        for block in npz.blocks(self.file, name):
            with np.errstate(over="ignore"):
                block = block.astype(np.float32, copy=False)
            if not (finite := np.isfinite(block)).all():
                step, env, entry = (int(each[0]) for each in np.nonzero(~finite))
                raise UnusableError(
                    f"{self.file}: {name} {entry} of step {start + step} in environment {env} is not finite; "
                    "leave that environment out"
                )
            yield start, block
            start += len(block)
