"""The numbers that are drawn, bit for bit: they decide every result of the study, and no product of matrices is in them.

The literals were computed by the code before the engine was rewritten, with NumPy 2. If one of these tests fails and tinygan
was not changed, NumPy has changed a stream, and earlier runs are not repeated number for number.
"""

import hashlib

import numpy as np
import pytest

from tinygan import (
    AuthorsUniform,
    BatchNorm,
    Dropout,
    Linear,
    Maxout,
    Network,
    Noise,
    ReLU,
    Sparse,
    Streams,
    Tanh,
    Uniform,
    authors_stream,
)


def sha(array):
    """The first 16 digits of the SHA-256 of its bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def every_start(*, norm=False):
    layers = [Linear(5, 7), ReLU(), Maxout(7, 4, 3, weight=Uniform(0.005)), Dropout(0.5)]
    layers += [Linear(4, 6, weight=Sparse(2)), *([BatchNorm(6), Tanh()] if norm else []), Linear(6, 1, bias=0.5)]
    return layers


THETA = {"float32": "86c74d74d1860acb", "float64": "1aaa0302798125bd"}


@pytest.mark.parametrize("dtype", THETA)
def test_theta_starts_at_these_numbers(dtype):
    theta = Network(every_start(), seed=7, dtype=dtype).theta
    assert sha(theta) == THETA[dtype]
    assert theta[:3].tolist() == pytest.approx([-0.04370666455112442, -0.04678799368298038, -0.03554484735519229], rel=1e-7)
    assert sha(Network(every_start(), seed=8, dtype=dtype).theta) != THETA[dtype]


@pytest.mark.parametrize("dtype", THETA)
def test_layers_that_draw_nothing_move_no_draw_of_the_others(dtype):
    """Batch norm starts at constants: the other layers start where they start without it."""
    net = Network(every_start(norm=True), seed=7, dtype=dtype)
    drawn = [value.ravel() for name, value in net.parameters().items() if name.split(".")[1] in "Wb"]
    assert sha(np.concatenate(drawn)) == THETA[dtype]


@pytest.mark.parametrize(("dtype", "digest"), [("float32", "cff81a1d088951db"), ("float64", "44650e9325a4b599")])
def test_theta_of_the_released_code_starts_at_these_numbers(dtype, digest):
    stream = authors_stream()
    layers = [Linear(3, 4, weight=AuthorsUniform(0.05, stream))]
    layers += [Maxout(4, 2, 3, weight=AuthorsUniform(0.005, stream, pieces=3))]
    assert sha(Network(layers, dtype=dtype).theta) == digest


@pytest.mark.parametrize(
    ("keep", "shape", "digest", "kept"),
    [
        (0.8, (4, 6), "8760ab01aaa326a3", "111111 111111 011101 111110"),
        (0.5, (4, 6), "e1b9c8c2ba641d3b", "110111 001101 010100 111110"),
        (0.8, (3, 5), "5d64a01d5949c9a3", "11111 11111 11011"),
        (0.5, (3, 5), "01ab709e5156e2e5", "11011 10011 01010"),
    ],
)
def test_a_dropout_mask_is_these_bits(keep, shape, digest, kept):
    """Of (3, 5) entries: the last draw of 64 bits is not used up."""
    y, mask = Dropout(keep).forward(np.ones(shape, np.float32), True, Streams(3, 2)["dropout"])
    assert [[int(c) for c in row] for row in kept.split()] == (mask > 0).astype(int).tolist()
    assert sha(mask) == sha(y) == digest


# of two minibatches: their digests, and the first z rounded to six digits, for a reader
Z = {
    ("uniform", "float32"): ("dca99cd8a94f8e9d", "2ba64a62a6546fc6", [0.306932, 1.466547, -0.638371]),
    ("uniform", "float64"): ("b461b5690dab6870", "fc36a84562631c1e", [1.466547, 0.163552, 0.351316]),
    ("gaussian", "float32"): ("18b6116835feb30e", "026579a7e438715c", [1.019339, 0.770591, 0.266607]),
    ("gaussian", "float64"): ("8344e4ab0d7e80f0", "bdf1e9d6b8dff645", [0.669936, 0.318953, -2.100998]),
    ("spherical", "float32"): ("6c3803062876caa5", "0562385a8e9a049a", [0.780892, 0.590333, 0.204241]),
    ("spherical", "float64"): ("9765e560848d8cd7", "4e2e468c2946ce22", [0.300667, 0.143146, -0.942926]),
}


@pytest.mark.parametrize(("kind", "dtype"), Z)
def test_z_of_each_prior_is_these_numbers(kind, dtype):
    noise, rng = Noise(kind, 3), Streams(3, 2)["noise"]
    first, second = (noise(rng, 4, dtype) for _ in range(2))
    *digests, row = Z[kind, dtype]
    assert first[0].tolist() == pytest.approx(row, abs=1e-6)
    assert [sha(first), sha(second)] == digests
