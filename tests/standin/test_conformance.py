"""Every call that tinygan makes of CuPy is one that CuPy has: its name, its parameters, and the dtypes of its ufuncs.

tinygan runs on the stand-in, which computes with NumPy and refuses what CuPy refuses; recorder.py writes down what was used.
That is compared with the table of the real CuPy, and with the real CuPy itself where it is installed. No GPU is needed.
"""

import ast
import inspect
import re
import runpy
import sys
import types
from functools import partial
from pathlib import Path

import cifar10
import collapse
import costs
import cupy_table
import dcgan
import figure1
import numpy as np
import progressive
import pytest
import sample
import theory
from helpers import LAYERS, batches, game, refused
from recorder import CLASSES, MODULES, Call, faults, recording
from strict_cupy import OPERATORS, Flags, cupy, ufunc
from test_models import MODELS, Rows

import tinygan
from tinygan import (
    GAN,
    VARIANTS,
    Adam,
    Batch,
    ChannelMaxout,
    Conv2d,
    ConvTranspose2d,
    DivergenceError,
    Linear,
    MaxPool2d,
    MomentumSGD,
    Network,
    Noise,
    ParzenWindow,
    Streams,
    Trainer,
    bernoulli_cross_entropy,
    guard,
    load_generator,
    max_column_norm,
    pixels,
    recipes,
    softmax_cross_entropy,
    squared_error,
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
    epoch_of(MODELS[name](cupy, 1))


def epoch_of(model):
    """Two iterations, and the report. Returns the Trainer."""
    ours = Trainer(model, Rows(10, 0), Rows(10, 1), batch_size=5, seed=7)
    ours.train_epoch()
    return ours


def kept(folder):
    """A Trainer's checkpoint, written, restored, and read for its generator."""
    ours = epoch_of(game("alternating", cupy, np.float32, normalised=True))
    ours.save(folder / "c.npz")
    ours.restore(folder / "c.npz")
    generator = load_generator(folder / "c.npz", xp=cupy)
    generator.sample(5, 0)


def looks():
    """A network's table, and two refusals that look at arrays: a cost that is no number, a gradient that is θ itself."""
    made = game("alternating", cupy, np.float32, normalised=True)
    made.D.summary()
    with refused("G", "D", error=DivergenceError):
        guard({"cost": float("nan")}, made.players)
    with refused("share"):
        made.G_optimizer.step(made.G.theta)


def evaluator():
    samples, validation, x = (cupy.asarray(np.random.default_rng(i).random((60, 4)).astype(np.float32)) for i in range(3))
    with pytest.warns(FewSamplesWarning):
        evaluate(samples, validation, x, (0.01, 0.2, 1))
    ParzenWindow(0.2).fit(samples).score_samples(x)


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
    | {f.__name__: f for f in (convolutional, looks, evaluator, pictures, other_costs)}
)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """All calls of the engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy)
        with recording() as calls:
            for run in ENGINE.values():
                run()
            kept(tmp_path_factory.mktemp("kept"))
        return calls


@pytest.fixture(params=["the committed table", "the installed CuPy"])
def table(request):
    """What CuPy has: as committed, and as installed where it is."""
    if request.param == "the committed table":
        return COMMITTED
    return cupy_table.table(pytest.importorskip("cupy", exc_type=ImportError))


def test_every_call_of_the_engine_is_one_that_cupy_has(used, table):
    assert len(used) > 250
    assert not faults(used, table)


def calls_in_source():
    """Each xp.name(…) and get_array_module(x).name(…) in tinygan: its file, its lines, its text."""
    for path in sorted((ROOT / "tinygan").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if re.search(r"xp\.|get_array_module", text) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                names = {getattr(n, "id", getattr(n, "attr", None)) for n in ast.walk(node.func.value)}
                if names & {"xp", "_xp", "get_array_module"}:
                    yield str(path), range(node.lineno, node.end_lineno + 1), ast.unparse(node.func)


def test_this_is_every_call_of_the_array_module_in_the_source(used):
    made = {place for places in used.values() for place in places}
    found = list(calls_in_source())
    missed = [f"{file}:{lines[0]}: {text}" for file, lines, text in found if not any((file, i) in made for i in lines)]
    assert not missed
    assert len(found) > 100


# Where CuPy computes something else ------------------------------------------------------------------------------------

LEANS = types.FunctionType
FLOATS = "float16 array", "float32 array", "float64 array"
INTEGERS = "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"


def kinds(call):
    return *call.args, *dict(call.kwargs).values(), call.result


# The sections of "Differences between CuPy and NumPy" in CuPy's user guide, v14, in its order, then what other pages of it
# say. An expression shows the difference. Either the stand-in imposes it: it raises this error, or the expression is true. Or
# a function tells the calls that lean on NumPy's side of it from all others, and tinygan makes none of them.
DIFFERENCES = {
    "Cast behavior from float to integer": (
        "cp.ones(2).astype(np.uint8)",
        lambda c: c.name == "cupy.ndarray.astype" and c.args[0] in FLOATS and c.args[1] in INTEGERS,
    ),
    "Cast behavior from float to integer, in an assignment": (
        "cp.arange(2).__setitem__(slice(2), cp.ones(2))",
        lambda c: c.name == "cupy.ndarray.__setitem__" and c.args[0].split()[0] in INTEGERS and c.args[2] in (*FLOATS, "float"),
    ),
    "Random methods support dtype argument": (
        "cp.random.default_rng(0).random(3)",
        lambda c: ".Generator." in c.name and "dtype" not in dict(c.kwargs),
    ),
    "Out-of-bounds indices": ("cp.arange(3)[cp.asarray([1, 3])]", IndexError),
    "Duplicate values in indices": ("cp.zeros(2).__setitem__(cp.asarray([0, 0]), cp.ones(2))", ValueError),
    "Zero-dimensional array": ("range(cp.arange(3).sum())", TypeError),
    "Matrix type": ("cp.matrix([[1]])", AttributeError),
    "Data types": ("cp.asarray(np.array(['text']))", ValueError),
    "Universal Functions only work with CuPy array or scalar": ("cp.power([cp.arange(5)], 2)", TypeError),
    "Random seed arrays are hashed to scalars": (
        "cp.random.XORWOW(np.arange(5))",
        lambda c: c.name == "cupy.random.XORWOW" and c.args != ("int",),
    ),
    "NaN (not-a-number) handling": (
        "cp.asarray([1j, np.nan]).max()",
        lambda c: any(kind.startswith("complex") for kind in kinds(c)),
    ),
    "Contiguity / Strides": ("not (cp.ones((2, 3)).T + 1).flags.f_contiguous", None),
    "Interoperability: no implicit conversion": ("np.asarray(cp.ones(2))", TypeError),
    "ufunc: no keyword where": ("cp.exp(cp.ones(2), where=True)", TypeError),
    "reductions: no keywords initial and where": ("cp.ones(2).sum(initial=1)", TypeError),
    "astype: no casting": ("cp.ones(2).astype(np.float32, casting='same_kind')", TypeError),
    "out of a kind that the result does not cast to": ("cp.add(cp.arange(2), 0.5, out=cp.arange(2))", TypeError),
    "no @= in place": ("cp.ndarray.__imatmul__", AttributeError),
    "Basics: arrays have no flag writeable": ("cp.ones(2).flags.writeable", AttributeError),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_nothing_leans_on_where_cupy_differs_from_numpy(strict_xp, used, difference):
    expression, answer = DIFFERENCES[difference]
    show = partial(eval, expression, {"cp": cupy, "np": np})
    if answer is None:
        assert show()
    elif isinstance(answer, LEANS):
        with recording() as calls:
            show()
        assert any(map(answer, calls)), "it does not tell that call from others"
        assert not {call: places for call, places in used.items() if answer(call)}
    else:
        with pytest.raises(answer):
            show()


# The recorder and the table -----------------------------------------------------------------------------------------------

x, y = "float32 array", "float64 array"


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (Call("cupy.softplus", (x,), (), x), ["no cupy.softplus"]),
        (Call("cupy.ndarray.permute", (x,), (), x), ["no cupy.ndarray.permute"]),
        (Call("cupy.random.Generator.permutation", ("Generator", "int"), (), x), ["permutation"]),
        (Call("cupy.exp", (x,), (("where", "bool array"),), x), ["where", "casting='same_kind'"]),
        (Call("cupy.ndarray.sum", (x,), (("initial", "int"),), x), ["initial", "keepdims=False"]),
        (Call("cupy.clip", (x, "int"), (), x), ["a_max"]),
        (Call("cupy.zeros", ("int", "float32", "str", "int"), (), x), ["too many positional arguments"]),
        (Call("cupy.add", (x, x), (), y), ["float32", "float64"]),
        (Call("cupy.add", (x, y), (), x), ["computes float64"]),
        (Call("cupy.add", (x, y), (("out", "int64 array"),), "int64 array"), ["computes float64"]),
        (Call("cupy.exp", (x,), (("dtype", "int64"),), "int64 array"), ["computes None"]),
        (Call("cupy.bitwise_and", (x, x), (), x), ["computes None"]),
        (Call("cupy.zeros", ("int",), (), "object array"), ["no dtype object"]),
        (Call("cupy.add", (x, "float"), (), x), []),
        (Call("cupy.add", ("uint16 array", "int"), (), "uint16 array"), []),
        (Call("cupy.multiply", ("bool array", "float"), (("dtype", "float32"),), x), []),
        (Call("cupy.greater", (x, "int"), (), "bool array"), []),
        (Call("cupy.add", (x, y), (("out", x),), x), []),
        (Call("cupy.true_divide", ("uint8 array", "int"), (), y), []),
    ],
)
def test_what_cupy_has_not_is_a_fault_that_says_what_and_where(call, facts):
    found = faults({call: {("/a/b/layers.py", 88)}}, COMMITTED)
    assert len(found) == bool(facts)
    for fact in (*facts, "layers.py:88") if facts else ():
        assert fact in found[0]


def test_the_recorder_writes_down_names_keywords_dtypes_and_places(strict_xp):
    def step():
        return np.exp(cupy.ones(2, np.float32) * 2).sum(axis=0, keepdims=True)

    before = dict(vars(cupy.ndarray)), dict(vars(cupy))
    with recording() as calls:
        step()
    step()
    assert (dict(vars(cupy.ndarray)), dict(vars(cupy))) == before, "it leaves the stand-in as it was"
    assert set(calls) == {
        Call("cupy.ones", ("int", "float32"), (), x),
        Call("cupy.ndarray.__mul__", (x, "int"), (), x),
        Call("cupy.multiply", (x, "int"), (), x),
        Call("cupy.exp", (x,), (), x),
        Call("cupy.ndarray.sum", (x,), (("axis", "int"), ("keepdims", "bool")), x),
    }
    assert set.union(*calls.values()) == {(__file__, step.__code__.co_firstlineno + 1)}


def test_all_that_the_stand_in_has_cupy_has_with_the_same_parameters():
    owners = [(f"cupy.{path}".rstrip("."), owner) for path, owner in MODULES.items()]
    owners += [(f"cupy.{path}", owner) for path, owner in CLASSES.items()]
    owners += [("cupy.ndarray.flags", Flags), ("cupy.ufunc", ufunc)]
    wrong = []
    for path, owner in owners:
        for name, value in vars(owner).items():
            known = COMMITTED["names"].get(f"{path}.{name}", "missing")
            if name.startswith("_") and name not in OPERATORS or isinstance(value, types.ModuleType):
                continue
            if known == "missing" or isinstance(value, ufunc) and f"{path}.{name}" not in COMMITTED["loops"]:
                wrong.append(f"{path}.{name}: {known}")
            elif inspect.isfunction(value) and known and name not in OPERATORS | OTHER_PARAMETERS:
                theirs, mine = (
                    [(p.name, p.kind, p.default) for p in s.parameters.values()]
                    for s in (cupy_table.parameters(known), inspect.signature(value))
                )
                if mine != theirs:
                    wrong.append(f"{path}.{name}: {inspect.signature(value)}, not {known}")
    assert not wrong


OTHER_PARAMETERS = {"matmul", "ndim", "shape"}  # the real ones say less, or take what nothing here needs


def test_the_committed_table_is_what_the_installed_cupy_has():
    real = pytest.importorskip("cupy", exc_type=ImportError)
    for name, value in vars(cupy).items():
        if isinstance(value, type) and issubclass(value, np.generic) or isinstance(value, float):
            assert getattr(real, name) is value or value != value, name
    if real.__version__ != COMMITTED["version"]:
        pytest.skip(f"the table is of CuPy {COMMITTED['version']}, not of {real.__version__}")
    assert cupy_table.table(real) == COMMITTED


# The examples' own steps ----------------------------------------------------------------------------------------------


class HostDraws(Streams):
    """Streams of the device, but that which draws the rows of a minibatch on the host."""

    def __missing__(self, purpose):
        self[purpose] = np.random.default_rng(0) if purpose == "data" else super().__missing__(purpose)
        return self[purpose]


def on_the_device(patch, module):
    """The networks, pixels and streams that a module makes from now on are the device's, though it asks for none."""
    for name, made in {"Network": Network, "pixels": pixels, "Streams": HostDraws}.items():
        if hasattr(module, name):
            patch.setattr(module, name, partial(made, xp=cupy))


