"""The layers: each is one equation, its forward pass and its derivative, written by hand.

    y, cache = layer.forward(x, train=False, rng=None)
    dx       = layer.backward(dy, cache, grads=None, need_dx=True)

dy = ∂L/∂y is the upstream gradient. `cache` is all that backward needs. forward returns it and keeps nothing on the layer, so
a second forward pass may come before the first one's backward. `grads` has the keys of `params`; backward overwrites its
arrays and writes to nothing else. Without `grads` the layer is a fixed function: its parameters' derivatives are not
computed. With need_dx=False, backward returns None and saves the time of ∂L/∂x.

Shape letters: m minibatch, n_in, n_out, p pieces. The result has the backend and the dtype of x.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, Rng, get_array_module, random_uint16
from tinygan.errors import ArgumentError
from tinygan.init import Constant, Init, Uniform

Cache: TypeAlias = Any
"""What forward returns for backward: None, an array whose first axis is the minibatch, or a tuple of those and of numbers."""

Grads: TypeAlias = dict[str, Array] | None
"""Where backward writes the gradients of the parameters. None holds the parameters fixed."""

Bias: TypeAlias = float | npt.ArrayLike | None
"""How b starts: one number for all, an array, or None for a layer without b."""

Declarations: TypeAlias = Mapping[str, tuple[tuple[int, ...], Init]]
"""{"W": (shape, init)}: each array's name, its shape and how it starts."""


