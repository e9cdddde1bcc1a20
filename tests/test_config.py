"""From overrides to stages: what is in which key, what is shared, what runs which code."""

import itertools
import json
import pathlib
import re
import shutil

import hydra
import pytest
from omegaconf import OmegaConf

from dd import config, pipeline, source
from dd.env import level
from dd.errors import UserError

CONF = pathlib.Path(config.__file__).parent.parent / "conf"
DECODES = sorted(file.stem for file in (CONF / "decode").glob("*.yaml"))
TINY = ("env=pointmass", "expert=laptop", "scale=smoke")


@pytest.fixture(scope="module")
def compose():
    """A composed configuration from overrides."""
    from launch import packed

    packed.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: hydra.compose("config", [*TINY, *overrides])


def rows(composed):
    return config.Builder().build(composed)


def row(composed):
    (only,) = rows(composed)
    return only


def other(value):
    """A value of the same sort that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value if value else 1
    if isinstance(value, float):
        return value / 2 if value else 0.5
    if isinstance(value, list):
        return [*value, 1]
    return {"auto": 2, None: 0.5}[value]


def numbers(composed, section):
    """(key, another value) for everything that a section of the configuration sets."""

    def walk(node, path):
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}.{name}")
            elif name != "_target_":
                yield f"{path}.{name}", other(value)

    return list(walk(OmegaConf.to_container(composed[section]), section))


def changed(composed, key, value):
    """The row with one value changed."""
    copied = composed.copy()
    OmegaConf.update(copied, key, value)
    return row(copied)


@pytest.mark.parametrize("decode", DECODES)
def test_no_value_of_decode_or_eval_is_in_the_key_of_a_training(compose, decode):
    base = compose(f"decode={decode}")
    before = row(base)
    assert len(numbers(base, "decode")) >= 3
    for key, value in [*numbers(base, "decode"), *numbers(base, "eval")]:
        after = changed(base, key, value)
        assert after.policy.key() == before.policy.key(), key
        assert (after.key() == before.key()) == (key == "eval.slots"), key


@pytest.mark.parametrize("section", ["env", "expert", "demos", "train", "model", "optimizer", "schedule"])
def test_every_value_that_training_sees_is_in_its_key_and_in_the_rows(compose, section):
    base = compose()
    before = row(base)
    for key, value in numbers(base, section):
        after = changed(base, key, value)
        assert after.policy.key() != before.policy.key(), key
        assert after.key() != before.key(), key


def test_choosing_another_ratio_for_the_sampler_leaves_the_training(compose):
    before, after = row(compose()), row(compose("ratio@decode.decode_schedule=linear"))
    assert (after.policy.key(), after.key() == before.key()) == (before.policy.key(), False)
    trained = row(compose("ratio@schedule.train_mask_schedule=linear"))
    assert trained.policy.key() != before.policy.key()


def test_keys_know_nothing_of_how_and_where(compose):
    assert (
        row(compose()).key()
        == row(compose("store=elsewhere", "stale=keep", "device=cpu", "wandb.mode=online", "eval.slots=3")).key()
    )


def test_a_number_is_the_same_however_it_is_written(compose):
    assert row(compose("env.speed=1")).key() == row(compose("env.speed=1.0")).key()


def test_equal_parts_are_one_object(compose):
    builder = config.Builder()
    grid = itertools.product(DECODES, (0, 1), (0, 1))
    built = [builder.build(compose(f"decode={a}", f"eval.inference_delay={d}", f"seed={s}"))[0] for a, d, s in grid]
    assert len({id(each.policy) for each in built}) == 2
    assert len({id(each.policy.demos) for each in built}) == 1
    assert len({each.key() for each in built}) == len(built) == 4 * len(DECODES)


def test_auto_is_the_shortest_horizon(compose):
    assert [row(compose(f"eval.inference_delay={d}")).execute_horizon for d in range(5)] == [1, 1, 2, 3, 4]
    assert row(compose("eval.inference_delay=2", "eval.execute_horizon=6")).execute_horizon == 6


@pytest.mark.parametrize("decode", DECODES)
def test_a_decode_s_code_belongs_to_its_own_rows_alone(compose, decode):
    """So an edit of its file reruns its evaluations, and nothing upstream or beside them."""
    ran = row(compose(f"decode={decode}"))
    own = set(source.modules(pipeline._modules(ran)))
    assert {f"dd.decode.{decode}", "dd.rollout", "dd.policy"} <= own
    for stage in (ran.policy, ran.policy.demos, *ran.policy.demos.experts):
        code = set(source.modules(pipeline._modules(stage)))
        assert not any(name.startswith("dd.decode") for name in code), stage.kind
        assert code.isdisjoint({"dd.rollout", "dd.stage.eval", "dd.config", "dd.pipeline", "dd.store.store"})
    if decode == "naive":
        assert own.isdisjoint({"dd.decode.realtime", "dd.decode.hard_masking"})


def test_a_world_s_code_belongs_to_every_stage(compose):
    """To each for itself: with an expert of a read-only layer, which is kept, the world's code still counts."""
    ran = row(compose())
    for stage in (ran, ran.policy, ran.policy.demos, *ran.policy.demos.experts):
        code = set(source.modules(pipeline._modules(stage)))
        assert "dd.env.pointmass" in code, stage.kind
        assert "dd.env.kinetix" not in code, stage.kind


