"""The equation with which a public docstring begins, executed: pairs of what the code computes and of what it says.

    @printed(where, text, …)      the object whose docstring prints these texts (spaces do not count)
    def name():
        yield code, equation

test_fifteen_faults.py compares each pair, and each text with the docstring.
"""

import math

import numpy as np
from helpers import SameDraws

from tinygan import (
    Adam,
    BatchNorm,
    ChannelMaxout,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Generator,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    MomentumSGD,
    Network,
    Noise,
    ParzenWindow,
    ReLU,
    Reshape,
    Sigmoid,
    Sparse,
    Tanh,
    Uniform,
    bernoulli_cross_entropy,
    bias_from_marginals,
    discriminator_loss,
    generate,
    generator_loss,
    learning_rate_schedule,
    max_column_norm,
    momentum_schedule,
    pixels,
    softmax_cross_entropy,
    softplus,
    squared_error,
    value_function,
)

EQUATIONS = []


def printed(where, *texts):
    def register(values):
        EQUATIONS.append((where, texts, values))
        return values

    return register


m, n_in, p, n_out = 5, 4, 3, 2
rng = np.random.default_rng(0)
x, dy = rng.standard_normal((m, n_in)), rng.standard_normal((m, n_out))
W, b = rng.standard_normal((n_in, n_out)), rng.standard_normal(n_out)


def run(layer, dy, x=x, **params):
    """y, ∂L/∂x, and ∂L/∂ each parameter."""
    net = Network([layer], dtype=np.float64)
    for key, value in params.items():
        layer.params[key][...] = value
    y, cache = net.forward(x, True, SameDraws(np))
    grad = np.empty_like(net.theta)
    return y, net.backward(dy, cache, grad), *net.views(grad).values()


# ---- Layers


@printed(Linear, "y = x W + b", "∂L/∂W = xᵀ dy", "∂L/∂b = Σᵢ dyᵢ", "∂L/∂x = dy Wᵀ")
def linear():
    y, dx, dW, db = run(Linear(n_in, n_out), dy, W=W, b=b)
    yield y, x @ W + b
    yield dW, x.T @ dy
    yield db, sum(dy)
    yield dx, dy @ W.T


@printed(Maxout, "yⱼ = maxᵢ zᵢⱼ, z = x W + b", "Σᵢ dzᵢⱼ = dyⱼ", "∂L/∂W = xᵀ dz", "∂L/∂b = Σ dz", "∂L/∂x = dz Wᵀ")
def maxout():
    W, b = rng.standard_normal((n_in, p * n_out)), rng.standard_normal(p * n_out)
    y, dx, dW, db = run(Maxout(n_in, n_out, p), dy, W=W, b=b)
    z = (x @ W + b).reshape(m, p, n_out)  # column i·n_out + j is piece i of unit j
    dz = dy[:, None] * (z == z.max(axis=1, keepdims=True))
    yield y, z.max(axis=1)
    yield dz.sum(axis=1), dy
    dz = dz.reshape(m, p * n_out)
    yield dW, x.T @ dz
    yield db, sum(dz)
    yield dx, dz @ W.T


@printed(ReLU, "y = max(x, 0)", "∂L/∂x = dy · [x > 0]")
def relu():
    dy = rng.standard_normal(x.shape)
    y, dx = run(ReLU(), dy)
    yield y, np.maximum(x, 0)
    yield dx, dy * (x > 0)


@printed(LeakyReLU, "y = x where x > 0, else s x", "∂L/∂x = dy · (1 where x > 0, else s)")
def leaky_relu():
    dy, s = rng.standard_normal(x.shape), 0.3
    y, dx = run(LeakyReLU(s), dy)
    yield y, np.where(x > 0, x, s * x)
    yield dx, dy * np.where(x > 0, 1, s)


@printed(
    Tanh, "y = tanh(x) = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ)", "tanh′(x) = 1/cosh²(x) = 4e/(1 + e)², e = e^−2|x|", "∂L/∂x = dy · tanh′(x)"
)
def tanh():
    dy, e = rng.standard_normal(x.shape), np.exp(-2 * abs(x))
    y, dx = run(Tanh(), dy)
    yield y, (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))
    yield dx, dy / np.cosh(x) ** 2
    yield dx, dy * 4 * e / (1 + e) ** 2


