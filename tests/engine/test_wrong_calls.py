"""Wrong calls, each with the facts that its error must name; and correct calls beside them, which must go on working.

A wrong call here raises ArgumentError, not an error of NumPy's or of Python's, and never returns a result. The facts are
the argument's name and what was given.
"""

import itertools
import math

import numpy as np
import pytest
from helpers import M, batches, bits, discriminator, game, generator, refused

from tinygan import (
    GAN,
    Adam,
    ArgumentError,
    AuthorsUniform,
    Batch,
    BatchNorm,
    ChannelMaxout,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Generator,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    MomentumSGD,
    Network,
    Noise,
    ParzenWindow,
    Player,
    ReLU,
    Reshape,
    Sigmoid,
    Sparse,
    Streams,
    Tanh,
    Trainer,
    Uniform,
    authors_stream,
    bernoulli_cross_entropy,
    bias_from_marginals,
    discriminator_loss,
    generate,
    generator_loss,
    get_backend,
    guard,
    learning_rate_schedule,
    max_column_norm,
    momentum_schedule,
    pixels,
    random_generator,
    recipes,
    select_sigma,
    softmax_cross_entropy,
    squared_error,
    to_device,
    to_host,
    value_function,
)
from tinygan.images import image_grid, interpolate, nearest_neighbours, neighbour_grid, save_gif, to_uint8
from tinygan.parzen import evaluate

NAN, INF, ONES = math.nan, math.inf, np.ones
DY = ONES((M, 2))
RNG = np.random.default_rng(0)
PIXELS = RNG.random((40, 4))
BYTES = (PIXELS * 255).astype(np.uint8)
SETTINGS = recipes.MNIST | {"generator_width": 4, "discriminator_width": 3, "noise": 2}
LOGITS = np.zeros((M, 1))


def masked(x):
    return np.ma.masked_array(x, mask=np.zeros(np.shape(x), bool))


def sgd(n=3, **options):
    return MomentumSGD(np.zeros(n), **{"learning_rate": 0.1} | options)


def stepped(rate=0.1, kind=MomentumSGD, **later):
    """One step, after these attributes were set."""
    optimizer = kind(np.zeros(3), rate)
    for name, value in later.items():
        setattr(optimizer, name, value)
    optimizer.step(np.ones(3))


def trainer(train=PIXELS, validation=PIXELS[:9], model=None, **options):
    return Trainer(game() if model is None else model, train, validation, **options)


class Model:
    """One player and a cost of 0; what is given replaces its attributes."""

    draws, state = 1, {}

    def __init__(self, name="A", **attributes):
        network = discriminator()
        self.players = {name: Player(network, MomentumSGD(network.theta, 0.1))}
        self.__dict__.update(attributes)

    def iteration(self, batches, streams):
        next(batches)
        return {"cost": 0.0}

    def report(self, held_out, streams):
        return {"fine": 1.0}


def epoch(**attributes):
    trainer(model=Model(**attributes), batch_size=5).train_epoch()


def taking(n):
    return lambda batches, streams: {"cost": float(len([next(batches) for _ in range(n)]))}


def with_nan(x, row=7):
    x = np.array(x, float)
    x[row, 2] = NAN
    return x


def net(*layers, **options):
    return Network(list(layers) or [Linear(3, 2)], **options)


def assign(owner, name, value):
    setattr(owner, name, value)


def put(mapping, name, value):
    mapping[name] = value


def backward(dy=DY, grad=None, cache=None):
    """Backward of a network (5, 3) -> (5, 2), in float64."""
    network = Network([Linear(3, 2), BatchNorm(2)], dtype=np.float64)
    _, own = network.forward(np.ones((M, 3)), train=True)
    vector = grad(network) if callable(grad) else grad
    network.backward(dy, own if cache is None else cache, vector)


def images(*shape):
    return np.ones((M, *shape), np.float32)


def backward_of(layer, dy):
    network = net(layer)
    network.backward(np.ones(dy, np.float32), network.forward(images(4, 4, 3))[1])


def other_cache():
    return Network([Linear(3, 2), BatchNorm(2)], dtype=np.float64).forward(np.ones((M, 3)), train=True)[1]


def gan(G=None, D=None, G_optimizer=None, D_optimizer=None, **options):
    G, D = G or generator(), D or discriminator()
    optimizers = (
        MomentumSGD(network.theta, 0.1) if given is None and hasattr(network, "theta") else given
        for network, given in ((G, G_optimizer), (D, D_optimizer))
    )
    return GAN(G, D, *optimizers, **{"noise": Noise("uniform", 3), "batch_size": M} | options)


class OwnGrads(Layer):
    """A layer of one's own, which declares what it is given."""

    def __init__(self, declarations):
        self.declarations = declarations


# ---- One argument, many values: (call(value), what its error must name)

