"""Values against annotations and ranges."""

import pytest

from dd import check, fields
from dd.errors import UserError
from tests.postponed import Postponed


@fields.configuration
class Part:
    """Something that another configuration holds."""

    size: int = 1


@fields.configuration
class Whole:
    """One field of each sort."""

    count: int = fields.field(3, ge=1, le=8)
    share: float = fields.field(0.5, ge=0.0, lt=1.0)
    rate: float = fields.field(0.1, gt=0)
    stop: float | None = fields.field(None, gt=0, le=1)
    name: str = "one"
    on: bool = True
    steps: tuple[int, ...] = fields.field((), ge=1)
    pair: tuple[float, float] = (0.0, 1.0)
    part: Part = Part()
    need: int = fields.field(ge=0)


FITS = {
    "an integer as a number": ("share", 0, 0.0),
    "null where it may be": ("stop", None, None),
    "a number where null may be": ("stop", 1, 1.0),
    "a list as a tuple": ("steps", [2, 3], (2, 3)),
    "an empty list": ("steps", [], ()),
    "a pair": ("pair", [1, 2], (1.0, 2.0)),
    "the lower end": ("count", 1, 1),
    "the upper end": ("count", 8, 8),
    "a configuration": ("part", Part(size=2), Part(size=2)),
}


@pytest.mark.parametrize(("name", "given", "fitted"), FITS.values(), ids=FITS)
def test_a_value_is_taken_as_the_field_wants_it(name, given, fitted):
    found = check.values(Whole, {"need": 0, name: given}, "whole")[name]
    assert found == fitted
    assert type(found) is type(fitted)


MISFITS = {
    "a fraction for an integer": ("count", 2.5, "an integer >= 1 and <= 8; for instance whole.count=3"),
    "true for an integer": ("count", True, "an integer"),
    "an integer for true or false": ("on", 1, "true or false; for instance whole.on=true"),
    "a text for true or false": ("on", "yes", "true or false"),
    "a text for a number": ("rate", "fast", "a number > 0; for instance whole.rate=0.1"),
    "true for a number": ("rate", True, "a number > 0"),
    "null for a number": ("rate", None, "a number > 0"),
    "not a number": ("rate", float("nan"), "a number > 0"),
    "infinite": ("rate", float("inf"), "a number > 0"),
    "the open end below": ("rate", 0, "a number > 0"),
    "the open end above": ("share", 1, "a number >= 0 and < 1"),
    "below": ("share", -0.1, "a number >= 0 and < 1"),
    "above": ("count", 9, "an integer >= 1 and <= 8"),
    "out of range where null may be": ("stop", 2, "a number or null > 0 and <= 1"),
    "a number for a text": ("name", 3, "a text; for instance whole.name=one"),
    "a number for a list": ("steps", 3, "a list like [a,b], each an integer >= 1"),
    "one wrong among a list": ("steps", [1, 0], "each an integer >= 1"),
    "too few of a pair": ("pair", [1.0], "a list like [a,b], each a number"),
    "a number for a configuration": ("part", 3, "a Part"),
}


@pytest.mark.parametrize(("name", "given", "words"), MISFITS.values(), ids=MISFITS)
def test_a_value_that_does_not_fit_is_answered_with_value_rule_and_way_out(name, given, words):
    with pytest.raises(UserError) as problem:
        check.values(Whole, {"need": 0, name: given}, "whole")
    line = str(problem.value)
    assert line.startswith(f"whole.{name}={check.shown(given)}: must be ")
    assert words in line
    assert "\n" not in line


def test_an_unknown_field_is_answered_with_near_names():
    with pytest.raises(UserError, match=r"whole\.cuont: Whole has no such field; did you mean count"):
        check.values(Whole, {"need": 0, "cuont": 3}, "whole")


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match=r"whole: Whole needs need; set whole\.need=<value>"):
        check.values(Whole, {"count": 3}, "whole")


def test_near_names_come_before_all_names():
    assert check.near("nave", ["naive", "realtime"], "options") == "did you mean naive?"
    assert check.near("x", ["naive", "realtime"], "options") == "its options: naive, realtime"


@pytest.mark.parametrize(
    ("value", "typed"), [(None, "null"), (True, "true"), (0.5, "0.5"), ("a", "a"), ([1, 2], "[1, 2]")]
)
def test_a_value_is_shown_as_one_types_it(value, typed):
    assert check.shown(value) == typed


def test_annotations_may_be_postponed():
    assert dict(fields.leaves(Postponed(rate=1))) == {"rate": 1.0}
    assert check.values(Postponed, {"rate": 1}, "it") == {"rate": 1.0}
    with pytest.raises(UserError, match=r"it\.count=x: must be an integer >= 1; for instance it\.count=3"):
        check.values(Postponed, {"count": "x"}, "it")
