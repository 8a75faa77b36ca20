"""examples/dcgan.py, on tiny pictures with narrow nets: all but the digits."""

import json

import dcgan
import numpy as np
import pytest
from helpers import GAME_OPTIONS, SMALL_DCGAN, refused, rows
from PIL import Image

from tinygan import (
    GAN,
    BatchNorm,
    CheckpointError,
    Conv2d,
    ConvTranspose2d,
    LeakyReLU,
    Linear,
    Network,
    Noise,
    Streams,
    load_checkpoint,
    load_generator,
    load_mnist,
    random_generator,
    recipes,
)
from tinygan.run import COLUMNS

pytestmark = pytest.mark.slow


def results(folder):
    metrics = [row[: len(COLUMNS)] for row in rows(folder)]
    return (folder / "checkpoint.npz").read_bytes(), metrics, (folder / "samples.gif").read_bytes()


def test_the_nets_have_these_shapes_and_no_bias_before_batch_norm():
    """350,241 and 36,641 parameters with a bias before each batch norm."""
    G, D = dcgan.networks(dcgan.DCGAN, (28, 28))
    assert (G.theta.size, D.theta.size) == (350_241 - (7 * 7 * 64 + 32), 36_641 - 64)
    for network in G, D:
        x = np.zeros((2, 100 if network is G else 784), np.float32)
        shapes, affine = [], None
        for layer in network.layers:
            x, _ = layer.forward(x)
            shapes.append(x.shape[1:])
            if isinstance(layer, BatchNorm):
                assert "b" not in affine.params
            elif isinstance(layer, Linear | Conv2d | ConvTranspose2d):
                affine = layer
        for shape in ((7, 7, 64), (14, 14, 32)):
            assert shape in shapes
        assert "b" in affine.params, "the last layer is not normalised"
    assert sum(isinstance(layer, BatchNorm) for layer in (*G.layers, *D.layers)) == 3


def test_without_batch_norm_the_nets_are_the_same_but_for_it():
    plain = dcgan.networks(dcgan.DCGAN | {"batch_norm": False}, (28, 28))
    assert [network.theta.size for network in plain] == [350_241 - 2 * (64 + 32), 36_641 - 2 * 64]
    for network, normalised in zip(plain, dcgan.networks(dcgan.DCGAN, (28, 28)), strict=True):
        assert not network.mixes_rows
        kinds = [type(layer) for layer in normalised.layers if not isinstance(layer, BatchNorm)]
        assert [type(layer) for layer in network.layers] == kinds
        weights = [name for name in normalised.parameters() if name.endswith("W")]
        same = [name for name in network.parameters() if name.endswith("W")]
        for ours, theirs in zip(same, weights, strict=True):
            assert network.parameters()[ours].shape == normalised.parameters()[theirs].shape


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 12),
        ("weight_range", 0.2),
        ("batch_norm", False),
        *GAME_OPTIONS.items(),
    ],
)
def test_every_option_is_a_setting_and_every_setting_reaches_the_game(call, name, value):
    option = "--no-batch-norm" if value is False else f"--{name.replace('_', '-')}"
    changed = vars(call(dcgan.parse_arguments, option, *([] if value is False else [value])))
    assert {key: changed[key] for key in dcgan.DCGAN} == dcgan.DCGAN | {name: value}
    played = []
    for settings in dcgan.DCGAN | {"width": 4}, dcgan.DCGAN | {"width": 4} | {name: value}:
        G, D = dcgan.networks(settings, (8, 8))
        gan = recipes.game(settings, G, D)
        rates = [optimizer.learning_rate_at(1000) for optimizer in (gan.G_optimizer, gan.D_optimizer)]
        played.append([gan.settings, rates, G.dtype, G.theta.tolist(), D.theta.tolist()])
    assert played[0] != played[1]


def test_a_run_writes_all_that_it_promises_and_resumes_to_the_bit(train_dcgan, call, pictures):
    folder = train_dcgan("a", "--epochs", 2)
    assert load_checkpoint(folder / "checkpoint.npz").vectors["D.statistics"].any()
    train_dcgan("a", "--epochs", 3, "--resume")
    whole = train_dcgan("whole", "--epochs", 3)
    assert results(folder) == results(whole)
    with Image.open(whole / "samples" / "epoch-0003.png") as picture:
        assert picture.size == (2 + 10 * 14, 2 + 10 * 10)
    facts = json.loads((whole / "run.json").read_text())
    assert facts["configuration"]["batch_norm"] is True
    assert {"evaluation", "reading", "distinct_samples"} <= set(facts["results"])
    x = load_generator(whole).sample(5, 0)
    assert x.shape == (5, 96)
    call(dcgan.program, "--evaluate", whole, "--data", pictures)
    evaluated = json.loads((whole / "checkpoint.evaluation.json").read_text())
    assert evaluated["evaluation"] == facts["results"]["evaluation"]
    with refused("batch_norm is True in the run, False now", error=CheckpointError):
        train_dcgan("a", "--epochs", 4, "--resume", "--no-batch-norm")


