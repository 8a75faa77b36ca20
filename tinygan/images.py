"""Pictures: sample grids, nearest neighbours beside samples (Figure 2), lines in z space (Figure 3), and GIFs.

Values are in [0, 1], or uint8. Other values are refused and not clipped, since clipping would hide a fault.
All of this runs on the host; arrays on a device are copied to it.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tinygan import checks
from tinygan.backend import Array, get_array_module, pixels, to_host, write_atomically
from tinygan.errors import ArgumentError

GAP = 2  # pixels between the tiles of a grid, and around them
GREY = 96  # the gaps' colour: the edges of black tiles and of white ones are seen on it
YELLOW = (255, 220, 0)  # the frames' colour, as in the paper
ROUNDING = 1e-3  # how far outside [0, 1] a value may be because of rounding
X_ROWS = 2048  # rows whose nearest neighbours are searched at once
BLOCK = 2**22  # values in a block of data and its distances to these rows: 16 MB in float32


def to_uint8(x: Array, image_shape: Sequence[int] | None = None) -> Array:
    """round(255 x): values in [0, 1] as uint8 on the host; uint8 passes unchanged.

    With image_shape, (h, w) or (h, w, 3), the rows (n, d) become images (n, h, w) or (n, h, w, 3). Raises
    ArgumentError for NaN, for values outside [0, 1], and for rows that do not have the shape's number of values.
    """
    x = np.asarray(to_host(x))
    if image_shape is not None:
        shape = checks.sizes("image_shape", image_shape)
        if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or min(shape) < 1:
            raise ArgumentError(f"image_shape {shape}: images are (h, w) or (h, w, 3)")
        if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != math.prod(shape):
            raise ArgumentError(f"samples have shape {x.shape}: images of {shape} need (n, {math.prod(shape)}) with n ≥ 1")
        x = x.reshape(len(x), *shape)
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise ArgumentError(f"images are {x.dtype}: give uint8, or floats in [0, 1]")
    if not x.size:
        raise ArgumentError(f"images of shape {x.shape} have no pixels")
    low, high = x.min(), x.max()  # NaN if there is one
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ArgumentError(
            f"values go from {low:.4g} to {high:.4g}: pixels lie in [0, 1] (from [-1, 1] take (x + 1) / 2 first)"
        )
    return np.rint(x * 255).astype(np.uint8)  # ROUNDING is too small to leave 0 … 255


def image_grid(samples: Array, image_shape: Sequence[int], columns: int | None = None) -> Array:
    """A grid of images in reading order: uint8 (H, W), or (H, W, 3) in colour.

    samples (n, d), in [0, 1] or uint8, d = h·w or h·w·3 (channels last); columns: ⌈√n⌉ by default. Unused
    places in the last row are grey. Samples are shown as they are and in order: nothing is rescaled or sorted.
    """
    tiles = to_uint8(samples, image_shape)
    if columns is None:
        columns = math.isqrt(len(tiles) - 1) + 1
    checks.integer("columns", columns)
    rows = -(-len(tiles) // columns)
    h, w, *colour = tiles.shape[1:]
    grid: Array = np.full((GAP + rows * (h + GAP), GAP + columns * (w + GAP), *colour), GREY, np.uint8)
    for i, tile in enumerate(tiles):
        grid[_place(i, columns, h, w)] = tile
    return grid


def enlarge(image: Array, scale: int) -> Array:
    """The image (h, w) or (h, w, 3) with each pixel as scale × scale equal pixels: nothing is blurred."""
    checks.integer("scale", scale)
    return np.repeat(np.repeat(to_host(image), scale, axis=0), scale, axis=1)


def scale_of(picture: Array, image_shape: Sequence[int]) -> int:
    """How many times a grid of images of this shape was enlarged: the largest number that its height and its pixels allow."""
    for scale in range(len(picture) // (image_shape[0] + 2 * GAP), 1, -1):
        small, rest = picture[::scale, ::scale], len(picture) % scale
        fits = not rest and (len(small) - GAP) % (image_shape[0] + GAP) == 0
        if fits and np.array_equal(enlarge(small, scale), picture):
            return scale
    return 1


def beside(left: Array, right: Array) -> Array:
    """Two images as one, with a white bar between them: uint8 (h, w), or (h, w, 3). Below the lower one it is grey."""
    left, right = to_uint8(left), to_uint8(right)
    if left.ndim not in (2, 3) or left.shape[2:] != right.shape[2:]:
        raise ArgumentError(f"images of shapes {left.shape} and {right.shape} do not fit: both must be grey, or both RGB")
    height, bar = max(len(left), len(right)), 3 * GAP
    both: Array = np.full((height, left.shape[1] + bar + right.shape[1], *left.shape[2:]), GREY, np.uint8)
    both[: len(left), : left.shape[1]] = left
    both[:, left.shape[1] : left.shape[1] + bar] = 255
    both[: len(right), left.shape[1] + bar :] = right
    return both


def _place(i: int, columns: int, h: int, w: int) -> tuple[slice, slice]:
    """Where the i-th tile of a grid lies."""
    row, column = divmod(i, columns)
    top, left = GAP + row * (h + GAP), GAP + column * (w + GAP)
    return slice(top, top + h), slice(left, left + w)


def neighbour_grid(samples: Array, data: Array, image_shape: Sequence[int], columns: int = 10) -> Array:
    """Figure 2: samples in reading order; in the last column, the training example nearest to the sample on its left.

    samples (n, d), n a multiple of columns − 1; data (n_train, d), uint8 or in [0, 1]; nearest in L2 over all of data.
    The nearest examples are framed in yellow. Returns uint8 (H, W, 3).
    """
    samples, data = to_host(samples), to_host(data)
    checks.array("samples", samples, "(n, …)", "fu"), checks.integer("columns", columns, 2)
    if len(samples) % (columns - 1):
        raise ArgumentError(
            f"{len(samples)} samples do not fill rows of {columns - 1}: columns is {columns}, the last for nearest examples"
        )
    tiles = to_uint8(samples, image_shape)
    indices, _ = nearest_neighbours(samples[columns - 2 :: columns - 1], data)
    nearest = to_uint8(data[indices], image_shape)
    rows = tiles.reshape(-1, columns - 1, *tiles.shape[1:])
    tiles = np.concatenate([rows, nearest[:, None]], axis=1).reshape(-1, *tiles.shape[1:])
    grid = image_grid(tiles, image_shape, columns)
    if grid.ndim == 2:
        grid = np.stack([grid] * 3, axis=-1)
    h, w = image_shape[:2]
    for i in range(columns - 1, len(tiles), columns):
        vertical, horizontal = _place(i, columns, h, w)
        tile = grid[vertical, horizontal].copy()
        grid[vertical.start - GAP : vertical.stop + GAP, horizontal.start - GAP : horizontal.stop + GAP] = YELLOW
        grid[vertical, horizontal] = tile
    return grid


def interpolate(generator: Callable[[Array], Array], z_start: Array, z_end: Array, steps: int = 10) -> Array:
    """x = G((1 − t) z₀ + t z₁), t = 0 … 1: Figure 3, samples along a straight line in z space.

    z_start, z_end (r, n_z): r lines, each from z₀ to z₁ in `steps` points, both ends included. Returns (r·steps, d), line
    by line: image_grid(…, columns=steps) draws each line as a row.
    """
    checks.array("z_start", z_start, "(lines, n_z)"), checks.array("z_end", z_end, "(lines, n_z)")
    if z_start.shape != z_end.shape or z_start.dtype != z_end.dtype:
        found = f"z_start {z_start.shape} in {z_start.dtype} and z_end {z_end.shape} in {z_end.dtype}"
        raise ArgumentError(f"{found}: both are (lines, n_z) of one dtype")
    checks.integer("steps, the points of a line,", steps, 2), checks.function("generator", generator, "interpolate(G, …)")
    t = get_array_module(z_start).linspace(0, 1, steps, dtype=z_start.dtype)[:, None]
    z = (1 - t) * z_start[:, None] + t * z_end[:, None]
    return generator(z.reshape(-1, z_start.shape[1]))


def nearest_neighbours(x: Array, data: Array) -> tuple[Array, Array]:
    """argmin_t ‖x − t‖ over the rows t of data: indices (n,) and L2 distances (n,) float64, pixels in [0, 1].

    x (n, d) and data (n_data, d), each uint8 (scaled by 1/255, block by block) or float. Memory is bounded for every n and
    n_data. The search multiplies out ‖x − t‖² in float32 (float64 if x is). So if two squared distances differ by less
    than the rounding, about 1e-4, either row may be chosen. The distance is then computed again from the difference, so
    that an exact copy has distance 0. Raises ArgumentError for shapes that do not match, empty input, integers other
    than uint8, NaN, and values outside [0, 1].
    """
    x, data = to_host(x), to_host(data)
    if x.ndim != 2 or data.ndim != 2 or x.shape[1] != data.shape[1] or not x.size or not data.size:
        raise ArgumentError(f"x {x.shape} and data {data.shape}: give two matrices whose rows have the same length")
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    indices: Array = np.empty(len(x), np.intp)
    distances: Array = np.empty(len(x))
    for start in range(0, len(x), X_ROWS):
        mine = slice(start, start + X_ROWS)
        block = _scaled(x[mine], "x", dtype)
        minus_2x = -2 * block
        best, nearest = np.full(len(block), np.inf, dtype), np.empty(len(block), np.intp)
        t_rows = max(1, BLOCK // (len(block) + x.shape[1]))
        for first in range(0, len(data), t_rows):
            t = _scaled(data[first : first + t_rows], "data", dtype)
            # ‖x − t‖² − ‖x‖² = ‖t‖² − 2 x·t: the argmin over t needs no more
            squared = minus_2x @ t.T
            squared += np.einsum("ij,ij->i", t, t)
            argmin = squared.argmin(axis=1)
            minimum = squared[np.arange(len(block)), argmin]
            closer = minimum < best
            best[closer] = minimum[closer]
            nearest[closer] = first + argmin[closer]
        indices[mine] = nearest
        difference = block.astype(np.float64) - _scaled(data[nearest], "data", dtype)
        distances[mine] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return indices, distances


def _scaled(x: Array, name: str, dtype: type) -> Array:
    if x.dtype == np.uint8:
        return pixels(x, dtype=dtype)
    if x.dtype.kind != "f":
        raise ArgumentError(f"{name} is {x.dtype}: distances need uint8, or floats in [0, 1]")
    low, high = x.min(), x.max()  # NaN if there is one
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ArgumentError(f"{name} goes from {low:.4g} to {high:.4g}: distances need uint8, or floats in [0, 1]")
    return x.astype(dtype, copy=False)


QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Memorisation:
    """How near samples are to the training set, beside test images, which no generator can have memorised.

    samples, test: the QUANTILES of the L2 distance to the nearest training image, pixels in [0, 1]
    copies: the share of samples that are nearer than 99 % of the test images are; for test images it would be 0.01
    """

    samples: tuple[float, ...]
    test: tuple[float, ...]
    copies: float

    @property
    def reading(self) -> str:
        """The figures in words, and what they mean."""
        middle = QUANTILES.index(0.5)
        ours, theirs = self.samples[middle], self.test[middle]
        figures = (
            f"Median distance to the nearest training image {ours:.2f} for samples, {theirs:.2f} for test images; "
            f"{100 * self.copies:.1f} % of the samples are nearer than 99 % of the test images (of test images, 1.0 %): "
        )
        if self.copies > 0.05 or ours < 0.75 * theirs:
            return figures + "nearer than unseen images: these may be copies or blurred averages. Look at the pairs."
        if ours > 1.25 * theirs:
            return figures + "no sign of copying, but samples lie further off than real images do."
        return figures + "no sign of copying."


def memorisation(samples: Array, test: Array, train: Array) -> Memorisation:
    """Distances from samples to their nearest training image, beside those from test images.

    samples (n, d), test (n_test, d), train (n_train, d), each uint8 or in [0, 1]. `copies` is large if the generator has
    memorised, and also if it blurs, since an average image is nearer to all images than a real one is. Samples that are all
    alike can be far from every training image: whether they differ, tinygan.reading.diversity counts.
    """
    ours = nearest_neighbours(samples, train)[1]
    theirs = nearest_neighbours(test, train)[1]
    return Memorisation(
        samples=tuple(np.quantile(ours, QUANTILES).tolist()),
        test=tuple(np.quantile(theirs, QUANTILES).tolist()),
        copies=float((ours < np.quantile(theirs, 0.01)).mean()),
    )


def save_png(path: str | os.PathLike[str], image: Array) -> None:
    """Write one image, (h, w) or (h, w, 3), uint8 or in [0, 1]: the whole file or nothing."""
    with write_atomically(path) as file:
        _picture(image).save(file, "PNG")


def save_gif(path: str | os.PathLike[str], frames: Sequence[Array], seconds: float = 0.2) -> None:
    """Write images of one shape as a GIF that repeats, `seconds` each. The same frames give the same bytes."""
    frames, seconds = checks.items("frames", frames, "[image, image]"), checks.real("seconds", seconds, "(0, inf)")
    frames = [to_uint8(frame) for frame in frames]
    if len({frame.shape for frame in frames}) != 1:
        raise ArgumentError(f"a GIF needs frames of one shape, not {sorted({frame.shape for frame in frames})}")
    first, *others = [_picture(frame) for frame in frames]
    with write_atomically(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=round(1000 * seconds), loop=0)


def _picture(image: Array) -> Image.Image:
    image = to_uint8(image)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ArgumentError(f"an image is (h, w) or (h, w, 3), not {image.shape}: draw samples with image_grid first")
    return Image.fromarray(np.ascontiguousarray(image))
