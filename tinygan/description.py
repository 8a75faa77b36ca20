"""Layers as data: what a layer and its parts declare, and a description that JSON can hold. Layers are built from it again.

A description names classes, but nothing is imported because a description names it. Your own classes must be given.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import ArrayModule
from tinygan.errors import ArgumentError
from tinygan.init import Init
from tinygan.layers import Declarations, Layer

Description = list[dict[str, Any]]
"""[{"class": "Linear", "config": {"n_in": 2, "n_out": 3}}, …]"""


def with_parts(layer: Layer) -> Iterator[Layer]:
    """The layer, its parts, their parts, and so on."""
    yield layer
    for part in getattr(layer, "parts", ()):
        yield from with_parts(part)


def all_declarations(
    layer: Layer, declared: Callable[[Layer], Declarations]
) -> Iterator[tuple[str, tuple[tuple[int, ...], Init]]]:
    """What the layer and its parts declare. The names of a part begin with its number: "W", "0.W", "1.0.b", …"""
    yield from declared(layer).items()
    for i, part in enumerate(layer.parts):
        for name, declaration in all_declarations(part, declared):
            yield f"{i}.{name}", declaration


def describe_layers(layers: Sequence[Layer]) -> Description:
    """Each layer's class and config. A class that is not tinygan's is named with its module, "mylayers:Swish"."""
    for layer in layers:
        arguments = inspect.signature(type(layer)).parameters
        if arguments and type(layer).config is Layer.config:
            raise ArgumentError(
                f"{layer!r} cannot be described: {type(layer).__name__} takes {', '.join(arguments)}, so it needs a method "
                f"config() that returns them"
            )
    return [{"class": class_name(type(layer)), "config": layer.config()} for layer in layers]


def class_name(kind: type[Layer]) -> str:
    """How a description names a layer's class: "Linear", or "mylayers:Swish" where it is not tinygan's."""
    own = kind.__module__.partition(".")[0] != __name__.partition(".")[0]
    return f"{kind.__module__}:{kind.__qualname__}" if own else kind.__name__


def build_layers(description: Description, own: Iterable[type[Layer]] = ()) -> list[Layer]:
    """New layers from a description (see Network.describe and Network.build). This allocates no parameters."""
    for kind in (own := checks.items("layers", own, "layers=[MyLayer]")):
        if not (isinstance(kind, type) and issubclass(kind, Layer)):
            raise ArgumentError(f"layers must be classes of layers, as in layers=[MyLayer], not {checks.shown(kind)}")
    known = {class_name(kind): kind for kind in _subclasses(Layer) if ":" not in class_name(kind)}
    mine: dict[str, list[type[Layer]]] = {}
    for kind in own:
        mine.setdefault(kind.__qualname__, []).append(kind)
    layers = []
    for i, entry in enumerate(checks.items("a description", description, "network.describe()")):
        try:
            name, config = entry["class"], dict(entry["config"])
            module, _, bare = name.rpartition(":")
            # The module may have a different name now, "__main__" for one; but it decides between two of one name.
            exact = [kind for kind in mine.get(bare, []) if class_name(kind) == name]
            (kind,) = (exact or mine.get(bare, [])) if module else [known[name]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"layer {i} is {entry!r}: its class is not tinygan's, and not in the classes given as `layers`"
            ) from error
        try:
            layer = kind(**config)
            if unknown := config.keys() - layer.config().keys():
                raise ArgumentError(f"unknown in a config: {', '.join(map(str, unknown))}")
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"layer {i}, {name}, cannot be built from the config {config}: {error}") from error
        layers.append(layer)
    return layers


def parameter_count(
    layers: Iterable[Layer], declared: Callable[[Layer], Declarations] = lambda layer: layer.declarations
) -> int:
    """How many parameters these layers declare, or numbers of another kind, before anything is allocated."""
    arrays = (declaration for layer in layers for _, declaration in all_declarations(layer, declared))
    return sum(int(np.prod(shape, dtype=object)) for shape, _ in arrays)


def summary(layers: Sequence[Layer], shape: Sequence[int] | None, dtype: npt.DTypeLike, xp: ArrayModule) -> str:
    """The table of Network.summary. The shapes are those of a forward pass of one row of zeros."""
    first, guess = next(((i, [layer.n_in]) for i, layer in enumerate(layers) if hasattr(layer, "n_in")), (0, None))
    row = guess if shape is None else shape
    shapes = []
    if row is not None:
        x = xp.zeros((1, *checks.sizes("shape", row)), dtype)
        shapes.append(x.shape)
        for i, layer in enumerate(layers):
            try:
                x, _ = layer.forward(x)
            except (ValueError, IndexError) as error:  # an ArgumentError, or NumPy's own
                if shape is not None:
                    raise ArgumentError(f"layer {i}, {layer!r}, does not take rows of shape {x.shape[1:]}: {error}") from error
                shapes = shapes if i > first else []  # what does not reach the layer that it is guessed from is no input
                break
            shapes.append(x.shape)
    outputs = [f"({', '.join(['m', *map(str, each[1:])])})" for each in shapes] + ["?"] * (len(layers) + 1 - len(shapes))
    total, statistics = parameter_count(layers), parameter_count(layers, lambda layer: layer.statistic_declarations)
    lines = [("", "layer", "output", "parameters"), ("", "input", outputs[0], "")]
    for i, (layer, output) in enumerate(zip(layers, outputs[1:], strict=True)):
        lines.append((str(i), repr(layer), output, f"{parameter_count([layer]):,}"))
    lines.append(("", "all", "", f"{total:,}"))
    w = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [f"{a:>{w[0]}}  {b:{w[1]}}  {c:{w[2]}}  {d:>{w[3]}}".rstrip() for a, b, c, d in lines]
    table += [f"and {statistics:,} running statistics"] * (statistics > 0)
    table += ["?: not known without the shape of one row, as in summary((28, 28, 1))"] * ("?" in outputs)
    return "\n".join(table)


def _subclasses(kind: type[Layer]) -> Iterator[type[Layer]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)
