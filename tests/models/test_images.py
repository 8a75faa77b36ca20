"""Pictures: every pixel is where it belongs, and what cannot be drawn is refused."""

import os
import tracemalloc

import numpy as np
import pytest
from helpers import refused
from PIL import Image
from strict_cupy import host

from tinygan import images
from tinygan.backend import pixels
from tinygan.errors import ArgumentError
from tinygan.images import (
    GAP,
    GREY,
    YELLOW,
    Memorisation,
    beside,
    enlarge,
    image_grid,
    interpolate,
    memorisation,
    nearest_neighbours,
    neighbour_grid,
    save_gif,
    save_png,
    scale_of,
    to_uint8,
)

SHAPES = [(3, 4), (3, 4, 3)]


def random_rows(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, int(np.prod(shape))), dtype=np.uint8)


def tile(grid, row, column, h=3, w=4):
    """One tile, cut out by the layout in words: gaps around every tile, one between neighbours."""
    top, left = GAP + row * (h + GAP), GAP + column * (w + GAP)
    return grid[top : top + h, left : left + w]


# ---- Values


def test_values_are_rounded_to_the_nearest_of_256_levels():
    x = np.arange(256) / 255
    np.testing.assert_array_equal(to_uint8(x), np.arange(256))
    np.testing.assert_array_equal(to_uint8(x.astype(np.float32)), np.arange(256))
    np.testing.assert_array_equal(to_uint8(np.array([-1e-3, 0.4 / 255, 0.6 / 255, 1.001])), [0, 0, 1, 255])
    np.testing.assert_array_equal(to_uint8(np.arange(256, dtype=np.uint8)), np.arange(256))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.nan, "nan"),
        (np.inf, "inf"),
        (-0.01, "values go from -0.01"),
        (-1.0, "from \\[-1, 1\\]"),
        (1.01, "to 1.01"),
        (255.0, "to 255"),
    ],
)
def test_values_that_are_no_pixels_are_refused(bad, words, tmp_path):
    x = np.full((2, 12), 0.5, np.float32)
    x[1, 7] = bad
    with pytest.raises(ArgumentError, match=words):
        image_grid(x, (3, 4))
    with pytest.raises(ArgumentError, match=words):
        save_png(tmp_path / "x.png", x)


@pytest.mark.parametrize(
    ("samples", "shape", "words"),
    [
        (np.zeros((2, 12), int), (3, 4), "int64"),
        (np.zeros((2, 13)), (3, 4), r"\(n, 12\)"),
        (np.zeros((0, 12)), (3, 4), "n ≥ 1"),
        (np.zeros(12), (3, 4), r"\(n, 12\)"),
        (np.zeros((2, 12)), (12,), r"image_shape \(12,\)"),
        (np.zeros((2, 12)), (3, 2, 2), "image_shape"),
        (np.zeros((2, 12)), (-3, -4), "image_shape"),
    ],
)
def test_shapes_that_are_no_images_are_refused(samples, shape, words):
    with pytest.raises(ArgumentError, match=words):
        image_grid(samples, shape)


# ---- Grids


@pytest.mark.parametrize("shape", SHAPES)
def test_image_grid_in_reading_order(shape):
    x = random_rows(5, shape)
    grid = image_grid(x, shape, columns=3)
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * 3 + 3 * GAP, 3 * 4 + 4 * GAP, *shape[2:])
    for i in range(5):
        np.testing.assert_array_equal(tile(grid, *divmod(i, 3)), x[i].reshape(shape))
    assert (tile(grid, 1, 2) == GREY).all()
    assert (grid[:GAP] == GREY).all()
    assert (grid[-GAP:] == GREY).all()
    assert (grid[:, :GAP] == GREY).all()
    assert (grid[:, -GAP:] == GREY).all()
    assert (grid[:, GAP + 4 : GAP + 4 + GAP] == GREY).all()
    np.testing.assert_array_equal(image_grid(pixels(x), shape, columns=3), grid)
    np.testing.assert_array_equal(image_grid(x.reshape(5, *shape), shape, columns=3), grid)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (100, 10)])
