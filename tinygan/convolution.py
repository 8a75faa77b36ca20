"""Convolution, transposed convolution, and two kinds of maxima: the layers for images (m, h, w, c), channels last.

Both convolutions are made of A, the linear map that writes the windows of the images as rows (im2col), and its transpose:

    A    each window of an image (h, w, c) becomes a row of kh·kw·c numbers
    Aᵀ   each row is added back into the image, where its window was (col2im)

Their equations follow from each other by ⟨A x, r⟩ = ⟨x, Aᵀ r⟩:

    Conv2d             y = A(x) W        ∂L/∂W = A(x)ᵀ dy        ∂L/∂x = Aᵀ(dy Wᵀ)
    ConvTranspose2d    y = Aᵀ(x Wᵀ)      ∂L/∂W = A(dy)ᵀ x        ∂L/∂x = A(dy) W

A(x) is kh·kw times as large as x. So only a part of it is made, along the width, and only for a few images at a time:

    S    strips: for each place of the window along the width, the kw columns that it covers, over the whole height
    Sᵀ   the fold: each strip is added back into the image, where its columns were

A strip is one row of h·kw·c numbers, row by row of the image. A window is kh rows of its strip: numbers that lie side by
side. So the products above are products with slices of S, and nothing is copied along the height.

Shape letters: m minibatch, h and w rows and columns of the input, h' and w' of the output, c channels, kh and kw rows and
columns of the kernel, s stride, p padding, b images of a block, n channels on the other side of W.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygan import checks
from tinygan.backend import Array, Rng, get_array_module
from tinygan.errors import ArgumentError
from tinygan.init import Constant, Init, Uniform
from tinygan.layers import Bias, Cache, Grads, Layer, require_positive

Pair = tuple[int, int]
"""Of rows and of columns."""

BLOCK = 4 * 2**20
"""Bytes of strips that are made at a time: those of a few images, so that they stay in the processor's cache."""


