"""load_tfd: the parts of the data set, and the files that it refuses. The files are written from the format's description."""

import io
import math
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import refused
from scipy.io import loadmat, savemat

from tinygan import DataError, load_tfd
from tinygan.datasets import load_data, tfd

N, UNLABELLED = 22, 7
CLASSES = {"u1": 9, "i2": 10, "i4": 12, "f8": 6}  # of arrays, and below the types of numbers
TYPES = {"u1": 2, "i2": 3, "i4": 5, "f8": 9}


def variables(seed=0, unlabelled=UNLABELLED):
    """The variables of a small file in TFD's format: in each fold 5 faces to train with, 4 to validate and 6 to test."""
    rng = np.random.default_rng(seed)
    folds = np.zeros((unlabelled + 15, 5), np.uint8)
    for fold in folds.T:
        fold[unlabelled:] = rng.permutation([1] * 5 + [2] * 4 + [3] * 6)
    labels = np.full((len(folds), 1), -1, np.int16)
    labels[unlabelled:] = rng.integers(1, 8, (15, 1))
    images = rng.integers(0, 256, (len(folds), 48, 48), dtype=np.uint8)
    return {"images": images, "folds": folds, "labs_ex": labels, "labs_id": labels.astype(np.int32)}


def part(order, kind, data):
    if len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}2I", kind, len(data)) + data + bytes(-len(data) % 8)


def element(name, array, order="<", compressed=False, kind=None, shape=None, flags=0):
    """One variable. kind and shape: what it states in the place of what the array has."""
    code = array.dtype.str[1:]
    parts = part(order, 6, struct.pack(f"{order}2I", flags | (CLASSES[code] if kind is None else kind), 0))
    parts += part(order, 5, struct.pack(f"{order}{array.ndim}i", *(shape or array.shape)))
    parts += part(order, 1, name.encode()) + part(order, TYPES[code], array.astype(order + code).tobytes("F"))
    whole = struct.pack(f"{order}2I", 14, len(parts)) + parts
    return (lambda data: struct.pack(f"{order}2I", 15, len(data)) + data)(zlib.compress(whole)) if compressed else whole


def mat(elements, order="<"):
    version = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    return b"MATLAB 5.0 MAT-file, a test".ljust(124) + version + b"".join(elements)


def file_of(arrays, order="<", compressed=False):
    return mat([element(name, array, order, compressed) for name, array in arrays.items()], order)


@pytest.fixture
def path(tmp_path):
    return tmp_path / tfd.FILE


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_the_parts_of_the_data_set(path, order, compressed):
    given = variables()
    path.write_bytes(file_of(given, order, compressed))
    found = load_tfd(path)
    flat, folds, labels = given["images"].reshape(-1, 2304), given["folds"], given["labs_ex"][:, 0]
    assert np.array_equal(found.train.images, flat[:UNLABELLED])
    assert set(found.train.labels.tolist()) == {-1}
    assert len(found.folds) == 5
    for i, pair in enumerate(found.folds):
        for split, number in zip(pair, (2, 3), strict=True):
            assert np.array_equal(split.images, flat[folds[:, i] == number])
            assert np.array_equal(split.labels, labels[folds[:, i] == number])
            assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int16)
            assert split.images.flags.c_contiguous
    assert (found.validation, found.test) == found.folds[0]
    assert found.image_shape == (48, 48)
    assert found.name == f"mat-{path.parent.name}"
    assert f"{N} faces" in found.source
    assert load_tfd(path.parent).digest == load_data(path).digest == load_data(path.parent).digest == found.digest


def test_matlabs_own_ways_to_write_numbers(path):
    """MATLAB stores the numbers of a double array in as few bytes as they fit in; scipy writes the same file otherwise."""
    given = variables()
    savemat(path, given | {"folds": given["folds"].astype(float)}, do_compression=True)
    digest = load_tfd(path).digest
    folds = element("folds", given["folds"], kind=6)
    path.write_bytes(mat([element("images", given["images"]), folds, element("labs_ex", given["labs_ex"])]))
    assert load_tfd(path).digest == digest


def test_the_digest_is_of_all_folds(path):
    given = variables()
    path.write_bytes(file_of(given))
    digest = load_tfd(path).digest
    row = np.flatnonzero((given["folds"][:, 0] == 1) & (given["folds"][:, 3] == 3))[0]  # in no part of fold 0
    given["images"][row, 0, 0] ^= 1
    path.write_bytes(file_of(given))
    assert load_tfd(path).digest != digest


def test_a_face_that_is_unlabelled_in_one_fold_alone_does_not_train(path):
    given = variables()
    given["folds"][UNLABELLED, 0] = 0  # and in the other folds it may be a test face
    path.write_bytes(file_of(given))
    assert len(load_tfd(path).train) == UNLABELLED


