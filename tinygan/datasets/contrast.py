"""Global contrast normalisation: what the paper's CIFAR-10 models are trained on, in the place of pixels in [0, 1]."""

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, ArrayModule, to_device

NORM = 55.0
"""The length of each image after the normalisation. A value has a standard deviation of 55/√3072 = 0.992 over its image."""

SHOWN = 3.0
"""contrast_pixels draws −3 as black, 3 as white."""


def normalise_contrast(images: Array, xp: ArrayModule = np, dtype: npt.DTypeLike = np.float32) -> Array:
    """x = 55 (p − p̄)/‖p − p̄‖, p an image's pixels and p̄ their mean over all positions and colours. A plain image gives 0.

    images   (n, d) uint8
    returns  (n, d) of dtype, on the device of xp. Each row has mean 0 and length 55.
    Raises ArgumentError for anything but uint8.
    Source: the paper's released code, which writes ‖p − p̄‖/55 as the divisor, and 1 in the place of one below 10⁻⁸.
    """
    checks.uint8("images", images)
    x: Array = to_device(images, xp).astype(checks.float_dtype("dtype", dtype))
    x -= x.mean(axis=1, keepdims=True)  # exact for a plain image: a sum of 3,072 bytes has fewer than 24 bits
    divisor = xp.sqrt((x * x).sum(axis=1, keepdims=True)) / NORM
    x /= xp.where(divisor < 1e-8, xp.ones_like(divisor), divisor)
    return x


def contrast_pixels(x: Array) -> Array:
    """round(255 · clip(½ + x/6, 0, 1)): normalised values as uint8 pixels, for pictures. Data and samples take the same map.

    The normalisation has removed an image's brightness and contrast, so a picture shows all images with a mean grey of ½ and
    the same contrast. Values beyond ±3 are clipped (of CIFAR-10's photographs less than 1 in 200).

    x  (n, d) floats        returns  (n, d) uint8, on the device of x
    """
    checks.array("x", x, "(n, d)", "f")
    shown: Array = x / (2 * SHOWN)
    shown += 0.5
    return (255 * shown.clip(0, 1)).round().astype(np.uint8)
