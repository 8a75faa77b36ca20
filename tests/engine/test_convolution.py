"""Convolutions, pooling and maxout over channels: against SciPy, PyTorch and plain loops; the paper's shapes; every backend."""

import argparse
import importlib.util
import itertools
import json
import math

import convolution as benchmark
import numpy as np
import pytest
import scipy.signal
from helpers import refused
from strict_cupy import host, no_transfers

import tinygan.convolution
from tinygan import (
    ChannelMaxout,
    Conv2d,
    ConvTranspose2d,
    Linear,
    Maxout,
    MaxPool2d,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Uniform,
)
from tinygan.convolution import Windows
from tinygan.derivatives import LAYERS as CHECKED

NAMES = ("Conv2d", "ConvTranspose2d", "MaxPool2d", "ChannelMaxout")
CASES = {f"{name} {i}": case for name in NAMES for i, case in enumerate(CHECKED[name])}
"""A layer and the shape of an input: those of the table of derivatives."""


def drawn(seed):
    """The sizes of a convolution: m, (h, w), (kh, kw), (sh, sw), (ph, pw), and c, n: the channels of its input and output."""
    rng = np.random.default_rng(seed)
    kernel = rng.integers(1, 6, 2)
    if seed % 3 == 0:
        kernel[1] = kernel[0]
    padding = rng.integers(0, kernel)
    image = np.maximum(1, kernel - 2 * padding) + rng.integers(0, 7, 2)
    m, c, n = rng.integers(1, 5, 3)
    return int(m), *(tuple(map(int, pair)) for pair in (image, kernel, rng.integers(1, 4, 2), padding)), int(c), int(n)


# ---- SciPy's words for a convolution (c, n channels) and for its two derivatives. Between the values of y lie zeros.


def padded(x, padding):
    (ph, pw) = padding
    return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))


def spread(y, stride):
    full = np.zeros((len(y), *((n - 1) * s + 1 for n, s in zip(y.shape[1:3], stride, strict=True)), y.shape[3]))
    full[:, :: stride[0], :: stride[1]] = y
    return full


def forward(x, W, stride, padding):
    x = padded(x, padding)
    y = [scipy.signal.correlate(x, W[None, ..., o], "valid", "direct") for o in range(W.shape[3])]
    return np.concatenate(y, axis=3)[:, :: stride[0], :: stride[1]]


def by_weights(x, dy, kernel, stride, padding):
    x, dy = padded(x, padding), spread(dy, stride)
    dW = [scipy.signal.correlate(x, dy[..., [o]], "valid", "direct")[0] for o in range(dy.shape[3])]
    return np.stack(dW, axis=3)[: kernel[0], : kernel[1]]


def by_input(dy, W, stride, padding, image):
    dy = spread(dy, stride)
    dx = sum(scipy.signal.convolve(dy[..., [o]], W[None, ..., o], "full", "direct") for o in range(W.shape[3]))
    whole = np.zeros((len(dy), *(n + 2 * p for n, p in zip(image, padding, strict=True)), W.shape[2]))
    whole[:, : dx.shape[1], : dx.shape[2]] = dx
    return whole[:, padding[0] : padding[0] + image[0], padding[1] : padding[1] + image[1]]


def results(layer, x, dy, W, b=None):
    """y, dx, dW and db of a layer with these parameters, in float64."""
    network = Network([layer], dtype=np.float64)
    network.parameters()["0.W"][...] = W
    if b is not None:
        network.parameters()["0.b"][...] = b
    y, cache = network.forward(x)
    grad = np.full_like(network.theta, math.nan)
    return y, network.backward(dy, cache, grad), *network.views(grad).values()


def problem(seed):
    """A convolution of n channels from c: its layer and its transpose, and arrays x, y, W for both of them."""
    m, image, kernel, stride, padding, c, n = drawn(seed)
    rng = np.random.default_rng(seed + 1000)
    options = {"stride": stride, "padding": padding, "bias": None}
    conv, transposed = Conv2d(c, n, kernel, **options), ConvTranspose2d(n, c, kernel, **options)
    W = rng.standard_normal((*kernel, c, n))
    x = rng.standard_normal((m, *image, c))
    y = rng.standard_normal((m, *Windows(kernel, stride, padding).places(*image), n))
    return conv, transposed, x, y, W


