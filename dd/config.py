"""From a composed Hydra configuration to stages: the one place that builds, checks and refuses."""

import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dd import check
from dd.decode.base import AbstractDecode
from dd.env.base import AbstractEnv
from dd.errors import ImpossiblePairError, UserError
from dd.model.base import AbstractModel
from dd.optimizer import AdamW
from dd.schedule.base import AbstractProcess
from dd.schedule.flow import Flow
from dd.stage import level_file, published, recorded
from dd.stage.demonstrations import AbstractDemos
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.published import Published
from dd.stage.recorded import Recorded
from dd.stage.train import Train
from dd.stage.trained import AbstractTrained
from dd.tracking import MODES, Tracking

_PARTS = {"demos", "train", "policy", "eval", "env", "expert", "model", "optimizer", "schedule", "decode"}
_GROUPED = {*_PARTS, "wandb", "suites"}
SETTINGS = ("store", "store_layers", "stale", "device", "wandb")
_SECTIONS = _GROUPED | {"seed", "suite", "num_bins", *SETTINGS}
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


def read(config: DictConfig) -> dict[str, Any]:
    """A composed configuration with its references resolved and its sections checked; Hydra's own is left out.

    Raises:
        UserError: one line with the key, the rule and the way out.
    """
    try:
        found = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as problem:
        raise UserError(f"{problem.full_key}: {str(problem).splitlines()[0]}; give it a value") from problem
    found.pop("hydra", None)
    for name in found:
        if name not in _SECTIONS:
            raise UserError(f"{name}: no such key; {check.near(name, _SECTIONS, 'keys')}")
    for name in sorted(_SECTIONS - found.keys()):
        raise UserError(f"{name}: is needed; give it a value, or leave ~{name} out for the usual one")
    for name in sorted(_GROUPED):
        if not isinstance(found[name], dict):
            way_out = f"set one of them, for instance {name}.<key>=<value>; `--help` lists the keys"
            raise UserError(f"{name}={check.shown(found[name])}: is a group of values; {way_out}")
    return found