NO_SIZES = (0, -1, 2.5, "3", None, True, NAN, [2])
SIZES = {
    "Linear n_in": (lambda v: Linear(v, 3), "n_in"),
    "Linear n_out": (lambda v: Linear(3, v), "n_out"),
    "Maxout n_in": (lambda v: Maxout(v, 3, 2), "n_in"),
    "Maxout n_out": (lambda v: Maxout(3, v, 2), "n_out"),
    "Maxout pieces": (lambda v: Maxout(3, 2, v), "pieces"),
    "BatchNorm n": (lambda v: BatchNorm(v), "n must"),
    "Conv2d c_in": (lambda v: Conv2d(v, 3, 2), "c_in"),
    "Conv2d c_out": (lambda v: Conv2d(3, v, 2), "c_out"),
    "Conv2d kernel": (lambda v: Conv2d(3, 2, v), "kernel"),
    "Conv2d stride": (lambda v: Conv2d(3, 2, 2, stride=v), "stride"),
    "ConvTranspose2d kernel": (lambda v: ConvTranspose2d(3, 2, v), "kernel"),
    "ConvTranspose2d stride": (lambda v: ConvTranspose2d(3, 2, 2, stride=v), "stride"),
    "MaxPool2d size": (lambda v: MaxPool2d(v, 2), "size"),
    "MaxPool2d stride": (lambda v: MaxPool2d(2, v), "stride"),
    "ChannelMaxout pieces": (lambda v: ChannelMaxout(v), "pieces"),
    "Sparse n": (lambda v: Sparse(v), "Sparse: n"),
    "Noise n": (lambda v: Noise("uniform", v), "n must"),
    "noise m": (lambda v: Noise("uniform", 3)(RNG, v), "m must"),
    "GAN k": (lambda v: game(k=v), "k must"),
    "GAN generator_steps": (lambda v: game(generator_steps=v), "generator_steps"),
    "GAN batch_size": (lambda v: game(batch_size=v), "batch_size"),
    "generate n": (lambda v: generate(Generator(generator(), Noise("uniform", 3)), v), "samples"),
    "GAN sample n": (lambda v: game().sample(v), "samples"),
    "AuthorsUniform pieces": (lambda v: AuthorsUniform(0.1, authors_stream(), v), "pieces"),
    "interpolate steps": (lambda v: interpolate(generator(), np.zeros((2, 3)), np.zeros((2, 3)), v), "steps"),
}
NO_SEEDS = (-1, 1.5, "0", None, True)
SEEDS = {
    "Network": (lambda v: Network([Linear(2, 3)], seed=v), "seed"),
    "Streams": (lambda v: Streams(v), "seed"),
    "Streams epoch": (lambda v: Streams(0, v), "epoch"),
    "random_generator": (lambda v: random_generator(np, v), "seed"),
    "Trainer": (lambda v: trainer(seed=v), "seed"),
}
NO_NUMBERS = ("0.1", None, NAN, INF, -INF, -0.5, True, [0.1], 0.1j)
NUMBERS = {  # each must be a number of at least 0, or above 0
    "MomentumSGD learning_rate": (lambda v: MomentumSGD(np.zeros(3), v), "learning rate"),
    "MomentumSGD learning_rate set later": (lambda v: stepped(learning_rate=v), "learning rate"),
    "MomentumSGD schedule": (lambda v: stepped(lambda t: v), "learning rate of update 1"),
    "Adam learning_rate": (lambda v: Adam(np.zeros(3), v), "learning rate"),
    "Adam schedule": (lambda v: stepped(lambda t: v, Adam), "learning rate of update 1"),
    "Adam epsilon": (lambda v: Adam(np.zeros(3), 0.1, epsilon=v), "epsilon"),
    "BatchNorm epsilon": (lambda v: BatchNorm(3, epsilon=v), "epsilon"),
    "Uniform": (lambda v: Uniform(v), "radius"),
    "AuthorsUniform": (lambda v: AuthorsUniform(v, authors_stream()), "radius"),
    "max_column_norm": (lambda v: max_column_norm(np.ones((2, 3)), v), "limit"),
    "learning_rate_schedule initial": (lambda v: learning_rate_schedule(1, v), "initial"),
    "learning_rate_schedule minimum": (lambda v: learning_rate_schedule(1, 0.1, minimum=v), "minimum"),
    "ParzenWindow": (lambda v: ParzenWindow(v), "sigma"),
    "ParzenWindow.sigma": (lambda v: assign(ParzenWindow(0.2), "sigma", v), "sigma"),
    "select_sigma": (lambda v: select_sigma(PIXELS, PIXELS, [v]), "sigma"),
}
NO_SHARES = ("0.5", None, NAN, INF, -3, 1.5, True, [0.5])
SHARES = {  # each must lie in [0, 1) or (0, 1]
    "momentum": (lambda v: sgd(momentum=v), "momentum"),
    "momentum set later": (lambda v: stepped(momentum=v), "momentum"),
    "momentum of a Trainer": (lambda v: trainer(momentum=lambda epoch: v).train_epoch(), "momentum of epoch 1"),
    "momentum_schedule initial": (lambda v: momentum_schedule(1, v), "initial"),
    "momentum_schedule final": (lambda v: momentum_schedule(1, 0.5, v), "final"),
    "beta1": (lambda v: Adam(np.zeros(3), 0.1, v), "beta1"),
    "beta2": (lambda v: Adam(np.zeros(3), 0.1, 0.9, v), "beta2"),
    "beta1 set later": (lambda v: stepped(kind=Adam, beta1=v), "beta1"),
    "beta2 set later": (lambda v: stepped(kind=Adam, beta2=v), "beta2"),
    "BatchNorm momentum": (lambda v: BatchNorm(3, momentum=v), "momentum"),
    "LeakyReLU": (lambda v: LeakyReLU(v), "slope"),
    "Dropout": (lambda v: Dropout(v), "keep"),
}
NO_DTYPES = ("float16", "abc", None, int, np.complex128)
DTYPES = {
    "Network": (lambda v: Network([Linear(2, 3)], dtype=v), "dtype"),
    "pixels": (lambda v: pixels(BYTES, dtype=v), "dtype"),
    "noise": (lambda v: Noise("uniform", 3)(RNG, 2, v), "dtype"),
}
NO_ARRAYS = ([[0.0]] * M, None, 1.0, "x")
ARRAYS = {
    "Network": (lambda v: generator()(v), "input"),
    "backward": (lambda v: backward(dy=v), "dy"),
    "value_function": (lambda v: value_function(v, v), "logits"),
    "discriminator_loss": (lambda v: discriminator_loss(LOGITS, v), "logits"),
    "generator_loss": (lambda v: generator_loss(v), "logits"),
    "squared_error": (lambda v: squared_error(v, v), "outputs"),
    "bernoulli_cross_entropy": (lambda v: bernoulli_cross_entropy(LOGITS, v), "targets"),
    "softmax_cross_entropy": (lambda v: softmax_cross_entropy(v, np.zeros(M, int)), "logits"),
    "labels": (lambda v: softmax_cross_entropy(LOGITS, v), "labels"),
    "MomentumSGD": (lambda v: MomentumSGD(v, 0.1), "theta"),
    "Adam": (lambda v: Adam(v, 0.1), "theta"),
    "step": (lambda v: sgd().step(v), "grad"),
    "max_column_norm": (lambda v: max_column_norm(v, 1), "W must"),
    "bias_from_marginals": (lambda v: bias_from_marginals(v), "images"),
    "pixels": (lambda v: pixels(v), "uint8"),
    "interpolate": (lambda v: interpolate(generator(), v, v), "z_start"),
    "Trainer": (lambda v: trainer(v), "data"),
    "validation": (lambda v: trainer(validation=v), "data"),
    "discriminator_step": (lambda v: game().discriminator_step(v, np.zeros((M, 3)), None), "data"),
    "generator_step": (lambda v: game().generator_step(v, None), "input"),
}
LOST = {  # a mask or an imaginary part would be lost
    "forward": (lambda a: generator()(a(np.zeros((M, 3)))), "input"),
    "backward": (lambda a: backward(dy=a(np.ones((M, 2)))), "dy"),
    "grad": (lambda a: backward(grad=lambda network: a(np.zeros_like(network.theta))), "grad"),
    "step": (lambda a: sgd().step(a(np.zeros(3))), "grad"),
    "theta": (lambda a: MomentumSGD(a(np.zeros(3)), 0.1), "theta"),
    "net.theta": (lambda a: assign(generator(), "theta", a(generator().theta)), ""),
    "value_function": (lambda a: value_function(a(LOGITS), a(LOGITS)), "logits"),
    "squared_error": (lambda a: squared_error(a(PIXELS), a(PIXELS)), "outputs"),
    "max_column_norm": (lambda a: max_column_norm(a(np.ones((2, 3))), 1), "W"),
    "Constant": (lambda a: Constant(a(np.zeros(3))), ""),
    "bias": (lambda a: Linear(2, 3, bias=a(np.zeros(3))), ""),
    "bias of a convolution": (lambda a: Conv2d(2, 3, 2, bias=a(np.zeros(3))), ""),
    "untied bias": (lambda a: ConvTranspose2d(2, 3, 2, bias=a(np.zeros((4, 4, 3)))), ""),
    "bias_from_marginals": (lambda a: bias_from_marginals(a(PIXELS)), "images"),
    "Trainer": (lambda a: trainer(a(PIXELS)), "data"),
    "validation": (lambda a: trainer(validation=a(PIXELS)), "data"),
    "samples": (lambda a: ParzenWindow(0.2).fit(a(PIXELS)), "samples"),
    "evaluate": (lambda a: evaluate(PIXELS, PIXELS, a(PIXELS)), "test"),
    "nearest_neighbours": (lambda a: nearest_neighbours(a(PIXELS), PIXELS), "x"),
    "discriminator_step": (lambda a: game().discriminator_step(a(PIXELS[:M]), np.zeros((M, 3)), None), "data"),
}

BY_MODULE = ("forward", "backward", "discriminator_step")  # these errors name the array's module, not its class
MANY = [
    *((f"{kind} {name}: {value!r}", call, value, (fact, value) if kind in ("size", "seed", "number", "share") else (fact,))
      for kind, table, values in (
        ("size", SIZES, NO_SIZES), ("seed", SEEDS, NO_SEEDS), ("number", NUMBERS, NO_NUMBERS), ("share", SHARES, NO_SHARES),
        ("dtype", DTYPES, NO_DTYPES), ("array", ARRAYS, NO_ARRAYS),
    ) for (name, (call, fact)), value in itertools.product(table.items(), values)),
    *((f"{kind} {name}", call, array, (fact, word)) for name, (call, fact) in LOST.items() for kind, array, word in (
        ("masked", masked, "numpy.ma" if name in BY_MODULE else "MaskedArray"),
        ("complex", lambda x: x * (1 + 1j), "complex128"),
    )),
]  # fmt: skip


# ---- All others: (call, facts)