def test_image_grid_is_square_unless_told(n, columns):
    assert image_grid(random_rows(n, (3, 4)), (3, 4)).shape[1] == columns * (4 + GAP) + GAP


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (3, 4, 3)])
@pytest.mark.parametrize("scale", [1, 2, 3, 6])
def test_the_scale_of_a_grid_is_found_in_its_pixels(shape, scale):
    """Also that of black images, and where the data are on the left. With 8 × 8, the height alone allows 1 and 6."""
    for rows in random_rows(10, shape), np.zeros((10, np.prod(shape)), np.uint8):
        grid = image_grid(rows, shape)
        for picture in grid, beside(grid, grid):
            assert scale_of(enlarge(picture, scale), shape) == scale
    assert scale_of(grid[1:], shape) == 1  # of another margin


def test_image_grid_from_the_device(xp):
    x = np.random.default_rng(0).random((4, 12), dtype=np.float32)
    np.testing.assert_array_equal(image_grid(xp.asarray(x), (3, 4)), image_grid(x, (3, 4)))
    with refused("columns", 0, 1):
        image_grid(x, (3, 4), columns=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbour_grid_shows_the_nearest_of_the_sample_beside_it(shape, xp):
    samples, data = random_rows(6, shape, 1), random_rows(40, shape, 2)
    data[7] = samples[2] ^ 1  # the nearest of the third sample, which ends the first row
    data[31] = samples[5] ^ 3
    grid = neighbour_grid(xp.asarray(pixels(samples)), xp.asarray(data), shape, columns=4)
    assert grid.shape == (2 * 3 + 3 * GAP, 4 * 4 + 5 * GAP, 3)
    as_colour = lambda row: np.broadcast_to(row.reshape(3, 4, -1), (3, 4, 3))  # noqa: E731
    for i in range(6):
        np.testing.assert_array_equal(tile(grid, *divmod(i, 3)), as_colour(samples[i]))
    np.testing.assert_array_equal(tile(grid, 0, 3), as_colour(data[7]))
    np.testing.assert_array_equal(tile(grid, 1, 3), as_colour(data[31]))
    # The frame goes around the last column and nowhere else, and covers no pixel of an image.
    yellow = (grid == YELLOW).all(axis=-1)
    left = 3 * (4 + GAP)
    assert not yellow[:, :left].any()
    frame = np.ones((grid.shape[0], 4 + 2 * GAP), bool)
    tile(frame, 0, 0)[:] = False
    tile(frame, 1, 0)[:] = False
    np.testing.assert_array_equal(yellow[:, left:], frame)


def test_neighbour_grid_refuses_rows_that_are_not_full():
    x = random_rows(5, (3, 4))
    with pytest.raises(ArgumentError, match="5 samples do not fill rows of 3"):
        neighbour_grid(x, x, (3, 4), columns=4)
    with refused("columns", 1, 2):
        neighbour_grid(x, x, (3, 4), columns=1)


# ---- Lines in z space


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interpolate_is_a_straight_line_with_both_ends(xp, dtype):
    rng = np.random.default_rng(0)
    start, end = (rng.normal(size=(2, 5)).astype(dtype) for _ in range(2))
    calls = []

    def generator(z):
        assert isinstance(z, xp.ndarray)
        assert z.dtype == dtype
        calls.append(len(z))
        return 2 * z

    x = host(interpolate(generator, xp.asarray(start), xp.asarray(end), steps=5)).reshape(2, 5, 5)
    assert calls == [10]
    np.testing.assert_array_equal(x[:, 0], 2 * start)
    np.testing.assert_array_equal(x[:, -1], 2 * end)
    np.testing.assert_allclose(x[:, 1], 2 * (0.75 * start + 0.25 * end), rtol=1e-6)
    np.testing.assert_allclose(np.diff(x, axis=1), np.broadcast_to((end - start)[:, None] / 2, (2, 4, 5)), atol=1e-6)


def test_interpolate_refuses():
    z = np.zeros((2, 5))
    for start, end, steps in (z, z[:1], 5), (z[0], z[0], 5), (z, z, 1):
        with pytest.raises(ArgumentError):
            interpolate(lambda z: z, start, end, steps)


# ---- Nearest neighbours


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("data_dtype", [np.uint8, np.float32, np.float64])
def test_nearest_neighbours_by_the_definition(dtype, data_dtype, monkeypatch):
    monkeypatch.setattr(images, "X_ROWS", 7)  # several blocks of both, the last ones short
    monkeypatch.setattr(images, "BLOCK", 11 * (7 + 30))
    x, data = random_rows(20, (30,), 1), random_rows(101, (30,), 2)
    distances = np.sqrt(((x[:, None] / 255.0 - data / 255.0) ** 2).sum(axis=-1))
    convert = {np.uint8: lambda x: x, np.float32: pixels, np.float64: lambda x: x / 255}
    i, d = nearest_neighbours(convert[dtype](x), convert[data_dtype](data))
    np.testing.assert_array_equal(i, distances.argmin(axis=1))
    doubled = dtype == np.float64 and data_dtype != np.float32
    np.testing.assert_allclose(d, distances.min(axis=1), rtol=1e-13 if doubled else 1e-6)
    assert d.dtype == np.float64


def test_the_distance_of_a_copy_is_zero():
    """Multiplied out in float32, ‖x − t‖² of a copy comes to 1e-4 or so, and to less than nothing as often."""
    data = random_rows(300, (784,))
    for x in data[250:260], pixels(data[250:260]), pixels(data[250:260], dtype=np.float64):
        i, d = nearest_neighbours(x, data)
        np.testing.assert_array_equal(i, np.arange(250, 260))
        np.testing.assert_array_equal(d, 0)


def test_nearest_neighbours_in_bounded_memory():
    x, data = random_rows(2100, (8,), 1), random_rows(20_000, (8,), 2)
    tracemalloc.start()
    nearest_neighbours(x, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # the matrix of all distances has 168 MB


@pytest.mark.parametrize(
    ("x", "data", "words"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), r"x \(2, 3\) and data \(2, 4\)"),
        (np.zeros(3), np.zeros((2, 3)), r"x \(3,\)"),
        (np.zeros((0, 3)), np.zeros((2, 3)), r"x \(0, 3\)"),
        (np.zeros((2, 3)), np.zeros((0, 3)), r"data \(0, 3\)"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "x goes from nan to nan"),
        (np.zeros((2, 3)), np.full((2, 3), np.inf), "data goes from inf to inf"),
        (np.zeros((2, 3), int), np.zeros((2, 3)), "x is int64"),
        (np.full((2, 3), 255.0), np.zeros((2, 3), np.uint8), r"x goes from 255 to 255: .* floats in \[0, 1\]"),
        (np.zeros((2, 3)), np.full((2, 3), -1.0), "data goes from -1 to -1"),
        (np.full((2, 3), 1e30, np.float32), np.zeros((2, 3), np.uint8), "x goes from 1e[+]30"),
    ],
)
def test_nearest_neighbours_refuses(x, data, words):
    with pytest.raises(ArgumentError, match=words):
        nearest_neighbours(x, data)


