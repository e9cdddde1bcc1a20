"""Weights & Biases' files, written offline: one run for each training, several open at once."""

import json
import os
import pathlib
import struct
import subprocess
import sys

from dd import tracking

ROOT = pathlib.Path(tracking.__file__).parent.parent
TRAIN = """
import pathlib, sys, threading
from dd.tracking import Tracking

in_turn, together = threading.Lock(), threading.Barrier(3, timeout=60)

def train(number):
    with in_turn:
        tracking = Tracking("offline", "dd", pathlib.Path(sys.argv[1]))
        run = tracking.start(f"key{number}", f"row {number}", {"seed": number})
    for step in (1, 2, 3):
        together.wait()
        run.log({"loss": number + step / 10}, step)
    run.finish()

threads = [threading.Thread(target=train, args=(number,)) for number in range(3)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


def history(file):
    """Step and loss of every row of metrics: a log of records of at most 32 KiB, after a head of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    left, rows = file.read_bytes()[7:], []
    assert len(left) < 2**15
    while left:
        _, size, kind = struct.unpack("<IHB", left[:7])
        assert kind == 1  # whole
        record = Record.FromString(left[7 : 7 + size])
        items = {"/".join(each.nested_key) or each.key: json.loads(each.value_json) for each in record.history.item}
        rows += [(items["_step"], items["loss"])] if items else []
        left = left[7 + size :]
    return rows


def test_runs_open_at_once_keep_their_own_metrics(tmp_path):
    """Three threads in step; with wandb's defaults all of them would have the first one's run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    subprocess.run([sys.executable, "-c", TRAIN, tmp_path], cwd=ROOT, env=environment, check=True, timeout=120)
    found = {file.stem: history(file) for file in tmp_path.glob("wandb/offline-run-*/*.wandb")}
    assert found == {f"run-key{number}": [(step, number + step / 10) for step in (1, 2, 3)] for number in range(3)}
