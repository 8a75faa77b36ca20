"""Your own images as a data set: load_images on folders, .npy and IDX files, its cache, and what it refuses."""

import os
import shutil

import numpy as np
import pytest
from helpers import CODES, idx, member, refused
from PIL import Image

from tinygan import load_images, random_generator, read_idx, write_idx
from tinygan.datasets import folder as module
from tinygan.datasets.pictures import read_picture
from tinygan.errors import ArgumentError, DataError


def random_images(n=20, shape=(6, 5), seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    return images


def written(folder, images, names=None):
    """A folder with these images as PNG files."""
    for i, image in enumerate(images):
        path = folder / (names[i] if names else f"{i:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def rows(dataset):
    return np.concatenate([part.images for part in parts(dataset)])


def sorted_rows(images):
    return sorted(map(bytes, images.reshape(len(images), -1)))


# ---- The contract


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize("kind", ["folder", ".npy", "IDX"])
def test_the_same_images_make_the_same_data_set_from_any_source(tmp_path, kind, shape):
    images, path = random_images(23, shape), tmp_path / "mine"
    if kind == "folder":
        written(path, images)
    elif kind == ".npy":
        path = tmp_path / "mine.npy"
        np.save(path, images)
    else:
        path = tmp_path / "mine.idx.gz"
        write_idx(path, images)
    dataset = load_images(str(path))
    assert dataset.name == "images-mine"
    assert str(path) in dataset.source
    assert ("grey" in dataset.source) == (len(shape) == 2)
    assert dataset.image_shape == shape
    assert [len(part) for part in parts(dataset)] == [18, 2, 3]  # of 23: up to 18.4, then up to 20.7
    for part in parts(dataset):
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int16)
        assert part.images.shape == (len(part), np.prod(shape))
        assert part.labels.tolist() == [-1] * len(part)
    shuffled = images.reshape(23, -1)[random_generator(np, 0, "images").permutation(23)]
    np.testing.assert_array_equal(rows(dataset), shuffled)
    assert dataset.digest == load_images(path).digest


@pytest.mark.parametrize(("n", "sizes"), [(10, [8, 1, 1]), (11, [8, 1, 2]), (99, [79, 10, 10]), (1000, [800, 100, 100])])
def test_eighty_ten_and_ten_percent(tmp_path, n, sizes):
    np.save(tmp_path / "x.npy", random_images(n, (2, 2)))
    assert [len(part) for part in parts(load_images(tmp_path / "x.npy"))] == sizes


def test_the_split_depends_on_the_names_alone(tmp_path):
    """Not on the order in which the files were made, nor on the folder's own name."""
    images = random_images()
    there = written(tmp_path / "there", images)
    elsewhere = written(tmp_path / "elsewhere", images[::-1], [f"{i:03}.png" for i in reversed(range(20))])
    assert load_images(there).digest == load_images(elsewhere).digest


def test_subfolders_are_classes(tmp_path):
    images = random_images(24)
    names = [f"{kind}/{i:03}.png" for i, kind in enumerate(["dogs", "cats", "cats/young"] * 6)] + [f"{i}.png" for i in range(6)]
    dataset = load_images(written(tmp_path / "pets", images, names))
    assert "2 classes: cats, dogs" in dataset.source
    labels = {bytes(row): label for part in parts(dataset) for row, label in zip(part.images, part.labels, strict=True)}
    expected = [{"dogs": 1, "cats": 0}.get(name.split("/")[0], -1) for name in names]
    assert [labels[image.tobytes()] for image in images] == expected


def test_one_image_in_colour_makes_the_set_one_in_colour(tmp_path):
    images = [*random_images(10), *random_images(1, (6, 5, 3))]
    dataset = load_images(written(tmp_path / "mixed", images))
    assert dataset.image_shape == (6, 5, 3)
    grey = [np.repeat(image[..., None], 3, axis=-1) for image in images[:10]]
    assert sorted_rows(rows(dataset)) == sorted_rows(np.stack([*grey, images[10]]))


@pytest.mark.parametrize("kind", ["folder", ".npy"])
def test_size_crops_the_centre_square_and_resizes_it(tmp_path, kind):
    images = np.zeros((10, 8, 16), np.uint8)
    images[:, :, 4:8], images[:, :, 8:12] = 40, 200
    images[:, :, :4], images[:, :, 12:] = 255, 255  # cut off
    path = tmp_path / "x.npy"
    np.save(path, images)
    dataset = load_images(written(tmp_path / "x", images) if kind == "folder" else path, size=4)
    assert dataset.image_shape == (4, 4)
    assert "resized to 4 × 4" in dataset.source
    image = dataset.train.images[0].reshape(4, 4)
    assert (image == image[0]).all()
    assert image[0, 0] == 40
    assert image[0, 3] == 200
    assert 40 < image[0, 1] < image[0, 2] < 200


def test_pixels_keep_their_values_where_they_do_not_span_the_range(tmp_path):
    images = random_images() // 4 + 30
    dataset = load_images(written(tmp_path / "pale", images))
    assert sorted_rows(rows(dataset)) == sorted_rows(images)
    assert "values 30 to 93" in dataset.source


# ---- .npy and IDX files

PIXELS = random_images(12, (6, 5), 3)
COLOUR = random_images(12, (6, 9, 3), 4)
BITS = PIXELS > 127


@pytest.mark.parametrize(
    ("array", "expected", "words"),
    [
        (PIXELS, PIXELS, "uint8 from 0 to 255"),
        (PIXELS[..., None], PIXELS, ""),
        (PIXELS[:, None], PIXELS, ""),
        (PIXELS[:, :5].reshape(12, 25), PIXELS[:, :5], ""),
        (COLOUR, COLOUR, ""),
        (np.moveaxis(COLOUR, -1, 1), COLOUR, ""),
        (np.asfortranarray(COLOUR), COLOUR, ""),
        (PIXELS.astype(np.int64), PIXELS, "int64 from 0 to 255"),
        (PIXELS.astype(">i2"), PIXELS, ""),
        (BITS, BITS * 255, "bool from 0 to 1, × 255"),
        (BITS.astype(np.uint8), BITS * 255, "uint8 from 0 to 1, × 255"),
        (PIXELS.astype(np.uint16) * 250 + 100, np.rint((PIXELS * 250.0 + 100) / 257), "uint16 from 100 to 6.385e+04, / 257"),
        ((PIXELS / 255).astype(np.float32), PIXELS, r"float32 from 0 to 1, read as [0, 1]"),
        (PIXELS / 255, PIXELS, "read as [0, 1]"),
        ((PIXELS / 255).astype(np.float16), PIXELS, "read as [0, 1]"),
        (PIXELS / 255 * 0.5 + 0.25, np.rint((PIXELS / 255 * 0.5 + 0.25) * 255), "from 0.25 to 0.75, read as [0, 1]"),
        (PIXELS / 127.5 - 1, PIXELS, "from -1 to 1, read as [−1, 1]"),
        (PIXELS.astype(np.float32), PIXELS, "from 0 to 255, read as [0, 255]"),
        (PIXELS / 255 + np.where(BITS, 1e-4, -1e-4), PIXELS, "read as [0, 1]"),  # rounding
    ],
)
def test_arrays_of_every_clear_shape_and_range(tmp_path, array, expected, words):
    np.save(tmp_path / "x.npy", array)
    dataset = load_images(tmp_path / "x.npy")
    assert words in dataset.source
    assert sorted_rows(rows(dataset)) == sorted_rows(expected.astype(np.uint8))
    if array.dtype.str[1:] in CODES:  # IDX has this type
        (tmp_path / "x.idx").write_bytes(idx(array))
        assert load_images(tmp_path / "x.idx").digest == dataset.digest


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.arange(12), "labels"),
        (np.array(7), "(n, height, width)"),
        (PIXELS.reshape(12, 30), "rows of 30 values"),
        (np.zeros((12, 3072), np.uint8), "rows of 3072 values"),
        (COLOUR[0].repeat(3, axis=0), "(n, height, width, 3)"),
        (np.zeros((12, 6, 5, 4), np.uint8), "(n, height, width, 3)"),
        (np.zeros((12, 6, 5, 3, 1), np.uint8), "(n, height, width, 3)"),
        (PIXELS[:9], "9 images"),
        (PIXELS[:0], "no pixels"),
        (np.full((12, 6, 5), 7, np.uint8), "all pixels of its 12 images have the value 7"),
        (np.zeros((12, 6, 5)), "the value 0"),
        (PIXELS / 255 * 1.1, "from 0 to 1.1"),
        (PIXELS / 255 * 20, "from 0 to 20"),
        (PIXELS / 255 * 4 - 2, "from -2 to 2"),
        (PIXELS / 255 * 300, "from 0 to 300"),
        (PIXELS.astype(np.int32) - 1, "from -1 to 254"),
        (PIXELS.astype(np.int32) + 1, "from 1 to 256"),
        (np.where(PIXELS == 0, np.nan, PIXELS / 255), "from nan to nan"),
        (np.where(PIXELS == 0, np.inf, PIXELS / 255), "to inf"),
        (PIXELS.astype(complex), "complex128"),
        (PIXELS.astype("S3"), "S3"),
        (PIXELS.astype(object), "Python objects"),
        (np.zeros((12, 6, 6), "u1,f4"), "these are no pixels"),
        (np.broadcast_to(np.arange(2, dtype=np.uint8) * 9, (10, 300000, 2)), "600,000 values, at most 262,144"),
    ],
)
def test_arrays_that_could_mean_several_things_are_refused(tmp_path, array, words):
    path = tmp_path / "x.npy"
    np.save(path, array)
    with refused(path, words, error=DataError):
        load_images(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"1,2,3\n", "starts with b'1,2,3"),
        (b"\x89PNG\r\n\x1a\n", "one picture: name the folder"),
        (b"\xff\xd8\xff\xe0", "one picture: name the folder"),
        (b"PK\x03\x04", "a zip archive: unpack it"),
        (b"\x80\x04\x95pickle", "starts with"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': 'x'}", "give a .npy file"),
        (member(PIXELS)[:-1], "promises 360 bytes of data, 359 are there"),
        (member(PIXELS) + b"\0", "promises 360 bytes of data, 361 are there"),
        (idx(PIXELS)[:-1], "delete it and fetch it again"),
        (idx(np.arange(12, dtype=np.uint8)), "may be labels"),
    ],
)
def test_files_that_hold_no_images_are_refused(tmp_path, content, words):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with refused(path, words, error=DataError):
        load_images(path)


