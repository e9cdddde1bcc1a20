"""Imports only go down: the layers of DESIGN.md, by walking the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAYERS = [
    {"errors", "fields", "arrays"},
    {"check", "lock", "source", "progress", "tracking", "devices"},
    {"store", "tokens", "optimizer"},
    {"pipeline", "schedule", "model", "env"},
    {"policy"},
    {"loading", "decode"},
    {"rollout", "latency"},
    {"stage"},
    {"config", "manual"},
    {"run", "experts"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imports(path):
    """Every dotted module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(*packages):
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def unit(path):
    """The layer's name a file of dd belongs to."""
    return path.relative_to(ROOT / "dd").parts[0].removesuffix(".py")


def test_every_module_of_dd_has_a_layer():
    """A new one is entered above, in the layer it belongs to."""
    assert {unit(path) for path in files("dd")} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", files("dd"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_layers_or_its_own_package(path):
    own = unit(path)
    if own == "__init__":
        assert [name for name in imports(path) if name.startswith("dd.")] == ["dd.loading.load"]
        return
    for name in imports(path):
        if name.startswith("dd."):
            used = name.split(".")[1]
            assert used == own or RANK[used] < RANK[own], f"{own} (layer {RANK[own]}) imports {name}"


def test_schedule_model_and_env_never_see_each_other():
    for own in ("schedule", "model", "env"):
        seen = {name.split(".")[1] for path in files(f"dd/{own}") for name in imports(path) if name.startswith("dd.")}
        assert not seen & ({"schedule", "model", "env"} - {own})


def test_hydra_and_omegaconf_appear_in_config_run_and_launch_only():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in files("dd", "analysis", "launch")
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports(path))
    }
    assert {name for name in users if not name.startswith("launch/")} == {"dd/config.py", "dd/run.py"}


def test_nothing_is_unpickled():
    """What others pickled is read by `dd.stage.unpickle`, from the instructions that `pickletools` lists."""
    for path in files("dd", "launch", "analysis"):
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
        assert "pickletools" not in names or path == ROOT / "dd/stage/unpickle.py"
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        allowed = [key.value.value for node in calls for key in node.keywords if key.arg == "allow_pickle"]
        loads = [node for node in calls if ast.unparse(node.func) in ("np.load", "numpy.load")]
        assert not any(allowed), path
        assert all("allow_pickle" in [key.arg for key in node.keywords] for node in loads), path


def test_dd_knows_nothing_of_its_users_but_for_the_command():
    """dd/run.py is the command: it alone hands over to the launcher, which hands over to the analysis."""
    for path in files("dd"):
        above = {name.split(".")[0] for name in imports(path)} & {"launch", "analysis", "tests"}
        assert above <= ({"launch"} if unit(path) == "run" else set()), path
    for path in files("analysis"):
        assert not {name.split(".")[0] for name in imports(path)} & {"launch", "tests"}, path


def test_analysis_imports_no_jax():
    """Nor anything of dd but errors and the list of levels; that nothing else brings jax: tests/analysis."""
    for path in files("analysis"):
        names = list(imports(path))
        assert not {name.split(".")[0] for name in names} & {"jax", "jaxlib", "flax", "optax"}, path
        own = {name for name in names if name.startswith("dd.")}
        assert own <= {"dd.errors.UserError", "dd.env.benchmark.LEVELS"}, path
