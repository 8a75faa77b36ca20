"""What --data means: whichever data a user has, as a data set."""

import difflib
import os
from pathlib import Path

import numpy as np

from tinygan.datasets.copies import read_copies
from tinygan.datasets.dataset import SUBSET, Dataset, Split
from tinygan.datasets.folder import find_pictures, load_images
from tinygan.datasets.kinds import as_images
from tinygan.datasets.mnist import FILES, files_in, load_mnist
from tinygan.datasets.tfd import FILE as FACES
from tinygan.datasets.tfd import load_tfd
from tinygan.errors import DataError

TRAIN, TEST = (name for name, (magic, _, _) in FILES.items() if magic == 2051)  # the two files of images


def load_data(data: str | os.PathLike[str] | None = None, *, size: int | None = None, download: bool = True) -> Dataset:
    """The data set that `data` names; without it MNIST, as load_mnist finds it.

    data      a folder of MNIST's four IDX files (load_mnist), or the folder above `mnist/`, or above one other such folder;
              such a folder without the files of labels: all labels are −1;
              a folder of PNG and JPEG files, a .npy file, or one IDX file of images (load_images);
              TFD_48x48.mat, or its folder (load_tfd)
    size      for images in PNG, JPEG, .npy or one IDX file: crop and resize them to size × size
    download  whether MNIST may be downloaded where no data are named

    Raises DataError, with what was found and what would work.
    """
    if data is None or (str(data) == SUBSET and not Path(data).exists()):
        return _of_size(load_mnist(data, download=download), size)
    if not str(data):  # such as "$UNSET" in a shell; a Path would make the current folder of it
        raise DataError("the name of the data is empty: name a folder or a file")
    path = Path(data)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder{_nearest(path)}: check the name")
    if path.suffix == ".mat" or (path / FACES).is_file():
        return _of_size(load_tfd(path), size)
    if not path.is_dir():
        return load_images(path, size=size)
    for folder in path, path / "mnist":
        if files_in(folder):
            return _from_idx(folder, size)
    if not find_pictures(path)[0]:
        below = sorted({file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/train-images*")})
        if len(below) > 1:
            raise DataError(f"{path}: {len(below)} data sets are below it: name one of {', '.join(map(str, below))}")
        if below:
            return _from_idx(below[0], size)
    return load_images(path, size=size)


def _from_idx(folder: Path, size: int | None) -> Dataset:
    """What load_mnist makes of the folder; or of its images alone, if it has no labels."""
    found = files_in(folder)
    if TRAIN not in found or any(name not in (TRAIN, TEST) for name in found):
        return _of_size(load_mnist(folder), size)
    if TEST not in found:
        return load_images(found[TRAIN][0], size=size)
    x, x_test = (as_images(read_copies(found[name]), found[name][0]) for name in (TRAIN, TEST))
    if len(x) < 6 or x.shape[1:] != x_test.shape[1:]:
        needs = "at least 6 images to train with and images of one size are needed"
        raise DataError(f"{folder}: {TRAIN} {x.shape}, {TEST} {x_test.shape}: {needs}: take both files from one source")
    cut = len(x) - len(x) // 6  # as load_mnist splits them
    parts = (Split(part.reshape(len(part), -1), np.full(len(part), -1, np.int16)) for part in (x[:cut], x[cut:], x_test))
    source = f"IDX files in {folder}, without labels"
    return _of_size(Dataset(f"idx-{folder.resolve().name}", source, x.shape[1:], *parts), size)


def _of_size(dataset: Dataset, size: int | None) -> Dataset:
    if size is not None and dataset.image_shape != (size, size):
        words = " × ".join(map(str, dataset.image_shape))
        remedy = "leave --size out, or name a folder of PNG or JPEG files, a .npy file or one IDX file of images"
        raise DataError(f"--size {size}: the images of {dataset.name} are {words}, and are not resized: {remedy}")
    return dataset


def _nearest(path: Path) -> str:
    """The name beside the path that resembles it most, in words."""
    folder = path.parent
    names = os.listdir(folder) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1)
    return f", but there is {folder / near[0]}" if near else ""