@printed(Sigmoid, "y = σ(x) = 1 / (1 + e⁻ˣ)", "y = e^min(x, 0) / (1 + e)", "σ′(x) = σ(x) σ(−x) = e/(1 + e)²")
def sigmoid():
    dy, e = rng.standard_normal(x.shape), np.exp(-abs(x))
    y, dx = run(Sigmoid(), dy)
    yield y, 1 / (1 + np.exp(-x))
    yield y, np.exp(np.minimum(x, 0)) / (1 + e)
    yield dx, dy * y * Network([Sigmoid()], dtype=np.float64)(-x)
    yield dx, dy * e / (1 + e) ** 2


@printed(Dropout, "y = x · mask, mask = 1/keep with probability keep, else 0", "∂L/∂x = dy · mask")
def dropout():
    dy, keep = rng.standard_normal(x.shape), 0.25
    y, dx = run(Dropout(keep), dy)
    mask = np.where(y == 0, 0, 1 / keep)
    yield y, x * mask
    yield dx, dy * mask


@printed(Reshape, "y = x, with other axes behind the minibatch", "∂L/∂x = dy in the shape of x")
def reshape():
    dy = rng.standard_normal((m, 2, 2))
    y, dx = run(Reshape((2, 2)), dy)
    yield y, x.reshape(m, 2, 2)
    yield dx, dy.reshape(x.shape)


def windows(x_shape, kernel, stride, padding):
    """A (places, values of a window, values of an image): A[r, k, i] = 1 where value k of the window at place r is value i."""
    (h, w, c), (kh, kw) = x_shape, kernel
    places = [(i, j) for i in range(0, h + 2 * padding - kh + 1, stride) for j in range(0, w + 2 * padding - kw + 1, stride)]
    A = np.zeros((len(places), kh * kw * c, h * w * c))
    for r, (top, left) in enumerate(places):
        for k, (u, v, channel) in enumerate(np.ndindex(kh, kw, c)):
            row, column = top + u - padding, left + v - padding
            if 0 <= row < h and 0 <= column < w:  # else it is a zero of the padding
                A[r, k, (row * w + column) * c + channel] = 1
    return A


@printed(
    Conv2d,
    "y[i, j, o] = b[o] + Σ_{u, v, c} W[u, v, c, o] x[s i + u − p, s j + v − p, c]",
    "h' = ⌊(h + 2p − kh)/s⌋ + 1",
    "y = A(x) W + b",
    "∂L/∂W = A(x)ᵀ dy",
    "∂L/∂b = Σ dy",
    "∂L/∂x = Aᵀ(dy Wᵀ)",
)
def convolution():
    (h, w, c), (kh, kw), s, p = (5, 4, 3), (2, 3), 2, 1
    x, dy = rng.standard_normal((m, h, w, c)), rng.standard_normal((m, 3, 2, n_out))
    W, b = rng.standard_normal((kh, kw, c, n_out)), rng.standard_normal(n_out)
    y, dx, dW, db = run(Conv2d(c, n_out, (kh, kw), stride=s, padding=p), dy, x, W=W, b=b)
    yield y.shape[1], (h + 2 * p - kh) // s + 1
    around = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))  # its row 0 is row −p of x
    for i, j in np.ndindex(3, 2):
        yield y[:, i, j], b + np.einsum("uvco,muvc->mo", W, around[:, s * i : s * i + kh, s * j : s * j + kw])
    A, rows, flat = windows((h, w, c), (kh, kw), s, p), dy.reshape(m, -1, n_out), W.reshape(-1, n_out)
    Ax = np.einsum("rki,mi->mrk", A, x.reshape(m, -1))
    yield y.reshape(rows.shape), Ax @ flat + b
    yield dW.reshape(flat.shape), np.einsum("mrk,mro->ko", Ax, rows)
    yield db, rows.sum(axis=(0, 1))
    yield dx.reshape(m, -1), np.einsum("rki,mrk->mi", A, rows @ flat.T)