CALLS = {
    # what broadcasts: a dy that has not the shape of the output
    "dy (m, 1)": (lambda: backward(ONES((M, 1))), ["dy", "(5, 2)", "(5, 1)"]),
    "dy (1, n)": (lambda: backward(ONES((1, 2))), ["dy", "(5, 2)", "(1, 2)"]),
    "dy (n,)": (lambda: backward(ONES(2)), ["dy", "(5, 2)", "(2,)"]),
    "dy ()": (lambda: backward(np.array(1.0)), ["dy", "(5, 2)", "()"]),
    "dy (1, 1)": (lambda: backward(ONES((1, 1))), ["dy", "(5, 2)", "(1, 1)"]),
    "dy (m, n, 1)": (lambda: backward(ONES((M, 2, 1))), ["dy", "(5, 2)", "(5, 2, 1)"]),
    "dy in float32": (lambda: backward(ONES((M, 2), np.float32)), ["dy", "float64", "float32"]),
    # memory that is shared
    "grad is θ": (lambda: backward(grad=lambda n: n.theta), ["grad", "θ"]),
    "grad is a view of θ": (lambda: backward(grad=lambda n: n.theta[:]), ["grad", "θ"]),
    "grad is θ backwards": (lambda: backward(grad=lambda n: n.theta[::-1]), ["grad", "θ"]),
    "grad (1, n)": (lambda: backward(grad=lambda n: np.zeros((1, n.theta.size))), ["grad", "(12,)", "(1, 12)"]),
    "grad of float32": (lambda: backward(grad=lambda n: np.zeros(n.theta.size, np.float32)), ["grad", "float32"]),
    "grad a list": (lambda: backward(grad=lambda n: n.theta.tolist()), ["grad", "(12,)"]),
    "step(theta)": (lambda: (lambda o: o.step(o.theta))(sgd()), ["grad", "θ"]),
    "step(a view of theta)": (lambda: (lambda o: o.step(o.theta[:]))(sgd()), ["grad", "θ"]),
    "step(velocity)": (lambda: (lambda o: o.step(o.velocity))(sgd()), ["grad", "velocity"]),
    "step(first_moment)": (lambda: (lambda o: o.step(o.first_moment))(Adam(ONES(3), 0.1)), ["grad", "first_moment"]),
    "step(second_moment)": (lambda: (lambda o: o.step(o.second_moment))(Adam(ONES(3), 0.1)), ["grad", "second_moment"]),
    "step(float32)": (lambda: sgd().step(ONES(3, np.float32)), ["grad", "float32", "float64"]),
    "step((3, 1))": (lambda: sgd().step(ONES((3, 1))), ["grad", "(3,)", "(3, 1)"]),
    "step(integers)": (lambda: sgd().step(ONES(3, int)), ["grad", "int64"]),
    'params["W"] = …': (lambda: put(net().layers[0].params, "W", 0), []),
    'statistics["mean"] = …': (lambda: put(net(BatchNorm(2)).layers[0].statistics, "mean", 0), []),
    "layer.W = …": (lambda: assign(net().layers[0], "W", ONES((3, 2))), ["W"]),
    "layer.params = …": (lambda: assign(net().layers[0], "params", {}), ["params", "Linear(3, 2)"]),
    "layer.statistics = …": (lambda: assign(net(BatchNorm(2)).layers[0], "statistics", {}), ["statistics"]),
    "layer.keep = …": (lambda: assign(net(Dropout(0.5)).layers[0], "keep", 0.9), ["keep", "Dropout(0.5)"]),
    "layer.slope = …": (lambda: assign(net(LeakyReLU()).layers[0], "slope", 3), ["slope"]),
    "layer.n_in = …": (lambda: assign(net().layers[0], "n_in", 9), ["n_in"]),
    "θ of float64 into float32": (lambda: assign(net(), "theta", np.zeros(8)), ["(8,)", "float32", "float64"]),
    "θ of integers": (lambda: assign(net(), "theta", np.zeros(8, int)), ["(8,)", "float32", "int64"]),
    "θ of another length": (lambda: assign(net(), "theta", np.zeros(7, np.float32)), ["(8,)", "(7,)"]),
    "θ a list": (lambda: assign(net(), "theta", [0.0] * 8), ["(8,)", "float32"]),
    "θ None": (lambda: assign(net(), "theta", None), ["(8,)", "None"]),
    "θ a string": (lambda: assign(net(), "theta", "0"), ["(8,)", "'0'"]),
    "θ True": (lambda: assign(net(), "theta", True), ["(8,)", "True"]),
    "statistics of float64": (lambda: assign(net(BatchNorm(2)), "statistics", np.zeros(4)), ["(4,)", "float64"]),
    "a cache of another network": (lambda: backward(cache=other_cache()), ["cache", "different network"]),
    "a cache that is a list": (lambda: backward(cache=[None, None]), ["cache"]),
    "observe(another's cache)": (lambda: net(BatchNorm(2)).observe(other_cache()), ["cache"]),
    "observe(a cache of train=False)": (
        lambda: (lambda n: n.observe(n.forward(ONES((M, 2), np.float32))[1]))(net(BatchNorm(2))), ["train=True"],
    ),
    "rows of another's cache": (lambda: net().rows(other_cache(), 0, 1), ["cache"]),
    # networks and layers
    "Network(a layer)": (lambda: Network(Linear(2, 3)), ["layers", "Linear(2, 3)"]),
    "Network(None)": (lambda: Network(None), ["layers", "None"]),
    "Network(a string)": (lambda: Network("Linear"), ["layers", "'Linear'"]),
    "Network(a class)": (lambda: Network(ReLU), ["layers", "ReLU"]),
    "Network([a class])": (lambda: Network([ReLU]), ["layer 0", "ReLU"]),
    "Network([None])": (lambda: Network([None]), ["layer 0", "None"]),
    "Network([an array])": (lambda: Network([np.zeros(3)]), ["layer 0"]),
    "a layer twice": (lambda: (lambda layer: Network([layer, layer]))(ReLU()), ["layer 1", "ReLU()"]),
    "xp a string": (lambda: Network([Linear(2, 3)], xp="numpy"), ["xp", "'numpy'"]),
    "xp None": (lambda: Network([Linear(2, 3)], xp=None), ["xp", "None"]),
    "widths that differ": (lambda: net(Linear(3, 2), Linear(5, 1))(ONES((M, 3), np.float32)), ["Linear(5, 1)", "(5, 2)"]),
    "widths that differ, Maxout": (lambda: net(Maxout(3, 2, 2), Maxout(5, 1, 2))(ONES((M, 3), np.float32)), ["5, 1", "(5, 2)"]),
    "widths that differ, BatchNorm": (lambda: net(Linear(3, 2), BatchNorm(3))(ONES((M, 3), np.float32)), ["BatchNorm(3)"]),
    "widths that differ, Reshape": (lambda: net(Linear(3, 2), Reshape((3,)))(ONES((M, 3), np.float32)), ["Reshape", "(5, 2)"]),
    "an input of three axes": (lambda: net()(ONES((M, 3, 1), np.float32)), ["(m, 3)", "(5, 3, 1)"]),
    "an input of one axis": (lambda: net()(ONES(3, np.float32)), ["(m, 3)", "(3,)"]),
    "an input of float64": (lambda: net()(ONES((M, 3))), ["float32", "float64", "input"]),
    "an input of bytes": (lambda: net()(ONES((M, 3), np.uint8)), ["float32", "uint8", "input"]),
    "forward(x, rng)": (lambda: net().forward(ONES((M, 3), np.float32), RNG), ["train"]),
    'forward(x, "no")': (lambda: net().forward(ONES((M, 3), np.float32), "no"), ["train", "'no'"]),
    "forward(x, True, 0)": (lambda: net().forward(ONES((M, 3), np.float32), True, 0), ["rng", "random_generator"]),
    "forward(x, True, RandomState)": (
        lambda: net().forward(ONES((M, 3), np.float32), True, np.random.RandomState(0)), ["rng", "random_generator"],
    ),
    "dropout without rng": (lambda: net(Dropout(0.5)).forward(ONES((M, 3), np.float32), True), ["rng", "Dropout"]),
    "dropout's rng a seed": (lambda: Dropout(0.5).forward(ONES((M, 3)), True, 0), ["rng", 0]),
    "weight=0.05": (lambda: Linear(2, 3, weight=0.05), ["weight", "Uniform(0.05)", 0.05]),
    "weight=None": (lambda: Linear(2, 3, weight=None), ["weight", "None"]),
    "weight an array": (lambda: Linear(2, 3, weight=np.zeros((2, 3))), ["weight", "(2, 3)"]),
    "weight a class": (lambda: Maxout(2, 3, 2, weight=Uniform), ["weight", "Uniform"]),
    'bias="0"': (lambda: Linear(2, 3, bias="0"), ["'0'"]),
    "bias of uneven lists": (lambda: Linear(2, 3, bias=[[1.0], [1.0, 2.0]]), ["[[1.0], [1.0, 2.0]]"]),
    "bias=nan": (lambda: Linear(2, 3, bias=NAN), ["nan"]),
    "bias with nan": (lambda: Linear(2, 3, bias=[0, NAN, 0]), ["nan"]),
    "bias of another length": (lambda: net(Linear(2, 3, bias=[0.0, 0.0])), ["0.b", "(2,)", "(3,)"]),
    "bias of objects": (lambda: Linear(2, 3, bias=[None, 1, 2]), ["None"]),
    "Constant(None)": (lambda: Constant(None), ["None"]),
    "Constant(inf)": (lambda: Constant(INF), ["inf"]),
    "Sparse of a vector": (lambda: net(OwnGrads({"s": ((3,), Sparse(1))})), ["0.s", "(3,)"]),
    "Sparse with too few inputs": (lambda: net(Linear(2, 3, weight=Sparse(9))), ["0.W", 9, 2]),
    "AuthorsUniform without a stream": (lambda: AuthorsUniform(0.1, 0), ["stream", "authors_stream()"]),
    "AuthorsUniform with pieces that do not divide": (
        lambda: net(Linear(2, 3, weight=AuthorsUniform(0.1, authors_stream(), 2))), ["0.W", "3 columns", "2 pieces"],
    ),
    "Reshape(4)": (lambda: Reshape(4), ["shape", 4]),
    'Reshape("ab")': (lambda: Reshape("ab"), ["shape", "'ab'"]),
    "Reshape((2, 0))": (lambda: Reshape((2, 0)), ["shape[1]", 0]),
    "Reshape((2, 1.5))": (lambda: Reshape((2, 1.5)), ["shape[1]", 1.5]),
    "build(None)": (lambda: Network.build(None), ["description", "None"]),
    "build(3)": (lambda: Network.build(3), ["description", 3]),
    "build a string": (lambda: Network.build("Linear(2, 3)"), ["description", "Linear"]),
    "build([1])": (lambda: Network.build([1]), ["layer 0", 1]),
    "build an unknown class": (lambda: Network.build([{"class": "Conv9d", "config": {}}]), ["layer 0", "Conv9d"]),
    "build with a class that is no list": (lambda: Network.build([], layers=OwnGrads), ["layers", "OwnGrads"]),
    "build with an instance": (lambda: Network.build([], layers=[ReLU()]), ["layers", "ReLU()"]),
    # convolutions, pooling, maxout over channels
    "Conv2d of flat rows": (lambda: net(Conv2d(3, 2, 2))(images(48)), ["Conv2d(3, 2, 2)", "(5, 48)", "Reshape((h, w, 3))"]),
    "ConvTranspose2d of flat rows": (lambda: net(ConvTranspose2d(3, 2, 2))(images(48)), ["(5, 48)", "Reshape((h, w, 3))"]),
    "MaxPool2d of flat rows": (lambda: net(MaxPool2d(2, 2))(images(48)), ["MaxPool2d(2, 2)", "(5, 48)", "Reshape((h, w, c))"]),
    "Conv2d of images without channels": (lambda: net(Conv2d(1, 2, 2))(images(4, 4)), ["(m, h, w, 1)", "(5, 4, 4)"]),
    "MaxPool2d of images without channels": (lambda: net(MaxPool2d(2, 2))(images(4, 4)), ["(m, h, w, c)", "(5, 4, 4)"]),
    "Conv2d of an image": (lambda: Conv2d(3, 2, 2).forward(ONES((4, 4, 3))), ["(m, h, w, 3)", "(4, 4, 3)"]),
    "Conv2d of channels first": (lambda: net(Conv2d(3, 2, 2))(images(3, 8, 8)), ["(m, h, w, 3)", "(5, 3, 8, 8)"]),
    "ConvTranspose2d of other channels": (lambda: net(ConvTranspose2d(3, 2, 2))(images(4, 4, 2)), ["3", "(5, 4, 4, 2)"]),
    "channels that differ": (
        lambda: net(Conv2d(3, 4, 2), ChannelMaxout(2), Conv2d(4, 1, 2))(images(4, 4, 3)), ["Conv2d(4, 1, 2)", "(5, 3, 3, 2)"],
    ),
    "ChannelMaxout of channels it does not divide": (
        lambda: net(ChannelMaxout(2))(images(4, 4, 3)), ["ChannelMaxout(2)", "(5, 4, 4, 3)"],
    ),
    "ChannelMaxout of a vector": (lambda: ChannelMaxout(2).forward(ONES(4)), ["ChannelMaxout(2)", "(4,)"]),
    "a kernel larger than the image": (lambda: net(Conv2d(3, 2, 5))(images(4, 6, 3)), ["5 × 5", "4 × 6", "(5, 4, 6, 3)"]),
    "a kernel wider than the image and its padding": (
        lambda: net(Conv2d(3, 2, (3, 8), padding=(0, 1)))(images(4, 5, 3)), ["3 × 8", "4 × 7", "(5, 4, 5, 3)"],
    ),
    "a transposed convolution whose padding takes all": (
        lambda: net(ConvTranspose2d(3, 2, 3, padding=2))(images(2, 4, 3)), ["ConvTranspose2d(3, 2, 3, padding=2)", "0 × 2"],
    ),
    "padding = kernel": (lambda: Conv2d(3, 2, 2, padding=2), ["Conv2d", "padding 2", "kernel 2"]),
    "padding beyond the kernel's rows": (lambda: Conv2d(3, 2, (2, 5), padding=3), ["padding 3", "kernel (2, 5)"]),
    "padding beyond the kernel, transposed": (lambda: ConvTranspose2d(3, 2, 2, padding=(0, 2)), ["padding (0, 2)", "kernel 2"]),
    "padding -1": (lambda: Conv2d(3, 2, 2, padding=-1), ["padding", -1]),
    'padding "same"': (lambda: Conv2d(3, 2, 2, padding="same"), ["padding", "'same'"]),
    "padding 0.5": (lambda: ConvTranspose2d(3, 2, 2, padding=0.5), ["padding", 0.5]),
    "padding of three numbers": (lambda: Conv2d(3, 2, 2, padding=(1, 1, 1)), ["padding", "(1, 1, 1)", "pair"]),
    "a kernel of three numbers": (lambda: Conv2d(3, 2, (2, 2, 2)), ["kernel", "(2, 2, 2)", "pair"]),
    "a kernel with 0": (lambda: Conv2d(3, 2, (2, 0)), ["kernel[1]", 0]),
    "a kernel with a float": (lambda: ConvTranspose2d(3, 2, (2.0, 2)), ["kernel[0]", 2.0]),
    "a stride of no numbers": (lambda: Conv2d(3, 2, 2, stride=()), ["stride", "()"]),
    "a size in a dict": (lambda: MaxPool2d({"h": 2, "w": 2}, 2), ["size", "{'h': 2, 'w': 2}"]),
    "a stride with None": (lambda: MaxPool2d(2, (1, None)), ["stride[1]", "None"]),
    "a convolution's weight a number": (lambda: Conv2d(3, 2, 2, weight=0.05), ["Conv2d: weight", 0.05]),
    "a convolution's weight None": (lambda: ConvTranspose2d(3, 2, 2, weight=None), ["ConvTranspose2d: weight", "None"]),
    "Sparse for a convolution": (lambda: net(Conv2d(3, 2, 2, weight=Sparse(1))), ["0.W", "(2, 2, 3, 2)"]),
    "a convolution's bias of another length": (lambda: Conv2d(3, 2, 2, bias=[0.0] * 3), ["Conv2d: bias", "(3,)", "(2,)"]),
    "a convolution's bias a matrix": (lambda: Conv2d(3, 2, 2, bias=np.zeros((4, 2))), ["bias", "(4, 2)", "(2,)"]),
    "an untied bias of other channels": (lambda: Conv2d(3, 2, 2, bias=np.zeros((4, 4, 3))), ["bias", "(4, 4, 3)", "2)"]),
    "an untied bias without rows": (lambda: Conv2d(3, 2, 2, bias=np.zeros((0, 4, 2))), ["bias", "(0, 4, 2)"]),
    "a convolution's bias with nan": (lambda: Conv2d(3, 2, 2, bias=[0, NAN]), ["nan"]),
    "a convolution's bias a string": (lambda: ConvTranspose2d(3, 2, 2, bias="0"), ["'0'"]),
    "an untied bias of another image": (
        lambda: net(Conv2d(3, 2, 2, bias=(4, 4, 2)))(images(4, 4, 3)), ["(4, 4, 2)", "(3, 3, 2)", "(5, 4, 4, 3)"],
    ),
    "an untied bias of another image, transposed": (
        lambda: net(ConvTranspose2d(3, 2, 2, bias=np.zeros((4, 4, 2))))(images(4, 4, 3)), ["(4, 4, 2)", "(5, 5, 2)"],
    ),
    "layer.kernel = …": (lambda: assign(net(Conv2d(3, 2, 2)).layers[0], "kernel", (3, 3)), ["kernel", "Conv2d(3, 2, 2)"]),
    "layer.padding = …": (lambda: assign(net(ConvTranspose2d(3, 2, 2)).layers[0], "padding", (1, 1)), ["padding"]),
    "pool.size = …": (lambda: assign(net(MaxPool2d(2, 2)).layers[0], "size", (3, 3)), ["size", "MaxPool2d(2, 2)"]),
    "maxout.pieces = …": (lambda: assign(net(ChannelMaxout(2)).layers[0], "pieces", 3), ["pieces"]),
    "build a convolution with a kernel of 0": (
        lambda: Network.build([{"class": "Conv2d", "config": {"c_in": 3, "c_out": 2, "kernel": 0}}]), ["layer 0", "kernel", 0],
    ),
    "build a pooling without a stride": (
        lambda: Network.build([{"class": "MaxPool2d", "config": {"size": 2}}]), ["layer 0", "MaxPool2d", "stride"],
    ),
    "dy of a convolution, flat": (lambda: backward_of(Conv2d(3, 2, 2), (5, 18)), ["(5, 3, 3, 2)", "(5, 18)"]),
    "dy of a pooling that broadcasts": (lambda: backward_of(MaxPool2d(2, 2), (5, 2, 2, 1)), ["(5, 2, 2, 3)", "(5, 2, 2, 1)"]),
    # random numbers and backends
    "noise from a seed": (lambda: Noise("uniform", 3)(0, 5), ["rng", "random_generator", 0]),
    "noise from None": (lambda: Noise("gaussian", 3)(None, 5), ["rng", "None"]),
    "Noise(None, 3)": (lambda: Noise(None, 3), ["prior", "None", "uniform"]),
    'Noise("normal", 3)': (lambda: Noise("normal", 3), ["prior", "'normal'", "gaussian"]),
    "Noise(3)": (lambda: Noise(3, "uniform"), ["prior", 3]),
    "generate with rng=None": (lambda: generate(Generator(generator(), Noise("uniform", 3)), 5, None), ["rng", "None"]),
    "generate with rng=True": (lambda: generate(Generator(generator(), Noise("uniform", 3)), 5, True), ["seed", "True"]),
    "generate with rng=-1": (lambda: generate(Generator(generator(), Noise("uniform", 3)), 5, -1), ["seed", -1]),
    "generate with rng=1.5": (lambda: generate(Generator(generator(), Noise("uniform", 3)), 5, 1.5), ["rng", 1.5, "integer"]),
    "generate(a network)": (lambda: generate(generator(), 5), ["generator", "Generator(network, noise)"]),
    'random_generator("numpy")': (lambda: random_generator("numpy", 0), ["xp", "'numpy'"]),
    'Streams(xp="cupy")': (lambda: Streams(0, 1, "cupy")["noise"], ["xp", "'cupy'"]),
    "get_backend(None)": (lambda: get_backend(None), ["backend", "None", "numpy"]),
    'get_backend("torch")': (lambda: get_backend("torch"), ["backend", "'torch'"]),
    'to_device(x, "numpy")': (lambda: to_device(PIXELS, "numpy"), ["xp", "'numpy'"]),
    "to_device(masked)": (lambda: to_device(masked(PIXELS), np), ["MaskedArray"]),
    "to_host(masked)": (lambda: to_host(masked(PIXELS)), ["MaskedArray"]),
    "to_host(matrix)": (lambda: to_host(np.zeros((2, 2)).view(np.matrix)), ["matrix"]),
    "pixels of floats": (lambda: pixels(PIXELS), ["float64", "uint8"]),
    "pixels of a masked array": (lambda: pixels(masked(BYTES)), ["MaskedArray"]),
    "pixels on a device by name": (lambda: pixels(BYTES, "numpy"), ["xp", "'numpy'"]),
    # costs
    "logits (m,)": (lambda: generator_loss(ONES(M)), ["(m, 1)", "(5,)"]),
    "logits (m, 2)": (lambda: discriminator_loss(LOGITS, ONES((M, 2))), ["(m, 1)", "(5, 2)"]),
    "no logits": (lambda: value_function(LOGITS, LOGITS[:0]), ["(m, 1)", "(0, 1)"]),
    "logits of integers": (lambda: generator_loss(ONES((M, 1), int)), ["logits", "int64"]),
    "logits of two dtypes": (lambda: value_function(LOGITS, LOGITS.astype(np.float32)), ["logits", "float32"]),
    "generator_loss of no kind": (lambda: generator_loss(LOGITS, None), ["generator cost", "None", "minimax"]),
    "generator_loss of an unknown kind": (lambda: generator_loss(LOGITS, "wgan"), ["generator cost", "'wgan'"]),
    "labels out of range": (lambda: softmax_cross_entropy(ONES((2, 3)), np.array([0, 3])), ["labels", 3]),
    "labels that are floats": (lambda: softmax_cross_entropy(ONES((2, 3)), np.array([0.0, 1.0])), ["labels", "float64"]),
    "labels (m, 1)": (lambda: softmax_cross_entropy(ONES((2, 3)), np.array([[0], [1]])), ["(m, n)", "(2, 1)"]),
    "targets that broadcast": (lambda: squared_error(ONES((M, 3)), ONES((M, 1))), ["(5, 3)", "(5, 1)"]),
    "targets of another dtype": (lambda: squared_error(ONES((M, 3)), ONES((M, 3), np.float32)), ["float64", "float32"]),
    "targets that are bytes": (lambda: bernoulli_cross_entropy(ONES((M, 3)), ONES((M, 3), np.uint8)), ["targets", "uint8"]),
    # optimisers and schedules
    "MomentumSGD(net)": (lambda: MomentumSGD(net(), 0.1), ["net.theta", "Network"]),
    "Adam(net)": (lambda: Adam(net(), 0.1), ["net.theta", "Network"]),
    "an optimiser over integers": (lambda: MomentumSGD(np.zeros(3, int), 0.1), ["theta", "int64"]),
    "an optimiser over half precision": (lambda: MomentumSGD(np.zeros(3, np.float16), 0.1), ["theta", "float16"]),
    "an optimiser over a matrix": (lambda: MomentumSGD(np.zeros((3, 1)), 0.1), ["theta", "(3, 1)"]),
    "velocity = …": (lambda: assign(sgd(), "velocity", np.zeros(3)), ["velocity[...]"]),
    "first_moment = …": (lambda: assign(Adam(ONES(3), 0.1), "first_moment", np.zeros(3)), ["first_moment[...]"]),
    "optimizer.theta = …": (lambda: assign(sgd(), "theta", np.zeros(3)), ["theta[...]"]),
    "after=0": (lambda: sgd(after=0), ["after", 0]),
    "after=True": (lambda: sgd(after=True), ["after", "True"]),
    "learning rate 0": (lambda: sgd(learning_rate=0), ["learning rate", 0]),
    "a schedule that returns an array": (lambda: stepped(lambda t: ONES(3)), ["learning rate of update 1", "(3,)"]),
    "a schedule that fails later": (
        lambda: (lambda o: [o.step(ONES(3)) for _ in range(3)])(sgd(learning_rate=lambda t: (1, 1, NAN)[t - 1])),
        ["learning rate of update 3", "nan"],
    ),
    "learning_rate_schedule(initial=-1)": (lambda: learning_rate_schedule(1, initial=-1), ["initial", -1]),
    "learning_rate_schedule(initial < minimum)": (lambda: learning_rate_schedule(1, 1e-7), [1e-7, 1e-6]),
    "learning_rate_schedule(t=0)": (lambda: learning_rate_schedule(0, 0.1), ["t,", 0]),
    "learning_rate_schedule(t=1.5)": (lambda: learning_rate_schedule(1.5, 0.1), ["t,", 1.5]),
    "learning_rate_schedule(decay=0.99)": (lambda: learning_rate_schedule(1, 0.1, decay=0.99), ["decay", 0.99]),
    "learning_rate_schedule(decay=nan)": (lambda: learning_rate_schedule(1, 0.1, decay=NAN), ["decay", "nan"]),
    "momentum_schedule(nan)": (lambda: momentum_schedule(NAN), ["epoch", "nan"]),
    "momentum_schedule(-1)": (lambda: momentum_schedule(-1), ["epoch", -1]),
    "momentum_schedule(None)": (lambda: momentum_schedule(None), ["epoch", "None"]),
    "momentum_schedule(saturate=1)": (lambda: momentum_schedule(1, saturate=1), ["saturate", 1]),
    "max_column_norm of a vector": (lambda: max_column_norm(ONES(3), 1), ["W", "(3,)"]),
    "max_column_norm of integers": (lambda: max_column_norm(ONES((2, 3), int), 1), ["W", "int64"]),
    # the game
    "G an array": (lambda: GAN(ONES(3), discriminator(), sgd(), sgd()), ["G must", "(3,)"]),
    "D a layer": (lambda: GAN(generator(), Linear(4, 1), sgd(), sgd()), ["D must", "Linear(4, 1)"]),
    "no optimiser of G": (lambda: gan(G_optimizer=0), ["G_optimizer", 0]),
    "an optimiser over another θ": (lambda: gan(D_optimizer=sgd()), ["D_optimizer", "θ"]),
    "noise=100": (lambda: gan(noise=100), ["noise", 100]),
    "noise of another width": (lambda: gan(noise=Noise("uniform", 4)), ["4", "(m, 3)"]),
    "nets whose widths differ": (lambda: gan(D=Network([Linear(5, 1)], dtype=np.float64)), ["(m, 5)", "(1, 4)"]),
    "nets whose dtypes differ": (lambda: gan(D=discriminator(np.float32)), ["float32", "float64"]),
    "D with two outputs": (lambda: gan(D=Network([Linear(4, 2)], dtype=np.float64)), ["(m, 1)", "(1, 2)"]),
    "D that ends in a Sigmoid": (lambda: gan(D=Network([Linear(4, 1), Sigmoid()], dtype=np.float64)), ["Sigmoid", "logit"]),
    "generator_cost=None": (lambda: gan(generator_cost=None), ["generator cost", "None"]),
    "generator_cost=[]": (lambda: gan(generator_cost=[]), ["generator cost", "[]"]),
    "k=1.5": (lambda: gan(k=1.5), ["k must", 1.5]),
    "streams=0": (lambda: game().iteration(batches(), 0), ["Streams(seed)", 0]),
    "streams=None": (lambda: game("simultaneous").iteration(batches(), None), ["Streams(seed)", "None"]),
    "streams={}": (lambda: game().iteration(batches(), {}), ["Streams(seed)"]),
    "streams of seeds": (lambda: game().iteration(batches(), {"noise": 0, "dropout": 1}), ["noise", 0]),
    "batches that have ended": (lambda: game().iteration(iter([]), Streams(0)), ["ended", "k = 1", "5 rows"]),
    "batches that end in the second update": (
        lambda: game(k=2).iteration(iter([Batch(PIXELS[:M])]), Streams(0)), ["ended", "k = 2"],
    ),
    "batches that end, simultaneous": (lambda: game("simultaneous").iteration(iter([]), Streams(0)), ["ended", "k = 1"]),
    "batches a list": (lambda: game().iteration([Batch(PIXELS[:M])], Streams(0)), ["iterator", "iter("]),
    "batches None": (lambda: game().iteration(None, Streams(0)), ["iterator", "None"]),
    "batches of arrays": (lambda: game().iteration(iter([PIXELS[:M]]), Streams(0)), ["Batch(x)", "(5, 4)"]),
    "batches of another size": (lambda: game().iteration(iter([Batch(PIXELS)]), Streams(0)), ["batch_size", 5, "(40, 4)"]),
    "pictures of three axes": (
        lambda: game().iteration(iter([Batch(PIXELS[:M].reshape(M, 2, 2))]), Streams(0)), ["(5, 2, 2)", "(5, 4)"],
    ),
    "rng=0 in a step": (lambda: game().generator_step(ONES((M, 3)), 0), ["rng", 0]),
    # a Trainer and its data
    "a NaN pixel": (lambda: trainer(with_nan(PIXELS)), ["training data", "row 7", "1 of 40"]),
    "an infinite pixel": (lambda: trainer(np.where(np.isnan(with_nan(PIXELS)), INF, PIXELS)), ["training data", "row 7"]),
    "NaN in validation": (lambda: trainer(validation=with_nan(PIXELS)), ["validation data", "row 7"]),
    "floats in 0 … 255 for a Sigmoid": (lambda: trainer(PIXELS * 255), ["training data", "254", "0 to 1"]),
    "floats in [-1, 1] for a Sigmoid": (lambda: trainer(PIXELS * 2 - 1), ["training data", "-0.9", "0 to 1"]),
    "floats in 0 … 255 for a Tanh": (lambda: trainer(PIXELS * 255, model=ending(Tanh())), ["training data", "-1 to 1"]),
    "negative floats for a ReLU": (lambda: trainer(-PIXELS, model=ending(ReLU())), ["training data", "0 to inf"]),
    "a Sigmoid before a Reshape": (
        lambda: trainer(PIXELS * 255, model=ending(Sigmoid(), Reshape((4,)))), ["training data", "0 to 1"],
    ),
    "validation in 0 … 255": (lambda: trainer(validation=PIXELS * 255), ["validation data", "0 to 1"]),
    "validation in [-1, 1]": (lambda: trainer(validation=PIXELS * 2 - 1), ["validation data", "0 to 1"]),
    "validation 255 times as wide": (lambda: trainer(validation=PIXELS * 255, model=ending()), ["training", "validation"]),
    "training 255 times as wide": (lambda: trainer(PIXELS * 255, PIXELS, ending()), ["training", "validation"]),
    "validation on another scale for a Tanh": (
        lambda: trainer(DARK * 2 - 1, DARK[:30], ending(Tanh(), n=50)), ["training data go from", "validation data from"],
    ),
    "pictures (n, 2, 2)": (lambda: trainer(PIXELS.reshape(40, 2, 2)), ["(n, 4)", "(40, 2, 2)", "reshape"]),
    "bytes (n, 2, 2)": (lambda: trainer(BYTES.reshape(40, 2, 2)), ["(n, 4)", "(40, 2, 2)", "reshape"]),
    "a width that is not G's": (lambda: trainer(np.tile(PIXELS, 2)), ["(n, 4)", "(40, 8)"]),
    "validation of another width": (lambda: trainer(validation=PIXELS[:, :3]), ["validation data", "(n, 4)", "(40, 3)"]),
    "rows of one axis": (lambda: trainer(PIXELS[:, 0]), ["(n, d)", "(40,)"]),
    "no rows": (lambda: trainer(PIXELS[:0]), ["training rows"]),
    "data of integers": (lambda: trainer(BYTES.astype(int)), ["training data", "int64", "uint8"]),
    "data of numbers too large for float32": (
        lambda: trainer(PIXELS * 1e300, model=game(dtype=np.float32)), ["training data", "float32"],
    ),
    "prepare that makes NaN": (lambda: trainer(BYTES, BYTES, prepare=lambda rows, *_: rows * NAN), ["training data", "row 0"]),
    "prepare=None": (lambda: trainer(prepare=None), ["prepare", "None"]),
    "momentum=0.5": (lambda: trainer(momentum=0.5), ["momentum", 0.5]),
    "batch_size=2.5": (lambda: trainer(model=Model(), batch_size=2.5), ["batch_size", 2.5]),
    'batch_size="5"': (lambda: trainer(model=Model(), batch_size="5"), ["batch_size", "'5'"]),
    "batch_size=0": (lambda: trainer(model=Model(), batch_size=0), ["0"]),
    "a Trainer of a network": (lambda: trainer(model=net()), ["players", "Network"]),
    "a Trainer of two networks": (lambda: trainer(model=(generator(), discriminator())), ["players"]),
    "a model without players": (lambda: trainer(model=Model(players={})), ["players"]),
    "players a list": (lambda: trainer(model=Model(players=[net()])), ["players"]),
    "a player that is a network": (lambda: trainer(model=Model(players={"A": net()})), ["'A'", "Player(network, optimizer)"]),
    "a player with another's optimiser": (
        lambda: trainer(model=Model(players={"A": Player(net(), sgd())})), ["'A'", "θ"],
    ),
    "draws=0": (lambda: trainer(model=Model(draws=0)), ["draws", 0]),
    "draws=1.5": (lambda: trainer(model=Model(draws=1.5)), ["draws", 1.5]),
    "more minibatches than draws": (lambda: epoch(iteration=taking(2)), ["took 2", "draws is 1"]),
    "fewer minibatches than draws": (lambda: epoch(draws=2), ["took 1", "draws is 2"]),
    "minibatches that end": (lambda: epoch(iteration=taking(99)), ["ended", "draws, 1"]),
    "an iteration that returns nothing": (lambda: epoch(iteration=lambda b, s: next(b) and None), ["iteration", "None"]),
    "an iteration that returns a number": (lambda: epoch(iteration=lambda b, s: len(next(b))), ["iteration", 2]),
    "costs of a whole minibatch": (lambda: epoch(iteration=lambda b, s: {"cost": next(b).x}), ["cost", "(5, 4)"]),
    "a cost that is a string": (lambda: epoch(iteration=lambda b, s: {"cost": next(b) and "1"}), ["cost", "'1'"]),
    "a report that returns nothing": (lambda: epoch(report=lambda h, s: None), ["report", "None"]),
    "a report with an array": (lambda: epoch(report=lambda h, s: {"fine": h.x}), ["fine", "(9, 4)"]),
    "a player named my.net": (lambda: trainer(model=Model("my.net")), ["my.net.theta"]),
    "a player without a name": (lambda: trainer(model=Model("")), [".theta"]),
    "a player named 2": (lambda: trainer(model=Model("2nd")), ["2nd.theta"]),
    "a player named in spaces": (lambda: trainer(model=Model("the net")), ["the net.theta"]),
    "a player named state": (lambda: trainer(model=Model("state")), ["'state'"]),
    "a player with a number for a name": (lambda: trainer(model=Model(3)), ["3.theta"]),
    "state of integers": (lambda: trainer(model=Model(state={"chains": np.zeros(3, int)})), ["state.chains", "int64"]),
    "state of a list": (lambda: trainer(model=Model(state={"chains": [0.0]})), ["state.chains"]),
    "state with a name in spaces": (lambda: trainer(model=Model(state={"my chains": np.zeros(3)})), ["state.my chains"]),
    "after_iteration=5": (lambda: trainer().train_epoch(5), ["after_iteration", 5]),
    "guard of a list": (lambda: guard([1.0], {}), ["costs"]),
    "guard of None": (lambda: guard({"cost": None}, {}), ["cost", "None"]),
    "guard of a string": (lambda: guard({"cost": "1"}, {}), ["cost", "'1'"]),
    # the evaluator
    "sigmas empty": (lambda: evaluate(PIXELS, PIXELS, PIXELS, []), ["sigmas", "empty"]),
    "sigmas=0.2": (lambda: evaluate(PIXELS, PIXELS, PIXELS, 0.2), ["sigmas", 0.2]),
    'sigmas="0.2"': (lambda: evaluate(PIXELS, PIXELS, PIXELS, "0.2"), ["sigmas", "'0.2'"]),
    "sigmas of two axes": (lambda: evaluate(PIXELS, PIXELS, PIXELS, np.full((2, 2), 0.2)), ["sigma", "(2,)"]),
    "samples of integers": (lambda: ParzenWindow(0.2).fit(BYTES), ["samples", "uint8"]),
    "samples of three axes": (lambda: ParzenWindow(0.2).fit(PIXELS.reshape(40, 2, 2)), ["samples", "(40, 2, 2)"]),
    "samples with NaN": (lambda: ParzenWindow(0.2).fit(with_nan(PIXELS)), ["samples", "nan"]),
    "samples of uneven lists": (lambda: ParzenWindow(0.2).fit([[0.1], [0.1, 0.2]]), ["samples"]),
    "samples None": (lambda: ParzenWindow(0.2).fit(None), ["samples", "object"]),
    "a window without samples": (lambda: ParzenWindow(0.2).score_samples(PIXELS), ["fit"]),
    "test rows of another width": (lambda: ParzenWindow(0.2).fit(PIXELS).score_samples(PIXELS[:, :3]), ["3", "4"]),
    # pictures
    "image_shape=4": (lambda: to_uint8(PIXELS, 4), ["image_shape", 4]),
    "image_shape (2, 2.0)": (lambda: to_uint8(PIXELS, (2, 2.0)), ["image_shape[1]", 2.0]),
    "image_shape (3, 3)": (lambda: image_grid(PIXELS, (3, 3)), ["(40, 4)", "(3, 3)"]),
    "pixels beyond 1": (lambda: image_grid(PIXELS * 255, (2, 2)), ["[0, 1]"]),
    "columns=2.5": (lambda: image_grid(PIXELS, (2, 2), 2.5), ["columns", 2.5]),
    'columns="2"': (lambda: image_grid(PIXELS, (2, 2), "2"), ["columns", "'2'"]),
    "columns=1 of neighbours": (lambda: neighbour_grid(PIXELS, PIXELS, (2, 2), 1), ["columns", 1]),
    "z of two widths": (lambda: interpolate(generator(), np.zeros((2, 3)), np.zeros((2, 4))), ["(2, 3)", "(2, 4)"]),
    "z of two dtypes": (lambda: interpolate(generator(), np.zeros((2, 3)), np.zeros((2, 3), np.float32)), ["float32"]),
    "no generator": (lambda: interpolate(None, np.zeros((2, 3)), np.zeros((2, 3))), ["generator", "None"]),
    "neighbours of one axis": (lambda: nearest_neighbours(PIXELS[0], PIXELS), ["(4,)", "(40, 4)"]),
    "neighbours of integers": (lambda: nearest_neighbours(BYTES.astype(int), BYTES), ["int64"]),
    "no frames": (lambda: save_gif("missing/never.gif", []), ["frames"]),
    "frames None": (lambda: save_gif("missing/never.gif", None), ["frames", "None"]),
    "frames for no time": (lambda: save_gif("missing/never.gif", [BYTES], 0), ["seconds", 0]),
    "frames for NaN": (lambda: save_gif("missing/never.gif", [BYTES], NAN), ["seconds", "nan"]),
    # recipes
    "settings None": (lambda: recipes.mnist(None, np.zeros(4)), ["settings", "None"]),
    "an unknown variant": (lambda: recipes.mnist(SETTINGS | {"variant": "wgan"}, np.zeros(4)), ["variant", "'wgan'"]),
    "calm=None": (lambda: recipes.mnist(SETTINGS | {"calm": None}, np.zeros(4)), ["calm", "None"]),
    "width 2.5": (lambda: recipes.mnist(SETTINGS | {"generator_width": 2.5}, np.zeros(4)), ["generator_width", 2.5]),
    "a learning rate of None": (lambda: recipes.mnist(SETTINGS | {"learning_rate": None}, np.zeros(4)), ["learning_rate"]),
    "compression nan": (lambda: recipes.momentum({"schedule_compression": NAN}), ["schedule_compression", "nan"]),
    "compression a string": (
        lambda: recipes.mnist(SETTINGS | {"schedule_compression": "2"}, np.zeros(4)), ["schedule_compression", "'2'"],
    ),
    "bias with NaN": (lambda: recipes.mnist(SETTINGS, [0, NAN]), ["bias"]),
    "bias None": (lambda: recipes.mnist(SETTINGS, None), ["bias", "None"]),
    "marginals of NaN": (lambda: bias_from_marginals(with_nan(PIXELS)), ["nan"]),
    "marginals of three axes": (lambda: bias_from_marginals(PIXELS.reshape(40, 2, 2)), ["(n, d)", "(40, 2, 2)"]),
}  # fmt: skip

