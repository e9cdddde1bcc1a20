"""The command line: what it refuses, how it says so, what it leaves behind; and what it accepts."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from dd import devices, fields, run
from dd.decode.base import AbstractDecode, num_flow_steps
from dd.stage.demos import Demos
from dd.stage.eval import Eval
from dd.stage.expert import Expert
from dd.stage.train import Train

ROOT = pathlib.Path(run.__file__).parent.parent
TINY = ("env=pointmass", "expert=laptop", "scale=smoke", "wandb.mode=disabled")


def _written(kind):
    """A stage's work without the work: a file, and the summary that a table needs."""

    def build(self):
        def runner(stage, work):
            for upstream in stage.upstream():
                work.result(upstream)
            (work.path / "numbers.bin").write_bytes(stage.key().encode())
            means = {name: 0.5 for name in ("lengths", "returns", "solved")}
            numbers = {f"returned_episode_{name}": value for name, value in means.items()}
            return numbers | {"network_evaluations": 5, "useful_share": 1.0}

        return runner

    return build


@fields.configuration
class Continuous(AbstractDecode):
    """A method that no process over tokens fits."""

    num_flow_steps: int = num_flow_steps()

    def misfit(self, process, *, simulated_delay):
        return "tokens are no actions; use decode=naive"


@pytest.fixture(autouse=True)
def _no_real_work(monkeypatch):
    for stage in (Expert, Demos, Train, Eval):
        monkeypatch.setattr(stage, "build", _written(stage.kind))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty folder: exit code, standard output, standard error."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("DD_STORE", raising=False)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["dd.run", *arguments])
        code = run.main()
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store that holds two rows and all that is upstream of them."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        for stage in (Expert, Demos, Train, Eval):
            patch.setattr(stage, "build", _written(stage.kind))
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["dd.run", *TINY, "store=store", "decode=naive,realtime"])
        assert run.main() == 0
    return folder / "store"


@pytest.fixture
def store(filled, tmp_path):
    """A copy of it."""
    return pathlib.Path(shutil.copytree(filled, tmp_path / "store"))


