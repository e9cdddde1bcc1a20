"""The one entry point: `python -m dd.run +experiment=rtc -m seed=0,1,2`."""

import os
import pathlib
import re
import sys

# Before any import that opens a device: kinetix-env brings pygame and moviepy.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# Reading its compile cache on a CPU, XLA reports each of its own tuning flags as a missing machine feature.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Hydra would print a traceback's remains and end with 1; errors come through to `main` instead.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dd import check
from dd.errors import UserError
from launch import packed, sweep

_CONF = pathlib.Path(__file__).parent.parent / "conf"
_FLAGS = ("-m", "--multirun", "--run", "-r")


@hydra.main(version_base="1.3", config_path=str(_CONF), config_name="config")
def _job(config: DictConfig) -> None:
    """One job alone, as Hydra's own launchers run it; the packed launcher takes all jobs at once instead."""
    sweep.execute([config], pathlib.Path(HydraConfig.get().runtime.output_dir))


def _ordered(arguments: list[str]) -> list[str]:
    """The flags first: stock Hydra takes overrides only in one piece."""
    flags = [each for each in arguments if each in _FLAGS]
    return list(dict.fromkeys(flags)) + [each for each in arguments if each not in _FLAGS]


def _explained(problem: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in one line with a way out."""
    text = " ".join(str(problem).split())
    if found := re.search(r"Could not override '([^']+)'", text):
        name = found[1]
        return f"{name}: no such key; {check.near(name, _keys(), 'keys')}"
    if found := re.search(r"(?:Could not find|In '[^']+': Could not find) '([^']+)'.*?Available options in '([^']+)': (.*)", text):
        group, _, option = found[1].rpartition("/")
        options = re.findall(r"[\w./-]+", found[3].split(" Config search path")[0])
        return f"{group or found[2]}={option}: no such option; {check.near(option, options, 'options')}"
    return text


def _keys() -> list[str]:
    """All keys of the default configuration, and of the decodes' own fields."""
    with hydra.initialize_config_dir(str(_CONF), version_base="1.3"):
        composed = [hydra.compose("config", [f"decode={path.stem}"]) for path in (_CONF / "decode").glob("*.yaml")]

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return [prefix]
        return [key for name, each in node.items() for key in walk(each, f"{prefix}.{name}" if prefix else name)]

    return sorted({key for each in composed for key in walk(OmegaConf.to_container(each), "")})


def main() -> int:
    """Run the command line; the exit code is 0, 1 when rows failed, 2 for what the user can put right."""
    packed.register()
    sys.argv[1:] = _ordered(sys.argv[1:])
    try:
        _job()
    except sweep.SweepFailedError:
        return 1
    except UserError as problem:
        message = str(problem)
    except (HydraException, OmegaConfBaseException) as problem:
        message = _explained(problem)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
