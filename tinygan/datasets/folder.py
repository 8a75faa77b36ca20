"""Your own images, as a data set: a folder of PNG and JPEG files, a .npy file, or an IDX file without labels.

Images of a folder are decoded once, and kept in the user's cache: see `_cached`.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import checks
from tinygan.backend import Array, random_generator, write_atomically
from tinygan.console import progress_bar
from tinygan.datasets.arrays import read_array
from tinygan.datasets.dataset import Dataset, Split
from tinygan.datasets.download import cache_folder
from tinygan.datasets.pictures import ENDINGS, RULES, fit, read_picture
from tinygan.errors import ArgumentError, DataError
from tinygan.files import open_file

LEAST = 10  # images, so that each of the three parts has one
MOST_VALUES = 2**18  # of one image: 512 × 512 in grey, 295 × 295 in colour
MOST_BYTES = 2**32  # of all images
MOST_CLASSES = 2**15  # int16 numbers so many
SHOWN = 10  # names in a message, at most
PATIENCE = 1.0  # seconds of reading after which a progress bar appears

ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
OTHER_PICTURES = (".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".ppm", ".pgm", ".svg")


def load_images(folder_or_npy: str | os.PathLike[str], *, size: int | None = None) -> Dataset:
    """Your own images: uint8 rows (n, d), channels last, shuffled with seed 0, then split into 80, 10 and 10 percent.

    folder_or_npy   a folder of PNG and JPEG files, with all folders below it; or a .npy file; or one IDX file of images
    size            cut out the centre square of each image, and resize it to size × size

    A folder: see pictures.read_picture for what becomes of each kind of file. The data set is grey, d = h·w, if every pixel of
    every image is grey; else it is in colour, d = h·w·3. Labels are the numbers of the folder's subfolders with images, in
    the alphabet's order; −1 for images in none of them. Hidden files and files with other endings are left out, and a line on
    stderr counts these. Files are taken in the order of their names, so the split is the same on every machine.

    A .npy or IDX file: see arrays.image_stack for shapes and arrays.as_uint8 for ranges of values. All labels are −1.

    Pixels keep their values: nothing is stretched to 0 … 255. `source` says what was read, and the range of the values.

    Raises DataError, with what was found and what would work, for a file that cannot be read, for images of several sizes
    where no size is given, for fewer than 10 images, and for images that are all of one value; ArgumentError for a size that
    is no whole number from 1 to 512.
    """
    path = Path(folder_or_npy)
    if size is not None and checks.integer("size", size) ** 2 > MOST_VALUES:
        raise ArgumentError(f"size {size}: at most {math.isqrt(MOST_VALUES)}, which makes {MOST_VALUES:,} values of an image")
    size = None if size is None else int(size)
    images, labels, words = (_from_folder if path.is_dir() else _from_file)(path, size)
    words += f"; centre squares, resized to {size} × {size}" if size else ""
    return _split(path, words, images, labels)


def _from_folder(folder: Path, size: int | None) -> tuple[Array, Array, str]:
    """Images, labels, and in words what they are."""
    names, others = find_pictures(folder)
    if not names:
        raise DataError(f"{folder}: no PNG or JPEG file is in it: {_advice(folder, others)}")
    if others:
        counts = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(others.items()))
        print(f"data: files in {folder} that are neither PNG nor JPEG by their names are left out: {counts}", file=sys.stderr)
    classes = sorted({name.split("/")[0] for name in names if "/" in name})
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"{folder}: {len(classes)} subfolders hold images, at most {MOST_CLASSES}: put the images into one folder"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name.split("/")[0]] if "/" in name else -1 for name in names], np.int16)
    return _cached(folder, names, size), labels, f"{len(names):,} PNG and JPEG files in {folder}; {_classes(classes)}"


def _from_file(path: Path, size: int | None) -> tuple[Array, Array, str]:
    images, kind = read_array(path)
    if size is not None and images.shape[1:3] != (size, size):
        images = _resized(images, size)
    return images, np.full(len(images), -1, np.int16), f"{len(images):,} images in {path} ({kind})"


def _classes(classes: Sequence[str]) -> str:
    if not classes:
        return "no classes"
    more = f", and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return f"{len(classes)} class{'es' * (len(classes) > 1)}: {', '.join(classes[:SHOWN])}{more}"


def _split(path: Path, words: str, images: Array, labels: Array) -> Dataset:
    n, shape = len(images), images.shape[1:]
    if n < LEAST:
        found = f"{n} image{'s' * (n != 1)}"
        raise DataError(f"{path}: {found}: at least {LEAST} are needed, 8 to train, 1 to validate and 1 to test")
    if np.prod(shape) > MOST_VALUES:
        raise DataError(f"{path}: {too_large(shape)}")
    low, high = images.min(), images.max()
    if low == high:
        raise DataError(f"{path}: all pixels of its {n} images have the value {low}: there is nothing to learn")
    order = random_generator(np, 0, "images").permutation(n)
    parts = np.split(order, (n * 8 // 10, n * 9 // 10))
    splits = (Split(images[part].reshape(len(part), -1), labels[part]) for part in parts)
    sizes = "/".join(f"{len(part):,}" for part in parts)
    colour = "colour" if len(shape) == 3 else "grey"
    words += f"; {colour}, values {low} to {high}; shuffled with seed 0 and split {sizes}"
    name = path.resolve().name if path.is_dir() else path.name.split(".")[0]
    return Dataset(f"images-{name}", words, tuple(map(int, shape)), *splits)


def too_large(shape: Sequence[int]) -> str:
    """What is wrong with images of this shape, and what to do."""
    words = " × ".join(map(str, shape))
    return f"an image of {words} has {int(np.prod(shape)):,} values, at most {MOST_VALUES:,} are taken: give a size (--size 28)"


def _resized(images: Array, size: int) -> Array:
    from PIL import Image

    return np.stack([np.asarray(fit(Image.fromarray(np.ascontiguousarray(image)), size)) for image in images])


# ---- Which files


def find_pictures(folder: Path) -> tuple[list[str], Counter[str]]:
    """The PNG and JPEG files in and below a folder, by their endings, as sorted names "cats/1.png"; and how many files have
    other endings.

    Names that start with a dot are left out. Links are followed, but each folder is entered once, and none above this one.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}: make this folder readable, or move it away") from error

    names, others, entered = [], Counter[str](), set(map(str, folder.resolve().parents))
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                ending = os.path.splitext(name)[1].lower()
                if ending in ENDINGS:
                    names.append(Path(place, name).relative_to(folder).as_posix())
                else:
                    others[ending] += 1
    return sorted(names), others