def exact(x, y, kernel, stride, padding):
    """x, cut to what its windows cover: the transposed convolution has no more pixels."""
    sizes = [(n - 1) * s + k - 2 * p for n, k, s, p in zip(y.shape[1:3], kernel, stride, padding, strict=True)]
    return x[:, : sizes[0], : sizes[1]] if min(sizes) > 0 else None


def close(got, expected, tolerance=1e-12):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


SEEDS = range(240)


@pytest.mark.parametrize("seeds", [SEEDS[i : i + 40] for i in SEEDS[::40]], ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_240_random_convolutions_and_their_transposes_are_scipys_and_torchs(seeds):
    torch = importlib.util.find_spec("torch") and importlib.import_module("torch")
    for seed in seeds:
        conv, transposed, x, dy, W = problem(seed)
        sizes = conv.stride, conv.padding
        y, dx, dW = results(conv, x, dy, W)
        close(y, forward(x, W, *sizes))
        close(dx, by_input(dy, W, *sizes, x.shape[1:3]))
        close(dW, by_weights(x, dy, conv.kernel, *sizes))
        if torch:
            for got, expected in zip((y, dx, dW), torchs(torch, "conv2d", conv, x, dy, W), strict=True):
                close(got, expected)
        small = exact(x, dy, conv.kernel, *sizes)
        if small is None:
            continue
        y, dx, dW = results(transposed, dy, small, W)
        close(y, by_input(dy, W, *sizes, small.shape[1:3]))
        close(dx, forward(small, W, *sizes))
        close(dW, by_weights(small, dy, conv.kernel, *sizes))
        if torch:
            for got, expected in zip((y, dx, dW), torchs(torch, "conv_transpose2d", conv, dy, small, W), strict=True):
                close(got, expected)


def torchs(torch, name, layer, x, dy, W):
    """y, dx and dW as PyTorch has them: channels first, and W (n, c, kh, kw) for both kinds."""
    torch.set_num_threads(1)
    x, dy = (torch.tensor(np.ascontiguousarray(array.transpose(0, 3, 1, 2))) for array in (x, dy))
    W = torch.tensor(np.ascontiguousarray(W.transpose(3, 2, 0, 1)))
    x.requires_grad_(), W.requires_grad_()
    y = getattr(torch.nn.functional, name)(x, W, stride=layer.stride, padding=layer.padding)
    y.backward(dy)
    images = (tensor.detach().numpy().transpose(0, 2, 3, 1) for tensor in (y, x.grad))
    return *images, W.grad.numpy().transpose(2, 3, 1, 0)


def test_the_random_shapes_cover_what_matters():
    sizes = [drawn(seed) for seed in SEEDS]
    kernels, strides, paddings = ([size[i] for size in sizes] for i in (2, 3, 4))
    for pairs in kernels, strides, paddings:
        assert 30 < sum(a == b for a, b in pairs) < 210
    assert sum(p == (k[0] - 1, k[1] - 1) for k, p in zip(kernels, paddings, strict=True)) > 20  # the most that is allowed
    assert sum(a > k for pair, kernel in zip(strides, kernels, strict=True) for a, k in zip(pair, kernel, strict=True)) > 20
    assert (
        sum(exact(x, y, conv.kernel, conv.stride, conv.padding) is not None for conv, _, x, y, _ in map(problem, SEEDS)) > 200
    )


def test_each_bias_is_added_where_it_belongs_and_its_gradient_is_the_sum_of_dy():
    for seed in range(20):
        for layer_of in Conv2d, ConvTranspose2d:
            conv, transposed, *arrays, W = problem(seed)
            plain = (conv, transposed)[layer_of is ConvTranspose2d]
            x, dy = arrays if layer_of is Conv2d else (arrays[1], exact(*arrays, conv.kernel, conv.stride, conv.padding))
            if dy is None:
                continue
            rng = np.random.default_rng(seed)
            y = results(plain, x, dy, W)[0]
            for shape in ((), dy.shape[3:], dy.shape[1:]):
                b = rng.standard_normal(shape)
                layer = layer_of(x.shape[3], dy.shape[3], conv.kernel, stride=conv.stride, padding=conv.padding, bias=b)
                network = Network([layer], dtype=np.float64)
                assert (network.parameters()["0.b"] == b).all()
                with_b, _, _, db = results(layer_of(**layer.config()), x, dy, W, b)
                close(with_b, y + b)
                close(db, dy.sum(axis=0) if len(shape) == 3 else dy.sum(axis=(0, 1, 2)))


def test_a_convolution_of_one_pixel_is_linear():
    rng = np.random.default_rng(0)
    x, W, dy = rng.standard_normal((5, 1, 1, 4)), rng.standard_normal((1, 1, 4, 3)), rng.standard_normal((5, 1, 1, 3))
    y, dx, dW = results(Conv2d(4, 3, 1, bias=None), x, dy, W)
    linear = results(Linear(4, 3, bias=None), x[:, 0, 0], dy[:, 0, 0], W[0, 0])
    for got, expected in zip((y[:, 0, 0], dx[:, 0, 0], dW[0, 0]), linear, strict=True):
        close(got, expected)


# ---- The two linear maps


@pytest.mark.parametrize("seed", range(0, 240, 8))
def test_the_fold_is_the_transpose_of_the_strips(xp, seed):
    """⟨S x, r⟩ = ⟨x, Sᵀ r⟩, and S(x) are the columns that the window covers."""
    m, (h, w), kernel, stride, padding, c, _ = drawn(seed)
    windows, rng = Windows(kernel, stride, padding), np.random.default_rng(seed)
    x = rng.standard_normal((m, h, w, c))
    places, kw = windows.places(h, w)[1], kernel[1]
    r = rng.standard_normal((m, places, h, kw, c))
    Sx = host(windows.strips(xp.asarray(x))).reshape(r.shape)
    rows = [windows.fold(xp.asarray(np.ascontiguousarray(row)), w) for row in r.transpose(2, 3, 4, 1, 0)]
    STr = np.stack([host(row) for row in rows]).transpose(3, 0, 2, 1)
    assert STr.shape == x.shape
    assert (Sx * r).sum() == pytest.approx((x * STr).sum(), rel=1e-12, abs=1e-12)
    around = padded(x, (0, padding[1]))
    for j in range(places):
        assert (Sx[:, j] == around[:, :, j * stride[1] : j * stride[1] + kw]).all()


@pytest.mark.parametrize("seed", range(0, 240, 8))
def test_the_windows_and_their_transpose(xp, seed):
    """⟨A x, r⟩ = ⟨x, Aᵀ r⟩, and A(x) are the windows: as they come with W = 1."""
    m, image, kernel, stride, padding, c, _ = drawn(seed)
    windows, rng = Windows(kernel, stride, padding), np.random.default_rng(seed)
    places, numbers = windows.places(*image), math.prod(kernel) * c
    x, r = rng.standard_normal((m, *image, c)), rng.standard_normal((m, *places, numbers))
    one = xp.asarray(np.eye(numbers).reshape(*kernel, c, numbers))
    Ax = host(windows.correlate(xp.asarray(x), one))
    ATr = host(windows.spread(xp.asarray(r), one, *image))
    assert (Ax * r).sum() == pytest.approx((x * ATr).sum(), rel=1e-12, abs=1e-12)
    around = padded(x, padding)
    for i, j in np.ndindex(*places):
        top, left = i * stride[0], j * stride[1]
        window = around[:, top : top + kernel[0], left : left + kernel[1]]
        assert (Ax[:, i, j] == window.reshape(m, -1)).all()


@pytest.mark.parametrize("seed", range(0, 240, 24))
def test_the_transposed_convolution_is_the_transpose_of_the_convolution(seed):
    conv, transposed, x, y, W = problem(seed)
    x = exact(x, y, conv.kernel, conv.stride, conv.padding)
    if x is not None:
        forward, back = results(conv, x, y, W)[0], results(transposed, y, x, W)[0]
        assert (forward * y).sum() == pytest.approx((x * back).sum(), rel=1e-12, abs=1e-12)


# ---- Pooling and maxout


def naive_pool(x, size, stride):
    """y, and dx for dy = 1, 2, 3, …, by loops over windows; the first of the largest values takes dy."""
    starts = [
        [i for i in range(0, n, s) if i == 0 or i - s + k < n] for n, k, s in zip(x.shape[1:3], size, stride, strict=True)
    ]
    y = np.empty((len(x), *map(len, starts), x.shape[3]))
    dy = np.arange(1.0, y.size + 1).reshape(y.shape)
    dx = np.zeros_like(x)
    for r, (i, top), (j, left), c in itertools.product(range(len(x)), *map(enumerate, starts), range(x.shape[3])):
        window = x[r, top : top + size[0], left : left + size[1], c]
        y[r, i, j, c] = window.max()
        u, v = np.unravel_index(window.argmax(), window.shape)  # argmax is the first, by rows
        dx[r, top + u, left + v, c] += dy[r, i, j, c]
    return y, dy, dx


def pools():
    for seed in range(120):
        rng = np.random.default_rng(seed)
        image, size, stride = (tuple(map(int, rng.integers(1, high, 2))) for high in (10, 6, 5))
        x = rng.standard_normal((rng.integers(1, 4), *image, rng.integers(1, 4)))
        yield (np.round(x) if seed % 2 else x), size, stride  # rounded: with many ties


def test_120_random_poolings_are_those_of_loops_and_of_torch_and_the_first_takes_dy_at_a_tie():
    torch = importlib.util.find_spec("torch") and importlib.import_module("torch")
    outside = compared = 0
    for x, size, stride in pools():
        y, dy, dx = naive_pool(x, size, stride)
        layer = MaxPool2d(size, stride)
        got, cache = layer.forward(x)
        np.testing.assert_array_equal(got, y, strict=True)
        assert (layer.backward(dy, cache) == dx).all()
        outside += any((n - 1) * s + k > h for n, s, k, h in zip(y.shape[1:3], stride, size, x.shape[1:3], strict=True))
        if torch and all(k <= n for k, n in zip(size, x.shape[1:3], strict=True)):
            tensor = torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), requires_grad=True)
            pooled = torch.nn.functional.max_pool2d(tensor, size, stride, ceil_mode=True)
            pooled.backward(torch.tensor(np.ascontiguousarray(dy.transpose(0, 3, 1, 2))))
            close(pooled.detach().numpy().transpose(0, 2, 3, 1), y)
            close(tensor.grad.numpy().transpose(0, 2, 3, 1), dx)
            compared += 1
    assert outside > 30, "windows that hang over the edge"
    assert compared > 60 or not torch


