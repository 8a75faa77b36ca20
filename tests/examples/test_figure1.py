"""examples/figure1.py: the run is what its panels say, and its measures are those of others. The whole run is slow."""

import json

import figure1
import numpy as np
import pytest
import theory
from PIL import Image
from scipy.stats import norm, wasserstein_distance
from scripts import run_example
from strict_cupy import host

from tinygan import GAN, Linear, Network

pytestmark = pytest.mark.slow


class Bar:
    def update(self, n=1):
        pass


def game(xp=np, seed=0, iterations=20, inner_loop=30):
    panels, _ = figure1.play(seed, iterations, inner_loop, xp, Bar())
    return panels


def test_between_a_and_b_only_d_moves_and_between_b_and_c_only_g(xp):
    a, b, c, d = game(xp)
    np.testing.assert_array_equal(host(a.theta_g), host(b.theta_g), "θ_g moved while D learned")
    assert (a.D != b.D).any()
    assert (host(b.theta_g) != host(c.theta_g)).any()
    np.testing.assert_array_equal(b.D, c.D, "D moved while G stepped")
    assert (c.D != d.D).any()


@pytest.mark.slow
def test_a_run_is_determined_by_its_seed():
    first, again, other = (game(seed=seed)[-1] for seed in (3, 3, 4))
    assert (first.theta_g == again.theta_g).all()
    assert (first.D == again.D).all()
    assert (first.theta_g != other.theta_g).any()


def test_d_leads_g_towards_the_data_and_away_from_them_when_g_climbs(monkeypatch):
    class Climbing(GAN):
        def generator_step(self, z, rng):
            before = self.G.theta.copy()
            cost = super().generator_step(z, rng)
            self.G.theta = 2 * before - self.G.theta
            return cost

    monkeypatch.setattr(figure1, "NEAR", 10)  # (a) is the start
    _, b, c, _ = game(inner_loop=500, iterations=1)
    assert c.wasserstein < b.wasserstein
    monkeypatch.setattr(figure1, "GAN", Climbing)
    _, b, c, _ = game(inner_loop=500, iterations=1)
    assert c.wasserstein > b.wasserstein


def test_d_star_of_a_moment_is_equation_2():
    G = figure1.build_generator(0, np)
    moment = figure1.look(G, figure1.build_discriminator(0, np), "")
    z = np.random.default_rng(0).uniform(-theory.SUPPORT, theory.SUPPORT, 400_000)
    samples = figure1.evaluate(G, z)
    p_g = ((samples > -1.5) & (samples < -1.4)).mean() / 0.1
    at = np.searchsorted(figure1.CENTRES, -1.45)
    assert moment.D_star[at] == pytest.approx(norm.pdf(-1.45) / (norm.pdf(-1.45) + p_g), abs=0.01)
    assert moment.p_g.sum() * figure1.WIDTH == pytest.approx(1)


@pytest.mark.slow
def test_a_fresh_d_finds_d_star_of_the_first_g_and_nothing_where_g_is_exact(monkeypatch):
    moment = figure1.look(figure1.build_generator(0, np), figure1.build_discriminator(0, np), "")
    fresh = figure1.fresh_discriminator(moment, 300)
    lives = abs(figure1.CENTRES + 2) < 1  # away from the ends of p_g, where D* jumps
    assert abs(fresh - moment.D_star)[lives].max() < 0.1
    assert abs(fresh - 0.5)[lives].max() > 0.3

    def quantiles(network, x):
        if len(x) == 1000:  # z: G(z) as it would be with p_g = p_data
            return figure1.P_DATA.quantiles(1000)
        return evaluate(network, x)

    evaluate = figure1.evaluate
    monkeypatch.setattr(figure1, "evaluate", quantiles)
    assert abs(figure1.fresh_discriminator(moment, 300) - 0.5)[lives].max() < 1e-3


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 500), rng.normal(0.3, 2, 500)
    assert figure1.two_sample_distances(a, b)[0] == pytest.approx(wasserstein_distance(a, b))
    G = Network([Linear(1, 1, weight=figure1.Constant(0.9), bias=0.4)], dtype=np.float64)
    z = theory.SUPPORT * (2 * theory.midpoints(20_000) - 1)
    exact = wasserstein_distance(G(z[:, None])[:, 0], figure1.P_DATA.quantiles(20_000))
    assert figure1.wasserstein(theory.generator_cdf(G, figure1.EDGES)) == pytest.approx(exact, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figure_1_as_the_paper_tells_it(tmp_path, seed):
    run_example("figure1.py", "--seed", seed, "--out", tmp_path)
    checks = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["checks"]
    assert len(checks) == 13
    assert all(check["holds"] for check in checks)
    for name in ("figure1.png", "figure1_fresh.png", "figure1.gif"):
        assert (tmp_path / name).stat().st_size < 150_000
    with Image.open(tmp_path / "figure1.gif") as film:
        assert film.n_frames > 20