# ---- Memorisation


@pytest.fixture(scope="module")
def blobs():
    """Train, test and fresh rows of one distribution."""
    return np.split(np.random.default_rng(0).beta(0.5, 1, (1400, 20)).astype(np.float32), (600, 1000))


def test_memorisation_reports_the_distances(blobs):
    train, test, fresh = blobs
    report = memorisation(fresh, test, train)
    ours, theirs = nearest_neighbours(fresh, train)[1], nearest_neighbours(test, train)[1]
    np.testing.assert_allclose(report.samples, np.quantile(ours, images.QUANTILES))
    np.testing.assert_allclose(report.test, np.quantile(theirs, images.QUANTILES))
    assert report.copies == (ours < np.quantile(theirs, 0.01)).mean()


def test_memorisation_tells_copies_from_fresh_samples(blobs):
    train, test, fresh = blobs
    assert memorisation(fresh, test, train).reading.endswith("no sign of copying.")
    copies = memorisation(train[:400], test, train)
    assert copies.copies == 1
    assert copies.samples[3] == 0
    assert "nearer than unseen images" in copies.reading
    a_tenth = memorisation(np.concatenate([train[:40], fresh[40:]]), test, train)
    assert a_tenth.copies == pytest.approx(0.1, abs=0.02)
    assert "nearer than unseen images" in a_tenth.reading
    far = memorisation(1 - fresh, test, train)
    assert "further off" in far.reading