@printed(
    ConvTranspose2d,
    "y[r, q, o] = b[o] + Σ W[u, v, o, c] x[i, j, c], over all i, j, u, v, c with s i + u − p = r and s j + v − p = q",
    "h' = s (h − 1) + kh − 2p",
    "y = Aᵀ(x Wᵀ) + b",
    "∂L/∂W = A(dy)ᵀ x",
    "∂L/∂b = Σ dy",
    "∂L/∂x = A(dy) W",
)
def transposed_convolution():
    (h, w, c), (kh, kw), s, p = (3, 2, 4), (3, 2), 2, 1
    x, dy = rng.standard_normal((m, h, w, c)), rng.standard_normal((m, 5, 2, n_out))
    W, b = rng.standard_normal((kh, kw, n_out, c)), rng.standard_normal(n_out)
    y, dx, dW, db = run(ConvTranspose2d(c, n_out, (kh, kw), stride=s, padding=p), dy, x, W=W, b=b)
    yield y.shape[1:3], (s * (h - 1) + kh - 2 * p, s * (w - 1) + kw - 2 * p)
    summed = np.tile(b, (m, 5, 2, 1))
    for i, j, u, v in np.ndindex(h, w, kh, kw):
        r, q = s * i + u - p, s * j + v - p
        if 0 <= r < 5 and 0 <= q < 2:
            summed[:, r, q] += x[:, i, j] @ W[u, v].T
    yield y, summed
    A, rows, flat = windows(y.shape[1:], (kh, kw), s, p), x.reshape(m, -1, c), W.reshape(-1, c)
    Ady = np.einsum("rki,mi->mrk", A, dy.reshape(m, -1))
    yield y, b + np.einsum("rki,mrk->mi", A, rows @ flat.T).reshape(y.shape)
    yield dW.reshape(flat.shape), np.einsum("mrk,mrc->kc", Ady, rows)
    yield db, dy.sum(axis=(0, 1, 2))
    yield dx.reshape(rows.shape), Ady @ flat


@printed(
    MaxPool2d,
    "y[i, j, c] = max over 0 ≤ u, v < size of x[s i + u, s j + v, c]",
    "h' = 1 + ⌈(h − size)/s⌉",
    "∂y/∂x = 1 at the largest value of the window, else 0",
)
def pooling():
    h, size, s = 5, 2, 2  # the last window hangs over the edge
    x, dy = rng.standard_normal((m, h, h, 3)), rng.standard_normal((m, 3, 3, 3))
    y, dx = run(MaxPool2d(size, s), dy, x)
    yield y.shape[1], 1 + math.ceil((h - size) / s)
    expected = np.zeros_like(x)
    for i, j in np.ndindex(3, 3):
        here = (slice(None), slice(s * i, s * i + size), slice(s * j, s * j + size))
        largest = x[here].max(axis=(1, 2), keepdims=True)
        yield y[:, i, j], largest[:, 0, 0]
        expected[here] += (x[here] == largest) * dy[:, i : i + 1, j : j + 1]
    yield dx, expected


@printed(ChannelMaxout, "y[…, j] = maxᵢ x[…, i·n + j]", "∂yⱼ/∂xᵢⱼ = 1 for the largest piece, else 0")
def maxout_over_channels():
    x, dy = rng.standard_normal((m, 2, 2, p * n_out)), rng.standard_normal((m, 2, 2, n_out))
    y, dx = run(ChannelMaxout(p), dy, x)
    pieces = np.stack([x[..., i * n_out : (i + 1) * n_out] for i in range(p)])
    yield y, pieces.max(axis=0)
    yield dx, np.concatenate(list((pieces == pieces.max(axis=0)) * dy), axis=-1)


@printed(
    BatchNorm,
    "y = γ x̂ + β, x̂ = (x − μ)/√(σ² + ε)",
    "∂L/∂γ = Σ dy x̂ ∂L/∂β = Σ dy",
    "∂L/∂x = γ/√(σ² + ε) · (dy − (∂L/∂β + x̂ ∂L/∂γ)/N)",
    "with running statistics γ/√(var + ε) · dy",
    "mean ← ρ mean + (1 − ρ) μ, var ← ρ var + (1 − ρ) σ², ρ = momentum",
)
def batch_norm():
    gamma, beta, start_mean, start_var = rng.uniform(1, 2, (4, n_in))
    dy, epsilon, rho = rng.standard_normal(x.shape), 0.1, 0.75
    layer = BatchNorm(n_in, momentum=rho, epsilon=epsilon)
    y, dx, dgamma, dbeta = run(layer, dy, gamma=gamma, beta=beta)
    mu, var = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mu) / np.sqrt(var + epsilon)
    yield y, gamma * x_hat + beta
    yield dgamma, (dy * x_hat).sum(axis=0)
    yield dbeta, dy.sum(axis=0)
    yield dx, gamma / np.sqrt(var + epsilon) * (dy - (dbeta + x_hat * dgamma) / m)
    layer.mean[...], layer.var[...] = start_mean, start_var
    y, cache = layer.forward(x)
    yield y, gamma * (x - start_mean) / np.sqrt(start_var + epsilon) + beta
    yield layer.backward(dy, cache), gamma / np.sqrt(start_var + epsilon) * dy
    layer.observe(layer.forward(x, train=True)[1])
    yield layer.mean, rho * start_mean + (1 - rho) * mu
    yield layer.var, rho * start_var + (1 - rho) * var


