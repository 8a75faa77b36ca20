"""CIFAR-10: six files or the archive, honest names, what is refused; and global contrast normalisation."""

import hashlib
import io
import os
import tarfile

import numpy as np
import pytest
from conftest import Server
from helpers import refused

from tinygan.datasets import cifar10 as loader
from tinygan.datasets import contrast_pixels, load_cifar10, normalise_contrast
from tinygan.errors import ArgumentError, DataError

FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
RECORDS = 3  # in each file of the small standard


def batch(seed, n=RECORDS):
    """A file as bytes, with its images (n, 32, 32, 3) and labels."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
    content = b"".join(
        bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))  # the red plane, the green, the blue
        for image, label in zip(images, labels, strict=True)
    )
    return content, images.reshape(n, -1), labels


def write(folder, names=FILES, n=RECORDS):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(batch(FILES.index(name), n)[0])
    return folder


def archive(contents, prefix="cifar-10-batches-bin/", kind=tarfile.REGTYPE):
    """A .tar.gz of these (name, content), as bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in [("readme.html", b"<html>"), *contents]:
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            if name in FILES:
                member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


WHOLE = [(name, batch(i)[0]) for i, name in enumerate(FILES)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The standard has three records in a file here, and no mirror is reached by accident."""
    monkeypatch.setattr(loader, "RECORDS", RECORDS)
    monkeypatch.setattr(loader, "MIRRORS", ())


def passes_for_cifar10(monkeypatch, content):
    monkeypatch.setattr(loader, "MD5", hashlib.md5(content).hexdigest())
    return content


def require_whole(data):
    batches = [batch(i) for i in range(6)]
    x, y = (np.concatenate([each[part] for each in batches[:5]]) for part in (1, 2))
    parts = [(x[:12], y[:12]), (x[12:], y[12:]), batches[5][1:]]  # of 50,000 this would be 40,000 and 10,000
    for split, (images, labels) in zip((data.train, data.validation, data.test), parts, strict=True):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int16)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)
    assert data.image_shape == (32, 32, 3)


# ---- Folders


def test_the_six_files_of_a_folder_are_read(tmp_path):
    data = load_cifar10(write(tmp_path / "mine"))
    require_whole(data)
    assert data.name == "bin-mine"  # nothing says that these files are CIFAR-10's
    assert "not verified" in data.source


def test_colours_of_a_pixel_lie_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "RECORDS", 5)
    planes = np.repeat(np.array([10, 20, 30], np.uint8), 1024)
    planes[1024 + 2 * 32 + 5] = 99  # green, line 2, column 5
    for name in FILES[:1] + FILES[5:]:
        (tmp_path / name).write_bytes((b"\7" + planes.tobytes()) * (3 if name == FILES[5] else 5))
    image = load_cifar10(tmp_path).test.images[0].reshape(32, 32, 3)
    assert image[2, 5].tolist() == [10, 99, 30]
    assert image[5, 2].tolist() == [10, 20, 30]


def test_fewer_batches_and_records_are_said(tmp_path):
    data = load_cifar10(write(tmp_path / "few", [*FILES[:3], FILES[5]], n=2))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [5, 1, 2]
    assert data.name == "bin-few"
    assert "6 training and 2 test images" in data.source
    assert "last fifth" in data.source


def pickled(folder):
    for name in FILES:
        (folder / name.removesuffix(".bin")).write_bytes(b"\x80\x02}")


def renamed_pickle(folder):
    write(folder)
    (folder / FILES[1]).write_bytes(b"\x80\x02}q\x01")


def one_byte_less(folder):
    write(folder)
    (folder / FILES[1]).write_bytes(batch(1)[0][:-1])


def more_records(folder):
    write(folder)
    (folder / FILES[1]).write_bytes(batch(1, RECORDS + 1)[0])


def empty(folder):
    write(folder)
    (folder / FILES[1]).write_bytes(b"")


def wrong_label(folder):
    write(folder)
    content = bytearray(batch(1)[0])
    content[2 * 3073] = 10
    (folder / FILES[1]).write_bytes(content)


def pipe(folder):
    write(folder, [name for name in FILES if name != FILES[1]])
    os.mkfifo(folder / FILES[1])


def a_folder_for_a_file(folder):
    write(folder, [name for name in FILES if name != FILES[1]])
    (folder / FILES[1]).mkdir()


def deeper(folder):
    write(folder / "cifar-10-batches-bin")


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda folder: None, [*FILES[:1], FILES[5], "cifar-10-binary.tar.gz"]),
        (lambda folder: write(folder, FILES[:5]), [FILES[5]]),
        (lambda folder: write(folder, [FILES[0], *FILES[2:]]), [FILES[1]]),
        (lambda folder: write(folder, [FILES[0], FILES[5]]), ["3 training images", "5"]),
        (deeper, ["cifar-10-batches-bin"]),
        (pickled, ["pickle", "code", "cifar-10-binary.tar.gz"]),
        (lambda folder: (folder / "cifar-10-python.tar.gz").write_bytes(b""), ["pickle"]),
        (renamed_pickle, [FILES[1], "pickle"]),
        (one_byte_less, [FILES[1], 3 * 3073 - 1, 3073]),
        (more_records, [FILES[1], 4 * 3073]),
        (empty, [FILES[1], "0 bytes"]),
        (wrong_label, [FILES[1], "record 2", "label 10"]),
        (pipe, [FILES[1], "a pipe"]),
        (a_folder_for_a_file, [FILES[1], "a folder"]),
    ],
)
def test_a_folder_that_is_refused(tmp_path, spoil, facts):
    folder = tmp_path / "set"
    folder.mkdir()
    spoil(folder)
    with refused(folder, *facts, error=DataError):
        load_cifar10(folder)


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with refused(tmp_path / "none", error=DataError):
        load_cifar10(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with refused(tmp_path / "file", error=DataError):
        load_cifar10(tmp_path / "file")


def test_the_folder_of_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path))
    write(tmp_path / "cifar10")
    data = load_cifar10()
    require_whole(data)
    assert "$TINYGAN_DATA/cifar10" in data.source
    assert str(tmp_path) not in data.source


# ---- The archive


def test_the_archive_is_verified_and_read_without_a_file_more(tmp_path, monkeypatch):
    (tmp_path / loader.ARCHIVE).write_bytes(passes_for_cifar10(monkeypatch, archive(reversed(WHOLE))))
    data = load_cifar10(tmp_path)
    require_whole(data)
    assert data.name == "cifar10"
    assert "checksum of CIFAR-10" in data.source
    assert os.listdir(tmp_path) == [loader.ARCHIVE]


def test_an_archive_with_another_checksum_is_refused(tmp_path):
    content = archive(WHOLE)
    (tmp_path / loader.ARCHIVE).write_bytes(content)
    with refused(loader.ARCHIVE, hashlib.md5(content).hexdigest(), loader.MD5, error=DataError):
        load_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (archive(WHOLE[:5]), ["test_batch.bin"]),
        (archive(WHOLE, prefix="elsewhere/"), ["data_batch_1.bin"]),
        (archive(WHOLE, prefix="/cifar-10-batches-bin/"), ["data_batch_1.bin"]),
        (archive([*WHOLE[:5], ("test_batch.bin", batch(5, 2)[0])]), ["test_batch.bin", RECORDS * 3073]),
        (archive([*WHOLE, WHOLE[2]]), ["data_batch_3.bin", "twice"]),
        (archive([(name, b"") for name in FILES], kind=tarfile.SYMTYPE), ["data_batch_1.bin", RECORDS * 3073]),
        (archive(WHOLE)[:-9000], ["cifar-10-binary.tar.gz"]),
        (b"<html>Please log in</html>", ["cifar-10-binary.tar.gz"]),
        (b"", ["cifar-10-binary.tar.gz"]),
    ],
)
def test_whatever_is_in_an_archive_is_checked_too(tmp_path, monkeypatch, content, facts):
    (tmp_path / loader.ARCHIVE).write_bytes(passes_for_cifar10(monkeypatch, content))
    with refused(loader.ARCHIVE, *facts, error=DataError):
        load_cifar10(tmp_path)


def test_a_pipe_in_the_place_of_the_archive_blocks_nothing(tmp_path):
    os.mkfifo(tmp_path / loader.ARCHIVE)
    with refused(loader.ARCHIVE, "a pipe", error=DataError):
        load_cifar10(tmp_path)


@pytest.fixture
def server(monkeypatch):
    server = Server({})
    server.files = {loader.ARCHIVE: passes_for_cifar10(monkeypatch, archive(WHOLE))}
    monkeypatch.setattr(loader, "MIRRORS", (server.url("a"),))
    yield server
    server.close()


def test_the_archive_is_downloaded_once(server, home, capsys):
    require_whole(load_cifar10())
    data = load_cifar10()
    assert server.asked == [("a", loader.ARCHIVE)]
    assert (data.name, os.listdir(home.parent / "cifar10")) == ("cifar10", [loader.ARCHIVE])
    assert "downloaded into" in capsys.readouterr().err


def test_wrong_bytes_are_not_kept(server, home):
    server.spoil["a"] = lambda content: content[:-1] + b"\1"
    with refused(loader.ARCHIVE, "127.0.0.1", error=DataError):
        load_cifar10()
    assert os.listdir(home.parent / "cifar10") == []


def test_without_the_data_an_error_says_what_to_do(home):
    with refused(loader.ARCHIVE, home.parent / "cifar10", "download=False", error=DataError):
        load_cifar10(download=False)
    with refused(loader.ARCHIVE, "no mirror", error=DataError):
        load_cifar10()


def test_a_damaged_archive_in_the_cache_is_named(home):
    cache = home.parent / "cifar10"
    cache.mkdir(parents=True)
    (cache / loader.ARCHIVE).write_bytes(b"half of it")
    with refused(cache / loader.ARCHIVE, "delete it", error=DataError):
        load_cifar10()


# ---- Global contrast normalisation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_contrast_normalisation_by_its_formula(dtype):
    images = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)
    images[2] = 200  # a plain image
    images[3] = 7
    images[3, 5] = 8
    x = normalise_contrast(images, dtype=dtype)
    assert x.dtype == dtype
    for row, image in zip(x, images.astype(np.float64), strict=True):
        centred = image - image.sum() / 3072
        divisor = (centred**2).sum() ** 0.5 / 55
        np.testing.assert_allclose(
            row, centred / (divisor if divisor >= 1e-8 else 1), atol=3e-5 if dtype == np.float32 else 1e-11
        )
    np.testing.assert_array_equal(x[2], 0)


def test_contrast_normalisation_refuses_what_are_no_bytes():
    with refused("float64", "uint8"):
        normalise_contrast(np.ones((2, 3072)))


def test_pictures_of_normalised_values():
    x = np.array([[-9.0, -3, -1.5, 0, 1.5, 3, 9]], np.float32)
    assert contrast_pixels(x).tolist() == [[0, 0, 64, 128, 191, 255, 255]]
    assert contrast_pixels(x).dtype == np.uint8
    with pytest.raises(ArgumentError):
        contrast_pixels(np.zeros((1, 4), np.uint8))