TYPE_ERRORS = {'params["W"] = …', 'statistics["mean"] = …'}
"""Python's own refusal of writing to a mapping that is read-only: it can have no other."""

DARK = RNG.random((300, 50)) ** 8
"""Rows whose means are alike, as those of images are."""


def ending(*layers, n=4):
    """A game whose G ends in these layers, after n numbers."""
    G = Network([Linear(3, n), *layers], dtype=np.float64)
    return gan(G=G, D=Network([Linear(n, 1)], dtype=np.float64))


ALL = [(name, call, facts, TypeError if name in TYPE_ERRORS else ArgumentError) for name, (call, facts) in CALLS.items()]
ALL += [(name, lambda call=call, value=value: call(value), facts, ArgumentError) for name, call, value, facts in MANY]


def test_there_are_340_of_them():
    assert len(ALL) >= 340
    assert len({name for name, *_ in ALL}) == len(ALL)


@pytest.mark.filterwarnings("ignore::tinygan.parzen.ParzenWarning")
@pytest.mark.parametrize(("call", "facts", "error"), [case[1:] for case in ALL], ids=[case[0] for case in ALL])
def test_a_wrong_call_is_refused_by_name(call, facts, error):
    with refused(*facts, error=error):
        call()


# ---- Correct calls beside them