@pytest.mark.parametrize("tied", [[0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_channel_maxout_and_its_ties(xp, tied):
    """y[…, j] = maxᵢ x[…, i·n + j]; the pieces' gradients sum to dy, and the first of the largest takes it whole."""
    x = np.zeros((2, 2, 3, 2))  # m, h, pieces, n
    x[:, :, tied] = 1.0
    y, cache = ChannelMaxout(3).forward(xp.asarray(x.reshape(2, 2, 6)))
    dy = np.arange(8.0).reshape(2, 2, 2) + 1
    dx = host(ChannelMaxout(3).backward(xp.asarray(dy), cache)).reshape(2, 2, 3, 2)
    assert (host(y) == 1).all()
    assert (dx.sum(axis=2) == dy).all()
    assert (dx[:, :, tied[0]] == dy).all()


def test_channel_maxout_after_a_convolution_of_one_pixel_is_maxout():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    maxout = Network([Maxout(4, 3, 2, weight=Uniform(1))], dtype=np.float64)
    layers = [Reshape((1, 1, 4)), Conv2d(4, 6, 1, weight=Uniform(1)), ChannelMaxout(2), Reshape((3,))]
    convolution = Network(layers, dtype=np.float64)
    assert (convolution.theta == maxout.theta).all()
    found = []
    for network in maxout, convolution:
        y, cache = network.forward(x)
        grad = np.empty_like(network.theta)
        found.append((y, network.backward(dy, cache, grad), grad))
    for got, expected in zip(*found, strict=True):
        close(got, expected)


# ---- Blocks and backends


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_backend_computes_what_numpy_computes_without_copies(xp, case, dtype):
    make, shape = CASES[case]
    network, numpys = Network([make()], dtype=dtype, xp=xp), Network([make()], dtype=dtype)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    dy = rng.standard_normal(numpys(x).shape).astype(dtype)
    expected, found = [], []
    for net, results, module in (numpys, expected, np), (network, found, xp):
        own_x, own_dy = module.asarray(x), module.asarray(dy)
        grad = module.full_like(net.theta, math.nan)
        with no_transfers():
            y, cache = net.forward(own_x, True)
            dx = net.backward(own_dy, cache, grad)
        results += [y, dx, grad]
    eps = np.finfo(dtype).eps
    for got, array in zip(map(host, found), expected, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, array, rtol=100 * eps, atol=100 * eps)


@pytest.mark.parametrize("case", CASES)
def test_however_few_images_are_taken_at_a_time_the_result_is_the_same(monkeypatch, case):
    make, (_, *shape) = CASES[case]
    rng, found = np.random.default_rng(0), []
    x = rng.standard_normal((7, *shape))
    for taken in 7, 1, 3:
        network = Network([make()], dtype=np.float64)
        sizes = []

        def few(x, values, taken=taken, sizes=sizes):
            sizes.append(taken)
            return [slice(start, start + taken) for start in range(0, len(x), taken)]

        monkeypatch.setattr(tinygan.convolution, "blocks", few)
        y, cache = network.forward(x)
        grad = np.empty_like(network.theta)
        dx = network.backward(np.sin(np.arange(y.size)).reshape(y.shape), cache, grad)
        assert sizes or case.startswith("ChannelMaxout")
        found.append([y, dx, grad])
    for others in zip(*found, strict=True):
        close(others[1], others[0])
        close(others[2], others[0])


def test_blocks_are_of_few_images_on_the_cpu_and_of_all_on_a_device(strict_xp):
    def lengths(x, values):
        return [len(x[images]) for images in tinygan.convolution.blocks(x, values)]

    x, values = np.zeros((10, 2), np.float32), 10 * tinygan.convolution.BLOCK // 16
    assert lengths(x, values) == [4, 4, 2]
    assert lengths(x, 100 * values) == [1] * 10
    assert lengths(x, 1) == [10]
    assert lengths(x.astype(np.float64), values) == [2] * 5
    assert lengths(x[:0], 0) == []
    assert lengths(strict_xp.asarray(x), values) == [10]


@pytest.mark.parametrize("case", CASES)
def test_arrays_in_any_order_are_read_right(case):
    """dx of Linear, stored by columns, and an input that is a view."""
    make, shape = CASES[case]
    network, rng = Network([make()], dtype=np.float64), np.random.default_rng(0)
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(network(x).shape)
    orders = [
        lambda a: a,
        np.asfortranarray,
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    ]
    found = []
    for order in orders:
        view, upstream = order(x), order(dy)
        assert (view == x).all()
        y, cache = network.forward(view)
        grad = np.empty_like(network.theta)
        found.append([y, network.backward(upstream, cache, grad), grad])
    for other in found[1:]:
        for got, expected in zip(other, found[0], strict=True):
            close(got, expected)


@pytest.mark.parametrize("layer", [Conv2d(3, 4, 2, padding=1), ConvTranspose2d(3, 4, 2), MaxPool2d(2, 2)], ids=repr)
@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3)])
def test_images_without_pixels_are_refused(layer, shape):
    with refused(repr(layer), shape):
        layer.forward(np.zeros(shape, np.float32))


