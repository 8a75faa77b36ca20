"""Checkpoints: whole or not at all, and nothing believed unchecked. What holds for both formats; format 1: test_format_1.py."""

import builtins
import dataclasses
import errno
import io
import json
import math
import os
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers import forge, member, refused, rewrite

from tinygan import (
    BatchNorm,
    Checkpoint,
    CheckpointError,
    Layer,
    Linear,
    Network,
    ReLU,
    Reshape,
    Tanh,
    load_checkpoint,
    save_checkpoint,
)

FIELDS = ("epoch", "updates", "architecture", "metrics", "configuration")
SIZES = {"G.theta": 16, "G.velocity": 16, "D.theta": 5, "D.first_moment": 5, "D.second_moment": 5, "state.chains": 7}


def networks(**other):
    return {"G": Network([Linear(3, 4)]), "D": Network([Linear(4, 1)])} | other


def checkpoint(dtype=np.float32, seed=0, **more):
    rng = np.random.default_rng(seed)
    vectors = {name: rng.standard_normal(n).astype(dtype) for name, n in (SIZES | more).items()}
    return Checkpoint(
        vectors=vectors,
        epoch=2,
        updates={"G": 20, "D": 40},
        architecture={name: network.describe() for name, network in networks().items()},
        metrics=[{"epoch": 1, "value": -1.3862943611198906}, {"epoch": 2, "value": -0.1}],
        configuration={"variant": "simultaneous", "seed": 0, "η": 0.1, "generator_cost": None},
    )


def fields(it, version=2):
    return {"format": version} | {name: getattr(it, name) for name in FIELDS}


def content(it):
    """Everything in it, to the bit."""
    vectors = {name: (vector.dtype.str, vector.shape, vector.tobytes()) for name, vector in it.vectors.items()}
    return vectors, [json.dumps(getattr(it, name)) for name in FIELDS]


def header(descr, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, checkpoint())
    return path