def test_data_and_samples_are_normalised_apart(pictures):
    """One step of D without batch norm's mixing: its gradient is that of two minibatches, not of one with both."""
    settings = dcgan.DCGAN | {"width": 4, "batch_size": 10}
    gan = recipes.game(settings, *dcgan.networks(settings, (8, 12)))
    x = (load_mnist(pictures).train.images[:10] / 255).astype(np.float32)
    samples, _ = gan.G.forward(gan.sample_noise(Streams(0)), train=True)
    gradient = gan.discriminator_gradient(x, samples, None)
    assert len(gradient.caches) == 2
    a_real, _ = gan.D.forward(x, train=True)
    a_fake, _ = gan.D.forward(samples, train=True)
    np.testing.assert_array_equal(gradient.cost, GAN.discriminator_loss(gan, a_real, a_fake)[0])
    np.testing.assert_array_equal(gradient.a_fake, a_fake)


def test_without_batch_norm_a_run_has_no_statistics(train_dcgan, call):
    folder = train_dcgan("a", "--epochs", 1, "--no-batch-norm")
    call(dcgan.program, "--out", folder, "--resume", "--epochs", 2)  # with its own options, that flag too
    assert load_checkpoint(folder / "checkpoint.npz").configuration["batch_norm"] is False
    assert not {"G.statistics", "D.statistics"} & load_checkpoint(folder / "checkpoint.npz").vectors.keys()
    assert load_generator(folder).sample(3, 0).shape == (3, 96)


def test_images_that_do_not_fit_are_refused(call, data, tmp_path):
    with refused((6, 6), 4):
        call(dcgan.program, "--data", data, "--out", tmp_path / "a", *SMALL_DCGAN)
    with refused((32, 32, 3), "grey"):
        dcgan.networks(dcgan.DCGAN, (32, 32, 3))
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_the_whole_run_works_on_a_device(strict_xp, train_dcgan):
    folder = train_dcgan("a", "--epochs", 1, "--backend", "cupy")
    train_dcgan("a", "--epochs", 2, "--backend", "cupy", "--resume")
    assert results(folder)[:2] == results(train_dcgan("whole", "--epochs", 2, "--backend", "cupy"))[:2]


def test_batch_norm_behind_the_first_layer_of_D_would_hide_a_shift_of_all_samples():
    """Data and samples are normalised apart. So such a D gives samples that are all too bright the logits of the data."""
    x = np.random.default_rng(0).random((20, 12))
    first, second = [Linear(12, 8), LeakyReLU(), Linear(8, 1)], [Linear(12, 8), BatchNorm(8), LeakyReLU(), Linear(8, 1)]
    for layers, sees in (first, True), (second, False):
        D = Network(layers, dtype=np.float64)
        a_real, a_fake = (D.forward(rows, train=True)[0] for rows in (x, x + 0.3))
        assert np.allclose(a_real, a_fake) != sees
    _, D = dcgan.networks(dcgan.DCGAN, (28, 28))
    kinds = [type(layer) for layer in D.layers]
    assert kinds.index(LeakyReLU) < kinds.index(BatchNorm)


def test_the_noise_reaches_the_first_samples_with_batch_norm_or_with_a_wider_start():
    """The spread of G(z) over z. With r = 0.1 and no batch norm it is that of the DCGAN; with r = 0.035 it is next to 0."""
    z = Noise("uniform", 100)(random_generator(np, 0, "z"), 200)

    def spread(**settings):
        G, _ = dcgan.networks(dcgan.DCGAN | settings, (28, 28))
        return G.forward(z, train=True)[0].std(axis=0).mean()

    assert spread() == pytest.approx(0.029, abs=0.003)
    assert spread(batch_norm=False, weight_range=0.1) == pytest.approx(0.028, abs=0.003)
    assert spread(batch_norm=False) < 0.002