def content(folder):
    """Names and bytes of everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(command, store, *arguments):
    """Run a command that must be refused: one line, exit code 2, nothing changed, nothing left behind. The line."""
    before = content(store)
    given = () if any(each.startswith("store=") for each in arguments) else (f"store={store}",)
    code, _, error = command(*given, *arguments)
    assert (code, error.count("\n"), error[:7]) == (2, 1, "error: "), (code, error)
    assert "Traceback" not in error
    assert content(store) == before
    assert content(pathlib.Path.cwd()) == {}
    return error[7:].strip()


# Wrong overrides, and what the line must say: the value or key, and a way out.
WRONG = {
    "unknown key": (["evl.num_evals=3"], ["evl.num_evals", "did you mean eval.num_evals"]),
    "unknown key in a group": (["eval.num_eval=3"], ["eval.num_eval:", "did you mean eval.num_evals"]),
    "unknown top key": (["sed=1"], ["sed:", "did you mean seed"]),
    "key of another option": (["decode.strength=1"], ["decode.strength", "decode=realtime would bring it"]),
    "key of a world": (["env.level=l/h17_unicycle"], ["env.level", "env=kinetix would bring it"]),
    "unknown option": (["decode=realtme"], ["decode=realtme", "did you mean realtime"]),
    "unknown option in a sweep": (["decode=naive,realtme"], ["decode=realtme", "did you mean realtime"]),
    "unknown group": (["decod=naive"], ["decod:", "did you mean decode"]),
    "unknown experiment": (["+experiment=rtx"], ["experiment=rtx", "did you mean rtc"]),
    "experiment without plus": (["experiment=rtc"], ["experiment", "+experiment=<option>"]),
    "no option": (["decode="], ["decode=", "bid, hard_masking, naive, prefix, realtime"]),
    "number for an option": (["model=5"], ["model=5", "--help"]),
    "added key": (["+foo=1"], ["foo:", "its keys: decode, demos"]),
    "added key in a group": (["+eval.foo=1"], ["eval.foo", "its fields: decode"]),
    "added key of wandb": (["+wandb.foo=1"], ["wandb.foo", "mode, project"]),
    "removed key": (["~seed"], ["seed", "leave ~seed out"]),
    "removed group": (["~decode"], ["decode: needs a _target_", "decode=<name>"]),
    "group as a scalar": (["train=5"], ["train=5", "train.<key>=<value>"]),
    "text for an integer": (["train.epochs=many"], ["train.epochs=many", "an integer >= 1", "train.epochs=32"]),
    "number for an integer": (["train.epochs=1.5"], ["train.epochs=1.5", "an integer", "train.epochs=32"]),
    "null for an integer": (["eval.num_evals=null"], ["eval.num_evals=null", "an integer", "eval.num_evals=64"]),
    "text for a number": (["env.speed=fast"], ["env.speed=fast", "a number > 0", "env.speed=0.2"]),
    "infinite number": (["env.speed=inf"], ["env.speed=inf", "a number > 0", "env.speed=0.2"]),
    "number for a list": (["train.checkpoint_epochs=3"], ["train.checkpoint_epochs=3", "a list like [a,b]"]),
    "wrong number in a list": (["train.checkpoint_epochs=[0]"], ["[0]", "each an integer >= 1"]),
    "checkpoint after the end": (
        ["train.epochs=3", "train.checkpoint_epochs=[2,4]"],
        ["train.checkpoint_epochs=[4]", "after epoch 3", "raise train.epochs"],
    ),
    "no seed": (["seed="], ["seed=:", "seed=0,1,2"]),
    "text for a seed": (["seed=abc"], ["seed=abc", "an integer", "seed=0,1,2"]),
    "negative seed": (["seed=-1"], ["seed=-1", ">= 0", "seed=0,1,2"]),
    "list for a seed": (["seed=[0,1]"], ["seed=[0, 1]", "an integer", "seed=0,1,2"]),
    "too large a seed": (["eval.seed=4294967296"], ["eval.seed=4294967296", "< 2147483648", "eval.seed=0"]),
    "missing value": (["seed=???"], ["seed:", "give it a value"]),
    "dangling reference": (["seed=${foo}"], ["seed:", "'foo' not found", "give it a value"]),
    "expert seeds no list": (["expert.seeds=3"], ["expert.seeds=3", "expert.seeds=[0,1]"]),
    "expert seeds equal": (["expert.seeds=[0,0]"], ["expert.seeds=[0, 0]", "different", "expert.seeds=[0,1]"]),
    "no episodes": (["eval.num_evals=0"], ["eval.num_evals=0", ">= 1", "eval.num_evals=64"]),
    "above the range": (["demos.min_solve_rate=1.5"], ["demos.min_solve_rate=1.5", "<= 1", "=0.65"]),
    "at an open end": (["demos.validation_fraction=1"], ["demos.validation_fraction=1", "< 1", "=0.05"]),
    "rule between fields": (["expert.ppo.num_minibatches=3"], ["expert.ppo.num_minibatches=3", "must divide"]),
    "negative delay": (["eval.inference_delay=-1"], ["eval.inference_delay=-1", ">= 0", "eval.inference_delay=1"]),
    "delay beyond the chunk": (["eval.inference_delay=5"], ["inference_delay=5", "inference_delay 0..4"]),
    "horizon below the delay": (
        ["eval.inference_delay=3", "eval.execute_horizon=2"],
        ["inference_delay=3 with execute_horizon=2", "execute_horizon 3..5", "execute_horizon=auto (3)"],
    ),
    "horizon beyond the chunk": (
        ["eval.inference_delay=1", "eval.execute_horizon=8"],
        ["inference_delay=1 with execute_horizon=8", "execute_horizon 1..7", "execute_horizon=auto (1)"],
    ),
    "word for a horizon": (["eval.execute_horizon=most"], ["eval.execute_horizon=most", "1..8 or auto"]),
    "one wrong row of a grid": (["eval.inference_delay=0,1,9"], ["inference_delay=9", "inference_delay 0..4"]),
    "class that is not there": (["decode._target_=dd.decode.naive.Niave"], ["dd.decode.naive.Niave", "package.module"]),
    "module that is not there": (["decode._target_=nowhere.Naive"], ["nowhere.Naive", "No module", "package.module"]),
    "class that is no configuration": (["decode._target_=pathlib.Path"], ["pathlib.Path", "dd.fields.configuration"]),
    "class of another kind": (
        ["decode._target_=dd.env.pointmass.PointMass"],
        ["dd.env.pointmass.PointMass: is no Decode", "dd.decode.base.AbstractDecode"],
    ),
    "decode that does not fit": (
        ["decode._target_=tests.test_run.Continuous"],
        ["decode=test_run does not fit schedule=masked", "tokens are no actions", "decode=naive"],
    ),
    "wrong device": (["device=tpu"], ["device=tpu", "auto or cpu or gpu", "device=auto"]),
    "wrong stale": (["stale=maybe"], ["stale=maybe", "recompute or keep", "stale=recompute"]),
    "wrong wandb mode": (["wandb.mode=onlin"], ["wandb.mode=onlin", "offline or online or disabled"]),
    "setting in a sweep": (["stale=keep,recompute"], ["stale:", "one value"]),
    "setting of a group in a sweep": (["wandb.project=a,b"], ["wandb:", "one value"]),
    "demonstrations that are not there": (["env.demos=/nowhere"], ["env.demos=/nowhere", "no such file", "pointmass"]),
    "number for demonstrations": (["env.demos=3"], ["env.demos=3", "a file or a folder", "env.demos=<folder with"]),
    "file that is no recording": (
        [f"env.demos={__file__}"],
        ["env.demos", "test_run.py", "no readable .npz", "numpy.savez"],
    ),
    "policy that is not there": (
        ["schedule=flow", "policy.checkpoint=/nowhere"],
        ["policy.checkpoint=/nowhere", "no such file", "pointmass.pkl"],
    ),
    "file that is no policy": (
        ["schedule=flow", f"policy.checkpoint={__file__}"],
        ["policy.checkpoint", "test_run.py", "not a readable pickle", "save it again"],
    ),
    "tokens for a published policy": (
        ["policy.checkpoint=/nowhere"],
        ["schedule=masked with policy.checkpoint", "schedule=flow"],
    ),
    "unknown key of policy": (["policy.checkpont=/nowhere"], ["policy.checkpont", "policy.checkpoint"]),
    "layer that is not there": (["store_layers=[/nowhere]"], ["/nowhere is no folder", "name stores that exist"]),
    "text for layers": (["store_layers=/nowhere"], ["store_layers=/nowhere", "store_layers=[/lab/store]"]),
    "number for a store": (["store=3"], ["store=3", "outputs/store"]),
    "empty place in a sweep": (["-m", "seed=0,,1"], ["seed=0,,1", "a list is [a,b], a sweep is a,b"]),
    "open bracket": (["expert.seeds=[0,1"], ["expert.seeds=[0,1", "a list is [a,b]"]),
    "no equals sign": (["seed"], ["seed:", "is no key=value"]),
    "unknown flag": (["--unknown-flag"], ["--unknown-flag", "--help"]),
    "wrong choice of a flag": (["--cfg", "jobs"], ["--cfg", "'jobs'", "'job'"]),
    "two flags": (["--cfg", "job", "--info", "all"], ["--cfg job --info all", "only one"]),
    "launcher that is not there": (["hydra/launcher=nothing"], ["hydra/launcher=nothing", "basic, packed, plan"]),
    "wrong value under a stock launcher": (["hydra/launcher=basic", "seed=abc"], ["seed=abc", "seed=0,1,2"]),
    "configuration folder that is not there": (["--config-dir", "/nowhere"], ["/nowhere", "not found", "--help"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_override_is_refused_in_one_line(command, store, arguments, words):
    line = refused(command, store, *TINY, *arguments)
    assert [word for word in words if word not in line] == [], line


LEVELS = {
    "unknown level": (["env.level=h17_unicycl"], ["env.level=h17_unicycl", "did you mean l/h17_unicycle"]),
    "level file that is not there": (["env.level=mine.json"], ["env.level=mine.json", "no such file"]),
    "damaged level file": (["env.level={tmp}/damaged.json"], ["damaged.json", "not a readable Kinetix level"]),
    "text for a level file": (["env.level={tmp}/text.json"], ["text.json", "not a readable Kinetix level"]),
    "name of several levels": (["env.worlds={tmp}/worlds", "env.level=twin"], ["env.level=twin", "l/twin or m/twin"]),
    "folder without levels": (["env.level={tmp}/empty"], ["{tmp}/empty", "holds no level", "a suite or a file"]),
    "worlds that are not there": (["env.worlds=/nowhere"], ["env.worlds=/nowhere", "no such folder"]),
    "number for a level": (["env.level=3"], ["env.level=3", "env.level=l/h17_unicycle"]),
    "unknown suite": (["suite=rtc13"], ["suite=rtc13", "did you mean rtc12"]),
    "empty suite": (["suites.laptop=[]"], ["suites.laptop=[]", "one at least", "[l/h17_unicycle]"]),
    "suite with an unknown level": (["suites.laptop=[l/h17]"], ["env.level=l/h17", "h17_unicycle"]),
    "word for a flag": (["env.cut=3"], ["env.cut=3", "true or false", "env.cut=true"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), LEVELS.values(), ids=LEVELS)
def test_a_wrong_level_is_refused_in_one_line(command, store, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.json").write_text('{"env_state": {"polygon": []}}')
    (tmp_path / "text.json").write_text("a level")
    for size in "lm":
        (tmp_path / "worlds" / size).mkdir(parents=True)
        (tmp_path / "worlds" / size / "twin.json").write_text("{}")
    placed = [each.format(tmp=tmp_path) for each in arguments]
    line = refused(command, store, "env=kinetix", *TINY[1:], *placed)
    assert [word for word in words if word.format(tmp=tmp_path) not in line] == [], line


def test_a_missing_gpu_is_refused_in_one_line(command, store):
    import jax

    if jax.default_backend() == "gpu":
        pytest.skip("there is one")
    line = refused(command, store, *TINY, "device=gpu", "eval.inference_delay=1")
    assert "device=gpu" in line
    assert "device=cpu" in line


@pytest.mark.parametrize("place", ["store", "store/below"])
def test_a_store_that_is_a_file_is_refused(command, store, tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    path = str(tmp_path / place.replace("store", "file"))
    line = refused(command, store, *TINY, f"store={path}")
    assert "file" in line
    assert "store=" in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_store_of_another_layout_is_refused(command, store):
    (store / "version").write_text("99 (dd 9.9)\n")
    line = refused(command, store, *TINY)
    assert "99" in line
    assert "store=" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_is_read_only_is_refused(command, store):
    store.chmod(0o500)
    line = refused(command, store, *TINY, "seed=7")
    assert "store=" in line


def test_a_folder_for_the_table_that_is_a_file_is_refused(command, store, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    line = refused(command, store, *TINY, f"hydra.sweep.dir={tmp_path}/file/out")
    assert "file/out" in line
    assert "hydra.sweep.dir=" in line


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def _garble(path):
    manifest = path.parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])


def _forget(path):
    manifest = path.parent / "manifest.json"
    told = json.loads(manifest.read_text())
    del told["summary"]
    manifest.write_text(json.dumps(told))


@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("damage", [_truncate, _flip, _garble, _forget, pathlib.Path.unlink])
def test_a_damaged_result_is_named_before_anything_runs(command, store, kind, damage):
    """A row asked for, or what a new row reads: found although the size is right, and left as it is."""
    damaged = sorted(store.glob(f"{kind}/*/numbers.bin"))[0]
    damage(damaged)
    line = refused(command, store, *TINY, "decode=naive,realtime", "eval.inference_delay=0,1")
    assert f"damaged result {damaged.parent}" in line
    assert f"prune {damaged.parent.name[:12]}" in line


def test_what_is_done_is_shown_and_not_run(command, store):
    before = content(store)
    code, out, error = command(*TINY, f"store={store}", "decode=naive,realtime")
    assert (code, error) == (0, "")
    assert "2 runs: 2 done, 0 stale, 0 to run. Nothing to do." in out
    assert content(store) == before
    (rows,) = pathlib.Path("outputs").glob("run/*-*/results.csv")
    assert len(rows.read_text().splitlines()) == 3
    assert pathlib.Path("outputs/run/latest").resolve() == rows.parent.resolve()


@pytest.mark.parametrize("where", [0, 1, 2, 3, None], ids=["first", "second", "third", "last", "left out"])
def test_m_stands_anywhere(command, store, where):
    arguments = ["+experiment=rtc", "seed=0,1", "decode=naive"]
    if where is not None:
        arguments.insert(where, "-m")
    code, out, error = command(*TINY, f"store={store}", *arguments)
    assert (code, error) == (0, "")
    assert "10 runs: 1 done" in out
    assert list(pathlib.Path("outputs/rtc").glob("*-*/delay_curve.png"))


def test_rows_stand_in_the_order_asked_for_whatever_was_done_before(command, store):
    code, _, _ = command(*TINY, f"store={store}", "seed=1,0", "decode=realtime,naive", "hydra.sweep.dir=out")
    lines = pathlib.Path("out/results.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    asked = [("1", "realtime"), ("1", "naive"), ("0", "realtime"), ("0", "naive")]
    assert (code, [(each["seed"], each["method"]) for each in rows]) == (0, asked)


def test_what_a_user_calls_latest_is_left_alone(command, store):
    pathlib.Path("mine/latest").mkdir(parents=True)
    assert command(*TINY, f"store={store}", "hydra.sweep.dir=mine/one")[0] == 0
    assert not pathlib.Path("mine/latest").is_symlink()
    assert sorted(path.name for path in pathlib.Path("mine").iterdir()) == ["latest", "one"]


def test_stock_launcher_runs_each_job_alone(command, store):
    code, out, error = command(*TINY, f"store={store}", "hydra/launcher=basic", "seed=0,1")
    assert (code, error) == (0, "")
    assert out.count("1 runs:") == 2
    assert len(list(pathlib.Path("outputs").glob("run/*/[01]/results.csv"))) == 2


def test_a_plan_says_what_there_is_to_run_and_runs_nothing(command, store):
    """Of 3 x 2 x 2 rows two are done; each decode is a program, over two seeds that share their demonstrations."""
    before = content(store)
    axes = ("decode=naive,hard_masking,realtime", "eval.inference_delay=0,1", "seed=0,1")
    code, out, error = command(*TINY, f"store={store}", *axes, "hydra/launcher=plan")
    assert (code, error) == (0, "")
    assert out.startswith("12 runs: 2 done, 0 stale, 10 to run. Stages to run: 1 train, 10 eval; 4 programs to compile")
    table = {line.split("  ")[0]: " ".join(line.split()) for line in out.splitlines()}
    assert table["stage"].startswith("stage to run programs rows of a program time (cpu")
    assert table["train"] == "train 1 1 1 0 s (0 s each)"
    assert table["eval"] == "eval 10 3 3 to 4 0 s (0 s each), 4 unknown"
    assert "Nothing was run." in out
    assert content(store) == before
    assert content(pathlib.Path.cwd()) == {}


def test_a_plan_counts_the_rows_that_can_not_be_run_and_says_why(command, store):
    axes = ("eval.inference_delay=0,3,9", "seed=0,x", "hydra/launcher=plan")
    code, out, _ = command(*TINY, f"store={store}", *axes)
    assert code == 0
    assert "2 runs: 1 done, 0 stale, 1 to run" in out
    assert "1 rows are left out: their inference_delay and execute_horizon exclude each other" in out
    assert "3 rows are left out: seed=x: must be an integer >= 0" in out
    assert "seed=x" in refused(command, store, *TINY, "seed=x,y", "hydra/launcher=plan")
    assert "stale:" in refused(command, store, *TINY, "stale=keep,recompute", "hydra/launcher=plan")


def test_the_command_works_on_all_devices(command, store, monkeypatch):
    """Three rows that can only end together, as for three devices; all of them here are the one there is."""
    together = threading.Barrier(3, timeout=60)

    def build(self, build=Eval.build):
        def runner(stage, work):
            together.wait()
            return build(stage)(stage, work)

        return runner

    monkeypatch.setattr(Eval, "build", build)
    monkeypatch.setattr(devices, "alike", lambda: [None] * 3)
    code, out, error = command(*TINY, f"store={store}", "eval.inference_delay=1,2,3")
    assert (code, error) == (0, "")
    assert "1 programs to compile on up to 3 devices each;" in out


def test_a_row_that_fails_ends_the_command_with_one(command, store, monkeypatch):
    def build(self):
        def runner(stage, work):
            raise ValueError("not today")

        return runner

    monkeypatch.setattr(Eval, "build", build)
    code, out, error = command(*TINY, f"store={store}", "eval.inference_delay=0,1")
    assert (code, error) == (1, "")
    assert "1 failed, 0 blocked" in out
    (log,) = pathlib.Path("outputs").glob("run/*-*/failures/*.txt")
    assert "not today" in log.read_text()


def test_interrupted_it_ends_with_130_and_one_line(command, store, monkeypatch):
    def build(self):
        def runner(stage, work):
            raise KeyboardInterrupt

        return runner

    monkeypatch.setattr(Eval, "build", build)
    code, _, error = command(*TINY, f"store={store}", "eval.inference_delay=1")
    assert (code, error.strip()) == (130, run.STOPPED)
    assert content(pathlib.Path.cwd()) == {}


@pytest.mark.parametrize("arguments", [["--help"], ["-h", "seed=1"], ["+experiment=rtc", "--help"]])
def test_help_shows_keys_with_comments_groups_and_examples(command, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, error = command(*arguments)
    assert (code, error) == (0, "")
    for told in ("+experiment=rtc -m seed=0,1,2", "eval.inference_delay=0 ", "hard_masking naive*", "store=null"):
        assert told in out
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) < 100


def test_cfg_job_prints_the_configuration(command):
    code, out, error = command("+experiment=rtc", "--cfg", "job", "seed=3")
    assert (code, error) == (0, "")
    assert "seed: 3\n" in out
    assert content(pathlib.Path.cwd()) == {}


def _process(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "dd.run", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_as_a_process_it_refuses_with_2_and_one_line(tmp_path):
    process = _process("+experiment=rtc", "-m", "seed=0,1,x", cwd=tmp_path)
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: seed=x: ")
    assert content(tmp_path) == {}


def test_as_a_process_it_stops_at_ctrl_c_with_130_and_one_line(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of who ignores it would ignore it too
    process = _process(*TINY, "store=store", cwd=tmp_path)
    signal.signal(signal.SIGINT, before)
    assert "1 to run" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error.strip()) == (130, run.STOPPED)