def test_a_minibatch_without_images_goes_through(xp):
    for make, shape in CASES.values():
        network = Network([make()], dtype=np.float64, xp=xp)
        x = xp.zeros((0, *shape[1:]))
        y, cache = network.forward(x)
        assert len(y) == 0
        assert network.backward(y, cache).shape == x.shape


# ---- The paper's nets


def conv_discriminator():
    return [
        *(Reshape((32, 32, 3)), Conv2d(3, 64, 8, padding=4), ChannelMaxout(2), MaxPool2d(4, 2)),
        *(Conv2d(32, 64, 8, padding=3), ChannelMaxout(2), MaxPool2d(4, 2)),
        *(Conv2d(32, 384, 5, padding=3), ChannelMaxout(2), MaxPool2d(2, 2)),
        *(Reshape((4800,)), Maxout(4800, 500, 5), Linear(500, 1)),
    ]


def test_the_convolutional_discriminators_shapes():
    expected = [(32, 32, 3), (33, 33, 64), (33, 33, 32), (16, 16, 32), (15, 15, 64), (15, 15, 32), (7, 7, 32), (9, 9, 384)]
    expected += [(9, 9, 192), (5, 5, 192), (4800,), (500,), (1,)]
    network, shapes = Network(conv_discriminator()), []
    x = np.zeros((1, 3072), np.float32)
    for layer in network.layers:
        x, _ = layer.forward(x)
        shapes.append(x.shape[1:])
    assert shapes == expected
    assert network.theta.size == 12_454_073


