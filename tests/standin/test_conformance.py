"""Every call that tinygan makes of CuPy is one that CuPy has: its name, its parameters, and the dtypes of its ufuncs.

tinygan runs on the stand-in, which computes with NumPy and refuses what CuPy refuses; recorder.py writes down what was used.
That is compared with the table of the real CuPy, and with the real CuPy itself where it is installed. No GPU is needed.
"""

import ast
import copy
import runpy
import sys
import types
from functools import cache, partial
from pathlib import Path

import collapse
import costs
import cupy_table
import dcgan
import figure1
import numpy as np
import progressive
import pytest
import recorder
import sample
import strict_cupy
import theory
from helpers import LAYERS, batches, game, write_mnist
from recorder import Call, faults, recording
from strict_cupy import cupy, host
from test_models import MODELS, trainer

import tinygan
from tinygan import (
    GAN,
    VARIANTS,
    Adam,
    Batch,
    ChannelMaxout,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    MomentumSGD,
    Network,
    Noise,
    ParzenWindow,
    Streams,
    bernoulli_cross_entropy,
    generate,
    load_generator,
    max_column_norm,
    pixels,
    recipes,
    softmax_cross_entropy,
    squared_error,
    to_device,
)
from tinygan.datasets.contrast import normalise_contrast
from tinygan.images import image_grid, interpolate, nearest_neighbours
from tinygan.parzen import FewSamplesWarning, evaluate

ROOT = Path(__file__).parents[2]
COMMITTED = cupy_table.load()
GENERATOR_COSTS = "minimax", "non_saturating", "maximum_likelihood"
CONVOLUTIONS = {
    "Conv2d": lambda: Conv2d(2, 3, 3, stride=2, padding=1, bias=0.1),
    "Conv2d with a bias for each place": lambda: Conv2d(2, 3, 3, bias=np.ones((4, 4, 3))),
    "ConvTranspose2d": lambda: ConvTranspose2d(2, 3, 4, stride=2, padding=1),
    "MaxPool2d": lambda: MaxPool2d(3, 2),
    "ChannelMaxout": lambda: ChannelMaxout(2),
}
X = np.random.default_rng(0).random((12, 4)).astype(np.float32)
DATA = types.SimpleNamespace(images=(255 * X).astype(np.uint8), labels=np.arange(12, dtype=np.int16) % 3)


# What is run ----------------------------------------------------------------------------------------------------------


def layer(make, shape, dtype):
    """Forward in both modes, backward with and without the parameters."""
    network = Network([make()], dtype=dtype, xp=cupy)
    x = cupy.asarray(np.random.default_rng(0).random(shape).astype(dtype))
    for train in True, False:
        y, cache = network.forward(x, train=train, rng=Streams(0, 0, cupy)["dropout"])
        network.backward(y, cache, cupy.empty_like(network.theta))
        network.backward(y, cache)
        if train:
            network.observe(cache)


def iteration(variant, dtype, normalised, optimizer, cost):
    """A whole iteration of a game with dropout, k = 2 and two steps of G, and its report."""
    made = game(variant, cupy, dtype, keep=0.5, normalised=normalised)
    limit = partial(max_column_norm, made.G.parameters()["0.W"], 0.5)
    optimizers = [optimizer(network.theta, 0.01, after=limit) for network in (made.G, made.D)]
    options = {"noise": Noise("spherical", 3), "batch_size": 5, "k": 2, "generator_cost": cost}
    made = VARIANTS[variant](made.G, made.D, *optimizers, **options)
    rows, streams = batches(cupy, dtype), Streams(0, 0, cupy)
    made.iteration(rows, streams)
    made.report(next(rows), streams)


def play(G, D, rows=None, noise=None):
    """One iteration of Algorithm 1 between these."""
    optimizers = (MomentumSGD(network.theta, 0.01, 0.5) for network in (G, D))
    gan = GAN(G, D, *optimizers, noise=noise or Noise("uniform", 2), batch_size=4)
    gan.iteration(iter([Batch(cupy.asarray(X[:4, : rows or 2]))]), Streams(0, 0, cupy))