def test_what_is_not_there_is_named(tmp_path):
    with refused(tmp_path / "nothing", "No such file", error=DataError):
        load_images(tmp_path / "nothing")


@pytest.mark.parametrize("size", [0, -1, 2.5, "28", True, 513, 10**9])
def test_a_size_is_a_whole_number_of_at_most_512(tmp_path, size):
    folder = written(tmp_path / "x", random_images(10))
    with refused("size", size, error=ArgumentError):
        load_images(folder, size=size)
    assert load_images(folder, size=np.int64(3)).image_shape == (3, 3)


# ---- Folders that are refused


def test_several_sizes_need_one_size(tmp_path):
    folder = written(tmp_path / "x", [*random_images(9), random_images(1, (7, 8))[0]])
    with refused(folder, "000.png is 6 × 5 and 009.png is 7 × 8", "--size 28", error=DataError):
        load_images(folder)
    assert load_images(folder, size=5).image_shape == (5, 5)


def test_large_images_need_a_size(tmp_path):
    image = np.arange(600 * 500, dtype=np.uint32).astype(np.uint8).reshape(600, 500)
    folder = written(tmp_path / "x", [image] * 10)
    with refused(folder / "000.png", "600 × 500 has 300,000 values", "--size 28", error=DataError):
        load_images(folder)
    assert load_images(folder, size=5).image_shape == (5, 5)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path):
    folder = written(tmp_path / "x", random_images(20))
    for i in range(0, 8, 2):
        (folder / f"{i:03}.png").write_bytes(b"")
    with refused(folder, "4 of 20", *(f"{i:03}.png (it is empty)" for i in range(0, 8, 2)), "remove", error=DataError):
        load_images(folder)
    for i in range(20):
        (folder / f"{i:03}.png").write_bytes(b"")
    with refused("20 of 20", "009.png (it is empty) and 10 more: remove", error=DataError):
        load_images(folder)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "it is empty"),
        ([".a.png"], "it is empty"),
        (["a.webp", "b.webp", "c.txt"], "2 .webp, 1 .txt: convert them to PNG"),
        (["a/b/a.gif"], "1 .gif: convert them"),
        (["images.npy", "labels.npy"], "images.npy"),
        (["faces.zip"], "unpack faces.zip"),
        (["t10k-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz"], "train-images-idx3-ubyte.gz, or"),
        (["faces.idx.gz"], "name one IDX file"),
        (["train.tar.gz"], "unpack train.tar.gz"),
        (["data_batch_1.bin", "readme.html"], "1 .bin, 1 .html: load_cifar10"),
        (["a"], "1 without an ending"),
    ],
)
def test_a_folder_without_pictures_says_what_is_there(tmp_path, names, words):
    folder = tmp_path / "x"
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with refused(folder, "no PNG or JPEG", words, error=DataError):
        load_images(folder)


