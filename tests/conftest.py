"""Tests compile more than they compute: XLA leaves expensive passes out, and what is equal is compiled once."""

import os
import shutil
import tempfile

import pytest

from tests.compiling import QUICK

CACHE = pytest.StashKey[str]()
DEAREST = ("test_experiments.py", "test_kinetix.py", "test_run.py", "test_kill.py", "test_train.py")


def pytest_configure(config: pytest.Config) -> None:
    """Before jax is imported anywhere; workers and commands inherit it."""
    if hasattr(config, "workerinput"):
        return
    config.stash[CACHE] = tempfile.mkdtemp(prefix="dd-tests-")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = config.stash[CACHE]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    # Where Python is told to write no bytecode, each of the many processes would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(config.stash[CACHE], "bytecode")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dearest files first: one of them, taken up last, would leave the other worker idle for minutes."""
    place = {name: i for i, name in enumerate(DEAREST)}
    items.sort(key=lambda item: place.get(item.path.name, len(DEAREST)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The cache is for one run."""
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)