def test_the_reading_holds_its_figures():
    report = Memorisation((1, 2, 3, 4.444, 5, 6, 7), (1, 2, 3, 8.888, 5, 6, 7), 0.025)
    assert "4.44 for samples, 8.89 for test images; 2.5 % of the samples" in report.reading
    assert "nearer than unseen images" in report.reading  # noise on a copy empties the tail, not the middle


# ---- Files


@pytest.mark.parametrize("shape", SHAPES)
def test_save_png_keeps_every_pixel(tmp_path, shape):
    x = random_rows(1, shape)[0].reshape(shape)
    for image in x, x / 255, np.asfortranarray(x):
        save_png(tmp_path / "x.png", image)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), x)
    first = (tmp_path / "x.png").read_bytes()
    save_png(str(tmp_path / "x.png"), x)
    assert (tmp_path / "x.png").read_bytes() == first
    assert os.listdir(tmp_path) == ["x.png"]


@pytest.mark.parametrize("save", [save_png, lambda path, image: save_gif(path, [image])])
def test_a_write_that_fails_leaves_the_old_picture(tmp_path, monkeypatch, save):
    path = tmp_path / "picture"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(path, np.zeros((3, 4), np.uint8))
    assert path.read_bytes() == b"old"


def frames_of(path):
    with Image.open(path) as gif:
        for k in range(gif.n_frames):
            gif.seek(k)
            yield np.asarray(gif.convert("RGB")), gif.info["duration"]


def test_save_gif_keeps_every_frame_and_pixel(tmp_path):
    frames = [image_grid(random_rows(4, (3, 4), seed), (3, 4)) for seed in range(5)]
    save_gif(tmp_path / "a.gif", frames, seconds=0.3)
    read = list(frames_of(tmp_path / "a.gif"))
    assert len(read) == 5
    for frame, (image, duration) in zip(frames, read, strict=True):
        assert duration == 300
        np.testing.assert_array_equal(image, np.stack([frame] * 3, axis=-1))
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0
    save_gif(tmp_path / "b.gif", frames, seconds=0.3)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.gif", "b.gif"]


def test_save_gif_in_colour_is_deterministic(tmp_path):
    """A GIF has 256 colours, so these frames are approximated, but always in the same way."""
    frames = [random_rows(1, (30, 40, 3), seed).reshape(30, 40, 3) for seed in range(3)]
    for name in "ab":
        save_gif(tmp_path / name, frames)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    image, _ = next(frames_of(tmp_path / "a"))
    assert np.abs(image.astype(int) - frames[0]).mean() < 40


@pytest.mark.parametrize("frames", [[], [np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8)]])
def test_save_gif_refuses(tmp_path, frames):
    with pytest.raises(ArgumentError, match="one shape"):
        save_gif(tmp_path / "a.gif", frames)


@pytest.mark.parametrize("shape", [(4,), (3, 4, 4), (2, 3, 4, 3), (0, 4)])
def test_save_png_refuses_what_is_no_image(tmp_path, shape):
    with pytest.raises(ArgumentError, match="image_grid first"):
        save_png(tmp_path / "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(ArgumentError):
        save_png(tmp_path / "a.png", np.zeros(shape))
    assert not os.listdir(tmp_path)
