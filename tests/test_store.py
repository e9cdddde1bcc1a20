"""Results appear whole or not at all, are found where they lie, and tell when they no longer speak for today's code."""

import collections
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from dd import source
from dd.errors import UserError
from dd.lock import BusyError
from dd.store import Store
from dd.store.__main__ import main

MANIFEST = {
    "label": "point seed=0",
    "config": {"seed": 0, "optimizer": {"rate": 0.1}},
    "source": {},
    "upstream": {},
    "summary": {"loss": 0.5},
    "commit": "0" * 40,
    "versions": {"jax": "0.9.0"},
    "device": "cpu",
    "seconds": 1.5,
    "created": "2026-11-20T20:00:00+00:00",
}
KEYS = ["aa" * 16, "ab" * 16, "bc" * 16]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported; every write is later than the one before by the file's clock."""
    monkeypatch.syspath_prepend(tmp_path / "code")
    (tmp_path / "code").mkdir()
    clock = itertools.count(1_700_000_000)

    def write(name, text):
        path = tmp_path / "code" / f"{name}.py"
        path.write_text(text)
        os.utime(path, (now := next(clock), now))

    return write


def put(store, key=KEYS[0], kind="train", content=b"weights", **told):
    with store.hold(key):
        folder = store.work(kind, key)
        (folder / "sub").mkdir(exist_ok=True)
        (folder / "sub" / "data.bin").write_bytes(content)
        (folder / ".resume").write_text("state")
        return store.commit(kind, key, MANIFEST | told)


def command(capsys, store, *arguments):
    """Exit code and what was said, on either stream."""
    code = main(["--store", str(store.root), *arguments])
    said = capsys.readouterr()
    assert not (said.out and said.err)
    return code, said.out + said.err


# Crashes


