"""Checkpoints: whole or not at all, and nothing believed unchecked."""

import dataclasses
import errno
import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from tinygan.checkpoint import FIELDS, NAMES, VECTORS, Checkpoint, load_checkpoint, save_checkpoint
from tinygan.errors import CheckpointError

ARCHITECTURE = {"G": "Network([Linear(3, 4)])", "D": "Network([Linear(4, 1)])"}


def checkpoint(n=5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    vectors = {name: rng.standard_normal(n + (name[-1] == "d")).astype(dtype) for name in VECTORS}
    return Checkpoint(
        **vectors,
        epoch=2,
        updates={"G": 20, "D": 40},
        architecture=ARCHITECTURE,
        metrics=[{"epoch": 1, "value": -1.3862943611198906}, {"epoch": 2, "value": -0.1}],
        configuration={"variant": "simultaneous", "seed": 0, "η": 0.1, "generator_cost": None},
    )


def content(it):
    """Everything in it, to the bit."""
    values = (getattr(it, field.name) for field in dataclasses.fields(it))
    return [(v.dtype.str, v.tobytes()) if isinstance(v, np.ndarray) else json.dumps(v) for v in values]


def member(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def header(descr, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def rewrite(path, members, compression=zipfile.ZIP_STORED):
    """The same archive with other bytes for some of its members; None removes one."""
    with zipfile.ZipFile(path) as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    new = old | {f"{name}.npy": data for name, data in members.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in new.items():
            if data is not None:
                archive.writestr(name, data)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, checkpoint())
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path, dtype):
    saved = checkpoint(dtype=dtype)
    saved.theta_g[:3] = [-0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    save_checkpoint(tmp_path / "c.npz", saved)
    assert content(load_checkpoint(tmp_path / "c.npz", ARCHITECTURE)) == content(saved)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_the_file_holds_no_clock_and_numpy_reads_it(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.npz", checkpoint())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: 1 / 0)
    save_checkpoint(tmp_path / "b.npz", checkpoint())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(NAMES)
        assert arrays["theta_d"].tobytes() == checkpoint().theta_d.tobytes()


def test_a_checkpoint_with_any_byte_changed_is_refused_or_says_the_same(path):
    good, expected, refusals = path.read_bytes(), content(load_checkpoint(path)), []
    places = range(0, len(good), 3)
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
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged, or not a checkpoint .*: take another"):
            load_checkpoint(path)


def test_a_tampered_vector_is_refused_though_the_zip_is_sound(path):
    rewrite(path, {"theta_g": member(checkpoint().theta_g + 1)})
    with pytest.raises(CheckpointError, match="altered since it was written"):
        load_checkpoint(path)


def test_a_tampered_text_is_refused(path):
    with zipfile.ZipFile(path) as archive:
        text = np.lib.format.read_array(io.BytesIO(archive.read("text.npy")), allow_pickle=False).tobytes()
    rewrite(path, {"text": member(np.frombuffer(text.replace(b"simultaneous", b"alternating "), np.uint8))})
    with pytest.raises(CheckpointError, match="altered since it was written"):
        load_checkpoint(path)


def false_promises():
    yield "absurd shape", {"theta_g": header("<f4", (10**12,))}
    yield "400 MB, twice", dict.fromkeys(("theta_g", "v_g"), header("<f4", (10**8,)))
    yield "two dimensions", {"theta_g": member(np.zeros((1, 5), np.float32))}
    yield "negative shape", {"theta_g": header("<f4", (-1,))}
    yield "pickled objects", {"theta_g": header("|O", (1,)) + b"\x80\x04N."}
    yield "strings", {"theta_g": member(np.array(["a" * 99]))}
    yield "integers", {"theta_g": member(np.zeros(5, np.int32))}
    yield "velocity of another length", {"v_g": member(np.zeros(4, np.float32))}
    yield "an array too many", {"theta_h": member(np.zeros(5, np.float32))}
    yield "an array missing", {"v_d": None}
    yield "an npy header without end", {"theta_g": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535}
    yield "a header that computes", {"theta_g": b"\x93NUMPY\x01\x00\x14\x00{'shape': 9**9**9**9}"}
    for text in (b"", b"null", b"[]", b"{}", b'{"format": 2}', b"[" * 10_000, json.dumps({"format": 1}).encode()):
        yield f"text {text[:20]!r}", {"text": member(np.frombuffer(text, np.uint8))}
    wrong = {"format": 1} | dict.fromkeys(FIELDS, "a string")
    yield "text of other types", {"text": member(np.frombuffer(json.dumps(wrong).encode(), np.uint8))}
    wrong = {"format": 1} | {key: kind() for key, kind in FIELDS.items()}
    yield "no updates", {"text": member(np.frombuffer(json.dumps(wrong).encode(), np.uint8))}


def test_what_is_no_checkpoint_is_refused_before_anything_large_is_allocated(path):
    good = path.read_bytes()
    for what, members in false_promises():
        path.write_bytes(good)
        rewrite(path, members)
        tracemalloc.start()
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged, or not a checkpoint"):
            load_checkpoint(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3e6, what


def test_a_zip_bomb_is_refused_before_it_is_unpacked(path):
    rewrite(path, {"theta_g": member(np.zeros(5_000_000, np.float32))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_another_architecture_is_refused_before_the_vectors_are_read(tmp_path):
    path = tmp_path / "large.npz"
    save_checkpoint(path, checkpoint(n=1_000_000))
    tracemalloc.start()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, ARCHITECTURE | {"D": "Network([Linear(5, 1)])"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6
    for words in (str(path), "its D is Network([Linear(4, 1)])", "not Network([Linear(5, 1)])", "another folder"):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_neither_saved_nor_loaded(path, monkeypatch, value):
    bad, before = checkpoint(), path.read_bytes()
    bad.v_d[3] = value
    with pytest.raises(CheckpointError, match="v_d has values that are not finite"):
        save_checkpoint(path, bad)
    assert path.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr("tinygan.checkpoint._require_finite", lambda *_: None)
        save_checkpoint(path, bad)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: v_d has values that are not finite"):
        load_checkpoint(path)


def test_metrics_that_are_not_finite_are_not_saved(path):
    bad, before = checkpoint(), path.read_bytes()
    for number in float("nan"), np.float32("inf"):
        bad.metrics[0]["value"] = number
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz: not written, .*JSON"):
            save_checkpoint(path, bad)
        assert path.read_bytes() == before


def test_numpys_numbers_are_saved_as_pythons(path):
    saved = checkpoint()
    saved.epoch, saved.metrics[0]["value"] = np.int64(3), np.float32(0.1)
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert (type(loaded.epoch), loaded.epoch, loaded.metrics[0]["value"]) == (int, 3, float(np.float32(0.1)))


@pytest.mark.parametrize(
    "change",
    [
        {"theta_g": np.zeros((5, 1), np.float32)},
        {"theta_g": np.zeros(5, np.int64)},
        {"theta_g": np.zeros(5, ">f4")},
        {"v_d": np.zeros(5, np.float32)},
        {"epoch": 1.0},
        {"updates": {"G": 20}},
        {"updates": {"G": 20, "D": "40"}},
        {"metrics": {}},
        {"configuration": {"a set": {1}}},
    ],
)
def test_what_could_not_be_loaded_is_not_saved(path, change):
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: not written, it could not be loaded"):
        save_checkpoint(path, dataclasses.replace(checkpoint(), **change))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


def test_a_missing_file_a_folder_and_another_file_are_refused_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    for name in ("missing.npz", "notes.txt", "."):
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            load_checkpoint(tmp_path / name)


def test_what_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "busy.npz.tmp").mkdir()
    for name in ("file/a.npz", "a" * 250 + ".npz", "busy.npz", "no/a.npz"):
        with pytest.raises(CheckpointError, match="not written"):
            save_checkpoint(tmp_path / name, checkpoint())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["busy.npz.tmp", "file"]


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match="Permission denied: make it readable"):
        load_checkpoint(path)


def test_a_full_disk_leaves_the_old_checkpoint_and_no_temporary(path):
    before = path.read_bytes()
    os.symlink("/dev/full", path.with_name("checkpoint.npz.tmp"))  # writing to it fails as on a full disk
    with pytest.raises(CheckpointError, match=r"not written \(No space left on device\).*make room"):
        save_checkpoint(path, checkpoint(n=100_000, seed=1))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


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
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


def test_data_reach_the_disk_before_the_rename_and_the_rename_after(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
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


def test_what_a_killed_save_left_behind_is_written_over(path):
    path.with_name("checkpoint.npz.tmp").write_bytes(b"half a checkpoint")
    save_checkpoint(path, checkpoint(seed=1))
    assert content(load_checkpoint(path)) == content(checkpoint(seed=1))
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]