def test_the_generators_reshape_and_deconvolution():
    """Index n of 8000 is row n//800, column (n//80) % 10, channel n % 80; y[3i + u, 3j + v, c] += W[c, u, v, k] x[i, j, k]."""
    layers = [Reshape((10, 10, 80)), ConvTranspose2d(80, 3, 5, stride=3, bias=(32, 32, 3)), Reshape((3072,))]
    network = Network(layers, dtype=np.float64)
    W, b = network.parameters().values()
    assert (W.shape, b.shape, W.size + b.size) == ((5, 5, 3, 80), (32, 32, 3), 9072)
    b[...] = np.random.default_rng(0).standard_normal(b.shape)
    n = np.arange(8000)
    for index in (0, 7999, 4567):
        i, j, k = (n // 800)[index], (n // 80 % 10)[index], (n % 80)[index]
        y = network((n == index)[None].astype(float)).reshape(32, 32, 3)
        expected = b.copy()
        expected[3 * i : 3 * i + 5, 3 * j : 3 * j + 5] += W[..., k]
        close(y, expected)


def dense(*widths):
    return [Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)]


COUNTS = {
    "MNIST G": (dense(100, 1200, 1200, 784), 2_503_984),
    "MNIST D": ([Maxout(784, 240, 5), Maxout(240, 240, 5), Linear(240, 1)], 1_231_441),
    "TFD G, stage 1": (dense(100, 8000, 8000, 2304), 83_250_304),
    "TFD G, stage 2": (dense(100, 8000, 100, 8000, 8000, 2304), 84_858_404),
    "TFD D": ([Maxout(2304, 1200, 5), Maxout(1200, 1200, 5), Linear(1200, 1)], 21_037_201),
    "CIFAR-10 G, fully connected": (dense(100, 8000, 8000, 3072), 89_395_072),
    "CIFAR-10 D, fully connected": ([Maxout(3072, 1600, 5), Maxout(1600, 1600, 5), Linear(1600, 1)], 37_393_601),
    "CIFAR-10 G, convolutional": (
        [*dense(100, 8000, 8000), ConvTranspose2d(80, 3, 5, stride=3, bias=(32, 32, 3))], 64_825_072,
    ),
    "CIFAR-10 D, convolutional": (conv_discriminator(), 12_454_073),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_papers_nets_have_as_many_parameters_as_counted(name):
    layers, count = COUNTS[name]
    shapes = [shape for layer in layers for shape, _ in layer.declarations.values()]
    assert sum(map(math.prod, shapes)) == count


def test_the_shapes_of_a_dcgan():
    G = [Linear(100, 3136), Reshape((7, 7, 64)), ConvTranspose2d(64, 32, 4, stride=2, padding=1)]
    G += [ReLU(), ConvTranspose2d(32, 1, 4, stride=2, padding=1), Sigmoid(), Reshape((784,))]
    D = [Reshape((28, 28, 1)), Conv2d(1, 32, 4, stride=2, padding=1), Conv2d(32, 64, 4, stride=2, padding=1)]
    x = Network(G)(np.zeros((2, 100), np.float32))
    assert (x.shape, Network([*D, Reshape((3136,)), Linear(3136, 1)])(x).shape) == ((2, 784), (2, 1))


# ---- As data, and in a checkpoint


def test_a_list_of_sizes_as_bias_is_its_shape_and_any_other_list_is_where_it_starts():
    def starts(bias):
        (layer,) = (network := Network([Conv2d(2, 3, 3, bias=bias)], dtype=np.float64)).layers
        return network.parameters()["0.b"].tolist(), layer.config().get("bias", "tied")

    assert starts([0, 1, 2]) == ([0, 1, 2], "tied")
    assert starts(np.array([4, 5, 3])) == ([4, 5, 3], "tied")
    assert starts([4.0, 5.0, 3.0]) == ([4, 5, 3], "tied")
    assert starts((4, 5, 3)) == (np.zeros((4, 5, 3)).tolist(), [4, 5, 3])
    assert starts(np.ones((4, 5, 3))) == (np.ones((4, 5, 3)).tolist(), [4, 5, 3])
    assert starts(0.5) == ([0.5] * 3, "tied")


def test_a_description_has_no_weight_and_of_bias_only_null_or_its_shape():
    layers = [
        Conv2d(3, 64, 8, padding=4, weight=Uniform(0.3), bias=0.5),
        ChannelMaxout(2),
        MaxPool2d(4, 2),
        ConvTranspose2d(32, 3, (5, 4), stride=(3, 2), padding=(0, 1), bias=np.ones((6, 7, 3))),
        Conv2d(3, 1, 1, bias=None),
        MaxPool2d((2, 3), (1, 2)),
    ]
    assert json.loads(json.dumps(Network(layers).describe())) == [
        {"class": "Conv2d", "config": {"c_in": 3, "c_out": 64, "kernel": 8, "stride": 1, "padding": 4}},
        {"class": "ChannelMaxout", "config": {"pieces": 2}},
        {"class": "MaxPool2d", "config": {"size": 4, "stride": 2}},
        {
            "class": "ConvTranspose2d",
            "config": {"c_in": 32, "c_out": 3, "kernel": [5, 4], "stride": [3, 2], "padding": [0, 1], "bias": [6, 7, 3]},
        },
        {"class": "Conv2d", "config": {"c_in": 3, "c_out": 1, "kernel": 1, "stride": 1, "padding": 0, "bias": None}},
        {"class": "MaxPool2d", "config": {"size": [2, 3], "stride": [1, 2]}},
    ]
    assert [repr(layer) for layer in layers] == [
        "Conv2d(3, 64, 8, padding=4)",
        "ChannelMaxout(2)",
        "MaxPool2d(4, 2)",
        "ConvTranspose2d(32, 3, (5, 4), stride=(3, 2), padding=(0, 1), bias=(6, 7, 3))",
        "Conv2d(3, 1, 1, bias=None)",
        "MaxPool2d((2, 3), (1, 2))",
    ]
    assert repr([eval(repr(layer)) for layer in layers]) == repr(layers)  # written as it is called


# ---- The benchmark


def test_the_products_that_the_benchmark_counts():
    """2 FLOP for each number of A(x) and each column of W: 186 GFLOP an iteration at the paper's width, m = 128."""
    args = argparse.Namespace(**benchmark.SIZES)
    m = args.batch_size
    D = {1: 33 * 33 * 192 * 64, 2: 15 * 15 * 2048 * 64, 3: 9 * 9 * 800 * 384, 4: 4800 * 2500, 5: 500}
    G = {1: 100 * 8000, 2: 8000 * 8000, 3: 100 * 80 * 75}
    D_once, G_once = sum(D.values()), sum(G.values())
    forward = G_once + 2 * D_once
    backward = (2 * D_once + 2 * (D_once - D[1])) + (D_once + G_once + G_once - G[1])  # D's update, and G's
    assert benchmark.gflop(benchmark.products(args)) == pytest.approx(2 * m * (forward + backward) / 1e9)
    assert benchmark.gflop(benchmark.products(args)) == pytest.approx(186, abs=0.5)


def test_the_rows_in_the_padding_that_are_left_out_of_the_products():
    """8, 10 and 27 % of D's three convolutions, as the page about speed says."""
    shares = []
    for h, (_, k, p, *_) in zip((32, 16, 7), benchmark.CONVOLUTIONS, strict=True):
        made = [own.stop - own.start for _, _, own, _ in Windows((k, k), (1, 1), (p, p)).rows(np.zeros((1, h, h, 1)))]
        shares.append(1 - sum(made) / (len(made) * k))
    assert shares == pytest.approx([0.08, 0.10, 0.27], abs=0.005)


@pytest.mark.slow
def test_the_benchmarks_contestants_do_equal_work(capsys):
    pytest.importorskip("torch")
    benchmark.check(argparse.Namespace(threads=1, width=400, d_width=30, pieces=5, batch_size=8))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["torch", "torch-last"]
