"""The layers: each is one equation, its forward pass and its derivative, written by hand.

    y, cache = layer.forward(x, train=False, rng=None)
    dx       = layer.backward(dy, cache, grads=None, need_dx=True)

dy = ∂L/∂y is the upstream gradient. `cache` is all that backward needs and is returned, never kept on the layer, so
any number of forward passes can be alive at once. Each row of a minibatch is treated by itself. `grads` has the keys of
`params`; backward overwrites its arrays and writes to nothing else. Without `grads` the layer is a fixed function, and
its parameters' derivatives are not computed.

Shape letters: m minibatch, n_in, n_out, p pieces. Arrays of either backend work, and what comes back is of the same.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tinygan.backend import Array, get_array_module, random_uint16
from tinygan.errors import ArgumentError
from tinygan.init import Constant, Uniform


class Layer:
    """What all layers share, and all that a layer of your own needs to state.

    declarations  {"W": (shape, init)}: the shape of each parameter and how it starts (see init.py), set in __init__.
                  A Network allocates the parameters, and only then does `params` hold them, as views into its θ.
    A cache is None, an array whose first axis is the minibatch, or a tuple of those and of plain numbers.
    """

    declarations: Mapping[str, tuple[tuple[int, ...], Any]] = MappingProxyType({})
    params: Mapping[str, Array] = MappingProxyType({})
    in_network = False

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        raise NotImplementedError

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Array:
        # Only reached for names that are no attributes: self.W reads the parameter "W".
        if name in self.params:
            return self.params[name]
        if name in self.declarations:
            raise ArgumentError(f"{self!r} has no {name} yet: a layer gets its parameters from Network([…, layer, …])")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.declarations:
            raise ArgumentError(f"write into the parameter, which is a view into θ: layer.{name}[...] = …")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Linear(Layer):
    """y = x W + b, an affine map

    Shapes     x (m, n_in)    W (n_in, n_out)    b (n_out,)    y (m, n_out)
    Backward   yᵢ = xᵢ W + b, so with dy = ∂L/∂y:
               ∂L/∂W = xᵀ dy        ∂L/∂b = Σᵢ dyᵢ        ∂L/∂x = dy Wᵀ
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number or an array of n_out
    Source     Rumelhart, Hinton and Williams 1986, the delta rule in matrix form
    """

    def __init__(self, n_in: int, n_out: int, *, weight: Any = Uniform(0.05), bias: Any = 0.0) -> None:
        _require_positive(self, n_in=n_in, n_out=n_out)
        self.n_in, self.n_out = n_in, n_out
        self.declarations = {"W": ((n_in, n_out), weight), "b": ((n_out,), Constant(bias))}

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        _require_columns(self, x)
        y = x @ self.W
        y += self.b
        return y, x

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        x = cache
        if grads is not None:
            xp = get_array_module(x)
            xp.matmul(x.T, dy, out=grads["W"])
            xp.sum(dy, axis=0, out=grads["b"])
        return _times_transpose(dy, self.W) if need_dx else None

    def __repr__(self) -> str:
        return f"Linear({self.n_in}, {self.n_out})"


class ReLU(Layer):
    """y = max(x, 0)

    Shapes     x, y: any, the same
    Backward   ∂y/∂x = 1 where x > 0, else 0; at the kink ReLU′(0) = 0
               ∂L/∂x = dy · [x > 0]
    Source     Glorot, Bordes and Bengio 2011
    """

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        y = get_array_module(x).maximum(x, 0)
        return y, y

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        y = cache
        return dy * (y > 0) if need_dx else None


class Sigmoid(Layer):
    """y = σ(x) = 1 / (1 + e⁻ˣ)

    Shapes     x, y: any, the same
    Forward    with e = e^−|x|, which cannot overflow:  y = e^min(x, 0) / (1 + e)
    Backward   σ′(x) = σ(x) σ(−x) = e/(1 + e)², accurate on both sides, where y(1 − y) would round to 0
               ∂L/∂x = dy · σ′(x)
    """

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        xp = get_array_module(x)
        e = xp.exp(-xp.abs(x))
        large = 1 / (1 + e)
        y = xp.exp(xp.minimum(x, 0)) * large  # the numerator is 1 on the right, e on the left
        e *= large
        e *= large
        return y, e

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        derivative = cache
        return dy * derivative if need_dx else None


class Maxout(Layer):
    """yⱼ = maxᵢ zᵢⱼ, z = x W + b: the largest of p affine pieces

    Shapes     x (m, n_in)    W (n_in, p·n_out)    b (p·n_out,)    z (m, p, n_out)    y (m, n_out)
               Column i·n_out + j is piece i of unit j, so a piece is one contiguous slab of each row of z.
    Backward   ∂yⱼ/∂zᵢⱼ = 1 for the piece that won, else 0; at a tie the first of the largest takes dy whole, so
               Σᵢ dzᵢⱼ = dyⱼ. Then as Linear:  ∂L/∂W = xᵀ dz    ∂L/∂b = Σ dz    ∂L/∂x = dz Wᵀ
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number or an array of p·n_out
    Source     Goodfellow et al. 2013, Maxout Networks, section 2
    """

    def __init__(self, n_in: int, n_out: int, pieces: int, *, weight: Any = Uniform(0.05), bias: Any = 0.0) -> None:
        _require_positive(self, n_in=n_in, n_out=n_out, pieces=pieces)
        self.n_in, self.n_out, self.pieces = n_in, n_out, pieces
        columns = pieces * n_out
        self.declarations = {"W": ((n_in, columns), weight), "b": ((columns,), Constant(bias))}

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        _require_columns(self, x)
        xp = get_array_module(x)
        z = x @ self.W
        z += self.b
        z = z.reshape(len(x), self.pieces, self.n_out)
        y = z[:, 0].copy()
        for i in range(1, self.pieces):
            xp.maximum(y, z[:, i], out=y)
        return y, (x, z, y)

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        x, z, y = cache
        xp = get_array_module(x)
        dz = xp.empty_like(z)
        rest = dy.copy()  # what no piece has taken yet: at a tie the first takes it all
        for i in range(self.pieces):
            xp.multiply(rest, z[:, i] == y, out=dz[:, i])
            rest -= dz[:, i]
        dz = dz.reshape(len(x), self.pieces * self.n_out)
        if grads is not None:
            xp.matmul(x.T, dz, out=grads["W"])
            xp.sum(dz, axis=0, out=grads["b"])
        return _times_transpose(dz, self.W) if need_dx else None

    def __repr__(self) -> str:
        return f"Maxout({self.n_in}, {self.n_out}, {self.pieces})"


class Dropout(Layer):
    """y = x · mask, mask = 1/keep with probability keep, else 0 (inverted dropout); y = x when train is False

    Shapes     x, y, mask: any, the same
    Backward   ∂L/∂x = dy · mask: a dropped input gets exactly 0
    Mask       16 random bits u decide: kept where u < t, t = round(2¹⁶ keep). The scale is 2¹⁶/t, one over the
               probability that is realised, so E[y] = x exactly.
    keep       the probability of keeping a unit, 0 < keep ≤ 1
    Raises     ArgumentError for train=True without an rng: randomness is never taken from a hidden place
    Source     Srivastava et al. 2014; section 5 of the paper: dropout in D
    """

    def __init__(self, keep: float) -> None:
        self.threshold = round(keep * 2**16) if 0 < keep <= 1 else 0
        if self.threshold == 0:
            raise ArgumentError(f"Dropout: keep is the probability of keeping a unit, from 2⁻¹⁶ to 1, not {keep}")
        self.keep = keep

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        if not train or self.threshold == 2**16:
            return x, None
        if rng is None:
            raise ArgumentError("Dropout with train=True needs an rng: pass rng=random_generator(xp, seed)")
        mask = (random_uint16(rng, x.shape) < self.threshold).astype(x.dtype)
        mask *= 2**16 / self.threshold
        return x * mask, mask

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        mask = cache
        if not need_dx:
            return None
        return dy if mask is None else dy * mask

    def __repr__(self) -> str:
        return f"Dropout({self.keep})"


class Reshape(Layer):
    """y = x, with other axes behind the minibatch

    Shapes     x (m, …)    y (m, *shape), the same numbers in C order
    Backward   ∂L/∂x = dy in the shape of x
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Any]:
        if int(np.prod(x.shape[1:])) != int(np.prod(self.shape)):
            raise ArgumentError(f"{self!r} cannot hold the values of an input of shape {x.shape}")
        return x.reshape(len(x), *self.shape), x.shape[1:]

    def backward(self, dy: Array, cache: Any, grads: dict[str, Array] | None = None, need_dx: bool = True) -> Array:
        input_shape = cache
        return dy.reshape(len(dy), *input_shape) if need_dx else None

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"


def _times_transpose(dy: Array, W: Array) -> Array:
    """dy Wᵀ, as (W dyᵀ)ᵀ: BLAS is a tenth to a fifth faster so where dy has few rows. The result is stored by columns."""
    return (W @ dy.T).T


def _require_positive(layer: Layer, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(f"{type(layer).__name__}: {name} must be at least 1, not {size}")


def _require_columns(layer: Layer, x: Array) -> None:
    if x.ndim != 2 or x.shape[1] != layer.n_in:
        raise ArgumentError(f"{layer!r} needs an input of shape (m, {layer.n_in}), not {x.shape}")
