"""A result's source: what counts as a change, and how far the closure of imports reaches."""

import itertools
import os
import subprocess
import sys

import pytest

from dd import source
from dd.errors import UserError

BASE = '''"""A doc."""
import math


class Decode:
    """Another."""

    strength: float = 0.5
    """What it does."""

    def step(self, x, y=1):
        """Take a step."""
        # a remark
        return f"{x:.2f} and {y!r}", math.sin(x) + y, (x, True)
'''

SAME = {
    "comment": ("# a remark", "# another remark, and longer"),
    "docstring": ('"""Take a step."""', '"""Take one step."""'),
    "no docstring": ('    """Another."""\n\n', ""),
    "docstring of a module": ('"""A doc."""\n', ""),
    "docstring of an attribute": ('"""What it does."""', '"""What it did."""'),
    "layout": ("math.sin(x) + y, (x, True)", "(math.sin( x )\n            + y), (x, True,)"),
    "quotes": ('f"{x:.2f} and {y!r}"', "f'{x:.2f} and {y!r}'"),
    "text cut in two": ('f"{x:.2f} and {y!r}"', 'f"{x:.2f} a" f"nd {y!r}"'),
}

OTHER = {
    "constant": ("= 0.5", "= 0.25"),
    "default": ("y=1", "y=2"),
    "operator": ("+ y", "- y"),
    "name": ("sin", "cos"),
    "whole number for a truth": ("True", "1"),
    "text of an f-string": (" and ", " or "),
    "format": (".2f", ".3f"),
    "annotation": ("strength: float", "strength: int"),
    "import": ("import math", "from jax import math"),
    "decorator": ("    def step", "    @staticmethod\n    def step"),
    "order": ("x, y=1", "y, x=1"),
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module below a folder on the path; every write is later than the one before by the file's clock."""
    monkeypatch.syspath_prepend(tmp_path)
    clock = itertools.count(1_700_000_000)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (now := next(clock), now))
        return path

    return write


@pytest.mark.parametrize("edit", SAME)
def test_what_does_not_run_does_not_count(write, edit):
    write("subject.py", BASE)
    before = source.digest("subject")
    assert SAME[edit][0] in BASE
    write("subject.py", BASE.replace(*SAME[edit]))
    assert source.digest("subject") == before


def test_every_expression_counts(write):
    """The original and eleven edits of one expression each: twelve digests."""
    texts = [BASE, *(BASE.replace(*edit) for edit in OTHER.values())]
    assert len(set(texts)) == 12
    digests = set()
    for text in texts:
        write("subject.py", text)
        digests.add(source.digest("subject"))
    assert len(digests) == 12


def test_digest_is_the_same_in_every_python(write):
    write("subject.py", BASE)
    assert source.digest("subject") == "5bbc16465efc7a6f"


def test_closure_follows_imports_inside_functions_but_not_for_type_checkers(write):
    write("lab/__init__.py", "from . import shared\n")
    write("lab/shared.py", "import numpy\nimport elsewhere\n")
    write("elsewhere.py", "")
    write("lab/late.py", "")
    write("lab/typed.py", "")
    write("lab/untyped.py", "")
    write("lab/deep/__init__.py", "from .one import *\n")
    write("lab/deep/one.py", "from ..late import Thing\nfrom dd.errors import UserError\nfrom dd import fields\n")
    write("lab/unused.py", "")
    write(
        "lab/mine.py",
        """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from lab import typed
else:
    from lab import untyped
def act():
    import lab.deep.one as one
    return one
""",
    )
    found = source.modules(["lab.mine"])
    lab = {"lab", "lab.mine", "lab.shared", "lab.late", "lab.untyped", "lab.deep", "lab.deep.one"}
    assert set(found) == lab | {"dd", "dd.fields"}
    assert list(found) == sorted(found)
    assert all(found[name] == source.digest(name) for name in found)


def test_closure_of_a_cycle_ends(write):
    write("first.py", "")
    write("ring/__init__.py", "")
    write("ring/a.py", "from ring import b\nfrom . import c\n")
    write("ring/b.py", "from ring.c import thing\n")
    write("ring/c.py", "import ring.a\n")
    assert set(source.modules(["ring.a"])) == set(source.modules(["ring.c"])) == {"ring", "ring.a", "ring.b", "ring.c"}


def test_packages_without_init_are_searched(write):
    write("loose/inner/mine.py", "from loose.other import x\n")
    write("loose/other.py", "x = 1\n")
    assert set(source.modules(["loose.inner.mine"])) == {"loose.inner.mine", "loose.other"}


def test_infrastructure_is_left_out():
    assert not [name for name in source.modules(["dd.stage.base"]) if name in source.INFRASTRUCTURE]
    assert source.modules(["dd.store.store"]) == {}


def test_nothing_is_run(write):
    write("loud/__init__.py", "raise RuntimeError('imported')\n")
    write("loud/mine.py", "raise RuntimeError('imported')\n")
    assert set(source.modules(["loud.mine"])) == {"loud", "loud.mine"}


def test_reading_the_source_of_a_policy_imports_no_jax():
    check = (
        "import sys; from dd import source; print('dd.policy' in source.modules(['dd.policy']), 'jax' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
        == "True False\n"
    )


@pytest.mark.parametrize("name", ["__main__", "dd.nowhere", "sys", "nobody.knows"])
def test_a_class_without_source_is_refused(name):
    with pytest.raises(UserError, match=f"{name}.*has no source file: put"):
        source.modules([name])


def test_changed_names_edited_and_missing_modules(write):
    write("edited.py", "x = 1\n")
    gone = write("gone.py", "x = 1\n")
    write("calm.py", "x = 1\n")
    recorded = source.modules(["edited", "gone", "calm"])
    assert source.changed(recorded) == []
    write("edited.py", "x = 2\n")
    write("calm.py", "x = 1  # one\n")
    gone.unlink()
    assert source.changed(recorded) == ["edited", "gone"]


def test_a_file_that_does_not_parse_counts_by_its_bytes(write):
    write("torn.py", "def f(:\n")
    before = source.digest("torn")
    write("torn.py", "def f(: \n")
    assert source.digest("torn") != before
