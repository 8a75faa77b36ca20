"""examples/progressive.py: the growing layers and their derivatives, growing itself, and a run on tiny pictures."""

import json

import dcgan
import growth
import numpy as np
import progressive
import pytest
import records
from helpers import refused
from PIL import Image

from tinygan import ArgumentError, BatchNorm, Linear, Streams, Tanh, check_layer
from tinygan.layers import LeakyReLU

pytestmark = pytest.mark.slow

SETTINGS = dcgan.DCGAN | {"width": 4, "batch_size": 6}
SHAPE = 8, 12
STEPS = [(size, fade) for size, fade, _ in progressive.PHASES]


@pytest.mark.gradcheck
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (progressive.Half, (3, 4, 6, 2)),
        (progressive.Double, (3, 2, 3, 2)),
        (lambda: faded(0.3), (4, 3)),
        (lambda: faded(1.0), (4, 3)),
    ],
    ids=["Half", "Double", "Fade 0.3", "Fade 1"],
)
def test_the_derivatives(layer, shape):
    check_layer(layer(), shape)


def faded(alpha):
    layer = progressive.Fade([Linear(3, 2), Tanh()], [Linear(3, 4), BatchNorm(4), LeakyReLU(), Linear(4, 2)])
    layer.alpha = alpha
    return layer


def test_half_is_the_mean_and_double_goes_back():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float64).reshape(2, 4, 6, 3)
    half, _ = progressive.Half().forward(x)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(half[:, i, j], x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(1, 2)))
    double, _ = progressive.Double().forward(half)
    assert double.shape == x.shape
    np.testing.assert_array_equal(progressive.Half().forward(double)[0], half)


def test_shrunk_data_are_mixed_with_still_smaller_ones_by_the_same_share_as_the_nets():
    x = np.random.default_rng(0).random((5, *SHAPE, 1))
    np.testing.assert_array_equal(progressive.shrunk(x, 1, 1.0), x)
    half = progressive.Half().forward(x)[0]
    np.testing.assert_array_equal(progressive.shrunk(x, 2, 1.0), half)
    small = progressive.Double().forward(progressive.Half().forward(half)[0])[0]
    np.testing.assert_allclose(progressive.shrunk(x, 2, 0.25), 0.25 * half + 0.75 * small)


def gans():
    """The game of each phase, and its blocks, each grown from the one before."""
    earlier = {}
    for i, (size, fade) in enumerate(STEPS):
        blocks = progressive.all_blocks(SETTINGS | {"seed": i}, SHAPE)
        shape = tuple(n // size for n in SHAPE)
        gan = progressive.game(SETTINGS | {"seed": i}, *progressive.grown(blocks, size, fade), shape)
        progressive.take_over(blocks, earlier or blocks)
        yield size, fade, gan, blocks
        earlier = blocks


def test_at_the_start_of_a_phase_the_nets_compute_what_they_did_before():
    """With α = 0: G's picture is the smaller one, enlarged, and D judges a picture by the smaller one. Where nothing is
    faded in, this is so of the earlier nets with α = 1."""
    z = np.random.default_rng(1).standard_normal((4, 100)).astype(np.float32)
    earlier = None
    for size, fade, gan, _ in gans():
        x = gan.G(z)
        judged = gan.D(x)
        if earlier:
            if fade:
                small = earlier.G(z).reshape(4, SHAPE[0] // size // 2, SHAPE[1] // size // 2, 1)
                expected, same = progressive.Double().forward(small)[0].reshape(4, -1), earlier.D(small.reshape(4, -1))
            else:
                set_alpha(earlier, 1.0)
                expected, same = earlier.G(z), earlier.D(x)
            np.testing.assert_allclose(x, expected, atol=1e-6)
            np.testing.assert_allclose(judged, same, atol=1e-6)
        play(gan, size, fade)
        earlier = gan
        set_alpha(earlier, 1.0)


def set_alpha(gan, alpha):
    for layer in (*gan.G.layers, *gan.D.layers):
        if isinstance(layer, progressive.Fade):
            layer.alpha = alpha


def play(gan, size, fade, iterations=3):
    images = np.random.default_rng(0).integers(0, 256, (20, SHAPE[0] * SHAPE[1]), dtype=np.uint8)
    data = type("Dataset", (), {"train": type("Split", (), {"images": images}), "image_shape": SHAPE})
    progressive.play(gan, data, size, fade, iterations, Streams(0), type("Bar", (), {"update": lambda self: None})())


def test_every_layer_learns_and_in_a_fade_both_branches_do():
    for size, fade, gan, _ in gans():
        before = {name: player.network.theta.copy() for name, player in gan.players.items()}
        play(gan, size, fade)
        for name, (network, _) in gan.players.items():
            after, earlier = network.parameters(), network.views(before[name])
            assert not [key for key in after if np.array_equal(after[key], earlier[key])], (size, fade, name)


def test_the_grown_nets_are_those_of_the_dcgan():
    *_, (_, _, gan, _) = gans()
    for network, whole in zip((gan.G, gan.D), dcgan.networks(SETTINGS, SHAPE), strict=True):
        assert network.describe() == whole.describe()


def test_a_run_measures_both_and_is_repeated_to_the_bit(call, pictures, tmp_path, capsys, monkeypatch):
    found = []
    for out in tmp_path / "a", tmp_path / "b":
        call(progressive.program, "--data", pictures, "--width", 4, "--length", 0.005, "--out", out)
        facts = json.loads((out / "results.json").read_text())
        for name, n in ("grown", 2 + 2 + 2 + 2 + 2), ("at once", 10):
            assert sum(iterations for *_, iterations in facts[name]["phases"]) == n
            assert facts[name].pop("cpu_seconds") >= 0
            assert {"evaluation", "distinct_samples", "distinct_data"} < facts[name].keys()
        found.append(((out / "progressive.png").read_bytes(), facts))
    assert found[0] == found[1]
    monkeypatch.setattr(records, "DATA", f"idx-{pictures.name}")
    record = growth.take_in(tmp_path / "a")
    assert record["command"] == "python examples/progressive.py --seed 0 --length 0.005"
    *_, grown, once = growth.table([record]).splitlines()
    for line, kind, iterations in (grown, "grown", "2 + 2 + 2 + 2 + 2"), (once, "at once", "10"):
        assert line.startswith(f"| 0 | {kind} | {iterations} | ")
        assert line.endswith(f" | {facts[kind]['distinct_samples']} |")
    with Image.open(tmp_path / "a" / "progressive.png") as picture:
        assert picture.size == (2 + progressive.SHOWN * 14, 2 + (len(progressive.PHASES) + 1) * 10)
    assert "distinct" in capsys.readouterr().out


def test_pictures_that_cannot_be_halved_twice_are_refused(call, data, tmp_path):
    with refused((6, 6), 4, error=ArgumentError):
        call(progressive.program, "--data", data, "--out", tmp_path / "out")