def convolutional():
    """The nets of examples/dcgan.py."""
    G, D = dcgan.networks(dcgan.DCGAN | {"width": 2, "seed": 0, "dtype": "float32"}, (8, 8), cupy)
    gan = recipes.game(dcgan.DCGAN | {"batch_size": 4}, G, D)
    gan.iteration(iter([Batch(cupy.asarray(np.full((4, 64), 0.5, np.float32)))]), Streams(0, 0, cupy))


def model(name):
    """An epoch of one of the models of test_models.py: a third player, chains, labels."""
    trainer(name, cupy).train_epoch()


def kept(folder):
    """A Trainer's checkpoint, written, restored, and read for its generator."""
    ours = trainer("gan", cupy, models={"gan": lambda xp, seed: game("alternating", xp, np.float32, normalised=True)})
    ours.train_epoch()
    ours.save(folder / "c.npz")
    ours.restore(folder / "c.npz")
    generator = load_generator(folder / "c.npz", xp=cupy)
    generate(generator.network, generator.noise, 5, 0)


def evaluator():
    samples, validation, x = (cupy.asarray(np.random.default_rng(i).random((60, 4)).astype(np.float32)) for i in range(3))
    with pytest.warns(FewSamplesWarning):
        evaluate(samples, validation, x, (0.01, 0.2, 1))
        ParzenWindow(0.2).fit(samples).log_likelihood(x)


def pictures():
    x = cupy.asarray(X)
    image_grid(x, (2, 2))
    interpolate(lambda z: z, x[:2], x[2:4], 3)
    nearest_neighbours(x, x)
    normalise_contrast((255 * X).astype(np.uint8), cupy)
    pixels(DATA.images, cupy)


def other_costs():
    x = cupy.asarray(X)
    squared_error(x, x)
    bernoulli_cross_entropy(x, x)
    softmax_cross_entropy(x, cupy.asarray(np.zeros(len(X), np.int16)))


ENGINE = (
    {
        f"{name} {dtype.__name__}": partial(layer, make, shape, dtype)
        for makes, shape in ((LAYERS, (5, 4)), (CONVOLUTIONS, (2, 6, 6, 2)))
        for name, make in makes.items()
        for dtype in (np.float32, np.float64)
    }
    | {
        f"{variant}, {dtype.__name__}, {optimizer.__name__}, {cost}": partial(iteration, variant, dtype, norm, optimizer, cost)
        for variant, cost in zip(VARIANTS, GENERATOR_COSTS, strict=True)
        for dtype, norm, optimizer in ((np.float32, True, MomentumSGD), (np.float64, False, Adam))
    }
    | {f"model: {name}": partial(model, name) for name in MODELS}
    | {f.__name__: f for f in (convolutional, evaluator, pictures, other_costs)}
)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """All calls of ENGINE, by the name of what made them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy)
        found = {}
        for name, run in (ENGINE | {"kept": partial(kept, tmp_path_factory.mktemp("kept"))}).items():
            with recording() as found[name]:
                run()
        return found


@pytest.fixture(params=["the committed table", "the installed CuPy"])
def table(request):
    """What CuPy has: as committed, and as installed where it is."""
    if request.param == "the committed table":
        return COMMITTED
    return cupy_table.table(pytest.importorskip("cupy", exc_type=ImportError))


def test_every_call_of_the_engine_is_one_that_cupy_has(used, table):
    found = {name: faults(calls, table) for name, calls in used.items()}
    assert not {name: lines for name, lines in found.items() if lines}


def test_this_is_every_call_of_the_array_module_in_the_source(used):
    """Each xp.name(…) and get_array_module(x).name(…) in tinygan was made, at that line."""
    made = {place for calls in used.values() for places in calls.values() for place in places}
    missed = []
    for path in sorted((ROOT / "tinygan").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if owner.split(".")[-1] in ("xp", "_xp") or owner.startswith("get_array_module("):
                    if not any((str(path), line) in made for line in range(node.lineno, node.end_lineno + 1)):
                        missed.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not missed