class Builder:
    """Builds the runs of many configurations; equal parts become one object."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._read: set[int] = set()  # worlds in `_made`, by id, whose levels can be read

    def build(self, plain: dict[str, Any]) -> list[Eval]:
        """The runs of one configuration, as `read` gives it: one, or one per level of its suite.

        Raises:
            UserError: one line with the value, the rule and the way out.
        """
        envs = self._envs(plain)
        for where, source in ((recorded.WHERE, plain["env"].get("demos")), (published.WHERE, _checkpoint(plain))):
            if len(envs) > 1 and isinstance(source, str) and pathlib.Path(source).expanduser().is_file():
                way_out = "give a folder with one for each"
                raise UserError(f"{where}={source}: is one file for {len(envs)} levels; {way_out}, or one env.level")
        return [self._run(plain, env) for env in envs]

    def _run(self, plain: dict[str, Any], env: AbstractEnv) -> Eval:
        seed = plain["seed"]
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
            way_out = "for instance seed=0, or seed=0,1,2 for a sweep"
            raise UserError(f"seed={check.shown(seed)}: must be an integer >= 0 and < 2**31; {way_out}")
        plain = plain | {"train": plain["train"] | {"seed": seed}}
        demos = self._demos(plain, env) if _checkpoint(plain) is None else None
        process = self._part(plain["schedule"], "schedule", AbstractProcess)
        policy = self._published(plain, env, process) if demos is None else self._train(plain, demos, process)
        decode, sampler = self._decode(plain["decode"], process)
        if reason := decode.misfit(process, simulated_delay=policy.given_prefixes):
            raise UserError(f"decode={_name(decode)} does not fit schedule={_name(process)}: {reason}")
        if sampler.early_stop and decode.reads_rest:
            why = "the rest of a chunk, which is then left undecided, matters to this method"
            raise UserError(f"decode.early_stop=true with decode={_name(decode)}: {why}; leave it out")
        numbers = _horizon(_epoch(plain["eval"], policy), policy.action_chunk_size)
        evaluated = policy.last_epoch if numbers["epoch"] is None else numbers["epoch"]
        for name, epoch in decode.checkpoints().items():
            _resolved(policy, f"decode.{name}", epoch)
            if isinstance(evaluated, int) and epoch >= evaluated:
                rule = f"must be before the evaluated one, {evaluated}"
                raise UserError(f"decode.{name}={epoch}: {rule}; name an earlier epoch of train.checkpoint_epochs")
        return self._object(Eval, numbers, "eval", policy=policy, decode=decode, sampler=sampler)

    def _demos(self, plain: dict[str, Any], env: AbstractEnv) -> AbstractDemos:
        """Demonstrations by experts, or those that `env.demos` names."""
        source = plain["env"].get("demos")
        if source is None:
            return self._object(Demos, plain["demos"], "demos", experts=self._experts(plain["expert"], env))
        file = recorded.find(source, env)
        recorded.check(file, env)
        # All are checked; those that say how to record have no effect.
        fitted = check.values(Demos, plain["demos"] | {"experts": ()}, "demos")
        kept = {name: fitted[name] for name in ("validation_fraction", "seed") if name in fitted}
        values = kept | {"source": source, "digest": level_file.digest(file)}
        return self._object(Recorded, values, "demos", env=env)

    def _published(self, plain: dict[str, Any], env: AbstractEnv, process: AbstractProcess) -> Published:
        """The policy that `policy.checkpoint` names; of the settings of training only `seed` has an effect."""
        source = _checkpoint(plain)
        if not isinstance(process, Flow):
            way_out = "choose schedule=flow"
            raise UserError(f"schedule={_name(process)} with {published.WHERE}: those are flow policies; {way_out}")
        if (delay := plain["train"].get("simulated_delay")) is not None:
            why = "those policies were trained without prefixes"
            raise UserError(
                f"train.simulated_delay={check.shown(delay)} with {published.WHERE}: {why}; leave one of the two out"
            )
        file = published.find(source, env)
        found = published.look(file, env)
        values = {"source": source, "digest": level_file.digest(file), "action_chunk_size": found.chunk}
        values["seed"] = plain["train"]["seed"]
        return self._object(Published, values, "policy", env=env, process=process, model=found.model)

    def _train(self, plain: dict[str, Any], demos: AbstractDemos, process: AbstractProcess) -> Train:
        """The training, and the one that it begins with."""
        values = dict(plain["train"])
        init = values.pop("init", None)
        before = {}
        if init is not None:
            before["init"], values["init_epoch"] = self._before(plain, init, demos, process)
        return self._object(
            Train,
            values,
            "train",
            demos=demos,
            process=process,
            model=self._part(plain["model"], "model", AbstractModel),
            optimizer=self._part(plain["optimizer"], "optimizer", AdamW),
            **before,
        )

    def _before(
        self, plain: dict[str, Any], init: Any, demos: AbstractDemos, process: AbstractProcess
    ) -> tuple[Train, Any]:
        """The training that another begins with, the same but for what `train.init` says, and its epoch.

        It gives no prefixes unless told to: fine-tuning with them is what `train.init` is asked for most.
        """
        if not isinstance(init, dict) or "epoch" not in init:
            rule = "must name an epoch, and what differs in the training before"
            raise UserError(
                f"train.init={check.shown(init)}: {rule}; for instance train.init='{{epoch: 24, epochs: 32}}'"
            )
        differs = {name: value for name, value in init.items() if name not in ("epoch", "optimizer")}
        epoch, epochs = init["epoch"], differs.get("epochs", plain["train"]["epochs"])
        kept = {} if epoch in ("best", -1, epochs) else {"checkpoint_epochs": [epoch]}
        values = plain["train"] | {"simulated_delay": None, "init": None, "checkpoint_epochs": []} | kept | differs
        changed = {"train": values, "optimizer": plain["optimizer"] | init.get("optimizer", {})}
        before = self._train(plain | changed, demos, process)
        return before, _resolved(before, "train.init.epoch", epoch)

    def _envs(self, plain: dict[str, Any]) -> list[AbstractEnv]:
        """The worlds a configuration asks for: one, or one for each level where a world has several."""
        node = {name: value for name, value in plain["env"].items() if name != "demos"}
        if "level" not in node:
            return [self._part(node, "env", AbstractEnv)]
        rest = {name: value for name, value in node.items() if name != "level"}
        envs = [self._part(rest | {"level": each}, "env", AbstractEnv) for each in _levels(node["level"], plain)]
        for env in envs:
            if id(env) not in self._read:
                env.spec()  # reads the level: one that is missing or damaged is refused before anything runs
                self._read.add(id(env))
        return envs

    def _experts(self, node: Mapping[str, Any], env: AbstractEnv) -> tuple[Expert, ...]:
        seeds = node.get("seeds")
        whole = isinstance(seeds, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            rule = "must be a list of different integers >= 0, one at least"
            raise UserError(f"expert.seeds={check.shown(seeds)}: {rule}; for instance expert.seeds=[0,1]")
        rest = {name: value for name, value in node.items() if name != "seeds"}
        return tuple(self._part(rest | {"seed": seed}, "expert", Expert, env=env) for seed in seeds)

    def _decode(self, node: Mapping[str, Any], process: Any) -> tuple[Any, Any]:
        """The decode method and the process's sampler: both are set under `decode`."""
        sampler = type(process).sampler
        method = _class(node, "decode", AbstractDecode)
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
        return self._part(decode, "decode", AbstractDecode), self._object(sampler, rest, "decode")

    def _part(self, node: Any, where: str, kind: type = object, **built: Any) -> Any:
        """The object that a `_target_` node describes."""
        values = {name: value for name, value in node.items() if name != "_target_"} if isinstance(node, dict) else {}
        return self._object(_class(node, where, kind), values, where, **built)

    def _object(self, cls: type, node: Mapping[str, Any], where: str, **built: Any) -> Any:
        parts = {name: _ids(value) for name, value in built.items()}
        identity = json.dumps([f"{cls.__module__}.{cls.__qualname__}", where, node, parts])
        if identity not in self._made:
            nested = {
                name: self._part(value, f"{where}.{name}") if isinstance(value, dict) and "_target_" in value else value
                for name, value in node.items()
            }
            fitted = check.values(cls, nested | built, where)
            try:
                self._made[identity] = cls(**fitted)
            except UserError as problem:  # of a rule between fields: it names the field, here is where that stands
                raise UserError(f"{where}.{problem}") from problem
        return self._made[identity]


