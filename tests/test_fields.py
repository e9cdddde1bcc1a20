"""Content, digest and leaves of configurations: what a key and a compiled program see of a field."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest

from dd import fields


@fields.configuration
class Inner:
    width: int = fields.field(3, ge=1)
    rate: float = fields.field(0.5, leaf=True)


@fields.configuration
class Outer:
    inner: Inner = fields.field(Inner())
    seed: int = fields.field(0, leaf=True)
    several: tuple[Inner, ...] = fields.field(())
    sizes: tuple[int, ...] = fields.field((1, 2))
    place: str = fields.field("here", hashed=False)
    added: int = fields.field(7, since=1)
    note: str | None = None


@fields.configuration
class Located:
    name: str = fields.field(hashed=False)

    def identity(self):
        return {"file": "d1"}


def key(value):
    return fields.digest(fields.content(value))


def test_content_says_class_and_fields():
    described = {
        "_target_": "tests.test_fields.Outer",
        "inner": {"_target_": "tests.test_fields.Inner", "width": 3, "rate": 0.5},
        "seed": 0,
        "several": [],
        "sizes": [1, 2],
        "added": 7,
        "note": None,
    }
    assert fields.content(Outer()) == described
    assert fields.content(Outer(), everything=True) == {**described, "place": "here"}


def test_a_field_at_its_since_value_is_left_out_and_at_any_other_it_counts():
    """The key is that of before the field existed, and the default may be another value than that."""
    described = fields.content(Outer(added=1))
    assert "added" not in described
    assert len({key(Outer(added=1)), key(Outer(added=7)), key(Outer(added=8))}) == 3
    assert fields.content(Outer(added=1), everything=True)["added"] == 1


@pytest.mark.parametrize("added", [1, 7, 8])
def test_rebuilding_a_content_gives_the_configuration(added):
    """Also where the content leaves a field out: it then has its since value, not its default."""
    outer = Outer(inner=Inner(width=9, rate=0.25), several=(Inner(), Inner(rate=2.0)), sizes=(4,), added=added)
    assert fields.rebuild(json.loads(json.dumps(fields.content(outer)))) == outer


def test_rebuilding_what_no_longer_exists_raises():
    described = fields.content(Outer())
    with pytest.raises(ImportError):
        fields.rebuild({**described, "_target_": "dd.gone.Outer"})
    with pytest.raises(AttributeError):
        fields.rebuild({**described, "_target_": "tests.test_fields.Gone"})
    with pytest.raises(TypeError):
        fields.rebuild({**described, "gone": 1})


def test_what_is_not_hashed_does_not_change_the_key_and_every_other_field_does():
    assert key(Outer(place="there")) == key(Outer())
    others = [Outer(inner=Inner(width=4)), Outer(inner=Inner(rate=0.6)), Outer(seed=1), Outer(several=(Inner(),))]
    others += [Outer(sizes=(2, 1)), Outer(sizes=(1,)), Outer(note="x"), Inner()]
    assert len({key(each) for each in [Outer(), *others]}) == 1 + len(others)


def test_a_file_stands_for_its_name_in_the_key():
    assert fields.content(Located(name="a")) == {"_target_": "tests.test_fields.Located", "file": "d1"}
    assert key(Located(name="a")) == key(Located(name="b"))


def test_equal_numbers_hash_alike_and_others_do_not():
    assert fields.digest({"a": [1, {"b": 2.0}]}) == fields.digest({"a": [1.0, {"b": 2}]})
    assert fields.digest({"a": 1, "b": 2}) == fields.digest({"b": 2, "a": 1})
    values = [1, 2, 1.5, "1", True, None, [1], 1 + 1e-12, -1]
    assert len({fields.digest(value) for value in values}) == len(values)
    assert fields.digest(0.0) == fields.digest(-0.0)
    with pytest.raises(ValueError, match="JSON compliant"):
        fields.digest(math.nan)


def test_the_static_content_has_no_leaf_at_any_depth():
    static = fields.content(Outer(several=(Inner(),)), leaves=False)
    inner = {"_target_": "tests.test_fields.Inner", "width": 3}
    assert static["inner"] == inner
    assert static["several"] == [inner]
    assert "seed" not in static
    assert static == fields.content(Outer(seed=5, inner=Inner(rate=9.0), several=(Inner(rate=1.0),)), leaves=False)


def test_static_content_and_leaves_together_tell_every_hashed_field():
    """What is left out of one is in the other: no number can be closed over and not tell programs apart."""
    base = Outer(several=(Inner(), Inner()))
    changed = [Outer(several=(Inner(), Inner(rate=0.7))), Outer(several=(Inner(), Inner(width=4))), Outer(seed=3)]
    seen = [(fields.content(each, leaves=False), dict(fields.leaves(each))) for each in [base, *changed]]
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


def test_leaves_are_named_by_their_place_and_keep_their_kind():
    outer = Outer(inner=Inner(rate=2), several=(Inner(rate=0.1), Inner(rate=0.2)))
    found = dict(fields.leaves(outer, "x."))
    assert found == {"x.inner.rate": 2.0, "x.seed": 0, "x.several.0.rate": 0.1, "x.several.1.rate": 0.2}
    assert isinstance(found["x.inner.rate"], float)  # an integer given for a float is another dtype in a program
    assert isinstance(found["x.seed"], int)


def test_a_bound_configuration_reads_its_leaves_from_the_arrays_and_the_original_keeps_its_own():
    outer = Outer(several=(Inner(),))
    arrays = {"inner.rate": 2.0, "seed": 3, "several.0.rate": 4.0}

    @jax.jit
    def compute(arrays):
        bound = fields.bind(outer, arrays)
        return bound.inner.rate + 10 * bound.seed + 100 * bound.several[0].rate + 1000 * bound.inner.width

    assert float(compute({name: jnp.float32(value) for name, value in arrays.items()})) == 3432.0
    assert outer == Outer(several=(Inner(),))
    with pytest.raises(KeyError):
        fields.bind(outer, {"seed": 1})


def test_configurations_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner().width = 4
    with pytest.raises(TypeError):
        Inner(4)


def test_what_has_no_canonical_content_is_refused():
    with pytest.raises(TypeError, match="no canonical content"):
        fields.content({"a": object()})


def test_a_files_digest_is_that_of_its_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"abc")
    assert fields.file_digest(one) == fields.file_digest(two) == "ba7816bf8f01cfea414140de5dae2223"
    two.write_bytes(b"abd")
    assert fields.file_digest(one) != fields.file_digest(two)
