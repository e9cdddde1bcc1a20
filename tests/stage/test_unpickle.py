"""Pickles of arrays are read as Python would read them; whatever else a pickle can do is refused, and not done."""

import builtins
import collections
import copyreg
import io
import os
import pickle
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from dd.errors import UserError
from dd.stage import unpickle

DONE = []


def witness(*given):
    """What no reading may ever call."""
    DONE.append(given)
    return {}


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *given):
        self.function, self.given = function, given

    def __reduce__(self):
        return self.function, self.given


class Plain:
    """Pickled as an object with attributes."""

    def __init__(self):
        self.__dict__["x"] = 1


@pytest.fixture
def read(tmp_path):
    """The value of a file with these bytes."""

    def call(data):
        (tmp_path / "policy.pkl").write_bytes(data)
        return unpickle.read(tmp_path / "policy.pkl")

    return call


@pytest.fixture
def refused(read):
    """The one line with which such a file is refused; nothing has been called."""

    def call(data):
        with pytest.raises(UserError) as caught:
            read(data)
        line = str(caught.value)
        assert DONE == []
        assert "policy.pkl: " in line
        assert "\n" not in line
        return line

    return call


def same(found, value):
    if isinstance(value, dict):
        assert type(found) is dict
        assert list(found) == list(value)
        return all(same(found[key], value[key]) for key in value)
    if isinstance(value, list | tuple):
        assert type(found) is type(value)
        return len(found) == len(value) and all(map(same, found, value))
    if hasattr(value, "dtype"):
        assert type(found) is np.ndarray
        assert found.dtype == value.dtype.newbyteorder("=")
        return found.shape == value.shape and np.array_equal(found, value)
    return found == value and type(found) is type(value)