@pytest.fixture
def peak():
    """peak(): how many bytes were held at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------------------------
# What is written
# ---------------------------------------------------------------------------------------------------------------------


def test_as_many_vectors_are_saved_as_are_loaded(tmp_path):
    saved = dataclasses.replace(checkpoint(), vectors={f"state.x{i}": np.ones(1, np.float32) for i in range(1000)})
    save_checkpoint(tmp_path / "c.npz", saved)
    assert content(load_checkpoint(tmp_path / "c.npz")) == content(saved)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path, dtype):
    saved = checkpoint(dtype, **{"E.theta": 0})
    saved.vectors["G.theta"][:3] = [-0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    save_checkpoint(tmp_path / "c.npz", saved)
    assert content(load_checkpoint(tmp_path / "c.npz", networks())) == content(saved)
    assert names_in(tmp_path) == ["c.npz"]


def test_a_file_written_from_the_description_of_the_format_is_a_checkpoint(tmp_path):
    """Vectors of any order, player and name: of the names nothing is known but their shape."""
    it = checkpoint()
    it.vectors = {"Encoder_2.theta": np.ones(2, np.float64), "state.h": np.ones(1, np.float32)} | it.vectors
    forge(tmp_path / "c.npz", it.vectors, fields(it))
    assert content(load_checkpoint(tmp_path / "c.npz")) == content(it)


def test_the_file_holds_no_clock_and_numpy_reads_it(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.npz", checkpoint())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: 1 / 0)
    save_checkpoint(tmp_path / "b.npz", checkpoint())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert list(arrays) == [*SIZES, "text", "digest"]
        assert arrays["D.theta"].tobytes() == checkpoint().vectors["D.theta"].tobytes()


def test_numpys_numbers_are_saved_as_pythons(path):
    saved = checkpoint()
    saved.epoch, saved.metrics[0]["value"], saved.updates["G"] = np.int64(3), np.float32(0.1), np.int32(7)
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert (type(loaded.epoch), loaded.epoch, loaded.metrics[0]["value"]) == (int, 3, float(np.float32(0.1)))
    assert type(loaded.updates["G"]) is int


# ---------------------------------------------------------------------------------------------------------------------
# What is not what it was
# ---------------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_with_any_byte_changed_is_refused_or_says_the_same(path):
    good, expected, refusals = path.read_bytes(), content(load_checkpoint(path)), []
    places = range(0, len(good), 5)
    for i in places:
        path.write_bytes(good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :])
        try:
            assert content(load_checkpoint(path)) == expected, f"byte {i}"  # a date or a padding of the zip format
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 0.6 * len(places)
    assert all(str(path) in refusal for refusal in refusals)


def test_a_truncated_checkpoint_is_refused_by_name(path):
    good = path.read_bytes()
    for length in range(0, len(good), 13):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
            load_checkpoint(path)


@pytest.mark.parametrize("what", ["a vector", "the text", "a name", "the order"])
def test_what_was_tampered_with_is_refused_though_the_zip_is_sound(path, what):
    def parts(name):
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"{name}.npy")

    chains, text = parts("state.chains"), parts("text")
    changes = {
        "a vector": {"G.theta": member(checkpoint().vectors["G.theta"] + 1)},
        "the text": {"text": text.replace(b"simultaneous", b"alternating ")},
        "a name": {"state.chains": None, "text": None, "digest": None} | {"state.chain": chains, "text": text},
        "the order": {"state.chains": None, "text": None} | {"text": text},
    }
    if what == "the order":
        moments = {name: parts(name) for name in ("D.second_moment", "D.first_moment", "state.chains", "text", "digest")}
        rewrite(path, dict.fromkeys(moments))
        rewrite(path, moments)
    else:
        digest = parts("digest")
        rewrite(path, changes[what])
        rewrite(path, {"digest": digest})
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: altered"):
        load_checkpoint(path)


def false_promises():
    """Of which format and length the text is, which arrays there are, of which kind: {member: bytes}, None removes one."""
    five = np.zeros(5, np.float32)
    yield "absurd shape", {"D.theta": header("<f4", (10**12,))}
    yield "400 MB, twice", dict.fromkeys(("G.theta", "G.velocity"), header("<f4", (10**8,)))
    yield "two dimensions", {"D.theta": member(five[None])}
    yield "no dimension", {"D.theta": member(np.float32(1))}
    yield "negative shape", {"D.theta": header("<f4", (-1,))}
    yield "pickled objects", {"D.theta": header("|O", (1,)) + b"\x80\x04N."}
    yield "strings", {"D.theta": member(np.array(["a" * 99]))}
    for dtype in (np.int32, np.float16, np.complex64, bool, ">f4"):
        yield f"{dtype}", {"D.theta": member(five.astype(dtype))}
    yield "velocity of another length", {"G.velocity": member(np.zeros(15, np.float32))}
    yield "velocity of another dtype", {"G.velocity": member(np.zeros(16, np.float64))}
    yield "velocity of no player", {"F.velocity": member(five)}
    yield "θ missing, velocity there", {"G.theta": None}
    yield "no vectors", dict.fromkeys(SIZES)
    yield "no text", {"text": None}
    yield "no digest", {"digest": None}
    yield "text of numbers", {"text": member(five)}
    yield "digest of two dimensions", {"digest": member(np.zeros((4, 8), np.uint8))}
    yield "more vectors than any run has", {f"state.x{i}": member(five[:0]) for i in range(995)}
    for name in ("theta", "G.", ".theta", "G.a.b", "../G.theta", "G.theta ", "1.theta", f"G.{'a' * 65}", "theta_h", "theta_g"):
        yield f"a vector named {name}", {name: member(five)}
    yield "an npy header without end", {"D.theta": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535}
    yield "a header that computes", {"D.theta": b"\x93NUMPY\x01\x00\x14\x00{'shape': 9**9**9**9}"}
    yield "another version of npy", {"D.theta": member(five).replace(b"NUMPY\x01", b"NUMPY\x02", 1)}
    for text in (b"", b"null", b"[]", b"{}", b"[" * 10_000, b'{"format": 2}', b'{"format": 1}', b"\xff"):
        yield f"text {text[:20]!r}", {"text": member(np.frombuffer(text, np.uint8))}
    good = fields(checkpoint())
    for key, value in (
        ("format", 3),
        ("format", "2"),
        ("epoch", "2"),
        ("updates", {}),
        ("updates", [20, 40]),
        ("updates", {"G": 20}),
        ("updates", {"G": 20, "D": "40"}),
        ("updates", {"G": 20, "D": 40.0}),
        ("updates", {"G": 20, "D": None}),
        ("updates", {"G": 20, "E": 40}),
        ("architecture", {}),
        ("metrics", None),
        ("configuration", []),
        ("more", 1),
    ):
        text = json.dumps(good | {key: value}).encode()
        yield f"{key}: {value!r}", {"text": member(np.frombuffer(text, np.uint8))}
    for key in good:
        text = json.dumps({name: value for name, value in good.items() if name != key}).encode()
        yield f"no {key}", {"text": member(np.frombuffer(text, np.uint8))}


def test_what_is_no_checkpoint_is_refused_before_anything_large_is_allocated(path):
    good = path.read_bytes()
    for what, members in false_promises():
        path.write_bytes(good)
        rewrite(path, members)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
                load_checkpoint(path)
            assert tracemalloc.get_traced_memory()[1] < 3e6, what
        except pytest.fail.Exception as failure:
            raise AssertionError(f"{what}: it was loaded") from failure
        finally:
            tracemalloc.stop()


def nested(depth):
    return [] if depth == 1 else [nested(depth - 1)]


def layer(**config):
    return [{"class": "Linear", "config": {"n_in": 4, "n_out": 1} | config}]


def architecture(D):
    return {"architecture": fields(checkpoint())["architecture"] | {"D": D}}


WRONG = [  # the digest is right; the first words are those of the message
    ("epoch", {"epoch": -5}),
    ("epoch", {"epoch": True}),
    ("epoch", {"epoch": 10**400}),
    ("epoch", {"epoch": 10**9 + 1}),
    ("4300", b'{"format": 2, "epoch": ' + b"9" * 5000),
    ("format|version", {"format": True}),
    ("format|version", {"format": 2.0}),
    ("format|version", {"format": None}),
    ("D made", {"updates": {"G": 20, "D": True}}),
    ("D made", {"updates": {"G": 20, "D": -1}}),
    ("G made", {"updates": {"G": 10**400, "D": 40}}),
    ("metrics", {"metrics": [1, 2]}),
    ("metrics", {"metrics": ["epoch"]}),
    ("metrics", {"metrics": [None]}),
    ("metrics", {"metrics": [[["epoch", 1]]]}),
    ("metrics", {"metrics": [{"epoch": 1, "value": None}]}),
    ("metrics", {"metrics": [{"epoch": 1, "value": "-1.4"}]}),
    ("metrics", {"metrics": [{"epoch": 1, "value": True}]}),
    ("metrics", {"metrics": [{"epoch": 1, "value": [1.0]}]}),
    ("metrics", {"metrics": [{"epoch": 1, "value": 10**400}]}),
    ("metrics", {"metrics": [{"epoch": -5}]}),
    ("metrics", {"metrics": [{"epoch": 1.5}]}),
    ("NaN", {"metrics": [{"epoch": 1, "value": math.nan}]}),
    ("-Infinity", {"metrics": [{"epoch": 1, "value": -math.inf}]}),
    ("NaN", {"configuration": {"learning_rate": math.nan}}),
    ("Infinity", {"configuration": {"learning_rate": math.inf}}),
    ("50 deep", {"configuration": {"a": nested(60)}}),
    ("recursion", b'{"format": 2, "epoch": ' + b"[" * 100_000),
    ("D", architecture(None)),
    ("D", architecture("Network([Linear(4, 1)])")),
    ("D", architecture(7)),
    ("D", architecture({"class": "Linear", "config": {}})),
    ("layer 0 of D", architecture([None])),
    ("layer 0 of D", architecture([{"class": "Linear"}])),
    ("layer 0 of D", architecture([{"class": 3, "config": {}}])),
    ("layer 0 of D", architecture([{"class": "Linear", "config": [4, 1]}])),
    ("layer 0 of D has a size of an integer of 1329 bits", architecture(layer(n_in=10**400))),
    ("layer 0 of D has a size", architecture(layer(n_in=2**60))),
    ("layer 0 of D has a size", architecture([{"class": "Reshape", "config": {"shape": [2, -(10**30)]}}])),
    ("50 deep", architecture(layer(weight=nested(60)))),
    ("at most 10000 layers", architecture([{"class": "ReLU", "config": {}}] * 10_001)),
]


@pytest.mark.parametrize(("words", "change"), WRONG, ids=range(len(WRONG)))
def test_wrong_entries_under_a_right_digest_are_refused_where_they_are_read(tmp_path, words, change):
    it = checkpoint()
    forge(tmp_path / "c.npz", it.vectors, change if isinstance(change, bytes) else fields(it) | change)
    with pytest.raises(CheckpointError, match=rf"c\.npz: damaged.*({words})") as caught:
        load_checkpoint(tmp_path / "c.npz")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("change", [{"epoch": -5}, {"epoch": True}, {"metrics": [{"value": True}]}, architecture([None])])
def test_they_are_not_saved_either(path, change):
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: not written"):
        save_checkpoint(path, dataclasses.replace(checkpoint(), **change))
    assert path.read_bytes() == before


@pytest.mark.parametrize(("make", "word"), [(os.mkfifo, "pipe"), (lambda path: path.symlink_to("/dev/zero"), "device")])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, make, word):
    make(tmp_path / "c.npz")
    with refused(tmp_path / "c.npz", word, error=CheckpointError):
        load_checkpoint(tmp_path / "c.npz")


def test_two_arrays_of_one_name_are_refused(path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("D.theta.npy", member(np.zeros(5, np.float32)))
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("array", [np.array(["a" * 9]), np.zeros(5, np.int32), np.zeros((5, 1), np.float32)])
def test_a_name_of_format_1_in_format_2_hides_no_array_from_the_checks(tmp_path, array):
    """Before D.theta, whose name it has in format 1; the digest is right."""
    it = checkpoint()
    forge(tmp_path / "c.npz", {"theta_d": array} | it.vectors, fields(it))
    with pytest.raises(CheckpointError, match=r"c\.npz: damaged.*theta_d"):
        load_checkpoint(tmp_path / "c.npz")


def test_sizes_that_the_zip_promises_falsely_are_refused_before_anything_is_allocated(path, peak):
    """The header of the array and the directory of the zip agree on 400 MB; the file is small."""
    tracemalloc.stop()
    rewrite(path, {"D.theta": header("<f4", (10**8,))})
    data = bytearray(path.read_bytes())
    entry = next(m.start() for m in re.finditer(b"PK\x01\x02", data) if data[m.start() + 46 :].startswith(b"D.theta.npy"))
    struct.pack_into("<II", data, entry + 20, *[len(header("<f4", (10**8,))) + 4 * 10**8] * 2)
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
        load_checkpoint(path)
    assert peak() < 3e6


@pytest.mark.parametrize("name", ["text", "digest"])
def test_the_right_bytes_under_another_dtype_are_refused(path, name):
    with np.load(path) as arrays:
        same = np.frombuffer(arrays[name].tobytes().ljust(-(-len(arrays[name]) // 4) * 4), np.uint32)
    rewrite(path, {name: member(same)})
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
        load_checkpoint(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(path, peak):
    tracemalloc.stop()
    rewrite(path, {"D.theta": member(np.zeros(5_000_000, np.float32))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(path)
    assert peak() < 1e6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["D.second_moment", "state.chains"])
def test_what_is_not_finite_is_neither_saved_nor_loaded(path, name, value):
    bad, before = checkpoint(), path.read_bytes()
    bad.vectors[name][3] = value
    with pytest.raises(CheckpointError, match=rf"checkpoint\.npz: {name} has values that are not finite"):
        save_checkpoint(path, bad)
    assert path.read_bytes() == before
    forge(path, bad.vectors, fields(bad))
    with pytest.raises(CheckpointError, match=rf"checkpoint\.npz: {name} has values that are not finite"):
        load_checkpoint(path)


# ---------------------------------------------------------------------------------------------------------------------
# Of other networks
# ---------------------------------------------------------------------------------------------------------------------


def test_another_architecture_is_refused_before_the_vectors_are_read(tmp_path, peak):
    path = tmp_path / "large.npz"
    tracemalloc.stop()
    save_checkpoint(path, checkpoint(**{"E.theta": 1_000_000}))
    other = networks(D=Network([Linear(5, 1)]))
    tracemalloc.start()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, other)
    assert peak() < 1e6
    for fact in (str(path), "its D is", "layer 0", "'n_in': 4", "'n_in': 5"):
        assert fact in str(caught.value)
    assert "'n_in': 3" not in str(caught.value)  # G's


@pytest.mark.parametrize(
    ("player", "network"),
    [
        ("D", lambda: Network([Linear(4, 1, bias=None)])),
        ("D", lambda: Network([Linear(4, 1), BatchNorm(1)])),
        ("D", lambda: Network([])),
        ("E", lambda: Network([Linear(4, 1)])),
    ],
)
def test_what_differs_in_a_layer_or_is_not_there_at_all_is_another_architecture(path, player, network):
    with pytest.raises(CheckpointError, match=f"its {player} is"):
        load_checkpoint(path, {player: network()})


@pytest.mark.parametrize(
    ("layers", "facts"),
    [
        ([Linear(4, 8), ReLU(), Linear(8, 2)], ["layer 2", "'n_out': 1", "'n_out': 2"]),
        ([Linear(4, 8), Tanh(), Linear(8, 1)], ["layer 1", "ReLU", "Tanh"]),
        ([Linear(4, 8), ReLU()], ["layer 2", "'n_in': 8", "network no layer"]),
        ([Linear(4, 8), ReLU(), Linear(8, 1), ReLU()], ["layer 3", "has no layer", "'ReLU'"]),
    ],
)
def test_of_a_different_architecture_the_first_layer_that_differs_is_named_and_no_other(path, layers, facts):
    saved = checkpoint()
    saved.architecture["D"] = Network([Linear(4, 8), ReLU(), Linear(8, 1)]).describe()
    save_checkpoint(path, saved)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, {"D": Network(layers)})
    for fact in facts:
        assert fact in str(caught.value)
    assert "'n_out': 8" not in str(caught.value)  # of the layer that is equal


def test_of_some_networks_only_those_are_asked_for(path):
    assert content(load_checkpoint(path, {"G": networks()["G"]})) == content(checkpoint())


class Crop(Layer):
    """A reader's own layer, whose config JSON can hold, though not as Python has it: a tuple, a NumPy number."""

    def __init__(self, shape):
        self.shape = shape

    def config(self):
        return {"shape": self.shape, "n": np.int64(self.shape[0])}