class Windows(NamedTuple):
    """The places of a window in an image: its size, the step from one place to the next, the zeros around the image.

    places(h, w)           (h', w'),  h' = ⌊(h + 2p − kh)/s⌋ + 1,  w' likewise
    strips(x)              S: (b, h, w, c) -> (b·w', h, kw·c)
    fold(row, w)           Sᵀ of one row of images, (kw, c, w', b) -> (c, w, b): images last, so long runs are added at once
    correlate(x, W, bias)  A(x) W + bias
    weights(x, y, dW)      dW ← A(x)ᵀ y
    spread(y, W, h, w)     Aᵀ(y Wᵀ)        with x (m, h, w, c), y (m, h', w', n), W and dW (kh, kw, c, n)
    """

    kernel: Pair
    stride: Pair
    padding: Pair

    def places(self, h: int, w: int) -> Pair:
        (kh, kw), (sh, sw), (ph, pw) = self
        return (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1

    def strips(self, x: Array) -> Array:
        xp, (b, h, w, c), kw, pw = get_array_module(x), x.shape, self.kernel[1], self.padding[1]
        padded = xp.zeros((b, h, w + 2 * pw, c), x.dtype)
        padded[:, :, pw : pw + w] = x
        windows = xp.lib.stride_tricks.sliding_window_view(padded, kw, axis=2)[:, :, :: self.stride[1]]
        return xp.ascontiguousarray(windows.transpose(0, 2, 1, 4, 3)).reshape(-1, h, kw * c)

    def fold(self, row: Array, w: int) -> Array:
        (kw, c, places_w, b), sw, pw = row.shape, self.stride[1], self.padding[1]
        padded = get_array_module(row).zeros((c, w + 2 * pw, b), row.dtype)
        for v in range(kw):
            padded[:, v : v + places_w * sw : sw] += row[v]
        return padded[:, pw : pw + w]

    def rows(self, x: Array) -> Iterator[tuple[slice, int, slice, Array]]:
        """A(x) in parts: (images, i, own, rows). `rows` are the windows of these images that belong to row i of the output.

        Rows of the window that lie in the padding are left out. `own` are the others: rows is multiplied with W[own].
        """
        for images in blocks(x, x.size * self.kernel[1] // self.stride[1]):
            strips = self.strips(x[images])
            for i in range(self.places(*x.shape[1:3])[0]):
                top = i * self.stride[0] - self.padding[0]
                own = slice(max(0, -top), min(self.kernel[0], x.shape[1] - top))
                yield images, i, own, strips[:, top + own.start : top + own.stop].reshape(len(strips), -1)

    def correlate(self, x: Array, W: Array, bias: Array | None = None) -> Array:
        xp, shape, n = get_array_module(x), self.places(*x.shape[1:3]), W.shape[3]
        y = xp.empty((len(x), *shape, n), x.dtype)
        bias = xp.broadcast_to(xp.zeros(n, x.dtype) if bias is None else bias, (*shape, n))
        for images, i, own, rows in self.rows(x):
            xp.add((rows @ W[own].reshape(-1, n)).reshape(-1, shape[1], n), bias[i], out=y[images, i])
        return y

    def weights(self, x: Array, y: Array, dW: Array) -> None:
        dW[...] = 0
        for images, i, own, rows in self.rows(x):
            dW[own] += (rows.T @ y[images, i].reshape(len(rows), -1)).reshape(-1, *dW.shape[1:])

    def spread(self, y: Array, W: Array, h: int, w: int) -> Array:
        xp, (m, places_h, places_w, n), (kh, kw, c, _) = get_array_module(y), y.shape, W.shape
        sh, ph, x = self.stride[0], self.padding[0], xp.empty((m, h, w, c), y.dtype)
        W = xp.ascontiguousarray(W[::-1].transpose(1, 2, 0, 3))  # (kw, c, kh, n), upside down: u falls where i rises
        for images in blocks(y, y.size):
            columns = xp.ascontiguousarray(y[images].transpose(2, 0, 1, 3)).reshape(-1, places_h, n)  # (w'·b, h', n)
            for row in range(h):  # Σ y[i] W[u]ᵀ over all places i whose u-th row it is: s i + u − p = row
                start = max(0, -((kh - 1 - ph - row) // sh))
                stop = min(places_h, (row + ph) // sh + 1)
                u = kh - 1 - ph - row + sh * start
                own = W[:, :, u : u + sh * (stop - start) : sh].reshape(kw * c, -1)
                strips = (own @ columns[:, start:stop].reshape(len(columns), -1).T).reshape(kw, c, places_w, -1)
                x[images, row] = self.fold(strips, w).transpose(2, 1, 0)
        return x


def blocks(x: Array, values: int) -> Iterator[slice]:
    """Slices of the minibatch x, whose work needs this many values at once: few images on the CPU, all of them on a device."""
    step = max(1, len(x) * BLOCK // max(1, values * x.itemsize) if isinstance(x, np.ndarray) else len(x))
    return (slice(start, start + step) for start in range(0, len(x), step))


class _Convolution(Layer):
    """What Conv2d and ConvTranspose2d share: their arguments, the bias, and their description."""

    transposed = False  # whether the last two axes of W are (c_out, c_in)

    def __init__(
        self, c_in: int, c_out: int, kernel: int | Pair, *, stride: int | Pair = 1, padding: int | Pair = 0,
        weight: Init = Uniform(0.05), bias: Bias = 0.0,
    ) -> None:  # fmt: skip
        require_positive(self, c_in=c_in, c_out=c_out)
        self.c_in, self.c_out, name = int(c_in), int(c_out), type(self).__name__
        self.kernel, self.stride = checks.pair(f"{name}: kernel", kernel), checks.pair(f"{name}: stride", stride)
        self.padding = checks.pair(f"{name}: padding", padding, 0)
        if self.padding[0] >= self.kernel[0] or self.padding[1] >= self.kernel[1]:
            raise ArgumentError(f"{name}: padding {padding} must be below kernel {kernel}: else some windows hold zeros alone")
        self.windows = Windows(self.kernel, self.stride, self.padding)
        checks.function(f"{name}: weight", weight, "weight=Uniform(0.05)")
        channels = (self.c_out, self.c_in) if self.transposed else (self.c_in, self.c_out)
        self.declarations = {"W": ((*self.kernel, *channels), weight), **self._declare_bias(bias)}

    def _declare_bias(self, bias: Bias) -> dict[str, tuple[tuple[int, ...], Init]]:
        if bias is None:
            return {}
        sizes = isinstance(bias, list | tuple) and [type(size) for size in bias] == [int] * 3 and bias[2] == self.c_out
        start = Constant(0.0 if sizes else bias)
        shape: tuple[int, ...] = tuple(bias) if sizes else start.value.shape or (self.c_out,)  # type: ignore[arg-type]
        if len(shape) not in (1, 3) or shape[-1] != self.c_out or min(shape) < 1:
            needed = f"a number, an array ({self.c_out},), one for each output value (h', w', {self.c_out}), or None"
            raise ArgumentError(f"{type(self).__name__}: bias of shape {shape}: it must be {needed}")
        return {"b": (shape, start)}

    def _output(self, x: Array, h: int, w: int) -> Pair:
        """(h, w), if the output may have this size."""
        if h < 1 or w < 1:
            raise ArgumentError(f"{self!r}: the output of an input of shape {x.shape} would have no pixels, {h} × {w}")
        b = self.declarations.get("b", ((),))[0]
        if len(b) == 3 and b[:2] != (h, w):
            given = f"a bias of shape {b}, but an input {x.shape} gives an output {(h, w, self.c_out)}"
            raise ArgumentError(f"{self!r} has {given}: make the bias so, or ({self.c_out},), one for each channel")
        return h, w

    def _bias_gradient(self, dy: Array, grads: dict[str, Array]) -> None:
        if "b" in grads:  # the sum over an image first: a single sum of all values in float32 would be rounded more
            each = dy if grads["b"].ndim == 3 else dy.sum(axis=(1, 2))
            get_array_module(dy).sum(each, axis=0, out=grads["b"])

    def config(self) -> dict[str, Any]:
        shape = self.declarations["b"][0] if "b" in self.declarations else None
        bias = {} if shape == (self.c_out,) else {"bias": shape and list(shape)}
        sizes = {name: short(getattr(self, name)) for name in ("kernel", "stride", "padding")}
        return {"c_in": self.c_in, "c_out": self.c_out} | sizes | bias

    def __repr__(self) -> str:
        values = [(name, tuple(v) if isinstance(v, list) else v) for name, v in self.config().items()]
        named = [f"{name}={v}" for name, v in values[3:] if (name, v) not in (("stride", 1), ("padding", 0))]
        return f"{type(self).__name__}({', '.join([str(v) for _, v in values[:3]] + named)})"


class Conv2d(_Convolution):
    """y[i, j, o] = b[o] + Σ_{u, v, c} W[u, v, c, o] x[s i + u − p, s j + v − p, c], cross-correlation with zeros around x

    Shapes     x (m, h, w, c_in)    W (kh, kw, c_in, c_out)    y (m, h', w', c_out), h' = ⌊(h + 2p − kh)/s⌋ + 1, w' likewise
               b (c_out,), or (h', w', c_out): untied, one for each output value
    Backward   y = A(x) W + b, with the windows A(x) as rows (m·h'·w', kh·kw·c_in). So, with dy = ∂L/∂y, (m·h'·w', c_out):
               ∂L/∂W = A(x)ᵀ dy        ∂L/∂b = Σ dy, over all places, or only over the minibatch if b is untied
               ∂L/∂x = Aᵀ(dy Wᵀ): every row of dy Wᵀ is added where its window was
    Arguments  kernel, stride and padding: an integer, or a pair for rows and columns
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number, an array (c_out,), an array (h', w', c_out) for an untied bias or only
               this shape, in integers, for one that starts at 0; None for y without b
    Raises     ArgumentError for an input that is no images, or has other channels, or is smaller than the kernel
    Source     LeCun et al. 1989; the D of the paper's Figure 2d
    """

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        require_images(self, x, self.c_in)
        h, w = (n + 2 * p for n, p in zip(x.shape[1:3], self.padding, strict=True))
        if h < self.kernel[0] or w < self.kernel[1]:
            given = f"an input of shape {x.shape}, {h} × {w} with its padding"
            raise ArgumentError(f"{self!r}: the kernel, {self.kernel[0]} × {self.kernel[1]}, is larger than {given}")
        self._output(x, *self.windows.places(*x.shape[1:3]))
        return self.windows.correlate(x, self.W, self.params.get("b")), x

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x = cache
        if grads is not None:
            self.windows.weights(x, dy, grads["W"])
            self._bias_gradient(dy, grads)
        return self.windows.spread(dy, self.W, *x.shape[1:3]) if need_dx else None


class ConvTranspose2d(_Convolution):
    """y[r, q, o] = b[o] + Σ W[u, v, o, c] x[i, j, c], over all i, j, u, v, c with s i + u − p = r and s j + v − p = q

    The adjoint of Conv2d(c_out, c_in) with the same kernel, stride, padding and W: ⟨conv(y), x⟩ = ⟨y, convᵀ(x)⟩.

    Shapes     x (m, h, w, c_in)    W (kh, kw, c_out, c_in)    y (m, h', w', c_out), h' = s (h − 1) + kh − 2p, w' likewise
               b (c_out,), or (h', w', c_out): untied, one for each output value
    Backward   y = Aᵀ(x Wᵀ) + b, with A(y) the windows of y as rows (m·h·w, kh·kw·c_out). So, with dy = ∂L/∂y:
               ∂L/∂W = A(dy)ᵀ x        ∂L/∂b = Σ dy, over all places, or only over the minibatch if b is untied
               ∂L/∂x = A(dy) W
    Arguments  kernel, stride and padding: an integer, or a pair for rows and columns
    Start      W ~ U(−0.05, 0.05), b = 0; bias: a number, an array (c_out,), an array (h', w', c_out) for an untied bias or only
               this shape, in integers, for one that starts at 0; None for y without b
    Raises     ArgumentError for an input that is no images, or has other channels
    Source     Zeiler et al. 2011; the G of the paper's Figure 2d
    """

    transposed = True

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        require_images(self, x, self.c_in)
        h, w = self._output(x, *(s * (n - 1) + k - 2 * p for n, k, s, p in zip(x.shape[1:3], *self.windows, strict=True)))
        y = self.windows.spread(x, self.W, h, w)
        if "b" in self.params:
            y += self.b
        return y, x

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x = cache
        if grads is not None:
            self.windows.weights(dy, x, grads["W"])
            self._bias_gradient(dy, grads)
        return self.windows.correlate(dy, self.W) if need_dx else None


class MaxPool2d(Layer):
    """y[i, j, c] = max over 0 ≤ u, v < size of x[s i + u, s j + v, c]: the largest value of each window, in each channel

    The windows start at 0, s, 2s, … . The last one may hang over the edge, but starts inside; it has then fewer values.

    Shapes     x (m, h, w, c)    y (m, h', w', c), h' = 1 + ⌈(h − size)/s⌉, or one less if that window would start outside
    Backward   ∂y/∂x = 1 at the largest value of the window, else 0. At a tie the first one, by rows, takes dy whole.
               The maximum is taken in each row of the window, and then over its rows; backward goes the other way.
    Arguments  size and stride: an integer, or a pair for rows and columns
    Source     Ranzato et al. 2007; the D of the paper's Figure 2d
    """

    def __init__(self, size: int | Pair, stride: int | Pair) -> None:
        self.size, self.stride = checks.pair("MaxPool2d: size", size), checks.pair("MaxPool2d: stride", stride)

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        require_images(self, x)
        xp, (m, h, w, c) = get_array_module(x), x.shape
        places_h, places_w = map(places, (h, w), self.size, self.stride)
        y, down = (xp.empty((m, places_h, places_w, c), dtype) for dtype in (x.dtype, xp.uint16))
        across = xp.empty((m, h, places_w, c), xp.uint16)
        for images in blocks(x, 4 * x.size):
            rows = xp.empty(across[images].shape, x.dtype)
            largest(self._values(x[images], 2), rows, across[images])
            largest(self._values(rows, 1), y[images], down[images])
        return y, (across, down, w)

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        if not need_dx:
            return None
        (across, down, w), (m, h, _, c) = cache, cache[0].shape
        dx = get_array_module(dy).empty((m, h, w, c), dy.dtype)
        for images in blocks(dx, 4 * dx.size):
            dx[images] = self._spread(self._spread(dy[images], down[images], 1, h), across[images], 2, w)
        return dx

    def _values(self, x: Array, axis: int) -> list[Array]:
        """For u = 0, 1, …, size − 1: the u-th value of each window along this axis. The last windows may have none."""
        size, stride, at = self.size[axis - 1], self.stride[axis - 1], (slice(None),) * axis
        lanes = [get_array_module(x).ascontiguousarray(x[(*at, slice(lane, None, stride))]) for lane in range(stride)]
        count = places(x.shape[axis], size, stride)
        return [lanes[u % stride][(*at, slice(u // stride, u // stride + count))] for u in range(size)]

    def _spread(self, dy: Array, which: Array, axis: int, n: int) -> Array:
        """dx, of n values along this axis: each dy is added to the one that was the largest."""
        xp, size, stride, at = get_array_module(dy), self.size[axis - 1], self.stride[axis - 1], (slice(None),) * axis
        dx = xp.empty((*dy.shape[:axis], n, *dy.shape[axis + 1 :]), dy.dtype)
        for lane in range(stride):
            total = xp.zeros(dx[(*at, slice(lane, None, stride))].shape, dy.dtype)
            for u in range(lane, size, stride):
                values = total[(*at, slice(u // stride, u // stride + dy.shape[axis]))]
                head = (*at, slice(values.shape[axis]))
                values += dy[head] * (which[head] == size - u)
            dx[(*at, slice(lane, None, stride))] = total
        return dx

    def config(self) -> dict[str, Any]:
        return {"size": short(self.size), "stride": short(self.stride)}


class ChannelMaxout(Layer):
    """y[…, j] = maxᵢ x[…, i·n + j]: the largest of p pieces, which are groups of n channels

    Shapes     x (m, …, p·n)    y (m, …, n)
    Backward   ∂yⱼ/∂xᵢⱼ = 1 for the largest piece, else 0. At a tie the first of the largest takes dy whole.
    Source     Goodfellow et al. 2013, Maxout Networks, section 2; after a Conv2d it is their convolutional maxout
    """

    def __init__(self, pieces: int) -> None:
        require_positive(self, pieces=pieces)
        self.pieces = int(pieces)

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        if x.ndim < 2 or x.shape[-1] % self.pieces:
            raise ArgumentError(f"{self!r} needs channels that {self.pieces} divides, (m, …, {self.pieces}·n), not {x.shape}")
        shape, xp = (*x.shape[:-1], x.shape[-1] // self.pieces), get_array_module(x)
        y, which = xp.empty(shape, x.dtype), xp.empty(shape, xp.uint16)
        for images in blocks(x, 4 * x.size):
            largest(xp.split(x[images], self.pieces, axis=-1), y[images], which[images])
        return y, which

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        if not need_dx:
            return None
        which, xp = cache, get_array_module(dy)
        dx = xp.empty((*dy.shape[:-1], self.pieces * dy.shape[-1]), dy.dtype)
        for images in blocks(dx, 4 * dx.size):
            for i, dpiece in enumerate(xp.split(dx[images], self.pieces, axis=-1)):
                xp.multiply(dy[images], which[images] == self.pieces - i, out=dpiece)
        return dx

    def config(self) -> dict[str, Any]:
        return {"pieces": self.pieces}


def places(n: int, size: int, stride: int) -> int:
    """How many windows a pooling has along an axis of n values: as many as reach its end, if so many start inside."""
    return min(max(0, -((size - n) // stride)) + 1, -(-n // stride))


def largest(values: list[Array], y: Array, which: Array) -> None:
    """Write into y the maximum of all values, and into `which` size − u for the first u whose value it is.

    The first u has the largest size − u: so `which` is a maximum, too, and no entry is visited one by one.
    values[u] has the shape of y; or it is shorter, and then y's last entries have no u-th value.
    """
    y[...], which[...] = values[0], 1  # the last value, unless an earlier one is as large
    heads = [tuple(map(slice, value.shape)) for value in values]
    for value, head in zip(values[1:], heads[1:], strict=True):
        get_array_module(y).maximum(y[head], value, out=y[head])
    for u, (value, head) in enumerate(zip(values[:-1], heads[:-1], strict=True)):
        get_array_module(y).maximum(which[head], (value == y[head]) * np.uint16(len(values) - u), out=which[head])


def require_images(layer: Layer, x: Array, channels: int | str = "c") -> None:
    """Raise ArgumentError unless x is images, with this many channels and at least one pixel."""
    if x.ndim != 4 or channels not in ("c", x.shape[3]) or 0 in x.shape[1:3]:
        remedy = f": put Reshape((h, w, {channels})) before it" if x.ndim == 2 else ""
        raise ArgumentError(f"{layer!r} needs images (m, h, w, {channels}), not an input of shape {x.shape}{remedy}")


def short(sizes: Pair) -> int | list[int]:
    """A pair of equal sizes as one."""
    return sizes[0] if sizes[0] == sizes[1] else list(sizes)