SHARED = np.arange(6, dtype=np.float32).reshape(2, 3)
VALUES = {
    "nested": {"in_proj": {"kernel": SHARED, "bias": None}, "mlp_stack": {0: {"kernel": SHARED.T}, 1: {}}},
    "shared": [SHARED, SHARED, [SHARED]],
    "of jax": {"kernel": jnp.ones((2, 3)), "step": jnp.asarray(3)},
    "kinds": [np.ones(2, kind) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")],
    "big-endian": np.arange(3, dtype=">f4"),
    "scalars": [np.float32(2.5), np.int64(-3)],
    "empty": [np.zeros((0, 3), np.float32), {}, [], (), ""],
    "plain": [True, False, None, 3, -(2**80), 2.5, "text", (1, (2, 3, 4, 5)), "é" * 300],
    "many": {i: [i] for i in range(2000)},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_is_pickled_is_read(read, value, protocol):
    assert same(read(pickle.dumps(value, protocol)), value)


def test_files_of_older_numpy_are_read(read):
    """numpy 1 has its functions in numpy.core; by hand, for this numpy writes numpy._core."""
    now = pickle.dumps({"kernel": SHARED}, protocol=3)
    assert b"cnumpy._core.multiarray\n_reconstruct\n" in now
    assert same(read(now.replace(b"numpy._core.", b"numpy.core.")), {"kernel": SHARED})


def _instruction(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def _name(module, name):
    return b"c" + f"{module}\n{name}\n".encode()


WITNESS = _name(__name__, "witness")
HOSTILE = {
    "a call": (pickle.dumps({"x": Calls(os.system, "true")}), "names posix.system"),
    "a call of eval": (pickle.dumps(Calls(builtins.eval, "1")), "names builtins.eval"),
    "a call of exec, old": (pickle.dumps(Calls(builtins.exec, "1"), 0), "names __builtin__.exec"),
    "our witness": (pickle.dumps([Calls(witness, 1)]), f"names {__name__}.witness"),
    "a gadget": (pickle.dumps(Calls(getattr, {}, "clear")), "names builtins.getattr"),
    "a name alone": (pickle.dumps(np.load), "names numpy.load"),
    "a dotted name": (_instruction(b"\x8c\x05numpy\x8c\x0cndarray.dump\x93"), "names numpy.ndarray.dump"),
    "a name that is no text": (_instruction(b"K\x01", b"\x8c\x01x", b"\x93"), "names what is no text"),
    "an object": (pickle.dumps(Plain()), f"names {__name__}.Plain"),
    "an object, old": (pickle.dumps(Plain(), 0), "names copy_reg._reconstructor"),
    "an old instance": (b"(i" + f"{__name__}\nwitness\n.".encode(), "holds the instruction INST"),
    "an old call": (b"(" + WITNESS + b"o.", f"names {__name__}.witness"),
    "an ordered dict": (pickle.dumps(collections.OrderedDict(a=1)), "names collections.OrderedDict"),
    "a set": (pickle.dumps({1, 2}), "holds the instruction EMPTY_SET"),
    "bytes": (pickle.dumps({"x": b"1"}), "holds a bytes"),
    "a complex number": (pickle.dumps(1j), "names builtins.complex"),
    "an array of objects": (pickle.dumps(np.array([{}, None])), "holds an array of kind 'O8'"),
    "an array of texts": (pickle.dumps(np.array(["a"])), "holds an array of kind 'U1'"),
    "an array of records": (pickle.dumps(np.zeros(2, "i4,f4")), "holds an array of kind 'V8'"),
    "a kind whose flags lie": (
        _instruction(
            _name("numpy", "dtype"), b"\x8c\x02f4\x85R", b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
        ),
        "structured or odd numbers",
    ),
    "a method of an array": (pickle.dumps(SHARED.tobytes), "names builtins.getattr"),
    "the array's own class": (_instruction(_name("numpy", "ndarray"), b"K\x01\x85R"), "calls numpy.ndarray"),
    "a call of what was made": (_instruction(_name("numpy", "dtype"), b"\x8c\x02f4\x85R", b")R"), "calls a Dtype"),
    "state of a list": (_instruction(b"]", b"}\x8c\x01x\x4b\x01sb"), "sets the state of a list"),
    "state of a name": (_instruction(_name("numpy", "dtype"), b"}b"), "sets the state of a Name"),
    "state set twice": (
        pickle.dumps(SHARED, 3)[:-1] + b"}b.",
        "sets the state of a Array",
    ),
    "appended to a dict": (_instruction(b"}K\x01a"), "changes a dict"),
    "set in a list": (_instruction(b"]K\x01K\x02s"), "changes a list"),
    "a tuple as a key": (pickle.dumps({(1, 2): 3}), "has a tuple as a key"),
    "an extension": (_instruction(b"\x82\xf0"), "holds the instruction EXT1"),
    "a persistent name": (b"Pwhere\n.", "holds the instruction PERSID"),
    "a persistent object": (_instruction(b"K\x01Q"), "holds the instruction BINPERSID"),
    "a buffer of its own": (b"\x80\x05\x97.", "holds the instruction NEXT_BUFFER"),
    "a new object": (_instruction(_name("numpy", "dtype"), b")\x81"), "holds the instruction NEWOBJ"),
    "a list that holds itself": (_instruction(b"]\x94h\x00a"), "holds itself"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_else_a_pickle_can_do_is_refused_and_not_done(refused, data, words):
    line = refused(data)
    assert words in line
    assert "only arrays, dicts, lists, texts and numbers are read" in line


def test_the_extension_registry_is_no_way_in(refused):
    code = 240
    copyreg.add_extension(__name__, "witness", code)
    try:
        data = pickle.dumps(Calls(witness, 1))
        assert bytes([0x82, code]) in data
        assert "holds the instruction EXT1" in refused(data)
    finally:
        copyreg.remove_extension(__name__, "witness", code)


def test_python_itself_would_have_done_it():
    """The witness works: what the tests above refuse is what pickle does."""
    pickle.loads(pickle.dumps([Calls(witness, 1)]))
    assert DONE == [(1,)]
    DONE.clear()


def test_objects_that_are_persistent_are_refused(refused):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "there" if isinstance(value, Plain) else None

    with io.BytesIO() as file:
        Pickler(file, 4).dump({"x": Plain()})
        assert "BINPERSID" in refused(file.getvalue())


@pytest.mark.parametrize("length", [0, 1, 12, 60, 150, -1])
def test_a_torn_file_is_refused(refused, length):
    assert "not a readable pickle of arrays" in refused(pickle.dumps({"kernel": SHARED}, 4)[:length])


LIES = {
    "no pickle": b"a text file",
    "nothing to take": b"\x80\x04R.",
    "nothing at all": b"\x80\x04.",
    "two values": _instruction(b"K\x01K\x02"),
    "below a mark": _instruction(b"K\x01(a"),
    "no mark": _instruction(b"t"),
    "no such memory": _instruction(b"h\x07"),
    "a length beyond the file": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "a shape beyond its bytes": pickle.dumps(SHARED, 3).replace(b"K\x02K\x03\x86", b"K\x02K\x05\x86"),
    "a negative shape": pickle.dumps(SHARED, 3).replace(b"K\x02K\x03\x86", b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86"),
    "a state that is none": _instruction(_name("numpy", "dtype"), b"\x8c\x02f4\x85RK\x01b"),
    "too deep": _instruction(b"]" + b"]" * 5000 + b"a" * 5000),
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_file_that_lies_is_refused(refused, data):
    assert "not a readable pickle of arrays" in refused(data)


def test_what_is_held_many_times_is_looked_at_once(read):
    """2^60 leaves by 60 lists that hold the next one twice."""
    doubled = []
    for _ in range(60):
        doubled = [doubled, doubled]
    found = read(pickle.dumps(doubled))
    for _ in range(60):
        assert found[0] is found[1]
        found = found[0]
