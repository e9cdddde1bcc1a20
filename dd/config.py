"""From a composed Hydra configuration to stages: the one place that builds, checks and refuses."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dd import check
from dd.env.base import AbstractEnv
from dd.errors import UserError
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.train import Train
from dd.tracking import MODES, Tracking

_SECTIONS = {
    "seed", "demos", "train", "eval", "env", "expert", "model", "optimizer", "schedule", "decode",
    "store", "store_layers", "stale", "device", "wandb", "suite", "suites",
}  # fmt: skip
DEVICES = ("auto", "cpu", "gpu")
STALE = ("recompute", "keep")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How and where a sweep runs; never part of a key.

    Attributes:
        store: folder of results, or None for the default.
        store_layers: further stores to read from.
        keep_stale: use results of other code.
        device: auto, cpu or gpu.
        tracking: where training metrics go.
    """

    store: pathlib.Path | None
    store_layers: tuple[pathlib.Path, ...]
    keep_stale: bool
    device: str
    tracking: Tracking


class Builder:
    """Builds the runs of many configurations; equal parts become one object."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def build(self, config: DictConfig) -> list[Eval]:
        """The runs of one composed configuration: one, or one per level of its suite.

        Raises:
            UserError: one line with the value, the rule and the way out.
        """
        plain = _plain(config)
        return [self._run(plain, env) for env in self._envs(plain)]

    def _run(self, plain: dict[str, Any], env: AbstractEnv) -> Eval:
        seed = plain["seed"]
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
            raise UserError(f"seed={check.shown(seed)}: must be an integer >= 0 and < 2**31; for instance seed=0")
        experts = self._experts(plain["expert"], env)
        demos = self._object(Demos, plain["demos"], "demos", experts=experts)
        process = self._part(plain["schedule"], "schedule")
        train = self._object(
            Train,
            plain["train"] | {"seed": seed},
            "train",
            demos=demos,
            process=process,
            model=self._part(plain["model"], "model"),
            optimizer=self._part(plain["optimizer"], "optimizer"),
        )
        decode, sampler = self._decode(plain["decode"], process)
        if reason := decode.misfit(process):
            raise UserError(f"decode={_name(decode)} does not fit schedule={_name(process)}: {reason}")
        numbers = _horizon(plain["eval"], train.action_chunk_size)
        return self._object(Eval, numbers, "eval", policy=train, decode=decode, sampler=sampler)

    def _envs(self, plain: dict[str, Any]) -> list[AbstractEnv]:
        """The levels a configuration asks for: a suite by name, a folder, or one."""
        node = plain["env"]
        level = node.get("level")
        suites = plain["suites"]
        if not isinstance(level, str):
            return [self._part(node, "env")]
        if level in suites:
            return [self._part(node | {"level": each}, "env") for each in suites[level]]
        if pathlib.Path(level).is_dir():
            files = sorted(str(file) for file in pathlib.Path(level).rglob("*.json"))
            if not files:
                raise UserError(f"env.level={level}: the folder holds no level (*.json); name a level, a suite or a file")
            return [self._part(node | {"level": each}, "env") for each in files]
        return [self._part(node, "env")]

    def _experts(self, node: Mapping[str, Any], env: AbstractEnv) -> tuple[Expert, ...]:
        seeds = node.get("seeds")
        if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
            raise UserError(f"expert.seeds={check.shown(seeds)}: must be a list of different integers, for instance [0,1]")
        rest = {name: value for name, value in node.items() if name != "seeds"}
        return tuple(self._part(rest | {"seed": seed}, "expert", env=env) for seed in seeds)

    def _decode(self, node: Mapping[str, Any], process: Any) -> tuple[Any, Any]:
        """The decode method and the process's sampler: both are set under `decode`."""
        sampler = type(process).sampler
        method = _class(node, "decode")
        of_method = {item.name for item in dataclasses.fields(method)}
        of_sampler = {item.name for item in dataclasses.fields(sampler)}
        for name in node:
            if name != "_target_" and name not in of_method | of_sampler:
                raise UserError(
                    f"decode.{name}: neither {method.__name__} nor its sampler {sampler.__name__} has such a field; "
                    f"{check.near(name, of_method | of_sampler, 'fields')}"
                )
        decode = {name: value for name, value in node.items() if name == "_target_" or name in of_method}
        rest = {name: value for name, value in node.items() if name in of_sampler}
        return self._part(decode, "decode"), self._object(sampler, rest, "decode")

    def _part(self, node: Any, where: str, **built: Any) -> Any:
        """The object that a `_target_` node describes."""
        return self._object(_class(node, where), {k: v for k, v in node.items() if k != "_target_"}, where, **built)

    def _object(self, cls: type, node: Mapping[str, Any], where: str, **built: Any) -> Any:
        identity = json.dumps([f"{cls.__module__}.{cls.__qualname__}", where, node, {k: _ids(v) for k, v in built.items()}])
        if identity not in self._made:
            nested = {
                name: self._part(value, f"{where}.{name}") if isinstance(value, dict) and "_target_" in value else value
                for name, value in node.items()
            }
            fitted = check.values(cls, nested | built, where)
            self._made[identity] = cls(**fitted)
        return self._made[identity]