class Layer:
    """The base of all layers. Your own layer defines declarations, forward and backward; all else has defaults.

    declarations            {"W": (shape, init)}: the parameters and how they start (see init.py), set in __init__.
                            A Network allocates them. From then on `params` holds them, as views into its θ.
    statistic_declarations  the same for running statistics, such as batch norm's means. They have no gradient and no
                            optimiser. `statistics` holds them, and only `observe` writes to them.
    mixes_rows              True if rows of a minibatch influence each other in training, as in batch norm
    parts                   layers inside this one. Their arrays appear in `params`, `statistics` and `grads` as "0.W", …;
                            part_grads(grads, 0) selects those of the first part.
    """

    declarations: Declarations = MappingProxyType({})
    statistic_declarations: Declarations = MappingProxyType({})
    params: Mapping[str, Array] = MappingProxyType({})
    statistics: Mapping[str, Array] = MappingProxyType({})
    parts: Sequence["Layer"] = ()
    in_network = False

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        raise NotImplementedError

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        raise NotImplementedError

    def observe(self, cache: Cache) -> None:
        """Move the statistics towards those of the minibatch whose forward pass, with train=True, returned this cache."""
        if self.statistics:  # its own, and those of its parts
            raise ArgumentError(f"{self!r} has statistics: its class must define observe(cache), which updates them")

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor that decide shapes and forward, as values that JSON can hold.

        They describe the layer. How parameters start is left out; of bias only None or its shape is kept.
        """
        return {}

    @staticmethod
    def part_grads(grads: Grads, part: int) -> Grads:
        """The entries of this layer's `grads` that belong to one part, under the part's own names. None stays None."""
        prefix = f"{part}."
        if grads is None:
            return None
        return {name.removeprefix(prefix): grad for name, grad in grads.items() if name.startswith(prefix)}

    def __getattr__(self, name: str) -> Any:
        # Python calls this for names that are no attributes. So self.W is the parameter "W".
        if name in self.params:
            return self.params[name]
        if name in self.statistics:
            return self.statistics[name]
        if name == "mixes_rows":
            return any(part.mixes_rows for part in self.parts)
        if name in self.declarations or name in self.statistic_declarations:
            raise ArgumentError(f"{self!r} has no {name} yet: a layer gets its arrays from Network([…, layer, …])")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if self.in_network and (name in ("params", "statistics") or name in self.config()):
            raise ArgumentError(f"{name} of {self!r} is fixed, since the layer is in a network: build a new one")
        if name in self.declarations or name in self.statistic_declarations:
            raise ArgumentError(f"write into the array, which is a view into the network's vector: layer.{name}[...] = …")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        # All arguments in their order; bias, which is None or a shape, by its name.
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in self.config().items()}
        arguments = [f"bias={v}" if name == "bias" else repr(v) for name, v in values.items()]
        return f"{type(self).__name__}({', '.join(arguments)})"


class Linear(Layer):
    """y = x W + b, an affine map

    Shapes     x (m, n_in)    W (n_in, n_out)    b (n_out,)    y (m, n_out)
    Backward   yᵢ = xᵢ W + b, so with dy = ∂L/∂y:
               ∂L/∂W = xᵀ dy        ∂L/∂b = Σᵢ dyᵢ        ∂L/∂x = dy Wᵀ
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number, an array of n_out, or None for y = x W
    Source     Rumelhart, Hinton and Williams 1986, the delta rule in matrix form
    """

    def __init__(self, n_in: int, n_out: int, *, weight: Init = Uniform(0.05), bias: Bias = 0.0) -> None:
        require_positive(self, n_in=n_in, n_out=n_out)
        self.n_in, self.n_out = int(n_in), int(n_out)
        b = {} if bias is None else {"b": ((self.n_out,), Constant(bias))}
        checks.function(f"{type(self).__name__}: weight", weight, "weight=Uniform(0.05)")
        self.declarations = {"W": ((self.n_in, self.n_out), weight), **b}

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        if x.ndim != 2 or x.shape[1] != self.n_in:
            raise ArgumentError(f"{self!r} needs an input of shape (m, {self.n_in}), not {x.shape}")
        y = x @ self.W
        if "b" in self.declarations:
            y += self.b
        return y, x

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x = cache
        if grads is not None:
            xp = get_array_module(x)
            xp.matmul(x.T, dy, out=grads["W"])
            if "b" in grads:
                xp.sum(dy, axis=0, out=grads["b"])
        # dy Wᵀ as (W dyᵀ)ᵀ: with few rows in dy, BLAS is a tenth to a fifth faster. The result is stored by columns.
        return (self.W @ dy.T).T if need_dx else None

    def config(self) -> dict[str, Any]:
        bias = {} if "b" in self.declarations else {"bias": None}
        return {"n_in": self.n_in, "n_out": self.n_out} | bias


class Maxout(Linear):
    """yⱼ = maxᵢ zᵢⱼ, z = x W + b: the largest of p affine pieces

    Shapes     x (m, n_in)    W (n_in, p·n_out)    b (p·n_out,)    z (m, p, n_out)    y (m, n_out)
               Column i·n_out + j is piece i of unit j, so the values of one piece lie side by side in each row of z.
    Backward   ∂yⱼ/∂zᵢⱼ = 1 for the largest piece, else 0. At a tie the first of the largest gets all of dy, so
               Σᵢ dzᵢⱼ = dyⱼ. Then as Linear:  ∂L/∂W = xᵀ dz    ∂L/∂b = Σ dz    ∂L/∂x = dz Wᵀ
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number, an array of p·n_out, or None
    Source     Goodfellow et al. 2013, Maxout Networks, section 2
    """

    def __init__(self, n_in: int, n_out: int, pieces: int, *, weight: Init = Uniform(0.05), bias: Bias = 0.0) -> None:
        require_positive(self, n_in=n_in, n_out=n_out, pieces=pieces)
        super().__init__(n_in, int(pieces) * int(n_out), weight=weight, bias=bias)
        self.n_out, self.pieces = int(n_out), int(pieces)

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        z, _ = super().forward(x)
        z = z.reshape(len(x), self.pieces, self.n_out)
        y = z[:, 0].copy()
        for i in range(1, self.pieces):
            get_array_module(x).maximum(y, z[:, i], out=y)
        return y, (x, z, y)

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x, z, y = cache
        xp = get_array_module(x)
        dz = xp.empty_like(z)
        rest = dy.copy()  # what no piece has received yet: at a tie the first receives all
        for i in range(self.pieces):
            xp.multiply(rest, z[:, i] == y, out=dz[:, i])
            rest -= dz[:, i]
        return super().backward(dz.reshape(len(x), self.pieces * self.n_out), x, grads, need_dx)

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "n_out": self.n_out, "pieces": self.pieces} | super().config()


class ReLU(Layer):
    """y = max(x, 0)

    Shapes     x, y: any, the same
    Backward   ∂y/∂x = 1 where x > 0, else 0; at the kink ReLU′(0) = 0
               ∂L/∂x = dy · [x > 0]
    Source     Glorot, Bordes and Bengio 2011
    """

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        y = get_array_module(x).maximum(x, 0)
        return y, y

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        y = cache
        return dy * (y > 0) if need_dx else None


class LeakyReLU(Layer):
    """y = x where x > 0, else s x, with a slope s, 0 ≤ s < 1

    Shapes     x, y: any, the same
    Backward   ∂y/∂x = 1 where x > 0, else s, at the kink too
               ∂L/∂x = dy · (1 where x > 0, else s)
    Source     Maas, Hannun and Ng 2013; the slope 0.2 of Radford, Metz and Chintala 2016 (DCGAN)
    """

    def __init__(self, slope: float = 0.2) -> None:
        self.slope = checks.real("LeakyReLU: the slope", slope, "[0, 1)")

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        return get_array_module(x).maximum(x, self.slope * x), x  # s < 1, so y is the larger of the two

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x = cache
        return get_array_module(x).where(x > 0, dy, self.slope * dy) if need_dx else None

    def config(self) -> dict[str, Any]:
        return {"slope": self.slope}


class Tanh(Layer):
    """y = tanh(x) = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ)

    Shapes     x, y: any, the same
    Backward   tanh′(x) = 1/cosh²(x) = 4e/(1 + e)², e = e^−2|x|: accurate for large |x| too, where 1 − y² would round to 0
               ∂L/∂x = dy · tanh′(x)
    """

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        xp = get_array_module(x)
        e = xp.exp(-2 * xp.abs(x))
        return xp.tanh(x), 4 * e / (1 + e) ** 2

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        derivative = cache
        return dy * derivative if need_dx else None


class Sigmoid(Layer):
    """y = σ(x) = 1 / (1 + e⁻ˣ)

    Shapes     x, y: any, the same
    Forward    with e = e^−|x|, which cannot overflow:  y = e^min(x, 0) / (1 + e)
    Backward   σ′(x) = σ(x) σ(−x) = e/(1 + e)², accurate for large |x| too, where y(1 − y) would round to 0
               ∂L/∂x = dy · σ′(x)
    """

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        xp = get_array_module(x)
        e = xp.exp(-xp.abs(x))
        large = 1 / (1 + e)
        y = xp.exp(xp.minimum(x, 0)) * large  # the numerator is 1 for x > 0, else e
        e *= large
        e *= large
        return y, e

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        derivative = cache
        return dy * derivative if need_dx else None


class Dropout(Layer):
    """y = x · mask, mask = 1/keep with probability keep, else 0 (inverted dropout); y = x when train is False

    Shapes     x, y, mask: any, the same
    Backward   ∂L/∂x = dy · mask: a dropped input gets exactly 0
    Mask       u has 16 random bits; a unit is kept where u < t, t = round(2¹⁶ keep). The scale is 2¹⁶/t, one over
               the exact probability of u < t, so E[y] = x exactly.
    keep       the probability of keeping a unit, 0 < keep ≤ 1
    Raises     ArgumentError for train=True without an rng: a layer has no random numbers of its own
    Source     Srivastava et al. 2014; section 5 of the paper: dropout in D
    """

    def __init__(self, keep: float) -> None:
        interval = "[1.52587890625e-05, 1]"  # from 2⁻¹⁶
        self.threshold = round(checks.real("Dropout: keep, the probability of keeping a unit,", keep, interval) * 2**16)
        self.keep = keep if type(keep) is int else float(keep)  # as JSON can hold it

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        if not train or self.threshold == 2**16:
            return x, None
        if rng is None:
            raise ArgumentError("Dropout with train=True needs an rng: pass rng=random_generator(xp, seed)")
        mask = (random_uint16(rng, x.shape) < self.threshold).astype(x.dtype)
        mask *= 2**16 / self.threshold
        return x * mask, mask

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        mask = cache
        if not need_dx:
            return None
        return dy if mask is None else dy * mask

    def config(self) -> dict[str, Any]:
        return {"keep": self.keep}


class Reshape(Layer):
    """y = x, with other axes behind the minibatch

    Shapes     x (m, …)    y (m, *shape), the same numbers in C order
    Backward   ∂L/∂x = dy in the shape of x
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = checks.sizes("Reshape: shape", shape)

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        if int(np.prod(x.shape[1:])) != int(np.prod(self.shape)):
            raise ArgumentError(f"{self!r} needs rows of as many values as its shape has, not an input of shape {x.shape}")
        return x.reshape(len(x), *self.shape), x.shape[1:]

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        input_shape = cache
        return dy.reshape(len(dy), *input_shape) if need_dx else None

    def config(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}


def require_positive(layer: Layer, **sizes: int) -> None:
    """Raise ArgumentError, in the layer's name, unless each of these sizes is an integer of at least 1."""
    for name, size in sizes.items():
        checks.integer(f"{type(layer).__name__}: {name}", size)
