"""examples/costs.py: the closed forms, the saturation and its contrary, and which divergence covers what."""

import json
import math
from pathlib import Path

import costs
import numpy as np
import pytest
from costs import CLOSED_FORMS, fit, get_ahead, half_way, jsd, kl, log_normal, reverse_kl
from PIL import Image
from scipy.integrate import quad
from scipy.stats import norm
from scripts import run_example, smoke

from tinygan import GENERATOR_COSTS, Linear, Network, ReLU, Uniform, generator_loss

pytestmark = pytest.mark.slow

FIGURES = Path(costs.__file__).parent / "figures"

# ---- Against the logit


@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_costs_and_gradients_are_their_closed_forms(kind):
    a = np.linspace(-12, 12, 97)
    _, cost, _, gradient = CLOSED_FORMS[kind]
    values, gradients = costs.curves(kind, a)
    np.testing.assert_allclose(values, cost(a), rtol=1e-9)
    np.testing.assert_allclose(gradients, gradient(a), rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "saturates"), [("minimax", True), ("non_saturating", False), ("maximum_likelihood", True)]
)
def test_where_D_rejects_the_sample_the_gradient_vanishes_or_does_not(kind, saturates):
    _, rejected = costs.curves(kind, np.array([-10.0]))
    assert (abs(rejected[0]) < 1e-4) == saturates
    _, accepted = costs.curves(kind, np.array([10.0]))  # and the contrary: where D takes it for data
    assert (abs(accepted[0]) < 1e-4) != saturates


@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_gradient_norms_are_those_of_a_numeric_gradient(kind):
    def net(n_out, seed):
        weight = Uniform(1.0)
        layers = [Linear(costs.NOISE.n, 5, weight=weight, bias=0.3), ReLU(), Linear(5, n_out, weight=weight)]
        return Network(layers, seed=seed, dtype=np.float64)

    G, D = net(2, 0), net(1, 1)
    z = np.random.default_rng(2).standard_normal((7, costs.NOISE.n))
    norm_of_backward = costs.gradient_norms(G, D, z)[kind]
    numeric, eps = np.empty_like(G.theta), 1e-6
    for i in range(len(G.theta)):
        ends = []
        for step in (eps, -2 * eps):
            G.theta[i] += step
            ends.append(float(generator_loss(D(G(z)), kind)[0]))
        G.theta[i] += eps
        numeric[i] = (ends[0] - ends[1]) / (2 * eps)
    assert norm_of_backward == pytest.approx(np.linalg.norm(numeric), rel=1e-6)


# ---- Live


@pytest.fixture(scope="module")
def ahead():
    return get_ahead(1, 400)


def test_as_D_gets_ahead_the_minimax_gradient_vanishes_and_the_non_saturating_does_not(ahead):
    assert ahead["D_G_z"][-1] < 0.05 < 0.4 < ahead["D_G_z"][0]
    assert ahead["minimax"][-1] < ahead["minimax"][0] / 3
    assert ahead["maximum_likelihood"][-1] < ahead["maximum_likelihood"][0] / 3
    assert ahead["non_saturating"][-1] > ahead["non_saturating"][0]


def test_where_D_cannot_get_ahead_nothing_saturates():
    level = get_ahead(1, 400, distance=0.0)
    assert level["D_G_z"][-1] == pytest.approx(0.5, abs=0.05)
    for minimax, non_saturating in zip(level["minimax"], level["non_saturating"], strict=True):
        assert minimax == pytest.approx(non_saturating, rel=0.3)


def test_the_further_D_is_ahead_the_longer_the_minimax_cost_takes_and_the_shorter_the_other(ahead):
    first, last = ahead["theta_d"][0], ahead["theta_d"][-1]
    times = {kind: [half_way(1, theta_d, kind, 200) for theta_d in (first, last)] for kind in costs.NAMES}
    assert times["minimax"][1] > 2 * times["non_saturating"][1]
    assert times["minimax"][0] < 1.5 * times["non_saturating"][0]  # the contrary: D is not ahead yet
    assert times["non_saturating"][1] < times["non_saturating"][0] / 2


def test_half_way_is_none_within_too_few_iterations(ahead):
    assert half_way(1, ahead["theta_d"][0], "non_saturating", 2) is None


# ---- Divergences


def test_divergences_are_their_integrals():
    p, q = norm(0, 1), norm(1, 2)
    log_p, log_q = log_normal(0, 1), log_normal(1, 2)
    assert kl(log_p, log_q) == pytest.approx(math.log(2) + 2 / 8 - 1 / 2, abs=1e-9)
    assert reverse_kl(log_p, log_q) == pytest.approx(-math.log(2) + (4 + 1) / 2 - 1 / 2, abs=1e-9)

    def integrand(x):
        m = (p.pdf(x) + q.pdf(x)) / 2
        return 0.5 * (p.pdf(x) * np.log(p.pdf(x) / m) + q.pdf(x) * np.log(q.pdf(x) / m))

    assert jsd(log_p, log_q) == pytest.approx(quad(integrand, -15, 15)[0], abs=1e-9)
    assert jsd(log_p, log_q) == pytest.approx(jsd(log_q, log_p), abs=1e-12)


@pytest.mark.parametrize("d", [0.5, 2.0, 6.0])
def test_likelihood_covers_both_modes_at_every_separation(d):
    mean, width, _ = fit(kl, d)
    assert mean == pytest.approx(0, abs=1e-3)
    assert width == pytest.approx(math.sqrt(1 + d * d), rel=1e-3)  # the moments of p


@pytest.mark.parametrize(
    ("divergence", "covers", "picks"), [(jsd, 3.5, 5.0), (reverse_kl, 2.5, 3.5)], ids=["JSD", "KL(q‖p)"]
)
def test_the_other_two_pick_one_mode_and_cover_both_where_these_are_close(divergence, covers, picks):
    assert fit(divergence, covers)[0] < 0.05
    mean, width, _ = fit(divergence, picks)
    assert mean == pytest.approx(picks, rel=0.01)
    assert width == pytest.approx(1, abs=0.05)


def test_what_is_left_when_one_of_two_distant_modes_is_picked():
    # p = ½ q + ½ (elsewhere): JSD = ½ [½ log ⅔ + ½ log 2] + ½ log 4/3, KL(q‖p) = log 2
    assert fit(jsd, 7.0)[2] == pytest.approx(0.25 * math.log(4 / 3) + 0.5 * math.log(4 / 3), abs=1e-4)
    assert fit(reverse_kl, 7.0)[2] == pytest.approx(math.log(2), abs=1e-4)


# ---- The programme


@pytest.mark.parametrize("name", ["costs.png", "costs_saturation.png", "costs_modes.png"])
def test_the_committed_pictures_are_small_and_whole(name):
    path = FIGURES / name
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        image.load()
        assert image.width > 600


FILES = {"costs.png", "costs_saturation.png", "costs_modes.png", "results.json"}


@pytest.mark.slow
def test_smoke(tmp_path):
    assert "contested" in smoke("costs.py", tmp_path)
    assert {path.name for path in (tmp_path / "runs").rglob("*.*")} == FILES


@pytest.mark.slow
def test_the_example_shows_what_it_says(tmp_path):
    assert "contested" in run_example("costs.py", "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for trace in results["ahead"]:
        assert trace["minimax"][-1] < trace["non_saturating"][-1] / 100
    for trace in results["level"]:
        assert trace["minimax"][-1] > trace["non_saturating"][-1] / 1.2
    times = results["iterations_to_half_way"]
    for minimax, other in zip(times["minimax"], times["non_saturating"], strict=True):
        assert minimax[-1] > 2 * other[-1]