def _advice(folder: Path, others: Counter[str]) -> str:
    """What to do with a folder that has no pictures, by the endings of what it has."""
    if not others:
        return "it is empty: name a folder of PNG or JPEG files, a .npy file, or an IDX file"
    found = "there are " + ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in others.most_common(5))
    first = {ending: name for name in sorted(os.listdir(folder), reverse=True) if (ending := os.path.splitext(name)[1].lower())}
    if ".npy" in first:
        return f"{found}: name the file, {folder / first['.npy']}"
    idx = [name for name in sorted(os.listdir(folder), reverse=True) if re.search(r"idx\d-ubyte|\.idx", name)]
    if idx:
        return f"{found}: name one IDX file, {folder / idx[0]}, or for MNIST's four files take load_mnist"
    for ending in ARCHIVES:
        if ending in first:
            return f"{found}: unpack {first[ending]}, and name the folder that comes out of it"
    if ".bin" in first:
        return f"{found}: load_cifar10 and examples/cifar10.py take CIFAR-10's; or name a folder of PNG or JPEG files"
    if any(ending in others for ending in OTHER_PICTURES):
        return f"{found}: convert them to PNG"
    return f"{found}: name a folder of PNG or JPEG files, a .npy file, or an IDX file"


# ---- Reading them, and the cache


