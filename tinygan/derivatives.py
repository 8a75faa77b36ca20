"""tinygan's own derivatives, checked numerically: the table of `python -m tinygan gradcheck`.

Each layer, each cost, and the gradients that whole training steps give to the optimiser. The checker is gradcheck.py.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan import named
from tinygan.backend import Array, Rng, Scalar, random_generator
from tinygan.convolution import ChannelMaxout, Conv2d, ConvTranspose2d, MaxPool2d
from tinygan.errors import ArgumentError
from tinygan.gan import VARIANTS, Batch, Noise
from tinygan.gradcheck import TOLERANCE, Report, compare_cost, examine_layer, merge
from tinygan.init import Uniform
from tinygan.layers import Cache, Dropout, Layer, LeakyReLU, Linear, Maxout, ReLU, Reshape, Sigmoid, Tanh
from tinygan.losses import (
    GENERATOR_COSTS,
    bernoulli_cross_entropy,
    discriminator_loss,
    generator_loss,
    softmax_cross_entropy,
    squared_error,
    value_function,
)
from tinygan.network import Network
from tinygan.normalisation import BatchNorm
from tinygan.optim import MomentumSGD

UNTIED = random_generator(np, 0, "untied bias").uniform(-1, 1, (3, 5, 2))

LAYERS: dict[str, list[tuple[Callable[[], Layer], tuple[int, ...]]]] = {
    # two of each: a tiny one that is checked entry by entry, and one with thousands of entries
    "Linear": [(lambda: Linear(3, 4), (5, 3)), (lambda: Linear(90, 60), (20, 90))],
    "ReLU": [(lambda: ReLU(), (5, 3)), (lambda: ReLU(), (20, 90))],
    "Sigmoid": [(lambda: Sigmoid(), (5, 3)), (lambda: Sigmoid(), (20, 90))],
    "Maxout": [(lambda: Maxout(3, 2, 4), (5, 3)), (lambda: Maxout(90, 20, 5), (20, 90))],
    "Dropout": [(lambda: Dropout(0.5), (5, 3)), (lambda: Dropout(0.8), (20, 90))],
    "Reshape": [(lambda: Reshape((2, 3)), (5, 6)), (lambda: Reshape((3, 5, 6)), (20, 90))],
    "LeakyReLU": [(lambda: LeakyReLU(), (5, 3)), (lambda: LeakyReLU(0.01), (20, 90))],
    "Tanh": [(lambda: Tanh(), (5, 3)), (lambda: Tanh(), (20, 90))],
    "BatchNorm": [(lambda: BatchNorm(3), (5, 3)), (lambda: BatchNorm(6), (20, 3, 5, 6))],
    # kernels, strides, paddings and images that are square and that are not; a bias of each kind
    "Conv2d": [
        (lambda: Conv2d(2, 3, 2), (2, 3, 4, 2)),
        (lambda: Conv2d(3, 2, (3, 2), stride=2, padding=1, bias=[0.5, -0.5]), (3, 5, 4, 3)),
        (lambda: Conv2d(1, 2, (2, 4), stride=(2, 1), padding=(0, 2), bias=UNTIED), (2, 7, 4, 1)),
        (lambda: Conv2d(4, 6, 4, stride=3, padding=3, bias=None), (5, 9, 11, 4)),
    ],
    "ConvTranspose2d": [
        (lambda: ConvTranspose2d(2, 3, 2), (2, 3, 2, 2)),
        (lambda: ConvTranspose2d(3, 2, (3, 2), stride=2, padding=1, bias=[0.5, -0.5]), (3, 3, 4, 3)),
        (lambda: ConvTranspose2d(1, 2, (1, 4), stride=(2, 3), padding=(0, 1), bias=UNTIED), (2, 2, 2, 1)),
        (lambda: ConvTranspose2d(6, 4, 5, stride=3, padding=2, bias=None), (5, 4, 5, 6)),
    ],
    "MaxPool2d": [
        (lambda: MaxPool2d(2, 2), (2, 4, 5, 2)),
        (lambda: MaxPool2d((4, 3), 2), (2, 7, 6, 3)),
        (lambda: MaxPool2d(2, (1, 3)), (3, 4, 5, 2)),
        (lambda: MaxPool2d(4, 2), (4, 9, 10, 6)),
    ],
    "ChannelMaxout": [(lambda: ChannelMaxout(3), (2, 3, 2, 6)), (lambda: ChannelMaxout(2), (20, 3, 5, 8))],
}


def _layer_row(name: str) -> Report:
    return merge(name, (examine_layer(make(), shape) for make, shape in LAYERS[name]))


LOGITS = (-100.0, -30.0, -1.5, 0.0, 0.5, 30.0, 100.0)


def _loss_row(subject: str, names: tuple[str, ...], loss: Callable[..., tuple[Any, ...]]) -> Report:
    """loss(*logits) -> cost, *gradients: on a minibatch, and on every combination of LOGITS, down to values of 10⁻⁴⁴."""
    rng = random_generator(np, 0, "logits")
    batches = [[rng.normal(0, 3, (6, 1)) for _ in names]]
    batches += [[np.full((1, 1), a) for a in logits] for logits in itertools.product(LOGITS, repeat=len(names))]
    reports = []
    for logits in batches:
        at = f" at {', '.join(f'{a.item():g}' for a in logits)}" if len(logits[0]) == 1 else ""
        values = {name + at: a for name, a in zip(names, logits, strict=True)}
        gradients = dict(zip(values, loss(*logits)[1:], strict=True))
        cost = functools.partial(lambda logits: loss(*logits)[0], logits)
        reports.append(compare_cost(subject, cost, values, gradients))
    return merge(subject, reports)


def _target_row(subject: str, loss: Callable[[Array, Array], tuple[Scalar, Array]], target: Array) -> Report:
    """loss(y, target) -> cost, gradient by y, for 6 rows of 4 numbers: drawn from a normal distribution, and from LOGITS."""
    rng = random_generator(np, 0, "outputs")
    reports = []
    for y in rng.normal(0, 3, (6, 4)), rng.choice(LOGITS, (6, 4)):
        values = {"y": y}
        gradients = {"y": loss(values["y"], target)[1]}
        cost = functools.partial(lambda values: loss(values["y"], target)[0], values)
        reports.append(compare_cost(subject, cost, values, gradients))
    return merge(subject, reports)


def _value_and_gradient(a_real: Array, a_fake: Array) -> tuple[Scalar, Array, Array]:
    _, da_real, da_fake = discriminator_loss(a_real, a_fake)
    return value_function(a_real, a_fake), -2 * da_real, -2 * da_fake  # V = −2 J(D)


class _RecordedDropout(Dropout):
    """Dropout that keeps its masks, so that a cost can be computed again with the masks of a step."""

    def __init__(self, keep: float) -> None:
        super().__init__(keep)
        self.masks: list[Array] = []

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        y, mask = super().forward(x, train, rng)
        if mask is not None:
            self.masks.append(mask)
        return y, mask


class _Given(Noise):
    """Noise that returns these minibatches in turn."""

    def __init__(self, *minibatches: Array) -> None:
        super().__init__("uniform", minibatches[0].shape[1])
        object.__setattr__(self, "minibatches", iter(minibatches))

    def __call__(self, rng: Rng, m: int, dtype: object = None) -> Array:
        return next(self.minibatches)  # type: ignore[attr-defined]


def _step_row(subject: str, player: str, variant: str, normalised: bool) -> Report:
    """One iteration of a GAN on tiny networks. With η = 1 and μ = 0 its gradient is ∇ = θ_old − θ_new.

    This is compared with the derivative of the cost as the paper states it, in log D and log(1 − D), at the θ at
    which the variant takes it.
    """
    costs = GENERATOR_COSTS if player == "G" else GENERATOR_COSTS[:1]  # D's gradient does not depend on G's cost
    return merge(subject, (_check_step(f"{cost} cost", player, variant, cost, normalised) for cost in costs))


def _check_step(subject: str, player: str, variant: str, generator_cost: str, normalised: bool) -> Report:
    m, rng = 6, random_generator(np, 0, "steps")
    weight = Uniform(0.8)
    G_layers: list[Layer] = [Linear(3, 7, weight=weight), ReLU(), Linear(7, 6, weight=weight), Sigmoid()]
    D_layers: list[Layer] = [_RecordedDropout(0.8), Maxout(6, 5, 2, weight=weight), _RecordedDropout(0.5)]
    D_layers += [Maxout(5, 4, 3, weight=weight), _RecordedDropout(0.5), Linear(4, 1, weight=weight)]
    if normalised:
        G_layers.insert(1, BatchNorm(7))
        D_layers.insert(4, BatchNorm(4))
    G, D = Network(G_layers, seed=1, dtype=np.float64), Network(D_layers, seed=2, dtype=np.float64)
    for network in (G, D):
        network.theta += rng.uniform(-0.2, 0.2, network.theta.shape)  # no bias is 0
    x, z_D, z_G = rng.random((m, 6)), rng.standard_normal((m, 3)), rng.standard_normal((m, 3))
    theta_G, theta_D = G.theta.copy(), D.theta.copy()

    optimizers = MomentumSGD(G.theta, 1.0), MomentumSGD(D.theta, 1.0)
    gan = VARIANTS[variant](G, D, *optimizers, noise=_Given(z_D, z_G), batch_size=m, generator_cost=generator_cost)
    gan.iteration(iter([Batch(x)]), {"noise": rng, "dropout": rng})  # type: ignore[arg-type]
    G_gradient, D_gradient = theta_G - G.theta, theta_D - D.theta

    # D's masks in the order of drawing: for m rows of data, m of samples, and m of G's own step
    rows = {"data": slice(0, m), "samples": slice(m, 2 * m), "own step": slice(2 * m, 3 * m)}
    G.theta = theta_G
    if player == "D" or variant == "simultaneous":
        D.theta = theta_D

    def probability(x: Array, part: str) -> Array:
        """D(x) = σ(a), with the masks of that part"""
        for layer in D.layers:
            if isinstance(layer, _RecordedDropout):
                x = x * np.concatenate(layer.masks)[rows[part]]
            else:
                x = layer.forward(x, train=True)[0]
        return 1 / (1 + np.exp(-x))

    def samples(z: Array) -> Array:
        return G.forward(z, train=True)[0]

    def D_cost() -> float:
        V = np.log(probability(x, "data")).mean() + np.log(1 - probability(samples(z_D), "samples")).mean()
        return float(-V if variant == "printed" else -V / 2)

    def G_cost() -> float:
        simultaneous = variant == "simultaneous"
        p = probability(samples(z_D), "samples") if simultaneous else probability(samples(z_G), "own step")
        costs = {"minimax": np.log(1 - p), "non_saturating": -np.log(p), "maximum_likelihood": -p / (1 - p)}
        return float(costs[generator_cost].mean())

    if player == "D":
        return compare_cost(subject, D_cost, D.parameters(), D.views(D_gradient))
    return compare_cost(subject, G_cost, G.parameters(), G.views(G_gradient))


ROWS: dict[str, Callable[[], Report]] = {
    **{name: functools.partial(_layer_row, name) for name in LAYERS},
    "value function V": lambda: _loss_row("value function V", ("a_real", "a_fake"), _value_and_gradient),
    "discriminator cost": lambda: _loss_row("discriminator cost", ("a_real", "a_fake"), discriminator_loss),
}
"""Every row of the table by its name: a function that checks it."""
for _kind in GENERATOR_COSTS:
    _name, _loss = f"generator cost, {_kind}", functools.partial(generator_loss, kind=_kind)
    ROWS[_name] = functools.partial(_loss_row, _name, ("a_fake",), _loss)
for _name, _cost, _target in (
    ("softmax cross-entropy", softmax_cross_entropy, np.array([0, 3, 1, 1, 2, 0])),
    ("squared error", squared_error, np.linspace(-2, 2, 24).reshape(6, 4)),
    ("Bernoulli cross-entropy", bernoulli_cross_entropy, np.linspace(0, 1, 24).reshape(6, 4)),
):
    ROWS[_name] = functools.partial(_target_row, _name, _cost, _target)
for _normalised, _variant, _player in itertools.product((False, True), VARIANTS, "DG"):
    _name = f"{_player} step{' with batch norm' * _normalised}, {_variant}"
    ROWS[_name] = functools.partial(_step_row, _name, _player, _variant, _normalised)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `command` reads."""
    parser.description = (
        "Compare every derivative in tinygan with central differences in float64: each layer, each cost (up to logits of 100), "
        "and the gradients that whole training steps give to the optimiser. Or check layers of your own, if they are named: "
        "their derivatives, and all else that a layer must do. Exit code 0 if all pass, 1 if a relative error exceeds "
        f"{TOLERANCE:g} or a layer breaks its protocol, 2 for a mistake in the call."
    )
    named.add_arguments(parser)


