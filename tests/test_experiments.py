"""Every experiment runs, at its smallest, through the real pipeline."""

import json
import os
import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from dd import config

ROOT = pathlib.Path(config.__file__).parent.parent
EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
TINY = ("env=pointmass", "expert=laptop", "scale=smoke", "wandb.mode=disabled", "device=cpu")
SHORT = ("expert.total_steps=16384", "expert.checkpoint_steps=16384", "expert.num_evals=8", "demos.min_solve_rate=0")
SMALL = ("expert.ppo.num_steps=16", "expert.ppo.num_envs=64", "expert.ppo.hidden_dim=16")
THIN = {  # axes cut down so that experiments share trainings and programs; the others run as they are
    "bid": ["decode.n_samples=4"],
    "corruption": ["decode=naive", "eval.inference_delay=0,3"],
    "bid_contrast": ["train.epochs=8", "decode.n_samples=4"],
    "epochs": ["train.epochs=8"],
    "num_bins": ["schedule.num_bins=8"],
    "remask": ["remask@decode.remask=confidence"],
    "rtc_full": ["decode=naive,hard_masking"],
    "scale_model": ["model.num_layers=1", "model.channel_dim=16"],
    "training_time_rtc": ["decode=realtime,prefix", "train.simulated_delay=null,5", "eval.inference_delay=0,3"],
    "train_mask_schedule": ["ratio@schedule.train_mask_schedule=cosine,one_minus_cosine"],
}
SEVERAL = """
import json, sys
from dd import run
commands = json.loads(sys.argv[1])
for name, arguments in commands.items():
    sys.argv[1:] = arguments
    code = run.main()
    print(f"{name} ended with {code}", flush=True)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The folder in which all of them ran, one after the other, on one store; and what they said."""
    folder = tmp_path_factory.mktemp("experiments")
    script = folder / "several.py"
    script.write_text(SEVERAL)
    given = [*TINY, *SHORT, *SMALL]
    commands = {name: [f"+experiment={name}", *given, *THIN.get(name, [])] for name in EXPERIMENTS}
    done = subprocess.run(
        [sys.executable, script, json.dumps(commands)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    return folder / "outputs", done.stdout + done.stderr


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_ends_in_a_table_whose_arms_have_names_of_their_own(outputs, name):
    folder, said = outputs
    assert f"{name} ended with 0" in said, said[-3000:]
    rows = pd.read_csv(folder / name / "latest" / "results.csv")
    assert rows.key.is_unique
    cells = ["method", "level", "delay", "execute_horizon", "seed", "num_flow_steps", "epoch"]
    assert not rows.duplicated(cells).any()
    assert rows.returned_episode_solved.between(0, 1).all()
    timings = pd.read_csv(folder / name / "latest" / "timings.csv")
    assert set(timings.key) == set(rows.key)
    assert (timings.latency_ms > 0).all()
    assert (folder / name / "latest" / "table.md").read_text().count("|") >= 9
    assert (folder / name / "latest" / "delay_curve.png").stat().st_size > 1000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_header_says_question_command_feed_and_time(name):
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()[1:5]
    assert [line.split()[1] for line in head] == ["Question:", "Run:", "Feeds:", "Time:"]
    assert f"+experiment={name} -m seed=" in head[1]


def test_impossible_pairs_of_a_grid_are_left_out_and_counted(outputs):
    """24 of the 40 pairs of rtc_full are possible, for each of two decodes."""
    folder, said = outputs
    rows = pd.read_csv(folder / "rtc_full" / "latest" / "results.csv")
    assert len(rows) == 2 * 24
    assert f"{2 * 16} rows are left out" in said
