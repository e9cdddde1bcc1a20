"""Jobs are composed as Hydra composes them, in a fraction of the time."""

import pathlib
import random

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import open_dict

from dd import config
from launch import packed
from launch.compose import Composer

CONF = pathlib.Path(config.__file__).parent.parent / "conf"


@pytest.fixture(scope="module")
def loader():
    packed.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def master(loader):
    return loader.load_configuration("config", ["+experiment=rtc", "env=pointmass"], run_mode=RunMode.MULTIRUN)


class Counting:
    """A loader that counts its compositions."""

    def __init__(self, loader):
        self.loader, self.composed = loader, 0

    def load_sweep_config(self, *arguments):
        self.composed += 1
        return self.loader.load_sweep_config(*arguments)

    def __getattr__(self, name):
        return getattr(self.loader, name)


JOBS = [
    ["+experiment=rtc", "env=pointmass", f"decode={decode}", f"eval.inference_delay={d}", "seed=1", *more]
    for decode in ("naive", "realtime")
    for d, more in enumerate(
        (
            [],
            ["train.checkpoint_epochs=[1,2]", "expert.stop_rate=null", "store='a, b'"],
            ["+suites.mine=[here]", "~expert.seeds", "++demos.num_envs=3"],
            ["eval.slots=5", "eval={num_evals:3, slots: 7}"],
            ["ratio@schedule.train_mask_schedule=linear", "scale=smoke", "model.num_layers=5"],
            ["num_bins=17", "seed=${eval.seed}", "eval.seed=3"],
            ["schedule.num_bins=17", "wandb.project='${store}'", "store='${oc.env:HOME}'"],
        )
    )
]


AXES = {
    "decode": ["naive", "realtime", "bid", "hard_masking"],
    "schedule": ["masked", "uniform", "flow"],
    "seed": ["0", "1", "4294967296", "abc", "null"],
    "eval.inference_delay": ["0", "3"],
    "eval.execute_horizon": ["auto", "4", "[4]", "'4'"],
    "num_bins": ["8", "16"],
    "train.epochs": ["1", "1.5", "1e3", "inf"],
    "train.checkpoint_epochs": ["[]", "[1,2]", "[[a,b],{c:3}]"],
    "suite": ["laptop", "rtc12"],
    "optimizer.lr_schedule": ["null", "3"],
    "store": ["null", "'a, b'", "here"],
}


def composed_by_hydra(loader, master, job):
    found = loader.load_sweep_config(master, job)
    with open_dict(found):
        del found["hydra"]
    return config.read(found)


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_a_job_is_what_hydra_composes(loader, master, job):
    expected = composed_by_hydra(loader, master, job)
    composer = Composer(loader, master)
    assert [composer.job(job) for _ in range(2)] == [expected] * 2  # the second time from what the first left


def test_two_hundred_jobs_of_a_grid_are_what_hydra_composes(loader, master):
    """Types included: 1 is not 1.0 where a message shows it."""
    rng, counting = random.Random(0), Counting(loader)
    composer = Composer(counting, master)
    for _ in range(200):
        axes = rng.sample(list(AXES), rng.randint(1, 6))
        job = [f"{name}={rng.choice(AXES[name])}" for name in axes]
        assert repr(composer.job(job)) == repr(composed_by_hydra(loader, master, job)), job
    orders = 1 + 4 + 3 + 2 * 4 * 3  # of a decode and a schedule, one of them or none
    assert counting.composed <= orders


def test_a_grid_is_composed_once_for_each_choice_of_options(loader, master):
    counting = Counting(loader)
    composer = Composer(counting, master)
    jobs = [[f"decode={decode}", f"seed={s}", f"eval.inference_delay={d}"] for decode in ("naive", "realtime")
            for s in range(3) for d in range(5)]  # fmt: skip
    seen = {
        (each["decode"]["_target_"], each["seed"], each["eval"]["inference_delay"]) for each in map(composer.job, jobs)
    }
    assert (counting.composed, len(seen)) == (2, 30)


@pytest.mark.parametrize("wrong", ["decode.strength=1", "nothing=1", "seed.x=1", "decode=realtme"])
def test_what_hydra_refuses_is_refused_in_its_words(loader, master, wrong):
    with pytest.raises(HydraException) as expected:
        loader.load_sweep_config(master, [wrong])
    with pytest.raises(HydraException) as found:
        Composer(loader, master).job([wrong])
    assert str(found.value) == str(expected.value)