ZERO_D = np.array
RIGHT = {
    "a convolution of NumPy's integers": lambda: "Conv2d(3, 2, (2, 4))" == repr(Conv2d(np.int64(3), 2, np.array([2, 4]))),
    "a pair in a list": lambda: Conv2d(3, 2, [2, 2]).config() == Conv2d(3, 2, 2).config(),
    "padding 0 in an array without dimensions": lambda: Conv2d(3, 2, 2, padding=np.array(1)).padding == (1, 1),
    "a kernel as large as the image": lambda: net(Conv2d(3, 2, 4))(images(4, 4, 3)).shape == (M, 1, 1, 2),
    "a pooling larger than the image": lambda: net(MaxPool2d(5, 2))(images(4, 4, 3)).shape == (M, 1, 1, 3),
    "a stride larger than the image": lambda: (
        net(MaxPool2d(2, 9), Conv2d(3, 2, 1, stride=9))(images(4, 4, 3)).shape[1:3] == (1, 1)
    ),
    "ChannelMaxout of rows": lambda: net(ChannelMaxout(3))(images(6)).shape == (M, 2),
    "sizes of NumPy's integers": lambda: Linear(np.int64(3), np.uint8(2)).config() == {"n_in": 3, "n_out": 2},
    "sizes of arrays without dimensions": lambda: Maxout(ZERO_D(3), ZERO_D(2), ZERO_D(2)).pieces == 2,
    "a shape of a list": lambda: Reshape([np.int32(2), 2]).shape == (2, 2),
    "numbers of NumPy's": lambda: LeakyReLU(np.float32(0.5)).slope == Dropout(np.float64(0.5)).keep == 0.5,
    "integers as numbers": lambda: Dropout(1).forward(PIXELS, True)[0] is PIXELS,
    "momentum of an array without dimensions": lambda: sgd(momentum=ZERO_D(0.5)).momentum == 0.5,
    "a seed of NumPy's": lambda: bits(net(seed=np.int64(5)).theta) == bits(net(seed=5).theta),
    "a large seed": lambda: net(seed=2**70).theta.size == 8,
    "layers from a generator": lambda: len(Network(layer for layer in (Linear(2, 3), ReLU())).layers) == 2,
    "no layers": lambda: Network([])(PIXELS.astype(np.float32)).shape == (40, 4),
    "dtype by name": lambda: net(dtype="float64").dtype == np.float64,
    "a bias of a list": lambda: net(Linear(2, 3, bias=[0, 1, 2])).theta[-3:].tolist() == [0, 1, 2],
    "a weight that is a function": lambda: net(Linear(2, 3, weight=lambda rng, out: out.fill(2))).theta[0] == 2,
    "θ = 0": lambda: stays(lambda n: assign(n, "theta", 0)),
    "θ = a number of NumPy's": lambda: stays(lambda n: assign(n, "theta", np.float64(0))),
    "θ += 0": lambda: stays(lambda n: assign(n, "theta", np.zeros(8, np.float32))),
    "writing into params": lambda: stays(lambda n: n.layers[0].params["W"].fill(0) or n.layers[0].b.fill(0)),
    "rng of None": lambda: net().forward(ONES((M, 3), np.float32), np.bool_(True), None)[0].shape == (M, 2),
    "a part of one buffer": lambda: fused(),
    "η of NumPy's": lambda: sgd(learning_rate=np.float32(0.5)).next_learning_rate == 0.5,
    "η of an array without dimensions": lambda: sgd(learning_rate=ZERO_D(0.5)).next_learning_rate == 0.5,
    "η = 0 from a schedule": lambda: sgd(learning_rate=lambda t: 0).next_learning_rate == 0,
    "a schedule's t of NumPy's": lambda: learning_rate_schedule(np.int64(1), 0.1) == 0.1,
    "a rate that does not decay": lambda: learning_rate_schedule(9, 0.1, decay=1) == 0.1,
    "a schedule without a minimum": lambda: learning_rate_schedule(1, 1e-9, minimum=0) == 1e-9,
    "an initial rate in an array": lambda: learning_rate_schedule(2, ZERO_D(0.5), decay=1) == 0.5,
    "an epoch that is a fraction": lambda: 0.5 < momentum_schedule(1.5) < 0.7,
    "a step of G with rng=None": lambda: math.isfinite(game().generator_step(ONES((M, 3)), None)),
    "batches from a generator": lambda: len(game().iteration((b for b in batches()), Streams(0))) == 2,
    "streams in a dict": lambda: len(game().iteration(batches(), {"noise": RNG, "dropout": RNG})) == 2,
    "sigmas from a generator": lambda: evaluate(PIXELS, PIXELS, PIXELS, (s for s in (0.1, 0.2, 0.4))).sigmas == (0.1, 0.2, 0.4),
    "sigmas in an array": lambda: len(select_sigma(PIXELS, PIXELS, np.array([0.1, 0.2], np.float32))[1]) == 2,
    "samples in a list": lambda: ParzenWindow(0.2).fit(PIXELS.tolist()).n_samples == 40,
    "sigma set later": lambda: (lambda w: assign(w, "sigma", 1) or w.sigma)(ParzenWindow(0.2)) == 1,
    "bytes for a Trainer": lambda: trainer(BYTES, BYTES).iterations == 8,
    "half precision for a Trainer": lambda: trainer(PIXELS.astype(np.float16)).iterations == 8,
    "pixels of rounding beyond 1": lambda: trainer(PIXELS * 1.0005).iterations == 8,
    "any floats for a G that ends in a Linear": lambda: trainer(PIXELS * 255, PIXELS * 255, ending()).iterations == 8,
    "[-1, 1] for a Tanh": lambda: trainer(PIXELS * 2 - 1, PIXELS[:9] * 2 - 1, ending(Tanh())).iterations == 8,
    "one validation row": lambda: trainer(validation=PIXELS[:1]).iterations == 8,
    "pictures for a G of pictures": lambda: pictures(),
    "heavy tails": lambda: trainer(TAILS, TAILS[:200], ending()).iterations == 400,
    "constant data": lambda: trainer(np.zeros((40, 4)), np.zeros((9, 4))).iterations == 8,
    "settings of the whole recipe": lambda: recipes.mnist({"generator_width": 3, "discriminator_width": 2}, np.zeros(4)).k == 1,
    "a state of two axes": lambda: epoch(state={"chains": np.zeros((3, 4))}) is None,
    "a cost without dimensions": lambda: epoch(iteration=lambda b, s: {"cost": ZERO_D(len(next(b)))}) is None,
}

