"""A network: layers in a row, the chain rule over them, and all their parameters as one vector θ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan.backend import Array, get_array_module, random_generator, to_device
from tinygan.errors import ArgumentError
from tinygan.layers import Layer


class Network:
    """y = f_L(… f₂(f₁(x)))

    Backward   the chain rule, from the last layer to the first:  ∂L/∂xₗ₋₁ = (∂L/∂xₗ) · (∂fₗ/∂xₗ₋₁)
    θ          one flat vector: the layers in order, W then b, C order; every layer's params are views into it.
               So θ_g and θ_d are literally vectors, as in the paper, and so are their gradients and velocities.

    layers  each belongs to one network only; its index in the names ("0.W") counts layers without parameters too
    seed    of the initial parameters, drawn with NumPy and then moved, so both backends start identical
    dtype   float32 for training, float64 for checking derivatives; inputs must have it: nothing is cast silently
    xp      the array module, numpy or cupy (backend.get_backend)
    """

    def __init__(self, layers: Sequence[Layer], *, seed: int = 0, dtype: Any = np.float32, xp: Any = np) -> None:
        self.layers = list(layers)
        self.dtype = np.dtype(dtype)
        self.xp = xp
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ArgumentError(f"Network: dtype must be float32 or float64, not {self.dtype}")
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ArgumentError(f"layer {i} is {layer!r}, no layer: write Network([Linear(2, 3), ReLU()])")
            if layer.in_network or any(layer is other for other in self.layers[:i]):
                raise ArgumentError(f"layer {i}, {layer!r}, is in a network already: make a new layer and copy θ")
        # name, layer index, parameter key, shape, start and stop in θ: the whole layout, computed once
        self._layout: list[tuple[str, int, str, tuple[int, ...], int, int]] = []
        start = 0
        for i, layer in enumerate(self.layers):
            for key, (shape, _) in layer.declarations.items():
                stop = start + int(np.prod(shape))
                self._layout.append((f"{i}.{key}", i, key, shape, start, stop))
                start = stop
        theta = np.empty(start, self.dtype)
        rng = random_generator(np, seed, "initial parameters")
        for name, i, key, _, _, _ in self._layout:
            try:
                self.layers[i].declarations[key][1](rng, self.views(theta)[name])
            except ArgumentError as error:
                raise ArgumentError(f"parameter {name} of {self.layers[i]!r}: {error}") from error
        self._theta = to_device(theta, xp)
        for layer, params in zip(self.layers, self._by_layer(self._theta), strict=True):
            layer.params, layer.in_network = params, True

    @property
    def theta(self) -> Array:
        """θ, 1-D: every parameter. Writing into it changes the layers; net.theta = v copies v, such a vector or one
        number for all, into it."""
        return self._theta

    @theta.setter
    def theta(self, values: Array) -> None:
        if getattr(values, "shape", None) != self._theta.shape and not isinstance(values, int | float):
            raise ArgumentError(f"θ is an array of shape {self._theta.shape}: assign another of this shape, not {values!r}")
        self._theta[...] = values

    def views(self, vector: Array) -> dict[str, Array]:
        """{"0.W": …, "0.b": …}: the parts of any vector like θ (a gradient, a velocity), in the shapes of the parameters."""
        return {name: vector[start:stop].reshape(shape) for name, _, _, shape, start, stop in self._layout}

    def parameters(self) -> dict[str, Array]:
        """{"0.W": …, "0.b": …}: every parameter as a view into θ, in θ's order."""
        return self.views(self.theta)

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, list[Any]]:
        """y and the cache that backward needs: one entry a layer. train=True switches dropout on, with masks from rng."""
        self._require_own(x, "input")
        cache = []
        for layer in self.layers:
            x, layer_cache = layer.forward(x, train, rng)
            cache.append(layer_cache)
        return x, cache

    def __call__(self, x: Array) -> Array:
        """y without dropout and without keeping a cache."""
        return self.forward(x)[0]

    def backward(self, dy: Array, cache: list[Any], grad: Array | None = None, need_dx: bool = True) -> Array:
        """∂L/∂x, and ∂L/∂θ written into `grad`, a vector like θ.

        Without grad, θ is held fixed and its derivative costs nothing. With need_dx=False the chain stops at the lowest
        layer that has parameters, and None is returned.
        """
        self._require_own(dy, "dy")
        if grad is not None and (grad.shape != self.theta.shape or grad.dtype != self.dtype):
            raise ArgumentError(f"grad must be like θ, {self.theta.shape} in {self.dtype}, not {grad.shape} in {grad.dtype}")
        grads: list[Any] = [None] * len(self.layers) if grad is None else self._by_layer(grad)
        lowest = 0 if need_dx else self._layout[0][1] if self._layout and grad is not None else len(self.layers)
        for i in reversed(range(lowest, len(self.layers))):
            dy = self.layers[i].backward(dy, cache[i], grads[i], need_dx=need_dx or i > lowest)
        return dy if need_dx else None

    def _require_own(self, array: Array, name: str) -> None:
        kind = getattr(array, "dtype", type(array).__name__)
        if get_array_module(array) is not self.xp or kind != self.dtype:
            raise ArgumentError(
                f"this network computes with {self.xp.__name__} in {self.dtype}, "
                f"its {name} is of {type(array).__module__} in {kind}: convert the {name}"
            )

    def _by_layer(self, vector: Array) -> list[dict[str, Array]]:
        parts: list[dict[str, Array]] = [{} for _ in self.layers]
        views = self.views(vector)
        for name, i, key, *_ in self._layout:
            parts[i][key] = views[name]
        return parts

    def __repr__(self) -> str:
        return f"Network({self.layers!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A deep copy and a pickle would tear the layers' views from θ; a shallow copy would share θ unseen.
        raise ArgumentError("a network is neither copied nor pickled: build another and assign its θ, net.theta = old.theta")


def rows(cache: Any, start: int, stop: int) -> Any:
    """The cache of rows start … stop − 1 of a minibatch, cut out of the cache of the whole: views, nothing is copied."""
    if isinstance(cache, list | tuple):
        return type(cache)(rows(part, start, stop) for part in cache)
    return cache[start:stop] if hasattr(cache, "shape") else cache
