"""Killed in every stage and inside commits, the main command goes on and ends with the same results."""

import pathlib
import signal

from tests.faults import kill
from tests.faults.kill import Moment

COMMAND = (*kill.COMMAND, "decode=naive", "eval.inference_delay=0,2", "train.epochs=3")
MOMENTS = (
    Moment("expert", event=7),
    Moment("expert", commit=True, event=3),
    Moment("demos", event=3),
    Moment("train", event=12),
    Moment("train", commit=True, event=9),
    Moment("eval", event=8),
)


def test_six_kills_one_after_the_other_change_no_result(tmp_path):
    """Each run takes up what the one before it left, and is killed further on."""
    reference, folder = tmp_path / "reference", tmp_path / "killed"
    seen = kill.undisturbed(reference, COMMAND, warm=False)
    names = {(kind, committing): names for kind, committing, names in seen["events"]}
    assert {kind for kind, _ in names} == set(kill.KINDS)
    kill.fresh(folder, reference)
    for moment in MOMENTS:
        assert kill.start(folder, COMMAND, moment) == -signal.SIGKILL, moment
    assert kill.start(folder, COMMAND) == 0
    expected = kill.results(reference)
    assert sum(pathlib.Path(name).name == "manifest.json" for name in expected) == 1 + 1 + 1 + 2
    assert kill.differences(kill.results(folder), expected) == []