@pytest.mark.parametrize(
    ("act", "lawful", "steps"),
    [
        ("first", {("absent", True), ("new", False)}, 110),
        ("replace", {("old", True), ("new", False)}, 120),
        ("recover", {("new", False)}, 80),
        ("remove", {("old", False), ("absent", False)}, 40),
    ],
)
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, act, lawful, steps):
    """Each kill at a line or file operation leaves a state (what is found, whether the work can be resumed) that is
    lawful; all lawful states occur; and going on gives the same bytes after each."""
    run = [sys.executable, "-W", "error", "-m", "tests.faults.commit", act, str(tmp_path)]
    seen = json.loads(subprocess.run(run, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert len(seen) > steps
    assert {(each["state"], each["resumable"]) for each in seen} == lawful
    assert {each["after"] for each in seen} == {"new"}
    assert len({each["contents"] for each in seen}) == 1


WORKER = """
import pathlib, sys, time
from dd.store import Store
from tests.test_store import KEYS, put
store = Store(pathlib.Path(sys.argv[1]))
with store.hold(KEYS[0]):
    found = store.find("train", KEYS[0])
    if found is None:
        time.sleep(0.3)
        found = put(store)
        print("worked", end=" ")
print(found.manifest["files"]["sub/data.bin"]["sha256"])
"""


def test_of_two_processes_one_works_and_the_other_takes_the_result(store):
    started = [subprocess.Popen([sys.executable, "-c", WORKER, store.root], stdout=-1, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].split() for process in started]
    assert sorted(len(each) for each in said) == [1, 2]
    assert said[0][-1] == said[1][-1]


# Results


def test_a_result_is_what_was_written(store):
    put(store)
    found = store.find("train", KEYS[0])
    assert found.manifest["files"] == {
        "sub/data.bin": {
            "size": 7,
            "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        }
    }
    assert {name: found.manifest[name] for name in MANIFEST} == MANIFEST
    assert (found.manifest["kind"], found.manifest["key"], found.layer) == ("train", KEYS[0], False)
    assert sorted(path.name for path in found.path.rglob("*")) == ["data.bin", "manifest.json", "sub"]
    found.verify()
    assert store.find("eval", KEYS[0]) is None
    assert store.find("train", KEYS[1]) is None


def test_work_is_taken_up_where_it_was_left(store):
    (store.work("train", KEYS[0]) / ".resume").write_text("epoch 3")
    assert (store.work("train", KEYS[0]) / ".resume").read_text() == "epoch 3"
    assert store.find("train", KEYS[0]) is None
    assert [path.name for path in store.partials()] == [KEYS[0]]


def test_reading_creates_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DD_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    store = Store.open()
    assert store.root == tmp_path / "outputs" / "store"
    assert store.find("train", KEYS[0]) is None
    assert not [each for each in store.entries() if not each.layer]
    command(capsys, store, "ls")
    command(capsys, store, "prune", "--partial", "--stale")
    assert not list(tmp_path.iterdir())


def test_the_place_is_told_by_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_STORE", str(tmp_path / "told"))
    assert Store.open().root == tmp_path / "told"
    assert Store.open(tmp_path / "argument").root == tmp_path / "argument"


@pytest.mark.parametrize("fault", [{"summary": {"loss": float("nan")}}, {"seconds": "1.5"}, {"upstream": {"a": {}}}])
def test_a_manifest_that_could_not_be_read_again_is_not_written(store, fault):
    with pytest.raises(ValueError, match=r"JSON|manifest"):
        put(store, **fault)
    assert store.find("train", KEYS[0]) is None


def damage(change):
    def act(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(change(manifest)))

    return act


DAMAGES = {
    "shorter file": lambda folder: (folder / "sub" / "data.bin").write_bytes(b"weight"),
    "other byte": lambda folder: (folder / "sub" / "data.bin").write_bytes(b"weighty"),
    "no file": lambda folder: (folder / "sub" / "data.bin").unlink(),
    "folder for a file": lambda folder: (folder / "sub").rename(folder / "data.bin"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty manifest": lambda folder: (folder / "manifest.json").write_text(""),
    "torn manifest": lambda folder: (folder / "manifest.json").write_text('{"kind": "train"'),
    "binary manifest": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00{}"),
    "deep manifest": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "list for a manifest": damage(lambda manifest: [manifest]),
    "field gone": damage(lambda manifest: {name: manifest[name] for name in manifest if name != "source"}),
    "field of another type": damage(lambda manifest: manifest | {"files": 3}),
    "file without size": damage(lambda manifest: manifest | {"files": {"sub/data.bin": {}}}),
    "lineage cut": damage(lambda manifest: manifest | {"upstream": {"a": {"kind": "demos", "source": {}}}}),
    "another's manifest": damage(lambda manifest: manifest | {"key": KEYS[1]}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_result_is_named_and_pruned(store, name, capsys):
    put(store, KEYS[1])
    DAMAGES[name](put(store).path)
    with pytest.raises(
        UserError, match=r"^damaged result .*way out: `python -m dd.store --store .* prune a{12}`"
    ) as caught:
        store.find("train", KEYS[0]).verify()
    assert "\n" not in str(caught.value)
    if name == "other byte":
        store.find("train", KEYS[0]).verify(cheap=True)
    else:
        with pytest.raises(UserError, match="damaged"):
            store.find("train", KEYS[0]).verify(cheap=True)
        assert " damaged\n" in command(capsys, store, "ls")[1]
    assert command(capsys, store, "prune")[0] == 0
    assert [each.key for each in store.entries()] == [KEYS[1]]


@pytest.mark.parametrize("where", ["{tmp_path}/file/store", "/proc/store"])
def test_a_root_that_cannot_be_written_is_named(tmp_path, where):
    (tmp_path / "file").write_text("")
    store = Store(pathlib.Path(where.format(tmp_path=tmp_path)))
    assert store.find("train", KEYS[0]) is None
    for act in (lambda: store.work("train", KEYS[0]), lambda: put(store)):
        with pytest.raises(UserError, match=f"^store {store.root} can't be written .*store= or DD_STORE$"):
            act()


def test_another_layout_is_refused(store):
    put(store)
    (store.root / "version").write_text("2 (dd 9.1)\n")
    with pytest.raises(UserError, match=r"has layout 2 \(dd 9.1\), this dd reads 1"):
        Store(store.root)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        Store(tmp_path / "file")
    with pytest.raises(UserError, match=r"layer .* is no folder"):
        Store(tmp_path / "store", [tmp_path / "nowhere"])


# Layers


def test_the_root_comes_before_the_layers(tmp_path):
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    put(first, label="first")
    put(second, label="second")
    put(second, KEYS[1], label="second alone")
    store = Store(tmp_path / "root", [first.root, second.root])
    assert [store.find("train", key).label for key in KEYS[:2]] == ["first", "second alone"]
    assert store.find("train", KEYS[0]).layer
    put(store, label="own")
    assert (store.find("train", KEYS[0]).label, store.find("train", KEYS[0]).layer) == ("own", False)
    assert collections.Counter(each.key for each in store.entries()) == {KEYS[0]: 3, KEYS[1]: 1}
    with pytest.raises(UserError, match="layers are left alone"):
        store.remove("train", KEYS[1])


def test_pruning_leaves_layers(tmp_path, monkeypatch, capsys):
    layer = Store(tmp_path / "layer")
    DAMAGES["no file"](put(layer).path)
    store = Store(tmp_path / "store", [layer.root])
    monkeypatch.setattr(Store, "open", lambda *_: store)
    code, said = command(capsys, store, "prune", KEYS[0][:4])
    assert code == 0
    assert f"left train {KEYS[0][:12]}, asked for: {layer.root} is a read-only layer" in said
    assert store.find("train", KEYS[0]).layer
    with pytest.raises(UserError, match="restore that layer"):
        store.find("train", KEYS[0]).verify()


# Freshness


def test_a_result_is_fresh_until_its_own_or_an_upstream_module_changes(store, module):
    module("network", "width = 1\n")
    module("decoder", "steps = 1\n")
    above = {KEYS[1]: {"kind": "train", "source": source.modules(["network"]), "upstream": {}}}
    above = {KEYS[2]: {"kind": "demos", "source": {}, "upstream": above}}
    manifest = MANIFEST | {"source": source.modules(["decoder"]), "upstream": above}
    assert store.changed(manifest) == []
    module("network", "width = 1  # narrow\n")
    assert store.changed(manifest) == []
    module("network", "width = 2\n")
    assert store.changed(manifest) == ["network"]
    module("decoder", "steps = 2\n")
    assert store.changed(manifest) == ["decoder", "network"]


def test_what_a_layer_keeps_stays_fresh_upstream(tmp_path):
    """As long as it is that very result: one of other code, or one that isn't there, counts."""
    layer = Store(tmp_path / "layer")
    put(layer, KEYS[1], kind="expert", source={"gone": "1" * 16})
    store = Store(tmp_path / "store", [layer.root])
    above = {"kind": "expert", "source": {"gone": "1" * 16}, "upstream": {}}
    assert store.changed(MANIFEST | {"upstream": {KEYS[1]: above}}) == []
    assert store.changed(MANIFEST | {"upstream": {KEYS[2]: above}}) == ["gone"]
    assert store.changed(MANIFEST | {"upstream": {KEYS[1]: above | {"source": {"gone": "2" * 16}}}}) == ["gone"]


# The command


def test_ls_tells_every_result_and_what_is_unfinished(store, capsys):
    put(store, content=b"x" * 2_000_000)
    put(store, KEYS[2], kind="eval", label="point d=1", source={"gone": "0"})
    store.work("train", KEYS[1])
    code, said = command(capsys, store, "ls")
    rows = {line.split()[1]: line.split() for line in said.splitlines()[1:] if " MB " in line and line[0] != " "}
    assert code == 0
    ours = ["train", "a" * 12, "point", "seed=0", "1.5", "2.0", "MB", "2026-11-20T20:00", "-", "fresh"]
    assert rows["a" * 12] == ours
    assert rows["bc" * 6][-1] == "stale"
    assert "1 unfinished" in said.splitlines()[-1]


def test_why_names_the_module_or_the_field(store, capsys):
    put(store)
    put(store, KEYS[1], label="point seed=1", config={"seed": 1, "optimizer": {"rate": 0.1}})
    nested = {KEYS[0]: {"kind": "train", "source": {"lost.above": "0"}, "upstream": {}}}
    put(store, KEYS[2], kind="eval", label="graded", source={"lost.own": "0"}, upstream=nested)
    code, said = command(capsys, store, "why", "graded")
    assert code == 0
    assert "module lost.own changed (its own)" in said
    assert "module lost.above changed (upstream)" in said
    code, said = command(capsys, store, "why", "seed=1")
    assert "train abababababab point seed=1: fresh" in said
    assert said.splitlines()[-1].strip() == "seed: 0 there, 1 here"
    store.work("train", "dd" * 16)
    assert "unfinished" in command(capsys, store, "why", "ddd")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["why"],
        ["why", "nobody"],
        ["why", "a"],
        ["why", "point"],
        ["prune", "f00"],
        ["prune", "a"],
        ["prune", "--all"],
        ["list"],
        [],
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(store, capsys, arguments):
    put(store)
    put(store, KEYS[1])
    code, said = command(capsys, store, *arguments)
    assert (code, said.count("\n")) == (2, 1)
    assert len(list(store.entries())) == 2


def test_prune_removes_what_is_asked_for(store, capsys):
    put(store, KEYS[0], content=b"x" * 1_000_000)
    put(store, KEYS[1], source={"gone": "0"})
    (store.work("train", KEYS[2]) / "half").write_bytes(b"x" * 3_000_000)
    keys = lambda: [each.key for each in store.entries()]  # noqa: E731
    assert "would remove 3.0 MB" in command(capsys, store, "prune", "--stale", "--partial", "--dry-run")[1]
    assert (keys(), len(store.partials())) == (KEYS[:2], 1)
    command(capsys, store, "prune")
    assert (keys(), len(store.partials())) == (KEYS[:2], 1)
    command(capsys, store, "prune", "--stale")
    assert (keys(), len(store.partials())) == (KEYS[:1], 1)
    assert "removed 3.0 MB" in command(capsys, store, "prune", "--partial")[1]
    assert (keys(), len(store.partials())) == (KEYS[:1], 0)
    assert "removed 1.0 MB" in command(capsys, store, "prune", "aaa")[1]
    assert keys() == []
    assert not list((store.root / ".trash").iterdir())


def test_prune_leaves_work_that_goes_on(store, capsys):
    store.work("train", KEYS[0])
    holding, done = threading.Event(), threading.Event()

    def work():
        with store.hold(KEYS[0]):
            holding.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    holding.wait()
    try:
        said = command(capsys, store, "prune", "--partial")[1]
        with pytest.raises(BusyError):
            store.abandon(KEYS[0])
    finally:
        done.set()
        thread.join()
    assert f"left unfinished {KEYS[0][:12]}: {KEYS[0]} is in the hands of" in said
    assert len(store.partials()) == 1


def test_path_prints_the_root(store, capsys):
    assert command(capsys, store, "path") == (0, f"{store.root}\n")
