"""Policies that others trained and published."""

import functools
import json
import pathlib
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from dd import arrays, fields
from dd.env.base import AbstractEnv
from dd.errors import UserError
from dd.model import published
from dd.model.base import AbstractModel
from dd.policy import LoadedPolicy
from dd.schedule.base import AbstractProcess
from dd.stage import level_file, unpickle
from dd.stage.base import Runner, Work
from dd.stage.trained import AbstractTrained

WHERE = "policy.checkpoint"


class ChangedError(Exception):
    """The file is no longer the one that was asked for."""


@fields.configuration
class Published(AbstractTrained):
    """A flow policy of the real-time-chunking benchmark (arXiv 2506.07339), from its pickled parameters.

    Sizes and chunk are those of its arrays (`dd.model.published`). The file is known by its content; `source` is where
    it was found.
    """

    env: AbstractEnv
    process: AbstractProcess
    model: AbstractModel
    action_chunk_size: int = fields.field(ge=1)
    source: str = fields.field(hashed=False)
    digest: str
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)

    kind: ClassVar[str] = "policy"

    @property
    def given_prefixes(self) -> bool:
        """The benchmark's training gives none."""
        return False

    @property
    def last_epoch(self) -> None:
        """The file does not tell."""
        return None

    @property
    def label(self) -> str:
        """Level and seed."""
        return f"{self.env.name} published seed={self.seed}"

    def checkpoint(self, epoch: int | str | None) -> str:
        """`last`, and no other.

        Raises:
            UserError: for another.
        """
        if epoch is None:
            return "last"
        raise UserError(f"{epoch}: {WHERE} gives the parameters after one epoch only; leave this out")

    def program(self) -> Any:
        """Nothing is compiled."""
        return "published"

    def build(self) -> Runner:
        """Reads one file."""

        def run(stage: Published, work: Work) -> dict[str, Any]:
            file = find(stage.source, stage.env)
            if level_file.digest(file) != stage.digest:
                raise ChangedError(f"{file} has changed since this command began; run it again")
            found = published.flat(unpickle.read(file))
            policy = stage.policy()
            state = jax.eval_shape(policy.create, jax.random.key(0))
            nnx.replace_by_pure_dict(state, published.parameters(found))
            as_trained = jax.tree.map(lambda x: np.asarray(x, np.float32), state)
            arrays.write(work.path / "last.safetensors", as_trained)
            (work.path / "policy.json").write_text(json.dumps(policy.describe(), indent=1))
            LoadedPolicy.read(work.path)  # raises where it is not what the policy wants
            return {"parameters": int(sum(x.size for x in found.values()))}

        return run


def find(source: Any, env: AbstractEnv) -> pathlib.Path:
    """The file of a level: `source`, or the one in that folder.

    Raises:
        UserError: where there is none.
    """
    return level_file.find(source, env.name, ending=".pkl", inside="policies", where=WHERE)


def look(file: pathlib.Path, env: AbstractEnv) -> published.Sizes:
    """The sizes of the network in a file, which must be for such levels.

    Raises:
        UserError: for another file, or a network for other levels.
    """
    found = _sizes(file, level_file.digest(file))
    spec = env.spec()
    want = spec.obs.shape if isinstance(spec.obs, jax.ShapeDtypeStruct) else spec.obs
    for name, has, needed in (
        ("observations", (found.obs_dim,), want),
        ("actions", (found.action_dim,), (len(spec.action_low),)),
    ):
        if has != needed:
            shown = needed[0] if isinstance(needed, tuple) and len(needed) == 1 else needed
            raise UserError(
                f"{WHERE}: {file} is for {name} of {has[0]} numbers where the level has {shown}; "
                "choose the level that it was trained on"
            )
    return found


@functools.lru_cache(maxsize=256)
def _sizes(file: pathlib.Path, digest: str) -> published.Sizes:
    try:
        return published.sizes(published.flat(unpickle.read(file)))
    except ValueError as problem:
        way_out = "give a flow policy as the benchmark's training pickles it"
        raise UserError(f"{WHERE}: {file} holds other parameters ({problem}); {way_out}") from problem
    except UserError as problem:
        raise UserError(f"{WHERE}: {problem}") from problem