def settings(config: DictConfig) -> Settings:
    """How and where to run.

    Raises:
        UserError: one line with the value, the rule and the way out.
    """
    plain = _plain(config)
    for name, allowed in (("device", DEVICES), ("stale", STALE)):
        if plain[name] not in allowed:
            raise UserError(f"{name}={check.shown(plain[name])}: must be {' or '.join(allowed)}; {name}={allowed[0]} is usual")
    wandb = plain["wandb"]
    if wandb["mode"] not in MODES:
        raise UserError(f"wandb.mode={check.shown(wandb['mode'])}: must be {' or '.join(MODES)}; wandb.mode=offline is usual")
    store = plain["store"]
    if store is not None and (not isinstance(store, str) or not store):
        raise UserError(f"store={check.shown(store)}: must be a folder; leave it out for $DD_STORE or outputs/store")
    for layer in plain["store_layers"]:
        if not pathlib.Path(str(layer)).is_dir():
            raise UserError(f"store_layers: {layer} is no folder; name stores that exist, for instance store_layers=[/lab/store]")
    return Settings(
        store=pathlib.Path(store) if store else None,
        store_layers=tuple(pathlib.Path(layer) for layer in plain["store_layers"]),
        keep_stale=plain["stale"] == "keep",
        device=plain["device"],
        tracking=Tracking(mode=wandb["mode"], project=str(wandb["project"])),
    )


def use_device(device: str) -> str:
    """Make jax use the device asked for; its name for manifests.

    Raises:
        UserError: when there is no such device.
    """
    import jax

    if device != "auto":
        jax.config.update("jax_platforms", "cuda" if device == "gpu" else "cpu")
    try:
        first = jax.devices()[0]
    except RuntimeError as problem:
        raise UserError(
            f"device={device}: jax finds none here; use device=cpu, or install jax for NVIDIA GPUs with `uv run --extra cuda ...`"
        ) from problem
    return f"cpu, {os.cpu_count()} cores" if first.platform == "cpu" else first.device_kind


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as problem:
        raise UserError(f"{problem.full_key}: {str(problem).splitlines()[0]}; give it a value") from problem
    plain.pop("hydra", None)
    for name in plain:
        if name not in _SECTIONS:
            raise UserError(f"{name}: no such key; {check.near(name, _SECTIONS, 'keys')}")
    for name in ("demos", "train", "eval", "wandb", "suites", "expert", "env", "model", "optimizer", "schedule", "decode"):
        if not isinstance(plain[name], dict):
            raise UserError(f"{name}={check.shown(plain[name])}: is a group of values; set one of them, for instance {name}.<key>=...")
    return plain


def _class(node: Any, where: str) -> type:
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str):
        raise UserError(f"{where}: needs a _target_, the dotted name of a class; choose an option, for instance {where}=<name>")
    try:
        cls = hydra.utils.get_class(target)
    except Exception as problem:  # Hydra wraps whatever the import raised
        reason = str(problem).splitlines()[0]
        raise UserError(f"{where}._target_={target}: can't be imported ({reason}); give a class as package.module.Class") from problem
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{where}._target_={target}: is no configuration; decorate it with dd.fields.configuration")
    return cls


def _horizon(node: dict[str, Any], chunk: int) -> dict[str, Any]:
    """The evaluation's numbers with `execute_horizon=auto` resolved and s in max(1, d)..H-d."""
    d, s = node.get("inference_delay"), node.get("execute_horizon")
    if not isinstance(d, int) or isinstance(d, bool) or d < 0:
        raise UserError(f"eval.inference_delay={check.shown(d)}: must be an integer >= 0; for instance eval.inference_delay=1")
    least, most = max(1, d), chunk - d
    if least > most:
        raise UserError(
            f"inference_delay={d} with action_chunk_size={chunk}: a chunk must outlast the delay twice (max(1, d) <= H - d); "
            f"use inference_delay 0..{chunk // 2} or a longer train.action_chunk_size"
        )
    if s == "auto":
        return node | {"execute_horizon": least}
    if not isinstance(s, int) or isinstance(s, bool):
        raise UserError(f"eval.execute_horizon={check.shown(s)}: must be an integer {least}..{most} or auto ({least})")
    if not least <= s <= most:
        why = "a chunk must last at least as long as its successor takes to compute" if s < least else "a chunk has no more to give"
        raise UserError(
            f"inference_delay={d} with execute_horizon={s}: {why}. With action_chunk_size={chunk} use execute_horizon "
            f"{least}..{most}, or execute_horizon=auto ({least})."
        )
    return node


def _name(part: Any) -> str:
    return type(part).__module__.rpartition(".")[2]


def _ids(value: Any) -> Any:
    return [id(each) for each in value] if isinstance(value, tuple) else id(value)
