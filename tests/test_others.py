"""What others published, from the command line to a table: demonstrations are learnt from, policies evaluated."""

import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import dd
from dd import run
from dd.store import Store
from tests import others

ROOT = pathlib.Path(run.__file__).parent.parent
TINY = ("env=pointmass", "scale=smoke", "schedule=flow", "train.epochs=1", "wandb.mode=disabled", "store=store")
EASY = ("env.speed=0.4", "env.radius=0.5", "env.hold=2", "eval.num_evals=16")  # docked by chance now and then
SMOKE = {"layers": 1, "channels": 16, "channel_hidden": 32, "token_hidden": 8, "chunk": 8}  # to share its program
COMMANDS = {
    "recorded": ("env.demos=run",),
    "renamed": ("env.demos=mine.npz",),
    "published": ("policy.checkpoint=run", "seed=0,1", "eval.inference_delay=1"),
}
SEVERAL = """
import json, pathlib, sys
from dd import run
for name, arguments in json.loads(sys.argv[1]).items():
    if name == "renamed":
        pathlib.Path("run/data/worlds_l_pointmass.npz").rename("mine.npz")
    sys.argv[1:] = [*arguments, f"hydra.sweep.dir={name}"]
    print(f"{name} begins", flush=True)
    print(f"{name} ended with {run.main()}", flush=True)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which the commands ran, one after the other, on one store; and what each said."""
    folder = tmp_path_factory.mktemp("others")
    for place in ("run/data", "run/7/policies"):
        (folder / place).mkdir(parents=True)
    np.savez(folder / "run/data/worlds_l_pointmass.npz", **others.recording())
    (folder / "run/7/policies/pointmass.pkl").write_bytes(pickle.dumps(others.parameters(**SMOKE)))
    (folder / "several.py").write_text(SEVERAL)
    commands = {name: [*TINY, *EASY, *arguments] for name, arguments in COMMANDS.items()}
    done = subprocess.run(
        [sys.executable, "several.py", json.dumps(commands)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    assert [f"{name} ended with 0" in said for name in COMMANDS] == [True] * 3, said[-3000:]
    return folder, {name: said.partition(f"{name} begins")[2].partition(f"{name} ended")[0] for name in COMMANDS}


def test_a_policy_is_trained_on_recorded_demonstrations_without_an_expert(ran):
    folder, said = ran
    assert "1 demos, 1 train, 1 eval" in said["recorded"]
    results = [each for each in Store.open(folder / "store").entries() if not each.layer]
    (recorded,) = (each for each in results if each.kind == "demos")
    assert recorded.manifest["summary"]["transitions"] == 960
    assert len(pd.read_csv(folder / "recorded" / "results.csv")) == 1


def test_a_recording_that_is_moved_is_the_same(ran):
    assert "1 runs: 1 done, 0 stale, 0 to run" in ran[1]["renamed"]


def test_a_published_policy_is_evaluated_untrained(ran):
    folder, said = ran
    assert "2 policy, 2 eval; 2 programs to compile" in said["published"]
    rows = pd.read_csv(folder / "published" / "results.csv")
    assert (list(rows.seed), list(rows.method)) == ([0, 1], ["naive", "naive"])
    # The seed is that of the sampling: the same parameters and episodes, other actions.
    assert rows.returned_episode_lengths.nunique() == 2
    assert dd.load(rows.key[0], store=str(folder / "store")).policy.chunk == 8
