"""load_generator: the generator of any checkpoint, of format 1 and 2, rebuilt from its description and from nothing else."""

import hashlib
import json
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import bits, forge, refused

import tinygan
from tinygan import (
    VARIANTS,
    ArgumentError,
    BatchNorm,
    ChannelMaxout,
    Checkpoint,
    CheckpointError,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    MomentumSGD,
    Network,
    Noise,
    Player,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
    Trainer,
    load_checkpoint,
    load_generator,
    save_checkpoint,
    squared_error,
)
from tinygan.run import load_run

X = np.random.default_rng(0).random((40, 4), dtype=np.float32)


class Swish(Layer):
    """y = x σ(s x): a layer of the user's own, which no file may import"""

    def __init__(self, slope=1.0):
        self.slope = slope

    def forward(self, x, train=False, rng=None):
        y, derivative = Sigmoid().forward(self.slope * x)
        return x * y, (x, y, derivative)

    def backward(self, dy, cache, grads=None, need_dx=True):
        x, y, derivative = cache
        return dy * (y + self.slope * x * derivative) if need_dx else None

    def config(self):
        return {"slope": self.slope}


NOISE = Noise("gaussian", 3)


def trained(*hidden, variant="simultaneous", noise=NOISE, dtype=np.float32, xp=np):
    """The trainer of a small GAN after one epoch, with these layers in G."""
    G = Network([Linear(noise.n, 6, bias=0.1), *hidden, Linear(6, 4), Sigmoid()], dtype=dtype, xp=xp)
    D = Network([Linear(4, 5), ReLU(), Linear(5, 1)], seed=1, dtype=dtype, xp=xp)
    optimizers = (MomentumSGD(network.theta, 0.1) for network in (G, D))
    trainer = Trainer(VARIANTS[variant](G, D, *optimizers, noise=noise, batch_size=10), X.astype(dtype), X.astype(dtype))
    trainer.train_epoch()
    return trainer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.npz"


# ---- What is loaded


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "spherical"])
def test_a_loaded_generator_samples_as_the_model_did(path, kind, dtype):
    """From the file, and from the folder that it is in."""
    trainer = trained(ReLU(), noise=Noise(kind, 2), dtype=dtype)
    trainer.save(path)
    for where in path, path.parent, str(path.parent):
        generator = load_generator(where)
        assert generator.noise == Noise(kind, 2)
        assert repr(generator.network) == repr(trainer.model.G)
        assert bits(generator.network.theta) == bits(trainer.model.G.theta)
        assert bits(generator.sample(7, 5)) == bits(trainer.model.sample(7, 5))
    checkpoint, generator = load_run(path)
    assert (checkpoint.epoch, generator.network.dtype) == (1, dtype)


def test_it_is_loaded_onto_the_device_that_is_asked_for(xp, path):
    trainer = trained(BatchNorm(6), ReLU(), xp=xp)
    trainer.save(path)
    generator = load_generator(path, xp=xp)
    assert generator.network.xp is xp
    assert bits(generator.sample(7, 5)) == bits(trainer.model.sample(7, 5))


def test_every_layer_of_tinygan_is_rebuilt(path):
    layers = [Maxout(6, 3, 2), Reshape((3, 1)), Reshape((3,)), Linear(3, 6, bias=None), LeakyReLU(0.3), Tanh(), Dropout(0.5)]
    layers += [Reshape((1, 2, 3)), Conv2d(3, 4, (1, 2), padding=(0, 1), bias=(1, 3, 4)), ChannelMaxout(2)]
    layers += [MaxPool2d((1, 2), 1), ConvTranspose2d(2, 3, (1, 2), stride=2, padding=(0, 1), bias=(1, 2, 3)), Reshape((6,))]
    trainer = trained(*layers)
    trainer.save(path)
    assert bits(load_generator(path).sample(7)) == bits(trainer.model.sample(7))
    assert load_generator(path).network.describe() == trainer.model.G.describe()


def test_running_statistics_are_restored(path):
    trainer = trained(BatchNorm(6, momentum=0.5), ReLU())
    trainer.save(path)
    statistics = trainer.model.G.statistics
    assert abs(statistics - Network([BatchNorm(6)]).statistics).max() > 0.01
    assert bits(load_generator(path).network.statistics) == bits(statistics)
    assert bits(load_generator(path).sample(7)) == bits(trainer.model.sample(7))
    checkpoint = load_checkpoint(path)
    missing = {name: vector for name, vector in checkpoint.vectors.items() if name != "G.statistics"}
    too_few = checkpoint.vectors | {"G.statistics": statistics[1:].copy()}
    for vectors in missing, too_few:
        save_checkpoint(path, replace(checkpoint, vectors=vectors))
        with refused(path, "statistics", error=CheckpointError):
            load_generator(path)


# ---- Format 1


