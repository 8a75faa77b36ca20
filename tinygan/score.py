"""python -m tinygan parzen: the Gaussian Parzen window log-likelihood of anyone's samples, from files."""

import argparse
import sys
import warnings

import numpy as np

from tinygan.backend import Array, pixels
from tinygan.datasets import read_idx
from tinygan.errors import DataError
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `command` reads."""
    parser.description = (
        "Gaussian Parzen window log-likelihood (nats) of a test set under samples of a generator. Validation data choose "
        "the width σ. Files are .npy or IDX, gzipped or not; images may have any shape; uint8 pixels are divided by 255, "
        "floats are used as they are."
    )
    parser.add_argument("samples", help="file of the generator's samples; the authors take 10,000")
    parser.add_argument("--validation", required=True, metavar="FILE", help="data that choose σ")
    parser.add_argument("--test", required=True, metavar="FILE", help="data to score; every row counts")
    parser.add_argument(
        "--validation-rows",
        type=_row_range,
        metavar="A:B",
        help="rows A to B − 1 of the validation file (default: the first 1,000, or all if it has fewer). For MNIST the "
        "authors take 50000:51000 of the training file, whose first 50,000 rows are trained on",
    )
    parser.add_argument("--fine", action="store_true", help="try 46 values of σ from 0.1 to 1 instead of the authors' 10")


def command(args: argparse.Namespace) -> int:
    """Evaluate the files and print the result; warnings go to stderr."""
    samples, validation, test = (_read_rows(path) for path in (args.samples, args.validation, args.test))
    rows = args.validation_rows or slice(0, 1000)
    if args.validation_rows and rows.stop > len(validation):
        asked = f"--validation-rows {rows.start}:{rows.stop}"
        raise DataError(f"{args.validation} has {len(validation)} rows: {asked} goes past its end")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ParzenWarning)
        result = evaluate(samples, validation[rows], test, FINE_SIGMAS if args.fine else AUTHORS_SIGMAS)
    for message in dict.fromkeys(str(warning.message) for warning in caught):  # validation and test may give the same one
        print(f"warning: {message}", file=sys.stderr)
    print(result)
    return 0


def _row_range(text: str) -> slice:
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise argparse.ArgumentTypeError(f"{text} is no range of rows: give A:B with 0 ≤ A < B")
    return slice(int(start), int(stop))


def _read_rows(path: str) -> Array:
    """A file of images as floats, one image per row."""
    try:
        with open(path, "rb") as file:
            is_npy = file.read(6) == b"\x93NUMPY"
        images = np.load(path, allow_pickle=False) if is_npy else read_idx(path)
    except Exception as error:  # on damaged bytes the npy reader raises half a dozen kinds
        # read_idx says to fetch a damaged file again. That is no advice here: these may be somebody's only samples.
        reason = "neither .npy nor intact IDX" if isinstance(error, DataError) else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}: give numbers in a .npy file, as numpy.save writes it, or in IDX") from error
    if images.ndim < 2 or not images.size or images.dtype.kind != "f" and images.dtype != np.uint8:
        raise DataError(
            f"{path}: {images.dtype} of shape {images.shape} is no set of images: give uint8 or float pixels of shape (n, …)"
            + (", not labels" if images.ndim == 1 else "")
        )
    if images.dtype == np.uint8:
        images = pixels(images)
    return images.reshape(len(images), -1).astype(np.float64 if images.dtype.itemsize >= 8 else np.float32, copy=False)
