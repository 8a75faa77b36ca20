"""One picture from a file: the table in examples/IMAGES.md, row by row, on photographs; and what --size does to them."""

import importlib.util
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from tinygan.datasets import load_images
from tinygan.datasets import pictures as module
from tinygan.datasets.pictures import fit, read_picture
from tinygan.errors import DataError

PAGE = Path(__file__).parents[2] / "examples" / "IMAGES.md"
H, W = 43, 64
PHOTOGRAPHS = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"  # to import it takes seconds
CHINA, FLOWER = (Image.open(PHOTOGRAPHS / name).resize((W, H), Image.Resampling.BOX) for name in ("china.jpg", "flower.jpg"))
GREY = CHINA.convert("L")
RGB, L = np.asarray(CHINA), np.asarray(GREY)


def saved(image, ending=".png", **options):
    """A maker of a file, and the file's name."""
    options = (
        {"quality": 95, "subsampling": 0} | options if options.get("format", ending) in (".jpg", "JPEG", "MPO") else options
    )
    return lambda path: image.save(path, **options), ending


def png(kind, rows):
    """A PNG file of 16 bits, from the format's description alone: Pillow writes no colours of 16 bits."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", W, H, 16, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(content), ".png"


def part(make, change):
    """A file whose bytes are changed after it was written."""
    write, ending = make

    def written(path):
        write(path)
        path.write_bytes(change(path.read_bytes()))

    return written, ending


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def with_alpha(image):
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize((W, H)))
    return image


def on_white(image):
    """The definition: α v + (1 − α) 255, in each channel."""
    *channels, alpha = np.moveaxis(np.asarray(image), -1, 0).astype(float)
    laid = [channel * alpha / 255 + 255 - alpha for channel in channels]
    return laid[0] if len(laid) == 1 else np.stack(laid, -1)


def turned(number):
    """What EXIF's orientations mean: the file's picture, and that it is to be shown as CHINA."""
    back = {
        1: [],
        2: [Transpose.FLIP_LEFT_RIGHT],
        3: [Transpose.ROTATE_180],
        4: [Transpose.FLIP_TOP_BOTTOM],
        5: [Transpose.TRANSPOSE],
        6: [Transpose.ROTATE_90],  # the camera was turned, and the viewer turns it back by 270 degrees
        7: [Transpose.TRANSVERSE],
        8: [Transpose.ROTATE_270],
    }[number]
    image = CHINA
    for method in back:
        image = image.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = number
    return image, exif


def moved(path):
    os.symlink("nowhere", path)


SIXTEEN = np.asarray(GREY).astype(np.uint16) * 250 + 7
ALPHA, GREY_ALPHA = with_alpha(CHINA), with_alpha(GREY)
PALETTE = CHINA.quantize(64)
MASK = GREY.point(lambda value: 255 * (value > 127)).convert("1")
EXACT, ALPHAS, JPEGS = 0, 0.75, 3.0  # how far from the expected values, in the mean

# (row of the table): [(file, expected pixels, tolerance of their mean), …], or a word of the refusal
READ = {
    "grey": [(saved(GREY), L, EXACT), (saved(GREY, ".jpg"), L, JPEGS), (saved(GREY, ".JPEG", format="JPEG"), L, JPEGS)],
    "RGB, all pixels grey": [
        (saved(GREY.convert("RGB")), L, EXACT),
        (saved(GREY.convert("RGB"), ".jpg"), L, JPEGS),
        (saved(GREY.quantize(256)), L, EXACT),
    ],
    "RGB": [
        (saved(CHINA), RGB, EXACT),
        (saved(CHINA, ".jpg"), RGB, JPEGS),
        (saved(CHINA, ".jpg", progressive=True), RGB, JPEGS),
    ],
    "black and white, 1 bit": [(saved(MASK), np.where(L > 127, 255, 0), EXACT)],
    "grey, 16 bits": [
        (saved(Image.fromarray(SIXTEEN)), np.rint(SIXTEEN / 257), EXACT),
        (saved(Image.fromarray(np.where(L > 127, 65535, 128).astype(np.uint16))), np.where(L > 127, 255, 0), EXACT),
    ],
    "RGB, 16 bits": [(png(2, RGB * np.uint16(256) + 99), RGB, EXACT)],
    "palette": [(saved(PALETTE), np.asarray(PALETTE.convert("RGB")), EXACT)],
    "alpha: RGBA, LA, or a transparent colour": [
        (saved(ALPHA), on_white(ALPHA), ALPHAS),
        (saved(GREY_ALPHA), on_white(GREY_ALPHA), ALPHAS),
        (png(6, np.asarray(ALPHA) * np.uint16(257)), on_white(ALPHA), ALPHAS),
        (png(4, np.asarray(GREY_ALPHA) * np.uint16(257)), on_white(GREY_ALPHA), ALPHAS),
        (saved(GREY, transparency=int(L[0, 0])), np.where(L == L[0, 0], 255, L), EXACT),
        (
            saved(CHINA, transparency=tuple(map(int, RGB[0, 0]))),
            np.where((RGB == RGB[0, 0]).all(-1, keepdims=True), 255, RGB),
            0,
        ),
        (
            saved(PALETTE, transparency=PALETTE.getpixel((0, 0))),
            np.where((np.asarray(PALETTE) == PALETTE.getpixel((0, 0)))[..., None], 255, np.asarray(PALETTE.convert("RGB"))),
            EXACT,
        ),
        (
            saved(Image.fromarray(SIXTEEN), transparency=int(SIXTEEN[0, 0])),
            np.where(SIXTEEN == SIXTEEN[0, 0], 255, np.rint(SIXTEEN / 257)),
            EXACT,
        ),
    ],
    "CMYK, JPEG": [(saved(CHINA.convert("CMYK"), ".jpg"), RGB, JPEGS)],
    "turned by EXIF": [
        (saved(image, ending, exif=exif), RGB, tolerance)
        for number in range(1, 9)
        for image, exif in [turned(number)]
        for ending, tolerance in ((".jpg", JPEGS), (".png", EXACT))
    ]
    + [(saved(CHINA, exif=b"Exif\0\0no EXIF at all"), RGB, EXACT), (saved(CHINA, ".jpg", exif=b"Exif\0\0no"), RGB, JPEGS)],
    "animated PNG": [
        (saved(CHINA, save_all=True, append_images=[FLOWER]), RGB, EXACT),
        (saved(CHINA, ".jpg", format="MPO", save_all=True, append_images=[FLOWER]), RGB, JPEGS),
    ],
    "JPEG by its content, named .png": [
        (saved(CHINA, format="JPEG"), RGB, JPEGS),
        (saved(CHINA, ".jpg", format="PNG"), RGB, 0),
    ],
    "a name in any alphabet": [(saved(CHINA, " größe 日本 'x' 🙂.png"), RGB, EXACT)],
}
REFUSED = {
    "GIF, WebP, TIFF, text by its content, named .png": [
        (saved(CHINA, format="GIF"), "GIF8.*neither PNG nor JPEG"),
        (saved(CHINA, format="WEBP"), "RIFF.*neither PNG nor JPEG"),
        (saved(CHINA, format="TIFF"), "neither PNG nor JPEG"),
        (saved(CHINA, format="BMP"), "BM.*neither PNG nor JPEG"),
        ((lambda path: path.write_text("<html>404"), ".jpg"), "<html>40.*neither PNG nor JPEG"),
        ((lambda path: path.write_bytes(bytes(100)), ".png"), "neither PNG nor JPEG"),
    ],
    "truncated, or empty": [
        ((lambda path: path.write_bytes(b""), ".png"), "it is empty"),
        *((part(saved(CHINA), lambda data, n=n: data[:n]), ".") for n in (8, 20, 40, 1000, -13, -12)),
        *((part(saved(CHINA, ".jpg"), lambda data, n=n: data[:n]), ".") for n in (3, 20, 200, 1000, -100, -2)),
    ],
    "PNG with a wrong checksum": [(part(saved(CHINA), flip), "checksum")],
    "more than 67 million pixels": [
        (part(saved(Image.new("1", (8, 8))), lambda data: bomb(data, 8193)), "8193 × 8193 pixels, at most 67,108,864"),
        (part(saved(Image.new("1", (8, 8))), lambda data: bomb(data, 50_000)), "too many pixels, at most 67,108,864"),
    ],
    "a pipe, a folder or a broken link, named .png": [
        ((os.mkfifo, ".png"), "it is a pipe"),
        ((moved, ".png"), "No such file"),
        ((lambda path: path.mkdir(), ".png"), "it is a folder"),
        ((lambda path: os.symlink(path.name, path), ".png"), "symbolic links"),
    ],
}


def bomb(data, side):
    """The same PNG file with a different size in its header, and the checksum of that."""
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.filterwarnings("ignore")  # of Pillow: read_picture leaves them to its caller
@pytest.mark.parametrize(
    ("make", "expected", "tolerance"),
    [case for cases in READ.values() for case in cases],
    ids=[f"{name} {i}" for name, cases in READ.items() for i, _ in enumerate(cases)],
)
def test_a_picture_is_read_as_the_table_says(tmp_path, make, expected, tolerance):
    write, ending = make
    path = tmp_path / f"x{ending}"
    write(path)
    pixels = read_picture(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(float) - expected)
    assert difference.mean() <= tolerance
    assert difference.max() <= 20 * tolerance
    # --size makes the centre square of it, from the same values
    square = read_picture(path, 12)
    wanted = np.asarray(fit(Image.fromarray(np.rint(expected).astype(np.uint8)), 12))
    assert square.shape == wanted.shape
    assert np.abs(square.astype(float) - wanted).mean() <= tolerance


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "words"),
    [case for cases in REFUSED.values() for case in cases],
    ids=[f"{name} {i}" for name, cases in REFUSED.items() for i, _ in enumerate(cases)],
)
@pytest.mark.parametrize("size", [None, 12])
def test_a_file_is_refused_as_the_table_says(tmp_path, make, words, size):
    write, ending = make
    path = tmp_path / f"x{ending}"
    write(path)
    with pytest.raises(DataError, match=words):
        read_picture(path, size)


def test_the_table_on_the_page_has_these_rows_and_no_others():
    text = PAGE.read_text(encoding="utf-8").split("## What becomes of a file")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [*READ, *REFUSED, *LEFT_OUT]


# ---- What a folder leaves out


def hidden(folder):
    for name in (".hidden.png", "._x00.png", ".thumbnails/a.png", ".git/b.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        CHINA.save(folder / name)


def other_endings(folder):
    (folder / "readme.txt").write_text("x")
    (folder / "LICENSE").write_text("x")
    for name in "a.gif", "b.GIF":
        CHINA.save(folder / name, save_all=True, append_images=[FLOWER])


def links(folder):
    os.symlink(folder, folder / "again")
    os.symlink("y", folder / "y")
    os.symlink(folder.parent, folder / "parent")
    CHINA.save(folder.parent / "not-mine.png")


LEFT_OUT = {
    "a hidden file": (hidden, ""),
    "any other ending": (other_endings, "1 without an ending, 2 .gif, 1 .txt"),
    "a link to a folder that is read already, or is above": (links, "1 without an ending"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_folder_leaves_out_what_the_table_says(tmp_path, name, capsys):
    make, words = LEFT_OUT[name]
    folder = tmp_path / "photos" / "mine"
    folder.mkdir(parents=True)
    for i in range(10):
        CHINA.crop((i, 0, i + 20, 20)).save(folder / f"x{i:02}.png")
    before = load_images(folder)
    make(folder)
    capsys.readouterr()
    after = load_images(folder)
    assert after.digest == before.digest
    err = capsys.readouterr().err
    assert (words in err) if words else not err


# ---- Sizes


def test_a_square_of_the_right_size_keeps_every_pixel():
    image = CHINA.crop((3, 5, 33, 35))
    np.testing.assert_array_equal(np.asarray(fit(image, 30)), np.asarray(image))
    np.testing.assert_array_equal(np.asarray(fit(CHINA, H)), RGB[:, (W - H) // 2 : (W - H) // 2 + H])
    np.testing.assert_array_equal(np.asarray(fit(CHINA.rotate(90, expand=True), H)), np.rot90(RGB)[(W - H) // 2 :][:H])


@pytest.mark.parametrize("image", [CHINA, GREY])
def test_resizing_keeps_the_mean_and_does_not_pick_single_pixels(image):
    square = image.crop((10, 0, 50, 40))
    small = np.asarray(fit(square, 10)).astype(float)
    means = np.asarray(square).astype(float).reshape(10, 4, 10, 4, -1).mean(axis=(1, 3)).reshape(small.shape)
    assert np.abs(small - means).mean() < 6  # a weighted mean of 8 × 8 pixels, beside that of 4 × 4
    picked = np.asarray(square).astype(float)[2::4, 2::4]
    assert np.abs(small - means).mean() < 0.6 * np.abs(picked - means).mean()
    checked = Image.fromarray((np.indices((40, 40)).sum(axis=0) % 2 * 255).astype(np.uint8))
    assert np.ptp(np.asarray(fit(checked, 10))) <= 8  # grey, not a pattern of its own


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_with_nearly_the_same_result(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "fit", lambda image, size: seen.append(image.size) or fit(image, size))
    quick = read_picture(PHOTOGRAPHS / "flower.jpg", 28)
    with Image.open(PHOTOGRAPHS / "flower.jpg") as photo:
        assert photo.size == (640, 427)
        whole = np.asarray(fit(photo, 28))
    assert seen == [(160, 107)]  # a quarter: at least twice the size that is asked for
    assert np.abs(quick.astype(float) - whole).mean() < 3


def test_the_pages_limit_is_the_loaders():
    assert re.search(r"more than (\d+) million pixels", PAGE.read_text(encoding="utf-8"))[1] == str(module.MOST_PIXELS // 10**6)
