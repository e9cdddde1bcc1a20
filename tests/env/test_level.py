"""Level files: found by name without kinetix, keyed by content, cut to what is active."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dd import fields
from dd.env import level as levels
from dd.env.kinetix import Kinetix
from dd.errors import UserError


def _key(env: Kinetix) -> str:
    return fields.digest(fields.content(env))


def _edited(tmp_path: pathlib.Path, name: str, change) -> pathlib.Path:
    described = json.loads(levels.find(name).read_text())
    change(described)
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(described))
    return file


def test_finding_and_reading_a_level_imports_neither_kinetix_nor_jax():
    code = (
        "import sys; from dd.env import level; level.read(level.find('h17_unicycle'));"
        "assert not {'kinetix', 'jax', 'jax2d'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_renamed_or_moved_level_keeps_its_key(tmp_path):
    copy = tmp_path / "other_name.json"
    shutil.copy(levels.find("l/h17_unicycle"), copy)
    named = [
        Kinetix(level="l/h17_unicycle"),
        Kinetix(level="h17_unicycle"),
        Kinetix(level=str(copy)),
        Kinetix(level="other_name", worlds=str(tmp_path)),
    ]
    assert len({_key(env) for env in named}) == 1
    assert len({env.level_id() for env in named}) == 1


def test_a_changed_level_another_noise_or_uncut_physics_is_another_key(tmp_path):
    def heavier(described):
        described["env_state"]["polygon"][4]["inverse_mass"] *= 1.001

    file = _edited(tmp_path, "l/h17_unicycle", heavier)
    base = Kinetix(level="l/h17_unicycle")
    others = [
        Kinetix(level=str(file)),
        Kinetix(level="l/h17_unicycle", action_noise=0.2),
        Kinetix(level="l/h17_unicycle", cut=False),
    ]
    assert len({_key(env) for env in [base, *others]}) == 4
    assert base.level_id() != others[0].level_id()
    before = _key(others[0])
    file.write_text(file.read_text().replace("true", "false", 1))
    assert _key(others[0]) != before


def test_worlds_go_before_kinetix_own_levels_and_are_named_apart(tmp_path):
    folder = tmp_path / "mine" / "l"
    folder.mkdir(parents=True)
    shutil.copy(levels.find("l/h16_thruster_goal"), folder / "h17_unicycle.json")
    found = levels.find("h17_unicycle", str(tmp_path / "mine"))
    assert found == folder / "h17_unicycle.json"
    assert levels.title(found) == "mine/l/h17_unicycle"
    assert levels.title(levels.find("h17_unicycle")) == "l/h17_unicycle"
    assert levels.find("h16_thruster_goal", str(tmp_path / "mine")) == levels.find("h16_thruster_goal")


@pytest.mark.parametrize(
    ("level", "worlds", "way_out"),
    [
        ("h17_unicycl", None, "did you mean l/h17_unicycle"),
        ("l/grasp_eazy", None, "did you mean l/grasp_easy"),
        ("h1_car_left", None, "l/h1_car_left or m/h1_car_left"),
        ("nowhere.json", None, "no such file"),
        ("qqqq", None, "give a name such as"),
        ("h17_unicycle", "no/such/folder", "no such folder"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line_with_a_way_out(level, worlds, way_out):
    with pytest.raises(UserError, match=way_out) as caught:
        Kinetix(level=level, worlds=worlds).spec()
    assert level in str(caught.value) or worlds in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"inverse_mass"', '"mass"'),
        lambda text: text.replace('"b_index": 12', '"b_index": 99'),
        lambda text: text.replace('"num_circles": 4', '"num_circles": 5'),
        lambda text: text.replace('"position": {"0": 2.5, "1"', '"position": {"0": "far", "1"'),
    ],
)
def test_a_damaged_level_is_refused_in_one_line(tmp_path, damage):
    text = levels.find("l/h17_unicycle").read_text()
    file = tmp_path / "damaged.json"
    file.write_text(damage(text))
    assert file.read_text() != text
    with pytest.raises(UserError, match=r"damaged\.json: not a readable Kinetix level") as caught:
        Kinetix(level=str(file)).spec()
    assert "\n" not in str(caught.value)


def test_a_cut_keeps_what_is_active_and_joins_the_same_shapes():
    full = levels.read(levels.find("l/hard_lunar_lander"))  # its active polygons are no prefix: 111111101000
    kept = levels.active(full)
    part = levels.cut(full, kept)
    assert part.sizes == levels.Sizes(polygon=8, circle=2, joint=2, thruster=2)
    assert part.polygon["active"].all()
    place = np.concatenate([full.polygon["position"], full.circle["position"]])
    moved = np.concatenate([part.polygon["position"], part.circle["position"]])
    for kind, name in (("joint", "a_index"), ("joint", "b_index"), ("thruster", "object_index")):
        before, after = getattr(full, kind), getattr(part, kind)
        expected = place[before[name][before["active"]]]
        np.testing.assert_array_equal(moved[after[name][after["active"]]], expected)


def test_every_packaged_level_is_read_and_keeps_its_active_entities():
    files = sorted(levels.packaged().glob("[lms]/*.json"))
    assert len(files) == 74
    for file in files:
        full = levels.read(file)
        part = levels.cut(full, levels.active(full))
        for kind in ("polygon", "circle", "joint", "thruster"):
            assert getattr(part, kind)["active"].sum() == getattr(full, kind)["active"].sum()
        assert part.sizes.polygon >= levels.WALLS + 1
        assert part.sizes.circle >= 2
