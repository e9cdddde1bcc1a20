"""From overrides to stages: what is in which key, what is shared, what runs which code."""

import itertools
import json
import pathlib
import pickle
import re
import shutil

import hydra
import numpy as np
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from dd import config, fields, pipeline, source
from dd.decode.base import AbstractDecode, num_flow_steps
from dd.env import level
from dd.errors import UserError
from tests import others

CONF = pathlib.Path(config.__file__).parent.parent / "conf"
DECODES = sorted(file.stem for file in (CONF / "decode").glob("*.yaml"))
TINY = ("env=pointmass", "expert=laptop", "scale=smoke")
FLOW = ("schedule=flow",)
NEEDS = {"prefix": (*FLOW, "train.simulated_delay=3")}  # to fit at all
ROWS = [(decode, NEEDS.get(decode, ())) for decode in DECODES] + [("realtime", FLOW), ("naive", ("schedule=uniform",))]
OTHERS = {"eval.epoch": "best", "train.simulated_delay": 3, "train.patience": 3, "train.init": {"epoch": 1}}
TOGETHER = {"decode.weak", "decode.bid_k"}  # neither means anything alone


@pytest.fixture(scope="module")
def compose():
    """A composed configuration from overrides."""
    from launch import packed

    packed.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: hydra.compose("config", [*TINY, *overrides])


def rows(composed):
    return config.Builder().build(config.read(composed))


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
    """(key, another value) for everything that a section of the configuration sets, what would do nothing left out."""
    flow = composed.schedule._target_.endswith("Flow")
    idle = {"decode.strength", "decode.sigma"} if flow else {"decode.max_guidance_weight"}
    idle |= TOGETHER | {"env.demos"}  # names a file, which must exist: see below
    if not composed.decode._target_.endswith(("Naive", "HardMasking")):
        idle |= {"decode.early_stop"}

    def walk(node, path):
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}.{name}")
            elif name != "_target_" and (key := f"{path}.{name}") not in idle:
                yield key, OTHERS[key] if key in OTHERS else other(value)

    return list(walk(OmegaConf.to_container(composed[section], resolve=True), section))


def changed(composed, key, value):
    """The row with one value changed."""
    copied = composed.copy()
    OmegaConf.update(copied, key, value)
    return row(copied)


@pytest.mark.parametrize(("decode", "overrides"), ROWS)
def test_no_value_of_decode_or_eval_is_in_the_key_of_a_training(compose, decode, overrides):
    base = compose(f"decode={decode}", *overrides)
    before = row(base)
    assert len(numbers(base, "decode")) >= 1
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
    given = ("schedule=flow", "train.simulated_delay=3")
    built = [
        builder.build(config.read(compose(f"decode={a}", f"eval.inference_delay={d}", f"seed={s}", *given)))[0]
        for a, d, s in grid
    ]
    assert len({id(each.policy) for each in built}) == 2
    assert len({id(each.policy.demos) for each in built}) == 1
    assert len({each.key() for each in built}) == len(built) == 4 * len(DECODES)


def test_auto_is_the_shortest_horizon(compose):
    assert [row(compose(f"eval.inference_delay={d}")).execute_horizon for d in range(5)] == [1, 1, 2, 3, 4]
    assert row(compose("eval.inference_delay=2", "eval.execute_horizon=6")).execute_horizon == 6


@pytest.mark.parametrize("decode", DECODES)
def test_a_decode_s_code_belongs_to_its_own_rows_alone(compose, decode):
    """So an edit of its file reruns its evaluations, and nothing upstream or beside them."""
    ran = row(compose(f"decode={decode}", *NEEDS.get(decode, ())))
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
    group, _, name = option.partition("=")
    more = NEEDS.get(name, ()) if group == "decode" else ()
    level = "env.worlds=null" if option == "env=kinetix" else "seed=0"
    assert row(compose(option, level, "suite=laptop", *more)).key()


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
    given = config.settings(
        config.read(compose(f"store_layers=[{tmp_path}]", "stale=keep", "wandb.mode=disabled", "store=here"))
    )
    assert (given.store, given.store_layers, given.keep_stale) == (pathlib.Path("here"), (tmp_path,), True)
    assert (given.device, given.tracking.mode, given.tracking.project) == ("auto", "disabled", "dd")
    assert config.settings(config.read(compose())).store is None


