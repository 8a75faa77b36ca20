"""The generator of any checkpoint, for sampling: load_generator(path)."""

import ast
import importlib
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.backend import ArrayModule
from tinygan.checkpoint import Checkpoint, load_checkpoint
from tinygan.description import build_layers, parameter_count
from tinygan.errors import ArgumentError, CheckpointError
from tinygan.files import nearest_run
from tinygan.gan import Generator, Noise
from tinygan.layers import Layer
from tinygan.network import Network


def load_generator(
    path: str | os.PathLike[str], *, xp: ArrayModule = np, layers: Iterable[str | type[Layer]] = ()
) -> Generator:
    """The generator in a checkpoint, or in the folder of a run: .network, .noise, .sample(n, rng).

    layers  classes of your own among its layers, or their names as "module:Class". Only what you name is imported.
    Raises CheckpointError for a damaged or altered file, for one that lacks a generator G or its noise, and for a generator
    that does not fit its parameters, its statistics or its noise. Raises ArgumentError for an entry of `layers` that is no
    class of layers.
    """
    return load_run(path, xp, layers)[1]


def load_run(
    path: str | os.PathLike[str], xp: ArrayModule = np, layers: Iterable[str | type[Layer]] = ()
) -> tuple[Checkpoint, Generator]:
    """The checkpoint at path, or in the folder of a run, and its generator: see load_generator."""
    own = [_layer_class(layer) for layer in ([layers] if isinstance(layers, str | type) else layers)]
    path = existing_checkpoint(Path(path))
    checkpoint = load_checkpoint(path)
    theta, architecture = checkpoint.vectors.get("G.theta"), checkpoint.architecture.get("G")
    if theta is None or architecture is None:
        raise CheckpointError(f"{path}: it has no generator G, its players are {', '.join(checkpoint.architecture)}")
    try:
        noise = Noise(checkpoint.configuration["prior"], operator.index(checkpoint.configuration["noise"]))
    except (KeyError, TypeError, ArgumentError) as error:
        raise CheckpointError(f"{path}: it does not say which noise its generator takes: name a checkpoint of a GAN") from error
    try:
        if isinstance(architecture, str):
            made = _layers_of_format_1(architecture)
        else:
            made = build_layers(architecture, own)
        if (size := parameter_count(made)) != theta.size:  # known before anything of that size is allocated
            raise ArgumentError(f"it has {size} parameters, but the checkpoint has {theta.size}")
        G = Network(made, dtype=theta.dtype, xp=xp)
        G.theta = xp.asarray(theta)
        if G.statistics.size:
            if "G.statistics" not in checkpoint.vectors:
                raise ArgumentError("it has running statistics, but the checkpoint holds none")
            G.statistics = xp.asarray(checkpoint.vectors["G.statistics"])
    except ValueError as error:  # an ArgumentError, or NumPy's own for an absurd size
        raise CheckpointError(f"{path}: its generator cannot be built: {error}") from error
    try:
        G(xp.broadcast_to(xp.zeros((1, 1), G.dtype), (1, noise.n)))  # one z, without memory: n may be any number
    except ValueError as error:
        raise CheckpointError(f"{path}: its generator does not take noise of {noise.n} dimensions: {error}") from error
    return checkpoint, Generator(G, noise)


def checkpoint_in(path: str | os.PathLike[str]) -> Path:
    """The checkpoint in the folder of a run; any other path as it is."""
    path = Path(path)
    return path / "checkpoint.npz" if path.is_dir() else path


def existing_checkpoint(path: Path) -> Path:
    """The same, if it is there. Raises CheckpointError, which names the nearest run, if not."""
    checkpoint = checkpoint_in(path)
    if checkpoint.exists():
        return checkpoint
    what = "it has no checkpoint.npz" if path.is_dir() else "no such file or folder"
    raise CheckpointError(f"{path}: {what}; {nearest_run(path)}: name the folder of a run, or a checkpoint")


def _layer_class(layer: str | type[Layer]) -> type[Layer]:
    """A class of layers, imported where it is named: "module:Class"."""
    kind: Any = layer
    if isinstance(layer, str):
        module, _, name = layer.partition(":")
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ArgumentError(f"{layer!r} names no class: write module:Class, as python would import it ({error})") from error
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise ArgumentError(f"{layer!r} is no class of layers: give a subclass of Layer, or its name as module:Class")
    return kind


def _layers_of_format_1(words: str) -> list[Layer]:
    """The layers of a network that a checkpoint of format 1 holds as text, "Network([Linear(3, 4), ReLU()])"."""
    try:
        entries = []
        for call in ast.parse(words, mode="eval").body.args[0].elts:  # type: ignore[attr-defined]
            entries.append((call.func.id, [ast.literal_eval(argument) for argument in call.args]))
    except (AttributeError, IndexError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{words[:200]!r} is no description of layers") from error
    names = {
        "Linear": ("n_in", "n_out"),
        "Maxout": ("n_in", "n_out", "pieces"),
        "Dropout": ("keep",),
        "Reshape": ("shape",),
    }
    return build_layers(
        [{"class": name, "config": dict(zip(names.get(name, ()), values, strict=False))} for name, values in entries]
    )