def run_mnist(fixture):
    folder = fixture("run")("a", "--epochs", 1, "--backend", "cupy")
    fixture("call")(sample.program, folder, "--nearest", "--interpolate", "--data", fixture("data"), "--backend", "cupy")


def run_dcgan(fixture):
    fixture("train_dcgan")("a", "--epochs", 1, "--backend", "cupy")


def run_cifar10(model, fixture):
    options = "--scale 200 --batch-size 10 --evaluate-every 1 --epochs 1 --backend cupy".split()
    out = fixture("tmp_path") / "a"
    fixture("call")(cifar10.program, "--model", model, "--data", fixture("colours"), "--out", out, *options)


def run_figure1(fixture):
    fixture("monkeypatch").setattr(figure1, "NEAR", np.inf)  # the warm-up does what the rest does
    figure1.play(0, 2, 2, cupy, types.SimpleNamespace(update=lambda: None))


def run_first_loop(fixture):
    patch = fixture("monkeypatch")
    on_the_device(patch, tinygan)
    images = np.random.default_rng(0).integers(0, 256, (100, 784), np.uint8)
    patch.setattr(tinygan, "load_mnist", lambda **_: types.SimpleNamespace(train=types.SimpleNamespace(images=images)))
    patch.setattr(sys, "argv", ["first_loop.py", "--smoke"])
    patch.chdir(fixture("tmp_path"))
    runpy.run_path(str(ROOT / "examples/first_loop.py"))