@printed(Network, "y = f_L(… f₂(f₁(x)))")
def network():
    f1, f2 = (Network([layer], dtype=np.float64) for layer in (Linear(n_in, 3), Linear(3, n_out)))
    chain = Network([Linear(n_in, 3), Linear(3, n_out)], dtype=np.float64)
    chain.theta = np.concatenate([f1.theta, f2.theta])
    yield chain(x), f2(f1(x))


# ---- How parameters start


@printed(Uniform, "w ~ U(−r, r)")
def uniform():
    w, r = np.empty((100, 100)), 0.05
    Uniform(r)(rng, w)
    u = np.sort(w.ravel()) / (2 * r) + 0.5  # uniform in [0, 1): the largest distance of its distribution function
    yield 100 * abs(u - np.arange(w.size) / w.size).max() < 1.95, True  # Kolmogorov and Smirnov, 1 in 1000


@printed(Sparse, "n distinct inputs have w ~ N(0, 1), the others 0")
def sparse():
    w, n = np.empty((100, 100)), 9
    Sparse(n)(rng, w)
    yield (w != 0).sum(axis=0), n
    yield 30 * abs((w[w != 0] ** 2).mean() - 1) < 3.3 * 2**0.5, True  # the mean square of 900 of them, 1 in 1000


# ---- Costs on the logit: D(x) = σ(a_real), D(G(z)) = σ(a_fake)

a_real, a_fake = rng.standard_normal((2, m, 1))
D_x, D_G_z = 1 / (1 + np.exp(-a_real)), 1 / (1 + np.exp(-a_fake))


@printed(softplus, "log(1 + eᵃ)")
def softplus_():
    yield softplus(a_real), np.log(1 + np.exp(a_real))


@printed(value_function, "V(D, G) = E_x[log D(x)] + E_z[log(1 − D(G(z)))] (Eq. 1)", "−log 4 where D = ½ everywhere")
def equation_1():
    yield value_function(a_real, a_fake), np.log(D_x).mean() + np.log(1 - D_G_z).mean()
    yield value_function(0 * a_real, 0 * a_fake), -math.log(4)


@printed(discriminator_loss, "J(D) = −½ V(D, G)", "∂J/∂a_real = −½ (1 − D(x))/m", "∂J/∂a_fake = ½ D(G(z))/m")
def discriminator_cost():
    J, da_real, da_fake = discriminator_loss(a_real, a_fake)
    yield J, -0.5 * (np.log(D_x).mean() + np.log(1 - D_G_z).mean())
    yield da_real, -0.5 * (1 - D_x) / m
    yield da_fake, 0.5 * D_G_z / m


@printed(
    generator_loss,
    '"minimax" J = mean log(1 − D) ∂J/∂a = −D/m',
    '"non_saturating" J = −mean log D ∂J/∂a = −(1 − D)/m',
    '"maximum_likelihood" J = −mean eᵃ ∂J/∂a = −eᵃ/m',
)
def generator_costs():
    D, e_a = D_G_z, np.exp(a_fake)
    for kind, J, da in [
        ("minimax", np.log(1 - D).mean(), -D / m),
        ("non_saturating", -np.log(D).mean(), -(1 - D) / m),
        ("maximum_likelihood", -e_a.mean(), -e_a / m),
    ]:
        yield generator_loss(a_fake, kind)[0], J
        yield generator_loss(a_fake, kind)[1], da


# ---- Costs for other models


@printed(
    bernoulli_cross_entropy, "L = −Σⱼ [xⱼ log σ(aⱼ) + (1 − xⱼ) log(1 − σ(aⱼ))], the mean over rows", "∂L/∂a = (σ(a) − x)/m"
)
def bernoulli_cost():
    a, target = rng.standard_normal((2, m, n_in))
    target = 1 / (1 + np.exp(-target))
    sigma = 1 / (1 + np.exp(-a))
    L, da = bernoulli_cross_entropy(a, target)
    yield L, -(target * np.log(sigma) + (1 - target) * np.log(1 - sigma)).sum(axis=1).mean()
    yield da, (sigma - target) / m


@printed(
    softmax_cross_entropy,
    "L = −log p_c, p = softmax(logits), c the label; the mean over rows",
    "∂L/∂logits = (p − onehot(c))/m",
    "log n where all of the n classes are equally likely",
)
def softmax_cost():
    labels = np.array([0, 3, 1, 3, 2])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    L, dlogits = softmax_cross_entropy(x, labels)
    yield L, np.mean([-np.log(p[i, c]) for i, c in enumerate(labels)])
    yield dlogits, (p - np.eye(n_in)[labels]) / m
    yield softmax_cross_entropy(0 * x, labels)[0], np.log(n_in)