def write_format_1(path, G, D, configuration, words=None):
    """The file that tinygan wrote before it knew other models: four vectors, and the networks in words."""
    arrays = {"theta_g": G.theta, "theta_d": D.theta, "v_g": np.zeros_like(G.theta), "v_d": np.zeros_like(D.theta)}
    fields = {
        "format": 1,
        "epoch": 3,
        "updates": {"G": 30, "D": 30},
        "architecture": {"G": words or repr(G), "D": repr(D)},
        "metrics": [],
        "configuration": configuration,
    }
    arrays["text"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.size} ".encode() + array.tobytes())
    arrays["digest"] = np.frombuffer(digest.digest(), np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


@pytest.fixture
def old():
    """G and D of six layers each, as format 1 knew them."""
    G = [Linear(3, 6), ReLU(), Maxout(6, 2, 4), Reshape((2, 1)), Reshape((2,)), Linear(2, 4), Sigmoid()]
    return Network(G, seed=4), Network([Dropout(0.8), Linear(4, 1)])


def test_a_checkpoint_of_format_1_is_read(path, old):
    G, D = old
    write_format_1(path, G, D, {"prior": "uniform", "noise": 3})
    for where in path, path.parent:
        generator = load_generator(where)
        assert generator.noise == Noise("uniform", 3)
        assert repr(generator.network) == repr(G)
        assert bits(generator.network.theta) == bits(G.theta)
        z = generator.noise(np.random.default_rng(0), 5)
        assert bits(generator.network(z)) == bits(G(z))


@pytest.mark.parametrize(
    "layers",
    ["", "print('x')", "Network([])", "load_mnist()", "os.system('true')", "Linear(3, 24), Swish()", "Linear", "Linear()"]
    + ["Linear(n_in=3, n_out=4)", "Linear(3, '4')", "Dropout(2.0)", "Linear(3, 4)", "Linear(-3, 4)", "Reshape(3)"]
    + ["[" * 5000, "-" * 50000 + "1"],
)
def test_words_of_format_1_that_describe_no_generator_are_refused(path, old, layers):
    write_format_1(path, *old, {"prior": "uniform", "noise": 3}, f"Network([{layers}])")
    with refused(path, "generator", error=CheckpointError):
        load_generator(path, layers=[Swish])


# ---- Layers of one's own


@pytest.fixture
def tracing(tmp_path, monkeypatch):
    """A module, "tracing_layers", that leaves a file where it is imported."""
    trace = tmp_path / "imported"
    (tmp_path / "tracing_layers.py").write_text(
        "from tinygan import ReLU\n"
        f"open({str(trace)!r}, 'x').close()\n"
        "class Rectifier(ReLU):\n    pass\n"
        "def function(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield trace
    sys.modules.pop("tracing_layers", None)


def test_a_layer_of_ones_own_is_given_as_a_class_or_by_name(path):
    trainer = trained(Swish(0.7))
    trainer.save(path)
    assert load_checkpoint(path).architecture["G"][1] == {"class": "test_load_generator:Swish", "config": {"slope": 0.7}}
    for layers in [Swish], (Swish, Layer), ["test_load_generator:Swish"], iter(["test_load_generator:Swish"]):
        generator = load_generator(path, layers=layers)
        assert generator.network.layers[1].slope == 0.7
        assert bits(generator.sample(7)) == bits(trainer.model.sample(7))
    for layers in (), [Layer], ["test_load_generator:Layer"]:
        with refused(path, "test_load_generator:Swish", error=CheckpointError):
            load_generator(path, layers=layers)


def test_nothing_is_imported_because_a_file_names_it(path, tracing):
    trainer = trained(ReLU())
    trainer.save(path)
    checkpoint = load_checkpoint(path)
    checkpoint.architecture["G"][1]["class"] = "tracing_layers:Rectifier"
    save_checkpoint(path, checkpoint)
    for layers in (), [Swish], [ReLU], ["test_load_generator:Swish"]:
        with refused(path, "tracing_layers:Rectifier", error=CheckpointError):
            load_generator(path, layers=layers)
    with pytest.raises(CheckpointError):
        trainer.restore(path)
    assert not tracing.exists()
    assert "tracing_layers" not in sys.modules
    assert bits(load_generator(path, layers=["tracing_layers:Rectifier"]).sample(7)) == bits(trainer.model.sample(7))
    assert tracing.exists()


@pytest.mark.parametrize(
    "name",
    ["tracing_layers:Missing", "tracing_layers:function", "tracing_layers", "no_such_module:Layer", "numpy:ndarray"]
    + ["Rectifier", ":Rectifier", ".:Rectifier", "..tracing_layers:Rectifier", ""],
)
def test_a_name_that_is_no_layers_is_refused(path, tracing, name):
    trained(ReLU()).save(path)
    with refused(repr(name)):
        load_generator(path, layers=[name])


def test_something_that_is_no_layer_is_refused(path):
    trained(ReLU()).save(path)
    for thing in np.ndarray, 3, Swish():
        with pytest.raises(ArgumentError, match="Layer"):
            load_generator(path, layers=[thing])


# ---- What is refused


LINEAR, BIG = {"n_in": 3, "n_out": 6}, 10**5
ABSURD = {
    "a layer of 10¹⁰ parameters": [("Linear", {"n_in": BIG, "n_out": BIG})],
    "many of 10⁹": [("Linear", {"n_in": 10**4, "n_out": BIG})] * 50,
    "more than 64 bits count": [("Linear", {"n_in": 2**40, "n_out": 2**40})],
    "a product that would wrap to 0": [("Maxout", {"n_in": 2**32, "n_out": 2**16, "pieces": 2**16})],
    "a large bias": [("Linear", {"n_in": 1, "n_out": 10**9})],
    "many statistics": [("Linear", LINEAR), ("BatchNorm", {"n": 10**10})],
    "no integers": [("Linear", {"n_in": 1e300, "n_out": 3})],
    "a negative size": [("Linear", {"n_in": -(10**9), "n_out": -(10**9)})],
    "a shape": [("Linear", LINEAR), ("Reshape", {"shape": [10**6, 10**6]}), ("Linear", {"n_in": 6, "n_out": 4})],
    "no mapping": [("Linear", 10**9)],
    "no such option": [("Linear", LINEAR | {"n": 10**9})],
    "no class": [(10**9, LINEAR)],
    "a class of Python's": [("bytearray", {"source": 10**9})],
    "a module of Python's": [("builtins:bytearray", {"source": 10**9})],
    "a base class": [("Layer", {})],
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_descriptions_are_refused_before_anything_large_is_allocated(path, what):
    trainer = trained(ReLU())
    trainer.save(path)
    checkpoint = load_checkpoint(path)
    checkpoint.architecture["G"] = [{"class": name, "config": config} for name, config in ABSURD[what]]
    fields = {name: value for name, value in vars(checkpoint).items() if name != "vectors"}
    forge(path, checkpoint.vectors, {"format": 2} | fields)
    require_small(path)


@pytest.mark.parametrize(
    "layers",
    ["Linear(100000, 100000)", "Linear(10**9, 2)", "Maxout(4294967296, 65536, 65536)", "Linear(1, 1000000000)"]
    + [", ".join(["Linear(10000, 100000)"] * 50), "Linear(3, 24), Reshape((1000000, 1000000))"],
)
def test_absurd_words_of_format_1_are_too(path, old, layers):
    write_format_1(path, *old, {"prior": "uniform", "noise": 3}, f"Network([{layers}])")
    require_small(path)


@pytest.mark.parametrize("n", [2, 4, 10**10, 10**30, 0, -1, 2.5, "3", None, [3]])
@pytest.mark.parametrize("version", [1, 2])
def test_so_is_noise_that_the_generator_does_not_take(path, old, n, version):
    configuration = {"prior": "uniform", "noise": n}
    if version == 1:
        write_format_1(path, *old, configuration)
    else:
        trainer = trained(ReLU())
        trainer.save(path, configuration)
    require_small(path)


def require_small(path):
    tracemalloc.start()
    try:
        with refused(path, error=CheckpointError):
            load_generator(path)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_parameters_of_another_number_are_refused(path):
    trainer = trained(ReLU())
    trainer.save(path)
    checkpoint = load_checkpoint(path)
    checkpoint.architecture["G"][0]["config"]["n_out"] = 7
    save_checkpoint(path, checkpoint)
    with refused(path, checkpoint.vectors["G.theta"].size, error=CheckpointError):
        load_generator(path)


class Autoencoder:
    """A model that is no GAN: one network that is to give back what it is given."""

    draws, state = 1, {}

    def __init__(self, name):
        self.network = Network([Linear(4, 2), ReLU(), Linear(2, 4)])
        self.players = {name: Player(self.network, MomentumSGD(self.network.theta, 0.1))}
        self.grad = np.empty_like(self.network.theta)

    def iteration(self, batches, streams):
        x = next(batches).x
        y, cache = self.network.forward(x)
        cost, dy = squared_error(y, x)
        self.network.backward(dy, cache, self.grad, need_dx=False)
        next(iter(self.players.values())).optimizer.step(self.grad)
        return {"error": cost}

    def report(self, held_out, streams):
        return {"held_out_error": squared_error(self.network(held_out.x), held_out.x)[0]}

    def sample(self, n, rng):
        return self.network(X[:n])


@pytest.mark.parametrize("name", ["E", "G"])
def test_a_checkpoint_of_a_model_that_is_no_GAN_is_refused(path, name):
    """It has no player G; or it has one, and no noise."""
    trainer = Trainer(Autoencoder(name), X, X, batch_size=10)
    trainer.train_epoch()
    trainer.save(path)
    with refused(path, "generator", *({"E": "E", "G": "noise"}[name]), error=CheckpointError):
        load_generator(path)


@pytest.mark.parametrize("prior", ["unknown", None, 3, ["uniform"]])
def test_an_unknown_prior_is_refused(path, prior):
    trained(ReLU()).save(path, {"prior": prior})
    with refused(path, "noise", error=CheckpointError):
        load_generator(path)


def test_a_folder_without_a_checkpoint_and_a_file_that_is_none_are_refused(tmp_path):
    for where in tmp_path, tmp_path / "missing", __file__:
        with refused(where, error=CheckpointError):
            load_generator(where)


def test_it_is_what_the_package_offers():
    assert tinygan.load_generator is tinygan.run.load_generator
    assert Checkpoint is tinygan.Checkpoint
