"""What --data means: load_data finds MNIST's files, other IDX files, pictures and arrays, or says what it found instead."""

import gzip
import os

import numpy as np
import pytest
from helpers import idx, refused
from PIL import Image

from tinygan.datasets import load_data, load_images, load_mnist, write_idx
from tinygan.datasets.mnist import FILES
from tinygan.errors import DataError

TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = FILES


def put(folder, arrays, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or arrays:
        write_idx(folder / f"{name}.gz", arrays[name])
    return folder


def pictures(folder, n=10):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (4, 5), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("below", [".", "mnist", "MNIST/raw", "FashionMNIST/raw", "fashion"], ids=lambda below: f"in {below}")
def test_mnists_files_are_found_in_the_folder_and_below_it(tmp_path, tiny_set, below):
    """torchvision keeps them in MNIST/raw."""
    folder = put(tmp_path / "data" / below, tiny_set())
    assert load_data(tmp_path / "data").digest == load_mnist(folder).digest
    assert load_data(str(tmp_path / "data")).name == load_mnist(folder).name


def test_of_two_sets_below_mnist_is_taken_and_of_others_none(tmp_path, tiny_set):
    put(tmp_path / "fashion", tiny_set(seed=1))
    put(tmp_path / "kmnist", tiny_set(seed=2))
    with refused(tmp_path, "2 data sets", tmp_path / "fashion", tmp_path / "kmnist", error=DataError):
        load_data(tmp_path)
    mnist = put(tmp_path / "mnist", tiny_set(seed=3))
    pictures(tmp_path / "faces")
    assert load_data(tmp_path).digest == load_mnist(mnist).digest


def test_without_a_name_it_is_load_mnist(mnist, home):
    put(home, mnist)
    assert load_data(download=False).name == "mnist"


def test_a_set_that_lacks_a_file_is_refused_by_load_mnist(tmp_path, tiny_set):
    folder = put(tmp_path / "x", tiny_set(), TRAIN, TRAIN_LABELS, TEST_LABELS)
    with refused(folder, f"{TEST} missing", error=DataError):
        load_data(folder)


def test_without_labels_the_images_are_split_alike(tmp_path, tiny_set):
    arrays = tiny_set(24)
    whole = load_mnist(put(tmp_path / "with", arrays))
    alone = load_data(put(tmp_path / "without", arrays, TRAIN, TEST))
    assert alone.name == "idx-without"
    assert "without labels" in alone.source
    assert alone.image_shape == whole.image_shape
    for name in "train", "validation", "test":
        part = getattr(alone, name)
        np.testing.assert_array_equal(part.images, getattr(whole, name).images)
        assert part.labels.dtype == np.int16
        assert part.labels.tolist() == [-1] * len(part)


def test_without_labels_and_a_test_set_it_is_one_file_of_images(tmp_path, tiny_set):
    folder = put(tmp_path / "x", tiny_set(24), TRAIN)
    assert load_data(folder).digest == load_data(folder / f"{TRAIN}.gz").digest == load_images(folder / f"{TRAIN}.gz").digest


def test_images_without_labels_fit_each_other(tmp_path, tiny_set):
    arrays = tiny_set() | {TEST: np.zeros((3, 9, 9), np.uint8)}
    with refused(tmp_path / "x", "(12, 4, 5)", "(3, 9, 9)", "one size", error=DataError):
        load_data(put(tmp_path / "x", arrays, TRAIN, TEST))


def test_pictures_and_arrays_are_load_images(tmp_path):
    folder = pictures(tmp_path / "x")
    assert load_data(folder, size=3).digest == load_images(folder, size=3).digest
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (10, 4, 5), dtype=np.uint8))
    assert load_data(tmp_path / "x.npy").digest == load_images(tmp_path / "x.npy").digest


@pytest.mark.parametrize("labels", [True, False])
def test_mnists_files_keep_their_size(tmp_path, tiny_set, labels):
    folder = put(tmp_path / "x", tiny_set(24, shape=(4, 4)), *(FILES if labels else (TRAIN, TEST)))
    assert load_data(folder, size=4).image_shape == (4, 4)
    with refused("--size 3", "4 × 4", error=DataError):
        load_data(folder, size=3)
    assert load_data(put(tmp_path / "y", tiny_set(24, shape=(4, 4)), TRAIN), size=3).image_shape == (3, 3)


def test_a_mistyped_name_gets_the_nearest(tmp_path):
    pictures(tmp_path / "faces")
    with refused(tmp_path / "face", f"but there is {tmp_path / 'faces'}", "check the name", error=DataError):
        load_data(tmp_path / "face")
    with refused(tmp_path / "nowhere" / "x", "no such file or folder: check", error=DataError):
        load_data(tmp_path / "nowhere" / "x")


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(pictures(tmp_path / "x"))
    assert load_data(".").image_shape
    with refused("empty", "name a folder", error=DataError):
        load_data("")


def nested(folder):
    (folder / "a" / "b").mkdir(parents=True)


def labels_alone(folder):
    folder.mkdir()
    (folder / TRAIN_LABELS).write_bytes(idx(np.zeros(3, np.uint8)))


def cifar(folder):
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(bytes(3073))


def text(folder):
    folder.write_text("path,label\n")


def truncated(folder):
    folder.mkdir()
    for name in TRAIN, TEST:
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(np.zeros((30, 4, 4), np.uint8)))[:-9])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nested, "no PNG or JPEG file is in it: it is empty"),
        (labels_alone, "train-images-idx3-ubyte"),
        (cifar, "there are 1 .bin"),
        (text, "starts with b'path,lab'"),
        (truncated, "delete it and fetch it again"),
        (lambda path: os.mkfifo(path), "it is a pipe"),
        (lambda path: os.symlink(path.name, path), "no such file or folder"),
    ],
)
def test_a_wrong_thing_gets_one_line_that_says_what_it_is(tmp_path, make, words):
    make(tmp_path / "x")
    with refused(tmp_path / "x", words, error=DataError):
        load_data(tmp_path / "x")
