"""One picture from a PNG or JPEG file: upright, without transparency, of 8 bits, and on request a square of a given size."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinygan.backend import Array
from tinygan.errors import DataError
from tinygan.files import open_file

if TYPE_CHECKING:  # `import tinygan` is quicker without Pillow
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg")
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # the first bytes of every PNG and JPEG file
MOST_PIXELS = 2**26  # of a file: 192 MB in memory
ORIENTATION = 0x0112  # the EXIF tag
RULES = 1  # changes when these rules make a different array of the same file


def read_picture(path: Path, size: int | None = None) -> Array:
    """The picture in a PNG or JPEG file: uint8 (h, w) if all its pixels are grey, else (h, w, 3).

    It is turned upright, as its EXIF data say. Transparent parts are laid on white. 16 bits of grey become v / 257, rounded.
    Palettes and CMYK become RGB. Colour profiles are not applied. Of an animation the first picture is taken.
    With size, the largest square in its centre is resized to size × size, see `fit`.

    Raises DataError, without the file's name, for a file that cannot be read, is damaged, or is of any other format,
    whatever its name says. A PNG's checksums are compared. JPEG has none, so a JPEG file that is changed but whole is read.
    """
    from PIL import Image

    try:
        with open_file(path) as file:
            start = file.peek(8)[:8]
            if not start.startswith(STARTS):
                raise DataError(f"it starts with {start!r}, so it is neither PNG nor JPEG" if start else "it is empty")
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                image.verify()
            file.seek(0)  # what was verified cannot be decoded: open it again
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataError(f"it has {image.width} × {image.height} pixels, at most {MOST_PIXELS:,} are read")
                if size is not None:
                    image.draft(None, (2 * size, 2 * size))  # of a large JPEG, decode a half, a quarter or an eighth: quicker
                image.load()  # EXIF data can stand behind the pixels
                picture = _plain(_upright(image))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"it has too many pixels, at most {MOST_PIXELS:,} are read") from None
    except Exception as error:  # on damaged bytes Pillow raises a dozen kinds
        raise DataError(f"{getattr(error, 'strerror', None) or error or type(error).__name__}") from error
    pixels = np.asarray(picture if size is None else fit(picture, size))
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    return pixels


def _upright(image: "Image") -> "Image":
    """The same picture as its EXIF data say that it is to be shown. Damaged EXIF data say nothing."""
    from PIL.Image import Transpose

    orientation = None
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ORIENTATION)
    methods = [Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE]
    methods += [Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90]
    method = dict(enumerate(methods, 2)).get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _plain(image: "Image") -> "Image":
    """The same picture in 8 bits, grey or RGB, without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):  # Pillow's own conversion cuts 16 bits off at 255
        values = np.asarray(image)
        values = np.where(values == image.info.get("transparency", -1), 65535, values)
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def fit(image: "Image", size: int) -> "Image":
    """The largest square in the centre, resized to size × size. Where it shrinks, each pixel is a weighted mean."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))  # resize has a box, too, but mixes in what is outside of it
    return square.resize((size, size), Image.Resampling.BILINEAR)