@pytest.mark.parametrize("layer", [lambda: Crop((2, 2)), lambda: Reshape((2, 2)), lambda: BatchNorm(2, momentum=0.1)])
def test_the_architecture_is_compared_as_json_has_it(path, layer):
    saved = checkpoint()
    saved.architecture["D"] = Network([layer()]).describe()
    save_checkpoint(path, saved)
    assert content(load_checkpoint(path, {"D": Network([layer()])})) == content(load_checkpoint(path))
    with pytest.raises(CheckpointError, match="its D is"):
        load_checkpoint(path, {"D": Network([Crop((2, 3))])})


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be saved
# ---------------------------------------------------------------------------------------------------------------------


def vectors(**changes):
    return {"vectors": checkpoint().vectors | {name.replace("_", ".", 1): array for name, array in changes.items()}}


@pytest.mark.parametrize(
    "change",
    [
        vectors(D_theta=np.zeros((5, 1), np.float32)),
        vectors(D_theta=np.zeros(5, np.int64)),
        vectors(D_theta=np.zeros(5, ">f4")),
        vectors(D_theta=np.zeros(5, object)),
        vectors(G_velocity=np.zeros(5, np.float32)),
        vectors(theta=np.zeros(5, np.float32)),
        {"vectors": vectors()["vectors"] | {"theta_g": np.zeros(16, np.float32)}},
        {"vectors": {}},
        {"vectors": {f"state.x{i}": np.zeros(0, np.float32) for i in range(1001)}},
        {"epoch": 1.0},
        {"updates": {"G": 20}},
        {"updates": {"G": 20, "D": "40"}},
        {"metrics": {}},
        {"metrics": [{"value": float("nan")}]},
        {"metrics": [{"value": np.float32("inf")}]},
        {"configuration": {"a set": {1}}},
        {"configuration": {"an array": np.zeros(2)}},
    ],
)
def test_what_could_not_be_loaded_is_not_saved(path, change):
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: not written"):
        save_checkpoint(path, dataclasses.replace(checkpoint(), **change))
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["checkpoint.npz"]


