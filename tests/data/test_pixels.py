"""pixels: bytes to floats in [0, 1], once."""

import numpy as np
import pytest
from strict_cupy import host, no_transfers

from tinygan.backend import pixels
from tinygan.errors import ArgumentError


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_x_over_255_in_the_target_dtype(xp, dtype):
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    x = pixels(images, xp, dtype)
    assert isinstance(x, xp.ndarray)
    assert x.dtype == dtype
    np.testing.assert_array_equal(host(x).ravel(), np.arange(256, dtype=dtype) / np.dtype(dtype).type(255))
    np.testing.assert_array_equal(images.ravel(), np.arange(256))


def test_pixels_on_the_device_stay_there(strict_xp):
    images = strict_xp.asarray(np.zeros((2, 3), np.uint8))
    with no_transfers():
        pixels(images, strict_xp)


def test_pixels_are_scaled_once():
    with pytest.raises(ArgumentError, match="float32.*once"):
        pixels(pixels(np.zeros((2, 3), np.uint8)))
    with pytest.raises(ArgumentError, match="int32"):
        pixels(np.zeros((2, 3), np.uint8), dtype=np.int32)
