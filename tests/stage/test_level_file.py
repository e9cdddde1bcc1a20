"""A level's published file is found by its name, where the benchmark's code leaves it; its digest is its bytes'."""

import os
import pathlib

import pytest

from dd import fields
from dd.errors import UserError
from dd.stage import level_file


@pytest.fixture
def put(tmp_path):
    """Write files, each holding its own name."""

    def call(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return str(tmp_path)

    return call


def find(source, level="l/h17_unicycle"):
    return level_file.find(source, level, ending=".pkl", inside="policies", where="policy.checkpoint")


@pytest.mark.parametrize(
    ("level", "file"),
    [
        ("l/h17_unicycle", "worlds_l_h17_unicycle.pkl"),
        ("l/h17_unicycle", "l_h17_unicycle.pkl"),
        ("l/h17_unicycle", "h17_unicycle.pkl"),
        ("l/h17_unicycle", "policies/worlds_l_h17_unicycle.pkl"),
        ("worlds/l/h17_unicycle", "worlds_l_h17_unicycle.pkl"),
        ("my/levels/h17_unicycle", "worlds_l_h17_unicycle.pkl"),
        ("my/levels/h17_unicycle", "my_levels_h17_unicycle.pkl"),
        ("pointmass", "pointmass.pkl"),
    ],
)
def test_a_level_s_file_is_found_in_a_folder(put, level, file):
    others = ("worlds_l_h17_unicycle_left.pkl", "worlds_l_unicycle.pkl", "h17_unicycle.npz", "worlds_m_pointmass_2.pkl")
    assert find(put(file, *others), level).read_text() == file


def test_of_a_run_s_epochs_the_last_is_taken(put):
    folder = put(*(f"{epoch}/policies/worlds_l_h17_unicycle.pkl" for epoch in (0, 9, 10)), "notes/x.pkl")
    assert find(folder).read_text() == "10/policies/worlds_l_h17_unicycle.pkl"


def test_a_file_is_taken_as_it_is(put):
    assert find(str(pathlib.Path(put("any.thing")) / "any.thing")).read_text() == "any.thing"


@pytest.mark.parametrize(
    ("files", "level", "message"),
    [
        (["worlds_l_h17_unicycle.pkl", "h17_unicycle.pkl"], "l/h17_unicycle", "may both be meant for l/h17_unicycle"),
        (["worlds_l_mine.pkl", "worlds_m_mine.pkl"], "a/b/mine", "worlds_l_mine.pkl and worlds_m_mine.pkl may both"),
        (["worlds_m_h17_unicycle.pkl"], "l/h17_unicycle", "nothing for l/h17_unicycle; name its file worlds_l_h17"),
        ([], "l/h17_unicycle", r"policy\.checkpoint=.*nothing for"),
    ],
)
def test_none_and_several_are_refused(put, files, level, message):
    with pytest.raises(UserError, match=message):
        find(put(*files), level)


@pytest.mark.parametrize("source", [3, "", True, ["a"]])
def test_what_is_no_path_is_refused(source):
    with pytest.raises(UserError, match=r"must be a file or a folder of files; for instance policy.checkpoint="):
        find(source)


def test_a_digest_is_that_of_the_bytes_and_follows_them(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = level_file.digest(file)
    assert first == fields.file_digest(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert level_file.digest(file) == fields.file_digest(file) != first