OPTIONS = [
    f"{file.parent.name}={file.stem}"
    for group in ("decode", "env", "expert", "model", "optimizer", "scale", "schedule")
    for file in sorted((CONF / group).glob("*.yaml"))
]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_builds(compose, option):
    assert row(compose(option, "env.worlds=null" if option == "env=kinetix" else "seed=0", "suite=laptop")).key()


@pytest.mark.parametrize("file", [*sorted(CONF.glob("*/*.yaml")), CONF / "config.yaml"], ids=lambda each: each.stem)
def test_every_value_has_a_comment(file):
    if file.parent.name in ("scale", "experiment"):
        assert file.read_text().count("#") >= 2  # what it is for; its values are explained where they belong
        return
    text = file.read_text().partition("\nhydra:")[0].partition("defaults:\n")[2] or file.read_text()
    values = [line for line in text.splitlines() if re.match(r" *\w+: +[^ #{]", line) and "_target_" not in line]
    assert [line for line in values if "#" not in line and not re.match(r"  \w+: \[", line)] == []


@pytest.fixture
def worlds(tmp_path):
    """A folder with two level files."""
    (tmp_path / "worlds").mkdir()
    for name in ("h17_unicycle", "hard_lunar_lander"):
        shutil.copy(level.packaged() / "l" / f"{name}.json", tmp_path / "worlds" / f"{name}.json")
    return tmp_path / "worlds"


def key(compose, file):
    return row(compose("env=kinetix", f"env.level={file}")).key()


def test_a_level_is_known_by_its_content(compose, worlds):
    file = worlds / "h17_unicycle.json"
    before = key(compose, file)
    assert key(compose, "l/h17_unicycle") == before
    moved = file.rename(worlds / "renamed.json")
    assert key(compose, moved) == before
    described = json.loads(moved.read_text())
    described["env_state"]["polygon"][4]["position"]["0"] += 0.01
    moved.write_text(json.dumps(described))
    assert key(compose, moved) != before


def test_a_folder_a_suite_and_null_stand_for_levels(compose, worlds):
    names = ["h17_unicycle", "hard_lunar_lander"]
    folder = rows(compose("env=kinetix", f"env.level={worlds}"))
    suite = rows(compose("env=kinetix", "env.level=two", f"+suites.two=[{','.join(f'l/{each}' for each in names)}]"))
    chosen = rows(compose("env=kinetix", "suite=two", f"+suites.two=[{','.join(f'l/{each}' for each in names)}]"))
    assert [each.key() for each in folder] == [each.key() for each in suite] == [each.key() for each in chosen]
    assert len({each.key() for each in folder}) == 2


def test_what_does_not_fit_is_a_user_error(compose):
    with pytest.raises(UserError, match=r"inference_delay 0\.\.4"):
        rows(compose("eval.inference_delay=5"))


def test_settings_hold_what_is_in_no_key(compose, tmp_path):
    given = config.settings(compose(f"store_layers=[{tmp_path}]", "stale=keep", "wandb.mode=disabled", "store=here"))
    assert (given.store, given.store_layers, given.keep_stale) == (pathlib.Path("here"), (tmp_path,), True)
    assert (given.device, given.tracking.mode, given.tracking.project) == ("auto", "disabled", "dd")
    assert config.settings(compose()).store is None