def test_a_missing_file_a_folder_and_another_file_are_refused_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    for name in ("missing.npz", "notes.txt", "."):
        with pytest.raises(CheckpointError, match=str(tmp_path / name)):
            load_checkpoint(tmp_path / name)


def test_what_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "taken.npz").mkdir()
    for name in ("file/a.npz", "a" * 250 + ".npz", "taken.npz", "no/a.npz"):
        with pytest.raises(CheckpointError, match=f"{name}: not written") as caught:
            save_checkpoint(tmp_path / name, checkpoint())
        assert " MB" not in str(caught.value)  # room is not what it lacks
    assert names_in(tmp_path) == ["file", "taken.npz"]


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: Permission denied") as caught:
        load_checkpoint(path)
    assert "damaged" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Whole or not at all
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_temporary(path, monkeypatch, size):
    """Of a small checkpoint the last write fails, of a large one the first."""
    before, real, opened = path.read_bytes(), builtins.open, []

    def full(name, mode="r", *args, **kwargs):
        file = real(name, mode, *args, **kwargs)
        if "r" in mode:
            return file
        opened.append(name)
        file.close()
        return real("/dev/full", "wb")  # writing to it fails as on a full disk

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: not written \(No space left on device\).* room for 1 MB"):
        save_checkpoint(path, checkpoint(seed=1, **{"E.theta": size}))
    assert len(opened) == 1
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["checkpoint.npz"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_before_the_rename_leaves_the_old_checkpoint(path, monkeypatch, function, error):
    before = path.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(CheckpointError if isinstance(error, OSError) else KeyboardInterrupt):
        save_checkpoint(path, checkpoint(seed=1))
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["checkpoint.npz"]


def test_data_reach_the_disk_before_the_rename_and_the_rename_after(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(target):
            assert target == str(path.parent)
        else:
            load_checkpoint(target)  # nothing is left in a buffer
        calls.append("folder" if os.path.isdir(target) else "file")
        fsync(descriptor)

    def recorded_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)  # a rename across file systems is not atomic
        load_checkpoint(source)
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    save_checkpoint(path, checkpoint(seed=1))
    assert calls == ["file", "rename", "folder"]


def test_a_file_system_that_syncs_no_folder_is_no_failure(path, monkeypatch):
    fsync = os.fsync

    def picky(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    save_checkpoint(path, checkpoint(seed=1))
    assert content(load_checkpoint(path)) == content(checkpoint(seed=1))


def test_two_that_save_at_once_do_not_meet(path, monkeypatch):
    """While one has its file written but not renamed, the other saves; a killed one's file is not touched."""
    (path.parent / "checkpoint.npz.tmp").write_bytes(b"half a checkpoint")
    replace, sources = os.replace, []

    def slow(source, target):
        sources.append(source)
        if len(sources) == 1:
            save_checkpoint(path, checkpoint(seed=2))
            assert content(load_checkpoint(path)) == content(checkpoint(seed=2))
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
    save_checkpoint(path, checkpoint(seed=1))
    assert len(set(sources)) == 2
    assert content(load_checkpoint(path)) == content(checkpoint(seed=1))
    assert names_in(path.parent) == ["checkpoint.npz", "checkpoint.npz.tmp"]