TAILS = np.random.default_rng(1).standard_cauchy((2000, 4))


def stays(change):
    """The change makes θ zero, and the layers see it: their arrays are still views into θ."""
    network = net()
    change(network)
    return not network.theta.any() and not network(ONES((M, 3), np.float32)).any()


def fused():
    """θ and ∇ side by side in one buffer share no memory."""
    theta, grad = np.zeros((2, 3))
    MomentumSGD(theta, 0.1).step(grad + 1)
    optimizer = MomentumSGD(theta, 0.1)
    optimizer.step(grad)
    return optimizer.updates == 1 and not grad.any()


def pictures():
    G = Network([Linear(3, 4), Sigmoid(), Reshape((2, 2))], dtype=np.float64)
    D = Network([Reshape((4,)), Linear(4, 1)], dtype=np.float64)
    ours = trainer(PIXELS.reshape(40, 2, 2), PIXELS[:9].reshape(9, 2, 2), gan(G=G, D=D))
    return ours.train_epoch()["epoch"] == 1


@pytest.mark.filterwarnings("ignore::tinygan.parzen.ParzenWarning")
@pytest.mark.parametrize("call", RIGHT.values(), ids=RIGHT)
def test_a_correct_call_goes_on_working(call):
    assert call()


def test_a_refused_step_moves_nothing():
    for name, value in (("learning_rate", NAN), ("learning_rate", lambda t: INF), ("momentum", 1.5)):
        optimizer = sgd(momentum=0.5)
        optimizer.step(ONES(3))
        before = bits([optimizer.theta, optimizer.velocity])
        with refused():
            setattr(optimizer, name, value)
            optimizer.step(ONES(3))
        assert (bits([optimizer.theta, optimizer.velocity]), optimizer.updates) == (before, 1)


def test_a_NaN_that_prepare_makes_later_is_not_blamed_on_the_learning_rate():
    """Contrast normalisation divides by the deviation of a row: a blank image, which no first look sees, becomes NaN."""
    rows = RNG.integers(0, 256, (3000, 4)).astype(np.uint8)
    rows[2002] = 9

    def normalise(rows, xp, dtype):
        with np.errstate(invalid="ignore"):
            return ((rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)).astype(dtype)

    ours = Trainer(ending(), rows, rows[:99], prepare=normalise)
    with refused("training data", "row 2002"):
        ours.train_epoch()
    assert ours.epoch == 0


def test_validation_from_another_split_of_real_images_is_on_the_same_scale():
    """Sets that differ in their class, size and order, as real ones do, are no fault."""
    light, dark = DARK[:150] * 0.7, DARK[150:]
    for train, validation in ((light, dark), (dark, light), (DARK, DARK[:5]), (DARK[:20], DARK)):
        assert Trainer(ending(Tanh(), n=50), train, validation, batch_size=M).iterations == len(train) // M