def settings(plain: dict[str, Any]) -> Settings:
    """How and where to run, from a configuration as `read` gives it.

    Raises:
        UserError: one line with the value, the rule and the way out.
    """
    wandb = plain["wandb"]
    _choice("device", plain["device"], DEVICES)
    _choice("stale", plain["stale"], STALE)
    _choice("wandb.mode", wandb.get("mode"), MODES)
    for name in wandb:
        if name not in ("mode", "project"):
            raise UserError(f"wandb.{name}: no such key; {check.near(name, ('mode', 'project'), 'keys')}")
    store, layers = plain["store"], plain["store_layers"]
    if store is not None and (not isinstance(store, str) or not store):
        raise UserError(f"store={check.shown(store)}: must be a folder; leave it out for $DD_STORE or outputs/store")
    if not isinstance(layers, list) or not all(isinstance(each, str) for each in layers):
        rule = "must be a list of folders; for instance store_layers=[/lab/store]"
        raise UserError(f"store_layers={check.shown(layers)}: {rule}")
    for layer in layers:
        if not pathlib.Path(layer).is_dir():
            raise UserError(f"store_layers={check.shown(layers)}: {layer} is no folder; name stores that exist")
    return Settings(
        store=pathlib.Path(store) if store else None,
        store_layers=tuple(map(pathlib.Path, layers)),
        keep_stale=plain["stale"] == "keep",
        device=plain["device"],
        tracking=Tracking(mode=wandb["mode"], project=str(wandb.get("project"))),
    )


def use_device(device: str) -> str:
    """Make jax use the device asked for; its name for manifests.

    Raises:
        UserError: when there is no such device.
    """
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        first = jax.devices("gpu" if device == "gpu" else None)[0]
    except RuntimeError as problem:
        way_out = "use device=cpu, or install jax for NVIDIA GPUs with `uv run --extra cuda ...`"
        raise UserError(f"device={device}: jax finds none here; {way_out}") from problem
    if first.platform != "cpu":
        return first.device_kind
    count = jax.local_device_count()  # of simulated ones, which share the cores: their times are of no other machine
    return f"cpu, {os.cpu_count()} cores" + (f" as {count} devices" if count > 1 else "")


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}={check.shown(value)}: must be {' or '.join(allowed)}; {name}={allowed[0]} is usual")