def _cached(folder: Path, names: Sequence[str], size: int | None) -> Array:
    """The images of these files, from the user's cache if they are there, else decoded and put there.

    There is one file for each folder and size, ~/.cache/tinygan/images/….npz. It holds one array, whose name is a key: a
    digest of the names of all files, their lengths and their times of change, and of the versions of these rules and of
    Pillow. If the key is not that of the folder now, or if the file is damaged, the folder is read again and the file is
    replaced. Nothing in it is unpickled. Delete it whenever you like.
    """
    import PIL

    facts: list[Any] = [RULES, PIL.__version__, size]
    with contextlib.suppress(OSError):  # read_picture says what is wrong with a file
        for name in names:
            facts.append((name, *_state(folder / name)))
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    place = hashlib.sha256(json.dumps([str(folder.resolve()), size]).encode()).hexdigest()[:16]
    path = cache_folder("images") / f"{place}.npz"
    with contextlib.suppress(Exception):  # it is not there, or damaged: whatever is wrong, the folder has the images
        return _kept(path, key, len(names))
    images = _read(folder, names, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, images, allow_pickle=False)
    except OSError as error:
        print(f"data: {path}: {error.strerror or error}: the images are read again at the next start", file=sys.stderr)
    return images


def _kept(path: Path, key: str, n: int) -> Array:
    """The n images in a file of the cache. Raises an error of any kind if they are not there, or not whole."""
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        content = archive.read(f"{key}.npy")  # as it is stored, without compression; the CRC-32 is compared
    array = io.BytesIO(content)
    np.lib.format.read_magic(array)
    shape, _, dtype = np.lib.format.read_array_header_1_0(array)
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[0] != n:
        raise ValueError
    return np.frombuffer(content, np.uint8, offset=array.tell()).reshape(shape)


def _state(path: Path) -> tuple[int, int, int]:
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns  # ctime: a copy can have the old time, as with cp -p


def _read(folder: Path, names: Sequence[str], size: int | None) -> Array:
    """The images of these files, uint8 (n, h, w) or (n, h, w, 3)."""
    pictures: list[Array] = []
    faults: list[str] = []
    first, used, bar, started = "", 0, None, time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on damaged EXIF data and the like
        for i, name in enumerate(names):
            if bar is None and time.monotonic() - started > PATIENCE:
                bar = progress_bar(len(names), i, "images read")
            try:
                picture = read_picture(folder / name, size)
            except DataError as error:
                faults.append(f"{name} ({error})")
            else:
                pictures.append(picture)
                used += picture.nbytes
                first = first or name
                _require(folder, pictures[0], first, picture, name, used)
            if bar is not None:
                bar.update()
    if bar is not None:
        bar.close()
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"{folder}: {len(faults)} of {len(names)} files cannot be read: {', '.join(faults[:SHOWN])}{more}: "
            f"remove or replace them"
        )
    colour = (3,) if any(picture.ndim == 3 for picture in pictures) else ()
    images: Array = np.empty((len(pictures), *pictures[0].shape[:2], *colour), np.uint8)
    for image, picture in zip(images, pictures, strict=True):
        image[...] = picture if picture.ndim == image.ndim else picture[..., None]
    return images


def _require(folder: Path, first: Array, first_name: str, picture: Array, name: str, used: int) -> None:
    """Raise DataError unless the picture can stand beside the first, and all so far in memory."""
    (h, w), (height, width) = first.shape[:2], picture.shape[:2]
    if picture.size > MOST_VALUES:
        raise DataError(f"{folder / name}: {too_large(picture.shape)}")
    if (h, w) != (height, width):
        raise DataError(
            f"{folder}: images of one size are needed, but {first_name} is {h} × {w} and {name} is {height} × {width}: "
            f"give a size, and each is cropped and resized to it (--size 28)"
        )
    if used > MOST_BYTES:
        raise DataError(f"{folder}: its images need more than {MOST_BYTES:,} bytes: give a smaller size, or take fewer images")