def test_both_parts_of_a_forward_contrast_are_in_the_row_s_key_and_its_epoch_must_be_kept(compose):
    given = ("decode=bid", "train.checkpoint_epochs=[1]")
    plain, contrast = row(compose(*given)), row(compose(*given, "decode.weak=1", "decode.bid_k=2"))
    assert (plain.policy.key(), plain.key() == contrast.key()) == (contrast.policy.key(), False)
    with pytest.raises(UserError, match=r"decode\.weak=1: .* train\.checkpoint_epochs, or name one of 2, best"):
        rows(compose("decode=bid", "decode.weak=1", "decode.bid_k=2"))
    for late in (("decode.weak=2",), ("decode.weak=1", "eval.epoch=1")):
        with pytest.raises(UserError, match=rf"decode\.weak=[12]: must be before the evaluated one, {late[-1][-1]};"):
            rows(compose(*given, "decode.bid_k=2", *late))


def test_the_last_epoch_is_one_row_however_it_is_said(compose):
    """-1, null and the number of the last one; best is another, as is an epoch that is kept."""
    given = "train.checkpoint_epochs=[1]"
    last = {row(compose(given, f"eval.epoch={each}")).key() for each in (-1, "null", 2)}
    others = {row(compose(given, f"eval.epoch={each}")).key() for each in ("best", 1)}
    assert len(last) == 1
    assert len(others | last) == 3
    for wrong, rule in (("3", "does not keep"), ("later", "must be the number of an epoch"), ("1.5", "must be")):
        with pytest.raises(UserError, match=rf"eval\.epoch={wrong}: .*{rule}"):
            rows(compose(f"eval.epoch={wrong}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("decode=prefix",), "decode=prefix does not fit schedule=masked: tokens are imposed"),
        (("decode=prefix", "schedule=flow"), "decode=prefix does not fit schedule=flow: .* train.simulated_delay"),
        (("decode=realtime", "decode.early_stop=true"), "decode.early_stop=true with decode=realtime: "),
        (("decode=bid", "decode.early_stop=true"), "decode.early_stop=true with decode=bid: "),
        (("decode.early_stop=true", "decode.use_remask=true"), "decode.early_stop=true: "),
        (("schedule=flow", "decode.early_stop=true"), "decode.early_stop"),
        (("schedule=flow", "schedule.num_bins=8"), "schedule.num_bins"),
        (("train.simulated_delay=9",), "train.simulated_delay=9: must be an integer 2..8"),
        (("train.simulated_delay=false",), "train.simulated_delay=false: must be"),
        (("train.simulated_delay=1",), "train.simulated_delay=1: must be"),
        (
            ("train.patience=1", "train.checkpoint_epochs=[1]"),
            r"^train.checkpoint_epochs=\[1\] with train.patience=1: ",
        ),
        (("train.patience=1", "eval.epoch=2"), "^eval.epoch=2: training may end before .*; name best or -1"),
        (("train.epochs=1", "train.checkpoint_epochs=[2]"), r"^train.checkpoint_epochs=\[2\]: training ends after"),
        (
            ("lr_schedule@optimizer.lr_schedule=cosine", "optimizer.lr_schedule.lr_min=1"),
            "^optimizer.lr_schedule.lr_min=1.0: must be at most",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(compose, overrides, message):
    with pytest.raises((UserError, ConfigCompositionException), match=message):
        rows(compose(*overrides))


@fields.configuration
class Whole(AbstractDecode):
    """A method of a user's, who has not said what it reads."""

    num_flow_steps: int = num_flow_steps()


def test_early_stop_goes_with_the_decodes_that_leave_the_rest_alone(compose):
    for decode in ("naive", "hard_masking"):
        assert row(compose(f"decode={decode}", "decode.early_stop=true")).sampler.early_stop
    with pytest.raises(UserError, match=r"decode\.early_stop=true with decode="):
        rows(compose("decode._target_=tests.test_config.Whole", "decode.early_stop=true"))


def test_the_bins_of_a_scale_are_every_token_schedule_s_unless_set_there(compose):
    assert [row(compose(f"schedule={each}")).policy.process.num_bins for each in ("masked", "uniform")] == [8, 8]
    assert row(compose("schedule.num_bins=128")).policy.process.num_bins == 128
    assert row(compose("num_bins=32")).policy.process.num_bins == 32


def test_a_training_may_begin_with_another_one(compose):
    """All is as in this one but for what is named, and no prefixes; that one's epoch is kept by it."""
    given = ("train.epochs=3", "train.simulated_delay=4", "optimizer.learning_rate=1e-4")
    stage = row(compose(*given, "train.init={epoch: 5, epochs: 9, optimizer: {learning_rate: 1e-3}}")).policy
    before = stage.init
    assert (before.epochs, before.checkpoint_epochs, before.simulated_delay, before.init) == (9, (5,), None, None)
    assert (before.optimizer.learning_rate, stage.optimizer.learning_rate, stage.init_epoch) == (1e-3, 1e-4, 5)
    assert (
        before == row(compose("train.epochs=9", "train.checkpoint_epochs=[5]", "optimizer.learning_rate=1e-3")).policy
    )
    assert row(compose(*given, "train.init={epoch: -1}")).policy.init_epoch is None
    for wrong, message in (
        ("3", r"train\.init=3: must name an epoch"),
        ("{epochs: 3}", r"must name an epoch"),
        ("{epoch: 4, epochs: 3}", r"train\.checkpoint_epochs=\[4\]"),
        ("{epoch: 1, epoch_s: 3}", r"train\.epoch_s"),
    ):
        with pytest.raises(UserError, match=message):
            rows(compose(*given, f"train.init={wrong}"))


@pytest.fixture
def theirs(tmp_path):
    """A folder with a recording and a policy for two levels of the world with 4 numbers to see and 2 to set."""
    for name in ("pointmass", "other"):
        np.savez(tmp_path / f"{name}.npz", **others.recording())
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(others.parameters(seed=len(name))))
    return tmp_path


def test_recorded_demonstrations_stand_in_for_experts(compose, theirs):
    stage = row(compose(f"env.demos={theirs}", "demos.seed=3", "demos.validation_fraction=0.2", "train.epochs=3"))
    demos = stage.policy.demos
    assert (demos.kind, demos.upstream(), demos.size) == ("demos", (), 960)
    assert (demos.seed, demos.validation_fraction, stage.policy.epochs) == (3, 0.2, 3)
    # What says how to record has no effect; a file is what it holds.
    given = ("demos.seed=3", "demos.validation_fraction=0.2", "train.epochs=3", "demos.num_transitions=7")
    assert row(compose(f"env.demos={theirs / 'other.npz'}", *given, "expert=paper")).key() == stage.key()
    assert row(compose("demos.seed=3", "demos.validation_fraction=0.2", "train.epochs=3")).key() != stage.key()


def test_a_published_policy_stands_in_for_a_training(compose, theirs):
    """Its sizes are those of its arrays; of the settings of training the seed alone is left."""
    stage = row(compose("schedule=flow", f"policy.checkpoint={theirs}", "seed=3", "eval.inference_delay=2"))
    policy = stage.policy
    assert (policy.kind, policy.upstream(), policy.seed) == ("policy", (), 3)
    assert (policy.action_chunk_size, policy.model.num_layers, policy.model.channel_dim) == (4, 2, 8)
    given = ("schedule=flow", "seed=3", "eval.inference_delay=2", "train.epochs=7", "model.channel_dim=6")
    given += ("train.action_chunk_size=16", "demos.seed=3", "expert=paper")
    assert row(compose(*given, f"policy.checkpoint={theirs / 'pointmass.pkl'}")).key() == stage.key()
    assert row(compose(*given, f"policy.checkpoint={theirs / 'other.pkl'}")).key() != stage.key()
    assert row(compose(*given, f"policy.checkpoint={theirs}", "seed=4")).key() != stage.key()
    for decode in ("naive", "hard_masking", "realtime", "bid"):
        assert row(compose("schedule=flow", f"policy.checkpoint={theirs}", f"decode={decode}")).epoch is None
    for last in (-1, "null"):
        assert row(compose(*given, f"policy.checkpoint={theirs}", f"eval.epoch={last}")).epoch is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("env.demos={there}/nothing",), r"env\.demos=.*nothing: no such file or folder; give one that exists"),
        (
            ("env.demos={there}/empty",),
            r"env\.demos=.*: the folder holds nothing for pointmass; name its file worlds_l",
        ),
        (("env.demos=3",), r"env\.demos=3: must be a file or a folder of files"),
        (("env.demos={there}/other.pkl",), r"env\.demos: .*other\.pkl is no readable \.npz of plain arrays"),
        (("env.demos={there}", "demos.validation_fraction=0"), r"demos\.validation_fraction=0: must be a number > 0"),
        (("env.demos={there}", "+demos.sed=0"), r"demos\.sed: .* did you mean seed"),
        (("policy.checkpoint={there}",), r"schedule=masked with policy\.checkpoint: those are flow .* schedule=flow"),
        (("schedule=flow", "policy.checkpoint={there}/empty"), r"policy\.checkpoint=.*: the folder holds nothing for"),
        (("schedule=flow", "policy.checkpoint=[1]"), r"policy\.checkpoint=\[1\]: must be a file or a folder"),
        (("schedule=flow", "policy.checkpoint={there}/other.npz"), r"policy\.checkpoint: .*not a readable pickle"),
        (("+policy.epoch=3",), r"policy\.epoch: no such key; its keys: checkpoint"),
        (("schedule=flow", "policy.checkpoint={there}", "eval.epoch=best"), r"eval\.epoch=best: .* one epoch only"),
        (("schedule=flow", "policy.checkpoint={there}", "eval.inference_delay=3"), r"inference_delay 0\.\.2"),
        (
            ("schedule=flow", "policy.checkpoint={there}", "decode=bid", "decode.weak=1", "decode.bid_k=2"),
            r"decode\.weak=1: policy\.checkpoint gives the parameters after one epoch only; leave this out",
        ),
        (
            ("schedule=flow", "policy.checkpoint={there}", "decode=prefix", "train.simulated_delay=3"),
            r"train\.simulated_delay=3 with policy\.checkpoint: .* without prefixes; leave one of the two out",
        ),
        (("schedule=flow", "policy.checkpoint={there}", "decode=prefix"), "decode=prefix does not fit schedule=flow"),
    ],
)
def test_what_others_published_is_refused_where_it_does_not_fit(compose, theirs, overrides, message):
    (theirs / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        rows(compose(*(each.format(there=theirs) for each in overrides)))


def test_every_level_has_a_file_of_its_own(compose, worlds, theirs):
    """Two levels from a folder; one file for both is refused."""
    for name, seed in (("h17_unicycle", 1), ("hard_lunar_lander", 2)):
        tree = others.parameters(obs_dim=679, action_dim=6, chunk=8, seed=seed)
        (theirs / f"worlds_l_{name}.pkl").write_bytes(pickle.dumps(tree))
    given = ("env=kinetix", f"env.level={worlds}", "schedule=flow")
    built = rows(compose(*given, f"policy.checkpoint={theirs}"))
    assert [each.policy.env.name.rpartition("/")[2] for each in built] == ["h17_unicycle", "hard_lunar_lander"]
    assert len({each.policy.digest for each in built}) == 2
    with pytest.raises(UserError, match=r"policy\.checkpoint=.*: is one file for 2 levels; give a folder"):
        rows(compose(*given, f"policy.checkpoint={theirs / 'worlds_l_h17_unicycle.pkl'}"))
    with pytest.raises(UserError, match=r"env\.demos=.*: is one file for 2 levels; give a folder"):
        rows(compose(*given, f"env.demos={theirs / 'other.npz'}"))
