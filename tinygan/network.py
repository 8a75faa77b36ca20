"""A network: layers in a row, the chain rule over them, and all their parameters as one vector θ."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, ArrayModule, Rng, random_generator, to_device
from tinygan.description import Description, all_declarations, build_layers, describe_layers, summary, with_parts
from tinygan.errors import ArgumentError
from tinygan.layers import Cache, Declarations, Layer


class Caches(list[Cache]):
    """What Network.forward returns for Network.backward: one cache for each layer, the network, and the shape of its output."""

    def __init__(self, network: "Network", caches: Iterable[Cache], shape: tuple[int, ...]) -> None:
        super().__init__(caches)
        self.network, self.shape = network, shape


class Network:
    """y = f_L(… f₂(f₁(x)))

    Backward   the chain rule, from the last layer to the first:  ∂L/∂xₗ₋₁ = (∂L/∂xₗ) · (∂fₗ/∂xₗ₋₁)
    θ          one flat vector: the layers in order, W then b, C order; every layer's params are views into it.
               So θ_g and θ_d are vectors, as in the paper, and so are their gradients and velocities.
    statistics one flat vector of all running statistics, into which the layers have views too. Only `observe` changes it.

    layers  each belongs to one network only. The number in a name ("0.W") is the layer's index in this list.
    seed    of the initial parameters. They are drawn with NumPy and then moved, so both backends start from the same numbers.
    dtype   float32 for training, float64 for checking derivatives; inputs must have it: nothing is cast silently
    xp      the array module, numpy or cupy (backend.get_backend)
    """

    def __init__(
        self, layers: Sequence[Layer], *, seed: int = 0, dtype: npt.DTypeLike = np.float32, xp: ArrayModule = np
    ) -> None:
        self.layers = checks.items("layers", layers, "Network([Linear(2, 3), ReLU()])")
        self.dtype, self.xp = checks.float_dtype("Network: dtype", dtype), checks.array_module(xp)
        seen: list[Layer] = []
        for i, layer in enumerate(self.layers):
            for part in with_parts(layer):  # the layer itself is the first of them
                if not isinstance(part, Layer):
                    raise ArgumentError(f"layer {i} is {layer!r}, which is no layer: write Network([Linear(2, 3), ReLU()])")
                if part.in_network or any(part is other for other in seen):
                    raise ArgumentError(f"layer {i}, {layer!r}, is in a network already: make a new layer and copy θ")
                seen.append(part)
        rng = random_generator(np, seed, "initial parameters")
        self._layout, self._theta = self._start(lambda layer: layer.declarations, rng)
        layout, self._statistics = self._start(lambda layer: layer.statistic_declarations, rng)
        params, statistics = self._by_layer(self._layout, self._theta), self._by_layer(layout, self._statistics)
        for layer, *arrays in zip(self.layers, params, statistics, strict=True):
            bind(layer, *arrays)
        self.mixes_rows = any(layer.mixes_rows for layer in self.layers)

    def _start(self, declared: Callable[[Layer], Declarations], rng: np.random.Generator) -> tuple["Layout", Array]:
        """The layout of all declared arrays in one vector, and the vector as it starts."""
        layout, inits, stop = [], [], 0
        for i, layer in enumerate(self.layers):
            for name, (shape, init) in all_declarations(layer, declared):
                start, stop = stop, stop + int(np.prod(shape))
                layout.append((i, name, shape, start, stop))
                inits.append(init)
        vector = np.empty(stop, self.dtype)
        for (i, name, shape, start, stop), init in zip(layout, inits, strict=True):
            try:
                init(rng, vector[start:stop].reshape(shape))
            except ArgumentError as error:
                raise ArgumentError(f"parameter {i}.{name} of {self.layers[i]!r}: {error}") from error
        return layout, to_device(vector, self.xp)

    @property
    def theta(self) -> Array:
        """θ, 1-D: every parameter. Writing into it changes the layers. net.theta = v copies v into it, a vector like θ or one
        number for all."""
        return self._theta

    @theta.setter
    def theta(self, values: Array | float) -> None:
        self._theta[...] = checks.assigned(values, self._theta)

    @property
    def statistics(self) -> Array:
        """Every running statistic, 1-D, in the order of the layers. Assigning copies, as for theta."""
        return self._statistics

    @statistics.setter
    def statistics(self, values: Array | float) -> None:
        self._statistics[...] = checks.assigned(values, self._statistics)

    def views(self, vector: Array) -> dict[str, Array]:
        """{"0.W": …, "0.b": …}: the parts of any vector like θ (a gradient, a velocity), in the shapes of the parameters."""
        return {f"{i}.{name}": vector[start:stop].reshape(shape) for i, name, shape, start, stop in self._layout}

    def parameters(self) -> dict[str, Array]:
        """{"0.W": …, "0.b": …}: every parameter as a view into θ, in θ's order."""
        return self.views(self.theta)

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Caches]:
        """y, and for each layer the cache that backward needs. train=True switches dropout on, with masks from rng."""
        self.require_own(x, "input")
        checks.flag("train", train), rng is None or checks.generator(rng)
        cache = []
        for layer in self.layers:
            x, layer_cache = layer.forward(x, train, rng)
            cache.append(layer_cache)
        return x, Caches(self, cache, x.shape)

    def __call__(self, x: Array) -> Array:
        """y without dropout and without keeping a cache."""
        return self.forward(x)[0]

    def backward(self, dy: Array, cache: Caches, grad: Array | None = None, need_dx: bool = True) -> Array:
        """∂L/∂x, and ∂L/∂θ written into `grad`, a vector like θ.

        Without grad, θ is held fixed, and no time is spent on its derivative. With need_dx=False the chain stops at the
        lowest layer that has parameters, and None is returned.
        Raises ArgumentError for a dy that does not have the output's shape, and for the cache of a different network.
        """
        self.require_own(dy, "dy")
        self._require_mine(cache)
        if dy.shape != cache.shape:
            raise ArgumentError(f"dy must have the shape of the output, {cache.shape}, not {dy.shape}")
        grad is None or checks.like("grad", grad, self._theta, self.xp, {"the statistics": self._statistics})
        grads = [None] * len(self.layers) if grad is None else self._by_layer(self._layout, grad)
        lowest = 0 if need_dx else self._layout[0][0] if self._layout and grad is not None else len(self.layers)
        for i in reversed(range(lowest, len(self.layers))):
            dy = self.layers[i].backward(dy, cache[i], grads[i], need_dx=need_dx or i > lowest)
        return dy if need_dx else None  # type: ignore[return-value]  # a caller with need_dx=False uses no dx

    def observe(self, cache: Caches) -> None:
        """Move every layer's statistics towards those of the minibatch whose forward pass returned this cache."""
        self._require_mine(cache)
        if self.statistics.size:
            for layer, layer_cache in zip(self.layers, cache, strict=True):
                layer.observe(layer_cache)

    def rows(self, cache: Caches, start: int, stop: int) -> Caches:
        """The cache of rows start … stop − 1 of a minibatch, cut out of the cache of the whole: views, nothing is copied.

        Raises ArgumentError if a layer mixes rows: the gradient of some rows then depends on all rows.
        """
        if self.mixes_rows:
            mixing = [layer for layer in self.layers if layer.mixes_rows]
            raise ArgumentError(f"rows cannot be cut out of this cache: these layers mix the rows of a minibatch: {mixing}")
        self._require_mine(cache)
        return Caches(self, (_rows(part, start, stop) for part in cache), (stop - start, *cache.shape[1:]))

    def describe(self) -> Description:
        """The layers as data that JSON can hold: [{"class": "Linear", "config": {"n_in": 2, "n_out": 3}}, …].

        A class that is not tinygan's is named with its module, "mylayers:Swish".
        """
        return describe_layers(self.layers)

    def summary(self, shape: Sequence[int] | None = None) -> str:
        """A table to print: each layer with the shape of its output, its parameters, and how many numbers they have.

        shape  of one row of the input, such as (784,) or (32, 32, 3). By default it is what the first layer with an n_in takes.
        """
        return summary(self.layers, shape, self.dtype, self.xp)

    @classmethod
    def build(
        cls, description: Description, *, dtype: npt.DTypeLike = np.float32, xp: ArrayModule = np,
        layers: Iterable[type[Layer]] = (),
    ) -> "Network":  # fmt: skip
        """The network that describe() described. Its parameters start at the defaults of their classes: assign θ.

        layers: your own classes in it. Nothing is imported because a description names it.
        Raises ArgumentError for an unknown class, and for a config that its class does not accept.
        """
        return cls(build_layers(description, layers), dtype=dtype, xp=xp)

    def require_own(self, array: object, name: str) -> None:
        """Raise ArgumentError unless the array is of this network's module and dtype."""
        kind = getattr(array, "dtype", None)
        own = kind is not None and kind == self.dtype and isinstance(array, self.xp.ndarray)
        if not own or (type(array) is not self.xp.ndarray and isinstance(array, checks.MASKED)):
            found = f"{type(array).__module__} in {kind or type(array).__name__}"
            raise ArgumentError(f"the network is of {self.xp.__name__} in {self.dtype}, its {name} of {found}: convert it")

    def _require_mine(self, cache: Caches) -> None:
        if getattr(cache, "network", None) is not self:
            raise ArgumentError("the cache is of a different network: give backward what this network's forward returned")

    def _by_layer(self, layout: "Layout", vector: Array) -> list[Any]:
        parts: list[dict[str, Array]] = [{} for _ in self.layers]
        for i, name, shape, start, stop in layout:
            parts[i][name] = vector[start:stop].reshape(shape)
        return parts

    def __repr__(self) -> str:
        return f"Network({self.layers!r})"

    def __reduce_ex__(self, protocol: object) -> Any:
        # In a deep copy or a pickle the layers' arrays would not be views into θ; a shallow copy would share its θ.
        raise ArgumentError("a network is neither copied nor pickled: build a new one and assign θ, net.theta = old.theta")


Layout = list[tuple[int, str, tuple[int, ...], int, int]]
"""For each array in a network's vector: its layer, its name in the layer, its shape, where it starts and where it stops."""


def bind(layer: Layer, params: Mapping[str, Array], statistics: Mapping[str, Array]) -> None:
    """Give a layer and its parts the arrays that they declared."""
    layer.__dict__.update(params=MappingProxyType(params), statistics=MappingProxyType(statistics), in_network=True)
    for i, part in enumerate(layer.parts):
        bind(part, layer.part_grads(dict(params), i) or {}, layer.part_grads(dict(statistics), i) or {})


def _rows(cache: Cache, start: int, stop: int) -> Cache:
    if isinstance(cache, list | tuple):
        return getattr(type(cache), "_make", type(cache))(_rows(part, start, stop) for part in cache)  # _make: a NamedTuple
    return cache[start:stop] if getattr(cache, "ndim", 0) else cache