def test_kinds_of_variables_that_are_not_numbers_are_passed_over(path):
    extra = {"cell": np.array([1, "a"], object), "text": "abc", "struct": {"a": 1}, "complex": np.ones(2, complex)}
    savemat(path, extra | variables())
    assert len(load_tfd(path).train) == UNLABELLED
    for kind in 1, 2, 3, 4, 5, 16, 17:  # cell, struct, object, text, sparse, function, opaque
        path.write_bytes(mat([element("images", variables()["images"], kind=kind)]))
        with refused("images", kind, error=DataError):
            load_tfd(path)


@pytest.mark.parametrize("name", [None, "nowhere.mat", "."])
def test_where_there_is_no_file_it_says_whom_to_ask(tmp_path, name):
    with refused("Toronto", "Susskind", tfd.FILE, error=DataError):
        load_tfd(name and tmp_path / name)


def changed(**arrays):
    return file_of(variables() | arrays)


WRONG = {  # bytes, and what the message says of them
    "empty": (b"", ["format 5"]),
    "a text": (b"images, folds" * 50, ["format 5"]),
    "HDF5": (b"MATLAB 7.3 MAT-file".ljust(600), ["7.3", "-v7"]),
    "another file of MATLAB's": (mat([element("x", np.arange(10.0))]), ["images", "folds", "labs_ex", "x"]),
    "no folds": (file_of({"images": variables()["images"]}), ["folds, labs_ex"]),
    "twice": (file_of(variables()) + element("folds", variables()["folds"]), ["folds", "twice"]),
    "floats": (changed(images=variables()["images"].astype("f8")), ["float64"]),
    "rows": (changed(images=variables()["images"].reshape(N, 2304)), [f"({N}, 2304)", "48"]),
    "other sizes": (changed(images=np.zeros((N, 32, 32), np.uint8)), [f"({N}, 32, 32)", "48"]),
    "fewer images": (changed(images=variables()["images"][:-1]), ["21", f"({N}, 5)"]),
    "four folds": (changed(folds=variables()["folds"][:, :4]), [f"({N}, 4)"]),
    "a fold of 4": (changed(folds=variables()["folds"] + (variables()["folds"] == 3)), ["folds", "0 to 4"]),
    "half a fold": (changed(folds=variables()["folds"] / 2), ["folds", "whole"]),
    "labels": (changed(labs_ex=variables()["labs_ex"] + np.int16(9)), ["labs_ex", "16"]),
    "all labelled": (file_of(variables(unlabelled=0)), ["unlabelled"]),
    "no test set": (changed(folds=np.minimum(variables()["folds"], 2)), ["fold 0", "test"]),
    "no images": (changed(images=np.zeros((0, 48, 48), np.uint8)), ["(22, 5)"]),
    "half a file": (file_of(variables())[:40_000], ["are there"]),
    "its end missing": (file_of(variables())[:-2], ["are there"]),
    "cut in a tag": (file_of(variables()) + b"\x0e\0\0", ["are there"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_named_with_what_is_wrong(path, what):
    data, facts = WRONG[what]
    path.write_bytes(data)
    with refused(path, *facts, error=DataError):
        load_tfd(path)


HUGE = (10_000, 48, 48)  # 23 MB


def start_of_a_huge_one():
    """The start of an element whose sizes agree on 10,000 images, with four of them."""
    whole = bytearray(element("images", np.zeros((4, 48, 48), np.uint8), shape=HUGE))
    at = whole.index(struct.pack("<2I", 2, 4 * 2304))
    whole[at : at + 8] = struct.pack("<2I", 2, math.prod(HUGE))
    whole[4:8] = struct.pack("<I", math.prod(HUGE) + at)
    return bytes(whole)


def compressed(data):
    data = zlib.compress(data, 1)
    return mat([struct.pack("<2I", 15, len(data)) + data])


PROMISES = {
    "a shape": mat([element("images", np.zeros((4, 48, 48), np.uint8), shape=HUGE)]),
    "a shape, compressed": compressed(element("images", np.zeros((4, 48, 48), np.uint8), shape=HUGE)),
    "all sizes": start_of_a_huge_one()[:8].join([mat([]), start_of_a_huge_one()[8:]]),
    "all sizes, compressed": compressed(start_of_a_huge_one()),
    "four images, and 23 MB behind them": compressed(element("images", np.zeros((4, 48, 48), np.uint8)) + bytes(23_040_000)),
}


@pytest.mark.parametrize("what", PROMISES)
def test_a_promise_of_much_memory_takes_little(path, what):
    path.write_bytes(PROMISES[what])
    loadmat(io.BytesIO(file_of({"folds": variables()["folds"]})))  # so that scipy's import is not measured
    tracemalloc.start()
    try:
        with refused(path, *([10_000, 4 * 2304] if what.startswith("a shape") else []), error=DataError):
            load_tfd(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
