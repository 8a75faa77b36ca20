"""python -m tinygan parzen: the Gaussian Parzen window log-likelihood of anyone's samples, from files."""

import argparse
import io
import math
import os
import sys
import warnings
from typing import Any

import numpy as np

from tinygan.backend import Array, pixels
from tinygan.datasets import read_idx
from tinygan.errors import DataError
from tinygan.files import open_file
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenResult, ParzenWarning, evaluate
from tinygan.ranks import one_job, world

MAX_BYTES = 2**30  # a file's numbers, as floats: as many images as IDX files can hold, and more than the protocol needs


class _TooLargeError(DataError):
    pass


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
    """Evaluate the files and print the result; warnings go to stderr. Ranks that mpiexec started divide the work."""
    with one_job():
        _command(args)
    return 0


def _command(args: argparse.Namespace) -> None:
    try:
        result, messages = _evaluate(args)
    except MemoryError as error:
        files = ", ".join(f"{path} ({os.path.getsize(path)} bytes)" for path in (args.samples, args.validation, args.test))
        remedy = "give fewer rows, or float32 in the place of float64"
        raise DataError(f"{files}: this process may not have so much memory: {remedy}") from error
    for message in messages:
        print(f"warning: {message}", file=sys.stderr)
    print(result)


def _evaluate(args: argparse.Namespace) -> tuple[ParzenResult, list[str]]:
    samples, validation, test = (_read_rows(path) for path in (args.samples, args.validation, args.test))
    rows = args.validation_rows or slice(0, 1000)
    if args.validation_rows and rows.stop > len(validation):
        asked = f"--validation-rows {rows.start}:{rows.stop}"
        raise DataError(f"{args.validation} has {len(validation)} rows: {asked} goes past its end")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ParzenWarning)
        result = evaluate(samples, validation[rows], test, FINE_SIGMAS if args.fine else AUTHORS_SIGMAS, world())
    return result, list(dict.fromkeys(str(warning.message) for warning in caught))  # validation and test may give the same


def _row_range(text: str) -> slice:
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise argparse.ArgumentTypeError(f"{text} is no range of rows: give A:B with 0 ≤ A < B")
    return slice(int(start), int(stop))


def _read_rows(path: str) -> Array:
    """A file of images as floats, one image per row."""
    try:
        with open_file(path) as file:
            images = _read_npy(file) if file.peek(6)[:6] == b"\x93NUMPY" else read_idx(path)
    except (MemoryError, _TooLargeError):
        raise
    except Exception as error:  # on damaged bytes the npy reader raises half a dozen kinds
        # read_idx says to fetch a damaged file again. That is no advice here: these may be somebody's only samples.
        reason = "neither .npy nor intact IDX" if isinstance(error, DataError) else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}: give numbers in a .npy file, as numpy.save writes it, or in IDX") from error
    if images.ndim < 2 or not images.size or images.dtype.kind != "f" and images.dtype != np.uint8:
        raise DataError(
            f"{path}: {images.dtype} of shape {images.shape} is no set of images: give uint8 or float pixels of shape (n, …)"
            + (", not labels" if images.ndim == 1 else "")
        )
    _require_room(path, images.dtype, images.shape)
    if images.dtype == np.uint8:
        images = pixels(images)
    return images.reshape(len(images), -1).astype(np.float64 if images.dtype.itemsize >= 8 else np.float32, copy=False)


def _read_npy(file: io.BufferedReader) -> Array:
    """The array in a .npy file. Its header is checked against the file's size and MAX_BYTES before anything is allocated."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # (2, 0) is for headers that no array of numbers has, and reads as many bytes as it states
        raise ValueError(f"version {version} of .npy")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    promised, held = dtype.itemsize * math.prod(shape), os.fstat(file.fileno()).st_size - file.tell()
    _require_room(file.name, dtype, shape)
    if promised != held and not dtype.hasobject:
        raise ValueError(f"its header promises {promised} bytes of data, {held} are there")
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _require_room(path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise DataError unless these numbers take at most MAX_BYTES as the floats that are computed with."""
    size = (8 if dtype.itemsize >= 8 else 4) * math.prod(shape)
    if size > MAX_BYTES:
        needs = f"{dtype} of shape {shape} needs {size} bytes, at most {MAX_BYTES} are read"
        raise _TooLargeError(f"{path}: {needs}: give fewer rows, or float32 in the place of float64")
