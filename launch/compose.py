"""The configurations of a sweep's jobs: the choices among groups are composed once, plain values are set on top."""

import copy
import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dd import config
from dd.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Composed:
    """What jobs that choose the same options share.

    Attributes:
        config: as Hydra composed it.
        plain: the same with every reference resolved; None where a value is missing or a reference leads nowhere.
        referenced: every word of every reference: what such a word names can't be set after they are resolved.
    """

    config: DictConfig
    plain: dict[str, Any] | None
    referenced: frozenset[str]


class Composer:
    """Composes jobs as Hydra would, without its own `hydra` section.

    Composing takes some 60 ms: jobs that choose the same options share one composition. Values are set on it
    afterwards, in the order given, as Hydra itself does: in its resolved form, which takes microseconds, where no
    reference reads them; else on a copy, which takes some milliseconds.

    Args:
        loader: Hydra's.
        master: the sweep's own configuration.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self._loader, self._master = loader, master
        parser = OverridesParser.create(loader)
        self._parse = functools.cache(lambda text: parser.parse_overrides([text])[0])
        self._is_group = functools.cache(lambda key: bool(loader.get_group_options(key, results_filter=None)))
        self._composed = functools.cache(self._compose)

    def job(self, overrides: Sequence[str]) -> dict[str, Any]:
        """One job's configuration, resolved; what jobs have in common they may share, so none may be changed.

        Raises:
            HydraException: for what Hydra refuses.
            UserError: for a value that is missing, and the like; see `dd.config.read`.
        """
        parsed = [self._parse(text) for text in overrides]
        values = [each for each in parsed if self._is_value(each, parsed)]
        rest = tuple(text for text, each in zip(overrides, parsed, strict=True) if each not in values)
        composed = self._composed(rest)
        if composed.plain is not None and all(_can_be_set(each, composed) for each in values):
            plain = composed.plain
            for each in values:
                plain = _with(plain, each.key_or_group.split("."), each.value())
            return plain
        whole = copy.deepcopy(composed.config)
        try:
            for each in values:
                OmegaConf.update(whole, each.key_or_group, each.value(), merge=True)
        except OmegaConfBaseException:
            whole = self._load(tuple(overrides))  # Hydra says in its own words what is wrong
        return config.read(whole)

    def _compose(self, overrides: tuple[str, ...]) -> _Composed:
        composed = self._load(overrides)
        try:
            plain = config.read(composed)
        except UserError:
            plain = None
        texts = _texts(OmegaConf.to_container(composed, resolve=False))
        words = (re.findall(r"\w+", text) for text in texts if "${" in text)
        return _Composed(composed, plain, frozenset(word for found in words for word in found))

    def _load(self, overrides: tuple[str, ...]) -> DictConfig:
        composed = self._loader.load_sweep_config(self._master, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed

    def _is_value(self, override: Override, among: Sequence[Override]) -> bool:
        """Whether it sets one value in a place that no other override touches."""
        key = override.key_or_group
        if override.type is not OverrideType.CHANGE or isinstance(override.value(), dict) or self._is_group(key):
            return False
        others = [each.key_or_group for each in among if each is not override]
        return not any(f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.") for one in others)


def _can_be_set(override: Override, composed: _Composed) -> bool:
    """Whether the value replaces one that is there, and neither is part of a reference."""
    path = override.key_or_group.split(".")
    if not composed.referenced.isdisjoint(path) or any(
        "${" in text or text == "???" for text in _texts(override.value())
    ):
        return False
    place: Any = composed.plain
    for name in path:
        if not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return not isinstance(place, dict)


def _with(plain: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    name, *rest = path
    return {**plain, name: _with(plain[name], rest, value) if rest else value}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