@printed(squared_error, "L = ‖y − t‖², the mean over rows", "∂L/∂y = 2(y − t)/m")
def squared_cost():
    t = rng.standard_normal(x.shape)
    L, dy = squared_error(x, t)
    yield L, np.mean([np.linalg.norm(row) ** 2 for row in x - t])
    yield dy, 2 * (x - t) / m


# ---- Optimisation


@printed(MomentumSGD, "v ← μ v − η ∇; θ ← θ + v")
def momentum():
    theta, eta, mu = x[0].copy(), 0.1, 0.9
    optimizer = MomentumSGD(theta, eta, mu)
    expected, v = theta.copy(), np.zeros_like(theta)
    for gradient in x:
        optimizer.step(gradient)
        v = mu * v - eta * gradient
        expected = expected + v
        yield optimizer.velocity, v
        yield theta, expected


@printed(Adam, "m ← β₁ m + (1 − β₁) ∇; s ← β₂ s + (1 − β₂) ∇²; θ ← θ − η m̂/(√ŝ + ε), m̂ = m/(1 − β₁ᵗ), ŝ = s/(1 − β₂ᵗ)")
def adam():
    theta, eta, beta1, beta2, epsilon = x[0].copy(), 0.1, 0.8, 0.95, 1e-3
    optimizer = Adam(theta, eta, beta1, beta2, epsilon)
    expected, first, s = theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
    for t, gradient in enumerate(x, 1):
        optimizer.step(gradient)
        first, s = beta1 * first + (1 - beta1) * gradient, beta2 * s + (1 - beta2) * gradient**2
        expected = expected - eta * (first / (1 - beta1**t)) / (np.sqrt(s / (1 - beta2**t)) + epsilon)
        yield optimizer.first_moment, first
        yield optimizer.second_moment, s
        yield theta, expected


@printed(learning_rate_schedule, "η(t) = max(10⁻⁶, η₀ / 1.000004^(t − 1))")
def learning_rate():
    for t in (1, 2, 1000, 10**6, 10**7):
        yield learning_rate_schedule(t, 0.1), max(1e-6, 0.1 / 1.000004 ** (t - 1))


@printed(momentum_schedule, "μ(e) = ½ + 0.2 · clip((e − 1)/249, 0, 1)")
def momentum_of_epoch():
    for e in (1, 2, 100, 250, 300):
        yield momentum_schedule(e), 0.5 + 0.2 * np.clip((e - 1) / 249, 0, 1)


@printed(max_column_norm, "W ← W · min(n, c)/(10⁻⁷ + n), n = ‖column‖₂")
def column_norm():
    limited, n, c = x.copy(), np.linalg.norm(x, axis=0), 2.0
    max_column_norm(limited, c)
    yield limited, x * np.minimum(n, c) / (1e-7 + n)


@printed(bias_from_marginals, "b = log(p / (1 − p))", "clipped to [10⁻⁷, 1 − 10⁻⁷]", "always 0 starts at −16.118")
def marginals():
    p = np.clip([0.25, 1.0, 0.0], 1e-7, 1 - 1e-7)
    start = bias_from_marginals(np.array([[0.5, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    yield start, np.log(p / (1 - p))
    yield round(start[2], 3), -16.118


# ---- Samples, data and evaluation


@printed(generate, "n samples x = G(z), z ~ p_z: (n, d)")
def samples():
    G, prior = Network([Linear(3, 2)], dtype=np.float64), Noise("gaussian", 3)
    z = prior(np.random.default_rng(1), 7, np.float64)
    yield generate(Generator(G, prior), 7, np.random.default_rng(1)), G(z)


@printed(pixels, "x = images / 255")
def pixels_():
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    yield pixels(images, dtype=np.float64), images / 255


@printed(ParzenWindow, "log p(x) = log (1/n) Σⱼ exp(−‖x − sⱼ‖² / 2σ²) − d log(σ √(2π))")
def parzen_window():
    s, sigma, n, d = rng.standard_normal((3, n_in)), 0.7, 3, n_in
    kernels = np.exp(-((x[:, None] - s) ** 2).sum(axis=2) / (2 * sigma**2))
    log_p = np.log(kernels.sum(axis=1) / n) - d * np.log(sigma * np.sqrt(2 * np.pi))
    yield ParzenWindow(sigma).fit(s).score_samples(x), log_p