def command(args: argparse.Namespace) -> int:
    """Print the table of tinygan's own derivatives, row by row; or check the layers that are named."""
    if args.layers:
        return named.command(args)
    if args.input or args.seed is not None or args.json:
        raise ArgumentError("--input, --seed and --json are for your own layers: name one, such as mylayers:Softplus")
    start, width = time.perf_counter(), max(map(len, ROWS))
    print(f"{'derivative of':{width}}  entries  directions  worst relative error")
    reports = []
    for name, check in ROWS.items():
        report = check()
        reports.append(report)
        entries, directions = (sum(getattr(b, part) for b in report.blocks) for part in ("entries", "directions"))
        failed = "" if report.passed else "  WRONG"
        print(f"{name:{width}}  {entries:7}  {directions:10}  {report.error:20.1e}{failed}", flush=True)
    wrong = [report for report in reports if not report.passed]
    for report in wrong:
        print(f"\n{report}")
    seconds = time.perf_counter() - start
    if wrong:
        print(f"\n{len(wrong)} of {len(reports)} are WRONG: {', '.join(r.subject for r in wrong)} ({seconds:.1f} s)")
        return 1
    print(
        f"\nAll {len(reports)} derivatives are right: the worst relative error is {max(r.error for r in reports):.1e}, "
        f"up to {TOLERANCE:g} passes (float64, central differences, {seconds:.1f} s)"
    )
    return 0
