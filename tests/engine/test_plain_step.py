"""Iterations of each variant against the same in plain NumPy: formulas only, with nothing of tinygan in them.

Every number is computed again: z, the masks, both networks, both costs, all derivatives, momentum, running statistics.
Batch norm's derivative is taken through its matrix of partial derivatives, dropout's bits are drawn in the test.
"""

import numpy as np
import pytest
from helpers import M, batches, discriminator, game, generator

from tinygan import GENERATOR_COSTS, VARIANTS, Streams

ETA, MU, KEEP, EPSILON, RHO = 0.1, 0.5, 0.5, 1e-5, 0.9


def sigma(a):
    return 1 / (1 + np.exp(-a))


class Plain:
    """The small game of helpers.py. `norm`: with batch norm behind G's first layer and D's first layer."""

    def __init__(self, variant, cost, k, generator_steps, norm, dtype):
        self.variant, self.cost, self.k, self.generator_steps, self.norm = variant, cost, k, generator_steps, norm
        self.dtype = dtype
        names = {"G": "W1 b1 gamma beta W2 b2" if norm else "W1 b1 W2 b2", "D": "W1 b1 gamma beta W2 b2 W3 b3"}
        if not norm:
            names["D"] = "W1 b1 W2 b2 W3 b3"
        start = {"G": generator(normalised=norm).parameters(), "D": discriminator(normalised=norm).parameters()}
        self.theta = {p: dict(zip(names[p].split(), (a.copy() for a in start[p].values()), strict=True)) for p in "GD"}
        self.v = {p: {name: np.zeros_like(a) for name, a in self.theta[p].items()} for p in "GD"}
        self.mean = {"G": np.zeros(6), "D": np.zeros(5)}
        self.var = {"G": np.ones(6), "D": np.ones(5)}

    # ---- Draws

    def z(self, streams):
        u = streams["noise"].random((M, 3), dtype=self.dtype)
        return ((u * 2 - 1) * 3**0.5).astype(np.float64)

    def mask(self, streams, rows, n):
        size = rows * n
        words = streams["dropout"].integers(0, 2**64 - 1, size=(size + 3) // 4, dtype=np.uint64, endpoint=True)
        bits = np.frombuffer(words.tobytes(), np.uint16)[:size].reshape(rows, n)
        return np.where(bits < KEEP * 2**16, 1 / KEEP, 0.0)

    # ---- Networks: forward returns what backward needs

    @staticmethod
    def batch_norm(h, gamma, beta):
        mu, var = h.mean(axis=0), h.var(axis=0)
        h_hat = (h - mu) / np.sqrt(var + EPSILON)
        return gamma * h_hat + beta, (h_hat, mu, var)

    @staticmethod
    def batch_norm_back(dy, cache, gamma):
        h_hat, _, var = cache
        N = len(dy)
        dh = np.empty_like(dy)
        for j in range(dy.shape[1]):  # ∂ĥₙ/∂hₖ = ([n = k] − 1/N − ĥₙ ĥₖ/N)/√(σ² + ε)
            jacobian = (np.eye(N) - 1 / N - np.outer(h_hat[:, j], h_hat[:, j]) / N) / np.sqrt(var[j] + EPSILON)
            dh[:, j] = jacobian.T @ (dy[:, j] * gamma[j])
        return dh, (dy * h_hat).sum(axis=0), dy.sum(axis=0)

    def G(self, z):
        p, bn = self.theta["G"], None
        h = z @ p["W1"] + p["b1"]
        if self.norm:
            h, bn = self.batch_norm(h, p["gamma"], p["beta"])
        relu = np.where(h > 0, h, 0)
        x = sigma(relu @ p["W2"] + p["b2"])
        return x, (z, bn, relu, x)

    def G_back(self, dx, cache):
        z, bn, relu, x = cache
        p, da = self.theta["G"], dx * x * (1 - x)
        g = {"W2": relu.T @ da, "b2": da.sum(axis=0)}
        dh = (da @ p["W2"].T) * (relu > 0)
        if self.norm:
            dh, g["gamma"], g["beta"] = self.batch_norm_back(dh, bn, p["gamma"])
        return g | {"W1": z.T @ dh, "b1": dh.sum(axis=0)}

    @staticmethod
    def maxout(x, W, b, pieces):
        z = (x @ W + b).reshape(len(x), pieces, -1)
        return z.max(axis=1), z

    @staticmethod
    def maxout_back(dy, z, x, W):
        winner = z.argmax(axis=1)  # the first of the largest
        dz = np.zeros_like(z)
        for r, j in np.ndindex(dy.shape):
            dz[r, winner[r, j], j] = dy[r, j]
        dz = dz.reshape(len(x), -1)
        return x.T @ dz, dz.sum(axis=0), dz @ W.T

    def D(self, x, streams):
        p, rows, bn = self.theta["D"], len(x), None
        m1 = self.mask(streams, rows, 4)
        x1 = x * m1
        h1, z1 = self.maxout(x1, p["W1"], p["b1"], 3)
        if self.norm:
            h1, bn = self.batch_norm(h1, p["gamma"], p["beta"])
        m2 = self.mask(streams, rows, 5)
        x2 = h1 * m2
        h2, z2 = self.maxout(x2, p["W2"], p["b2"], 2)
        m3 = self.mask(streams, rows, 3)
        x3 = h2 * m3
        return x3 @ p["W3"] + p["b3"], (m1, x1, z1, bn, m2, x2, z2, m3, x3)

    def D_back(self, da, cache):
        """∂L/∂θ_d and ∂L/∂x."""
        m1, x1, z1, bn, m2, x2, z2, m3, x3 = cache
        p = self.theta["D"]
        g = {"W3": x3.T @ da, "b3": da.sum(axis=0)}
        g["W2"], g["b2"], dx2 = self.maxout_back((da @ p["W3"].T) * m3, z2, x2, p["W2"])
        dh1 = dx2 * m2
        if self.norm:
            dh1, g["gamma"], g["beta"] = self.batch_norm_back(dh1, bn, p["gamma"])
        g["W1"], g["b1"], dx1 = self.maxout_back(dh1, z1, x1, p["W1"])
        return g, dx1 * m1

    # ---- The two players

    def D_gradient(self, x, samples, streams):
        """J(D), ∇J(D), and for the simultaneous variant the logits of the samples and their way back to the samples."""
        factor = 1.0 if self.variant == "printed" else 0.5
        if self.norm:
            (a_real, real), (a_fake, fake) = self.D(x, streams), self.D(samples, streams)
            minibatches = [real[3], fake[3]]
        else:
            a, cache = self.D(np.concatenate([x, samples]), streams)
            a_real, a_fake = a[:M], a[M:]
            real, fake = ([part if part is None else part[rows] for part in cache] for rows in (slice(M), slice(M, None)))
            minibatches = []
        J = -factor * (np.log(sigma(a_real)).mean() + np.log(1 - sigma(a_fake)).mean())
        g_real, _ = self.D_back(-factor * (1 - sigma(a_real)) / M, real)
        g_fake, _ = self.D_back(factor * sigma(a_fake) / M, fake)
        return J, {name: g_real[name] + g_fake[name] for name in g_real}, minibatches, a_fake, fake

    def G_cost(self, a):
        D = sigma(a)
        return {
            "minimax": (np.log(1 - D).mean(), -D / M),
            "non_saturating": (-np.log(D).mean(), -(1 - D) / M),
            "maximum_likelihood": (-np.exp(a).mean(), -np.exp(a) / M),
        }[self.cost]

    def G_gradient(self, a, D_cache, G_cache):
        J, da = self.G_cost(a)
        _, dsamples = self.D_back(da, D_cache)
        return J, self.G_back(dsamples, G_cache)

    def update(self, player, g, minibatches):
        for name, gradient in g.items():
            self.v[player][name] = MU * self.v[player][name] - ETA * gradient
            self.theta[player][name] = self.theta[player][name] + self.v[player][name]
        for _, mu, var in minibatches:
            self.mean[player] = RHO * self.mean[player] + (1 - RHO) * mu
            self.var[player] = RHO * self.var[player] + (1 - RHO) * var

    def D_step(self, stock, streams):
        z, x = self.z(streams), next(stock).x.astype(np.float64)
        J, g, minibatches, *_ = self.D_gradient(x, self.G(z)[0], streams)
        self.update("D", g, minibatches)
        return J

    def G_step(self, streams):
        samples, G_cache = self.G(self.z(streams))
        J, g = self.G_gradient(*self.D(samples, streams), G_cache)
        self.update("G", g, [G_cache[1]] if self.norm else [])
        return J

    def both(self, stock, streams):
        z, x = self.z(streams), next(stock).x.astype(np.float64)
        samples, G_cache = self.G(z)
        J_D, D_g, minibatches, a_fake, fake = self.D_gradient(x, samples, streams)
        J_G, G_g = self.G_gradient(a_fake, fake, G_cache)
        self.update("D", D_g, minibatches)
        self.update("G", G_g, [G_cache[1]] if self.norm else [])
        return J_D, J_G

    def iteration(self, stock, streams):
        simultaneous = self.variant == "simultaneous"
        for _ in range(self.k - simultaneous):
            J_D = self.D_step(stock, streams)
        if simultaneous:
            J_D, J_G = self.both(stock, streams)
        for _ in range(self.generator_steps - simultaneous):
            J_G = self.G_step(streams)
        return J_D, J_G


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize(("k", "generator_steps", "n"), [(1, 1, 1), (2, 2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-5)])
@pytest.mark.parametrize("cost", GENERATOR_COSTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_after_n_iterations_theta_is_that_of_plain_formulas(variant, cost, dtype, tolerance, k, generator_steps, n, norm):
    """And so are the velocities, the running statistics, and the costs that the last iteration returned."""
    options = {"keep": KEEP, "normalised": norm, "generator_cost": cost, "k": k, "generator_steps": generator_steps}
    gan = game(variant, dtype=dtype, learning_rate=ETA, momentum=MU, **options)
    plain = Plain(variant, cost, k, generator_steps, norm, dtype)
    stock, plain_stock, streams, plain_streams = batches(dtype=dtype), batches(dtype=dtype), Streams(5, 1), Streams(5, 1)
    for _ in range(n):
        costs = gan.iteration(stock, streams)
        expected = plain.iteration(plain_stock, plain_streams)
    np.testing.assert_allclose(list(costs.values()), expected, rtol=tolerance, atol=tolerance)
    for name, (net, optimizer) in gan.players.items():
        in_order = [net.views(net.theta), net.views(optimizer.velocity)]
        for got, wanted in zip(in_order, [plain.theta[name], plain.v[name]], strict=True):
            for got_part, wanted_part in zip(got.values(), wanted.values(), strict=True):
                np.testing.assert_allclose(got_part, wanted_part, rtol=tolerance, atol=tolerance)
        if norm:
            statistics = np.concatenate([plain.mean[name], plain.var[name]])
            np.testing.assert_allclose(net.statistics, statistics, rtol=tolerance, atol=tolerance)
