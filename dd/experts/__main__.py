"""Train the experts that are shipped with dd again, after code that they come from has changed: `python -m dd.experts`.

Half an hour on two cores. Interrupted, it goes on; an expert that is fresh is not trained again.
"""

import pathlib
import shutil

from dd import config, pipeline, progress
from dd.env.kinetix import Kinetix
from dd.stage.expert import Expert
from dd.store import Store
from dd.tracking import Tracking

LEVELS = ("l/h17_unicycle", "l/hard_lunar_lander", "m/h0_unicycle", "s/h6_unicycle_right")
_HERE = pathlib.Path(__file__).parent
_WORK = pathlib.Path("outputs/experts")


def main() -> None:
    """Train what is missing or stale in a store of its own, and bring it here."""
    experts = [Expert(env=Kinetix(level=name)) for name in LEVELS]  # the defaults are conf/expert/shipped.yaml
    plan = pipeline.Plan(experts, Store(_WORK))  # no shipped layer: that one would do
    device = config.use_device("cpu")
    progress.say(plan.first_line(device))
    done = pipeline.ensure(
        plan, device=device, tracking=Tracking(mode="disabled"), logs=_WORK / "failures", finished=lambda *_: None
    )
    for key, result in done.results.items():
        place = _HERE / "expert" / key
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(result.path, place)
        rates = result.manifest["summary"]["solve_rates"]
        progress.say(f"{result.manifest['label']}: solve rates {rates} after {result.manifest['seconds']:.0f} s")
    if done.failures:
        raise SystemExit(f"{len(done.failures)} failed: see {_WORK / 'failures'}")


if __name__ == "__main__":
    main()
