"""From overrides with several values to jobs: the product of all axes, those that advance together taken as one."""

import itertools
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from dd.errors import UserError


def jobs(overrides: Sequence[Override], together: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of every job, the last axis changing fastest.

    Args:
        overrides: of the whole sweep; a later one of a key replaces an earlier one.
        together: keys whose values are taken in step, the first with the first and so on.

    Raises:
        UserError: where axes that should advance together differ in length, or a key is not swept.
    """
    axes: dict[str, list[str]] = {}
    for each in overrides:
        (values,) = BasicSweeper.split_arguments([each], None)
        axes[each.get_key_element()] = [job[0] for job in values]
    steps = [_in_step(axes, keys) for keys in together]
    grouped = {key: step for keys, step in zip(together, steps, strict=True) for key in keys}
    lists: list[list[dict[str, str]]] = []
    for key, values in axes.items():
        step = grouped.get(key)
        if step is None:
            lists.append([{key: value} for value in values])
        elif key == next(iter(step[0])):
            lists.append(step)
    chosen = ({key: value for part in parts for key, value in part.items()} for parts in itertools.product(*lists))
    return [[job[key] for key in axes] for job in chosen]


def _in_step(axes: dict[str, list[str]], keys: Sequence[str]) -> list[dict[str, str]]:
    missing = [key for key in keys if key not in axes]
    if missing:
        way_out = f"sweep all of {', '.join(keys)}, or set hydra.sweeper.zip=[]"
        raise UserError(f"hydra.sweeper.zip: {missing[0]} is not swept here; {way_out}")
    lengths = [len(axes[key]) for key in keys]
    if len(set(lengths)) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in zip(keys, lengths, strict=True))
        raise UserError(f"hydra.sweeper.zip: axes that advance together need equally many values; {told}")
    ordered = [key for key in axes if key in keys]
    return [{key: axes[key][i] for key in ordered} for i in range(lengths[0])]