def test_ten_images_are_needed(tmp_path):
    folder = written(tmp_path / "x", random_images(9))
    with refused(folder, "9 images", "at least 10", error=DataError):
        load_images(folder)


def test_too_many_bytes_are_refused_before_they_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    folder = written(tmp_path / "x", random_images(10))
    with refused(folder, "more than 100 bytes", "smaller size", error=DataError):
        load_images(folder)


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path, monkeypatch):
    folder, scandir = written(tmp_path / "x", random_images(10), [f"{'ab'[i % 2]}/{i}.png" for i in range(10)]), os.scandir

    def forbid(path):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    with refused(folder / "a", "Permission denied", "readable", error=DataError):
        load_images(folder)


# ---- The cache


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded."""
    seen = []
    monkeypatch.setattr(module, "read_picture", lambda path, size: seen.append(path.name) or read_picture(path, size))
    return seen


def kept(home):
    return sorted((home.parent / "images").glob("*"))


def test_a_folder_is_decoded_once(tmp_path, decoded, home):
    folder = written(tmp_path / "x", random_images(10))
    first = load_images(folder)
    assert len(decoded) == 10
    assert load_images(folder).digest == first.digest
    assert load_images(os.path.relpath(folder)).digest == first.digest  # the same folder
    assert len(decoded) == 10
    small = load_images(folder, size=3)
    assert len(decoded) == 20
    assert small.image_shape == (3, 3)
    assert (load_images(folder).digest, load_images(folder, size=3).digest) == (first.digest, small.digest)
    assert len(decoded) == 20
    assert len(kept(home)) == 2


def stamp(path, like):
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))


def changed_in_place(folder):
    """The same name, length and time, as `cp -p` could leave them."""
    path = folder / "003.png"
    before = path.stat()
    data = bytearray(path.read_bytes())
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    path.write_bytes(path.read_bytes()[: len(data)].ljust(len(data), b"\0"))
    stamp(path, before)


CHANGES = {
    "a new file": lambda folder: Image.fromarray(random_images(1, seed=9)[0]).save(folder / "999.png"),
    "a file less": lambda folder: (folder / "003.png").unlink(),
    "a new name": lambda folder: (folder / "003.png").rename(folder / "303.png"),
    "a new class": lambda folder: ((folder / "a").mkdir(), (folder / "003.png").rename(folder / "a" / "003.png")),
    "new content": lambda folder: Image.fromarray(random_images(1, seed=9)[0]).save(folder / "003.png"),
    "new content of the same length and time": changed_in_place,
    "a new time": lambda folder: os.utime(folder / "003.png", ns=(1, 1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_cache_of_a_folder_that_has_changed_is_replaced(tmp_path, name, decoded, home):
    folder = written(tmp_path / "x", random_images(12))
    load_images(folder)
    CHANGES[name](folder)
    decoded.clear()
    changed = load_images(folder)
    assert len(decoded) == len(rows(changed))
    assert load_images(folder).digest == changed.digest == load_images(shutil.copytree(folder, tmp_path / "copy")).digest
    assert len(kept(home)) == 2  # the folder's and its copy's


def test_a_new_version_of_the_rules_or_of_pillow_decodes_again(tmp_path, decoded, monkeypatch):
    folder = written(tmp_path / "x", random_images(10))
    load_images(folder)
    monkeypatch.setattr(module, "RULES", module.RULES + 1)
    load_images(folder)
    monkeypatch.setattr("PIL.__version__", "99")
    load_images(folder)
    assert len(decoded) == 30


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-50], lambda data: data[:600] + b"\1" + data[601:]])
def test_a_damaged_cache_is_replaced(tmp_path, damage, decoded, home):
    folder = written(tmp_path / "x", random_images(10))
    first = load_images(folder)
    (path,) = kept(home)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert load_images(folder).digest == first.digest
    assert len(decoded) == 20
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    ("right", "array"),
    [
        (False, np.zeros((10, 6, 5), np.uint8)),  # of a different folder, or of an earlier state of this one
        (True, np.zeros((10, 6, 5), np.float32)),
        (True, np.zeros((9, 6, 5), np.uint8)),
        (True, np.zeros((10, 30), np.uint8)),
        (True, np.array([[[None]]] * 10, object)),
    ],
)
def test_what_cannot_be_the_images_is_not_taken_for_them(tmp_path, right, array, decoded, home):
    """Nothing is unpickled."""
    folder = written(tmp_path / "x", random_images(10))
    first = load_images(folder)
    (path,) = kept(home)
    with np.load(path) as file:
        (key,) = file.files
    np.savez(path, **{key if right else "0" * 64: array})
    assert load_images(folder).digest == first.digest
    assert len(decoded) == 20


def test_a_cache_that_cannot_be_written_costs_a_line(tmp_path, home, capsys):
    home.parent.parent.mkdir()
    home.parent.write_text("a file where the cache's folder belongs")
    folder = written(tmp_path / "x", random_images(10))
    first = load_images(folder)
    assert "read again at the next start" in capsys.readouterr().err
    assert load_images(folder).digest == first.digest


def test_an_interrupted_start_leaves_no_half_of_a_cache(tmp_path, home, monkeypatch):
    folder = written(tmp_path / "x", random_images(10))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load_images(folder)
    assert kept(home) == []


def test_long_reading_shows_its_progress(tmp_path, capsys, monkeypatch):
    folder = written(tmp_path / "x", random_images(20))
    load_images(folder, size=4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "PATIENCE", -1)
    load_images(folder)
    assert "images read: 20 of 20" in capsys.readouterr().err


# ---- write_idx, for users


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_write_idx_writes_is_read_as_images(tmp_path, dtype, ending):
    array = (COLOUR / 255 if dtype[0] == "f" else COLOUR).astype(dtype)
    write_idx(tmp_path / f"x.idx{ending}", array)
    np.testing.assert_array_equal(read_idx(tmp_path / f"x.idx{ending}"), array)
    assert sorted_rows(rows(load_images(tmp_path / f"x.idx{ending}"))) == sorted_rows(COLOUR)
