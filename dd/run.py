"""The one entry point: `python -m dd.run +experiment=rtc -m seed=0,1,2`."""

# ruff: noqa: E402 -- what is set here has to be set before the imports below it

import os
import pathlib
import re
import signal
import sys
import traceback
from typing import Any, NoReturn

STOPPED = "stopped; what is finished is kept, the same command goes on from there"


def _stop(*_: Any) -> None:
    print(f"\n{STOPPED}", file=sys.stderr, flush=True)
    os._exit(130)


# Importing takes seconds, in which Ctrl-C would print where in jax it struck. Where it is ignored, it stays ignored.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)

# Before any import that opens a device: kinetix-env brings pygame and moviepy.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# Reading its compile cache on a CPU, XLA reports each of its own tuning flags as a missing machine feature.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Hydra would print a traceback's remains and end with 1; errors come through to `main` instead.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dd import check, config, manual
from dd.errors import UserError
from launch import packed, sweep

_CONF = pathlib.Path(__file__).parent.parent / "conf"
_HELP = "`python -m dd.run --help` shows what there is"


class _RefusedError(BaseException):
    """A `UserError` on its way out of Hydra, which would write a line of its own about an Exception."""


@hydra.main(version_base="1.3", config_path=str(_CONF), config_name="config")
def _job(composed: DictConfig) -> None:
    """One job alone, as Hydra's own launchers run it; the packed launcher takes all jobs at once instead."""
    try:
        sweep.execute([config.read(composed)], pathlib.Path(HydraConfig.get().runtime.output_dir))
    except UserError as problem:
        raise _RefusedError(problem) from problem


def _ordered(arguments: list[str]) -> list[str]:
    """The flags first: stock Hydra takes overrides only in one piece.

    Raises:
        UserError: for a flag that there is not.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; {_HELP}")

    parser = get_args_parser()
    parser.error = refuse
    given = parser.parse_intermixed_args(arguments)
    overrides, flags = list(given.overrides), []
    for each in arguments:
        if each in overrides:
            overrides.remove(each)
        elif each not in ("-m", "--multirun"):  # of no effect: conf/config.yaml makes every command a sweep
            flags.append(each)
    if sum(bool(each) for each in (given.cfg, given.info, given.run, given.shell_completion)) > 1:
        refuse(f"{' '.join(flags)}: only one of these flags can be given")
    if given.resolve and not given.cfg:
        refuse("--resolve: goes with --cfg job only")
    return ["--help"] if given.help else flags + list(given.overrides)


def _explained(problem: Exception) -> str:
    """What Hydra, OmegaConf or yaml found wrong, in one line with a way out."""
    text = " ".join(str(problem).split()) or f"{type(problem).__name__} in Hydra"
    if isinstance(problem, OverrideParseException):
        rule = "is no key=value; a list is [a,b], a sweep is a,b, and text with commas or brackets is quoted"
        return f"{problem.override}: {rule}: 'key=\"a,b\"'"
    if found := re.search(r"Could not override '([^']+)'", text):
        return _no_such_key(found[1])
    if found := re.search(r"Could not find '([^']+)'.*?Available options in '([^']+)': (.*)", text):
        group, _, option = found[1].rpartition("/")
        options = re.findall(r"[\w./-]+", found[3].split(" Config search path")[0])
        return f"{group or found[2]}={option}: no such option; {check.near(option, options, 'options')}"
    if "Config group override must be" in text:
        chosen = [each for each in sys.argv[1:] if (_CONF / each.partition("=")[0]).is_dir()]
        text = f"{' '.join(chosen)}: an option is a name"
    return f"{text}; {_HELP}"


def _no_such_key(name: str) -> str:
    if (_CONF / name).is_dir():
        return f"{name}: there is none yet to be replaced; add one with +{name}=<option>"
    keys = _keys()
    if owners := keys.get(name):
        return f"{name}: the options chosen have no such key; {' and '.join(owners)} would bring it along"
    return f"{name}: no such key; {check.near(name, keys, 'keys')}"


def _keys() -> dict[str, list[str]]:
    """All keys (groups, those of the default configuration, those of each option) with the options that have them."""

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict) or not node:
            return [prefix]
        parts = [walk(each, f"{prefix}.{name}" if prefix else name) for name, each in node.items()]
        return [prefix] * bool(prefix) + [key for part in parts for key in part]

    with hydra.initialize_config_dir(str(_CONF), version_base="1.3"):
        known: dict[str, list[str]] = {key: [] for key in walk(OmegaConf.to_container(hydra.compose("config")), "")}
    for file in sorted(_CONF.glob("*/*.yaml")):
        text, group = file.read_text(), file.parent.name
        described = {name: each for name, each in yaml.safe_load(text).items() if name not in ("defaults", "hydra")}
        for key in walk(described, "" if "@package _global_" in text else group):
            known.setdefault(key, []).append(f"{group}={file.stem}")
        known.setdefault(group, [])
    return {key: owners for key, owners in known.items() if not key.endswith("_target_")}


def _is_hydras(problem: Exception) -> bool:
    """Whether Hydra or what it builds on raised it: the command, not this program, is at fault."""
    if isinstance(problem, HydraException | OmegaConfBaseException | yaml.YAMLError):
        return True
    last = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)][-1]
    return last.f_globals["__name__"].partition(".")[0] in ("hydra", "omegaconf")


def main() -> int:
    """Run the command line; the exit code is 0, 1 when rows failed, 2 for what the user can put right."""
    try:
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        packed.register()
        sys.argv[1:] = _ordered(sys.argv[1:])
        if sys.argv[1:] == ["--help"]:
            print(manual.text(_CONF))
        else:
            _job()
    except sweep.SweepFailedError:
        return 1
    except KeyboardInterrupt:
        print(f"\n{STOPPED}", file=sys.stderr)
        return 130
    except (UserError, _RefusedError) as problem:
        message = str(problem)
    except Exception as problem:
        if not _is_hydras(problem):
            raise
        message = _explained(problem)
    else:
        return 0
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