def _levels(level: Any, plain: dict[str, Any]) -> list[str]:
    """Names or files of levels: those of a suite, those in a folder, or the one that `env.level` names."""
    suites = plain["suites"]
    if level is None:
        level = plain["suite"]
        if level not in suites:
            raise UserError(f"suite={check.shown(level)}: no such suite; {check.near(str(level), suites, 'suites')}")
    if not isinstance(level, str) or not level:
        rule = "must be a level, a level file, a folder of them or a suite"
        raise UserError(f"env.level={check.shown(level)}: {rule}; for instance env.level=l/h17_unicycle")
    if level in suites:
        named = suites[level]
        if not isinstance(named, list) or not named or not all(isinstance(each, str) for each in named):
            rule = "must be a list of levels, one at least; for instance [l/h17_unicycle]"
            raise UserError(f"suites.{level}={check.shown(named)}: {rule}")
        return named
    if pathlib.Path(level).is_dir():
        files = sorted(str(file) for file in pathlib.Path(level).rglob("*.json"))
        if not files:
            raise UserError(f"env.level={level}: the folder holds no level (*.json); name a level, a suite or a file")
        return files
    return [level]


def _class(node: Any, where: str, kind: type) -> type:
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str):
        way_out = f"choose an option, for instance {where}=<name>"
        raise UserError(f"{where}: needs a _target_, the dotted name of a class; {way_out}")
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as problem:  # whatever somebody's module raises
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        way_out = "give a class as package.module.Class"
        raise UserError(f"{where}._target_={target}: can't be imported ({reason}); {way_out}") from problem
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{where}._target_={target}: is no configuration; decorate it with dd.fields.configuration")
    if not issubclass(cls, kind):
        way_out = f"name a subclass of {kind.__module__}.{kind.__name__}"
        raise UserError(f"{where}._target_={target}: is no {kind.__name__.removeprefix('Abstract')}; {way_out}")
    return cls


def _checkpoint(plain: dict[str, Any]) -> Any:
    """`policy.checkpoint`, the one key of its group."""
    for name in plain["policy"]:
        if name != "checkpoint":
            raise UserError(f"policy.{name}: no such key; {check.near(name, ['checkpoint'], 'keys')}")
    return plain["policy"].get("checkpoint")


def _epoch(node: dict[str, Any], policy: AbstractTrained) -> dict[str, Any]:
    """The evaluation's numbers with `epoch` resolved: the last one is None, however it is said."""
    epoch = node.get("epoch")
    if isinstance(epoch, bool) or (epoch not in (None, "best") and not isinstance(epoch, int)):
        rule = "must be the number of an epoch, best, or -1 (the last)"
        raise UserError(f"eval.epoch={check.shown(epoch)}: {rule}; for instance eval.epoch=-1")
    return {**node, "epoch": _resolved(policy, "eval.epoch", epoch)}


def _resolved(policy: AbstractTrained, where: str, epoch: int | str | None) -> int | str | None:
    """An epoch that the policy's stage must keep, as stages hold it: the last one is None, however it is said."""
    try:
        return None if epoch == -1 or policy.checkpoint(epoch) == "last" else epoch
    except UserError as problem:
        raise UserError(f"{where}={problem}") from problem


def _horizon(node: dict[str, Any], chunk: int) -> dict[str, Any]:
    """The evaluation's numbers with `execute_horizon=auto` resolved and s in max(1, d)..H-d."""
    d, s = node.get("inference_delay"), node.get("execute_horizon")
    if not isinstance(d, int) or isinstance(d, bool) or d < 0:
        way_out = "for instance eval.inference_delay=1"
        raise UserError(f"eval.inference_delay={check.shown(d)}: must be an integer >= 0; {way_out}")
    least, most = max(1, d), chunk - d
    if least > most:
        raise ImpossiblePairError(
            f"inference_delay={d} with action_chunk_size={chunk}: a chunk must outlast the delay twice "
            f"(max(1, d) <= H - d); use inference_delay 0..{chunk // 2} or a longer train.action_chunk_size"
        )
    if s == "auto":
        return node | {"execute_horizon": least}
    if not isinstance(s, int) or isinstance(s, bool):
        raise UserError(f"eval.execute_horizon={check.shown(s)}: must be an integer {least}..{most} or auto ({least})")
    if not least <= s <= most:
        why = "a chunk must last at least as long as its successor takes to compute"
        if s > most:
            why = "a chunk that starts d steps late has H - d actions to give"
        raise ImpossiblePairError(
            f"inference_delay={d} with execute_horizon={s}: {why}. With action_chunk_size={chunk} use execute_horizon "
            f"{least}..{most}, or execute_horizon=auto ({least})."
        )
    return node


def _name(part: Any) -> str:
    return type(part).__module__.rpartition(".")[2]


def _ids(value: Any) -> Any:
    return [id(each) for each in value] if isinstance(value, tuple) else id(value)