def run_progressive(fixture):
    patch = fixture("monkeypatch")
    on_the_device(patch, progressive)
    settings, streams = dcgan.DCGAN | {"width": 4, "batch_size": 4, "seed": 0}, HostDraws(0, xp=cupy)
    images = np.random.default_rng(0).integers(0, 256, (12, 96), np.uint8)
    dataset = types.SimpleNamespace(train=types.SimpleNamespace(images=images), image_shape=(8, 12))
    earlier = None
    for size, fade in (2, False), (1, True):
        blocks = progressive.all_blocks(settings, (8, 12))
        gan = progressive.game(settings, *progressive.grown(blocks, size, fade), (8 // size, 12 // size))
        progressive.take_over(blocks, earlier or blocks)
        progressive.play(gan, dataset, size, fade, 2, streams, types.SimpleNamespace(update=lambda: None))
        progressive.picture(gan, gan.noise(streams["picture"], 4), size, (8, 12))
        earlier = blocks


def run_its_networks(module, fixture):
    """The nets of examples/collapse.py or costs.py, one iteration. Those of costs.py are the G and the D of collapse.py."""
    on_the_device(fixture("monkeypatch"), collapse)
    G, D = module.generator(0), module.discriminator(0)
    gan = GAN(G, D, *(MomentumSGD(net.theta, 0.1, 0.5) for net in (G, D)), noise=module.NOISE, batch_size=4)
    gan.iteration(iter([Batch(cupy.asarray(X[:4, :2]))]), Streams(0, 0, cupy))


def run_theory(fixture):
    on_the_device(fixture("monkeypatch"), theory)
    D = theory.line_discriminator(0)
    x = cupy.asarray(X[:, :1].astype(D.dtype))
    theory.train_discriminator(D, lambda: x, lambda: x, 2, 0.1)
    theory.generator_cdf(Network([Linear(1, 1)], xp=cupy), np.linspace(-1, 1, 5))


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "example",
    [run_mnist, run_figure1, run_progressive, run_theory, slow(run_dcgan), slow(run_first_loop)]
    + [pytest.param(partial(run_its_networks, module), id=module.__name__) for module in (collapse, costs)]
    + [slow(partial(run_cifar10, model), id=model) for model in recipes.CIFAR10],
)
def test_every_call_of_an_example_is_one_that_cupy_has(strict_xp, request, example):
    with recording() as calls:
        example(request.getfixturevalue)
    assert len(calls) > 20
    assert not faults(calls, COMMITTED)
    found = [
        (name, *item)
        for name, (_, leans) in DIFFERENCES.items()
        if isinstance(leans, LEANS)
        for item in calls.items()
        if leans(item[0])
    ]
    # contrast_pixels clips to 0 … 255 before its cast from float to integer: there both give the same
    assert not [each for each in found if {file.rpartition("/")[2] for file, _ in each[2]} != {"contrast.py"}]
