"""Sections 2 to 4 of the paper, executed: each statement of examples/theory.py by its name, beside an independent oracle.

A statement's checks are of two kinds, and both must hold: those that show it, and those in which the same code, under another
condition, shows the opposite. The last tests break the code and see that the statements notice.
"""

import functools
import json

import numpy as np
import pytest
import theory
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm
from scripts import smoke
from theory import DX, LOG_4, PAIRS, Mixture, X, criterion, descend, jsd, kl, normal, optimal_logit

from tinygan import Linear, Network, ReLU, Uniform, discriminator_loss, softplus

STEPS, BUDGET = 600, 300  # updates of D: fewer than in the example, and enough


def require(checks):
    """Every check holds, and the opposite was shown too."""
    assert {check.opposite for check in checks} == {False, True}
    failed = [str(check) for check in checks if not check.holds]
    if failed:
        pytest.fail("\n" + "\n".join(failed), pytrace=False)


def test_section_2_gradient_of_the_expectation():
    require(theory.noise_limit())


def test_equation_1_value_function():
    require(theory.equation_1_value_function())
    D_x, D_G_z = np.array([0.8, 0.6]), np.array([0.3, 0.1])
    V = theory.value_function(np.log(D_x / (1 - D_x))[:, None], np.log(D_G_z / (1 - D_G_z))[:, None])
    assert V == pytest.approx((np.log(0.8) + np.log(0.6)) / 2 + (np.log(0.7) + np.log(0.9)) / 2)


@pytest.mark.slow
def test_section_3_overfitting_of_a_finite_set():
    require(theory.finite_set_overfitting(budget=BUDGET))


def test_proposition_1_maximum():
    require(theory.proposition_1_maximum())


@pytest.mark.slow
def test_equation_2_optimal_discriminator():
    require(theory.equation_2_optimal_discriminator(steps=STEPS))


def test_the_optimal_logit_is_that_of_equation_2():
    p_data, p_g = norm.pdf(0.3, 0, 1), norm.pdf(0.3, 0, 2)
    D = 1 / (1 + np.exp(-optimal_logit(*PAIRS["wider"], np.array([0.3]))))
    assert D == pytest.approx(p_data / (p_data + p_g))


def test_equation_3_change_of_variables():
    require(theory.equation_3_change_of_variables())


@pytest.mark.parametrize("slope", [0.7, -2.0])
def test_generator_cdf_of_a_straight_generator_is_that_of_a_uniform_distribution(slope):
    G = Network([Linear(1, 1, weight=theory.Constant(slope), bias=0.5)], dtype=np.float64)
    x = np.linspace(-5, 5, 101)
    half = abs(slope) * theory.SUPPORT
    np.testing.assert_allclose(theory.generator_cdf(G, x), np.clip((x - 0.5 + half) / (2 * half), 0, 1), atol=1e-12)


def test_generator_cdf_of_a_folded_generator_is_the_share_of_samples_below():
    G = Network([Linear(1, 8, weight=Uniform(2)), ReLU(), Linear(8, 1, weight=Uniform(1))], seed=1, dtype=np.float64)
    z = np.random.default_rng(0).uniform(-theory.SUPPORT, theory.SUPPORT, (200_000, 1))
    samples, x = np.sort(G(z)[:, 0]), np.linspace(-2, 2, 41)
    assert (np.diff(G(np.sort(z, axis=0))[:, 0]) < 0).any(), "this G should fold"
    np.testing.assert_allclose(theory.generator_cdf(G, x), samples.searchsorted(x) / len(z), atol=4 * 0.5 / len(z) ** 0.5)


def test_section_4_conditional_log_likelihood():
    require(theory.conditional_log_likelihood())


@pytest.mark.slow
def test_equation_4_virtual_training_criterion():
    require(theory.equation_4_virtual_training_criterion(steps=STEPS))


def test_the_criterion_is_the_integral_of_equation_4():
    p, q = norm(0, 1).pdf, norm(1.5, 1).pdf
    integrand = (lambda x: p(x) * np.log(p(x) / (p(x) + q(x)))), (lambda x: q(x) * np.log(q(x) / (p(x) + q(x))))
    assert criterion(*PAIRS["shifted"]) == pytest.approx(sum(quad(f, -10, 10)[0] for f in integrand), abs=1e-7)


def test_equation_5_two_divergences():
    require(theory.equation_5_two_divergences())
    closed_form = np.log(2) + (1 + 0.5**2) / (2 * 2**2) - 0.5
    assert kl(normal(0.5), normal(0, 2)) == pytest.approx(closed_form, abs=1e-12)


def test_equation_6_jensen_shannon():
    require(theory.equation_6_jensen_shannon())
    for p, q in PAIRS.values():
        assert jsd(p, q) == pytest.approx(jensenshannon(p(X) * DX, q(X) * DX) ** 2, abs=1e-9)


@pytest.mark.slow
def test_theorem_1_global_minimum():
    require(theory.theorem_1_global_minimum(steps=STEPS))


def test_proposition_2_convexity():
    require(theory.proposition_2_convexity())


def test_proposition_2_subderivative():
    require(theory.proposition_2_subderivative())


def test_proposition_2_convergence():
    require(theory.proposition_2_convergence())


def test_proposition_2_descent_shrinks_as_its_docstring_says():
    """Near p_data each step multiplies the distance by 1 − rate/2: its square, and so the JSD, by (1 − rate/2)²."""
    jsd = theory.descend(60, rate=0.2)["jsd"]
    assert jsd[50] / jsd[49] == pytest.approx((1 - 0.2 / 2) ** 2, rel=0.01)


def test_maximum_likelihood_cost():
    require(theory.maximum_likelihood_cost())
    w, b = 1.6, 0.7  # KL(N(0, 1)‖N(b, w²)) = log w + (1 + b²)/(2 w²) − ½
    expected = [1 / w - (1 + b**2) / w**3, b / w**2]
    got = theory.generator_gradient("maximum_likelihood", normal(), np.array([w, b]))
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.slow
def test_two_sample_reading():
    require(theory.two_sample_reading(budget=BUDGET))


def test_mixture_is_a_density_with_its_own_samples_and_quantiles():
    p = Mixture((0.3, -2, 0.5), (0.7, 1, 1.2))
    assert p(X).sum() * DX == pytest.approx(1)
    np.testing.assert_allclose(np.diff(p.cdf(X)) / DX, (p(X)[1:] + p(X)[:-1]) / 2, atol=1e-4)
    samples, quantiles = p.sample(np.random.default_rng(0), 100_000), p.quantiles(1000)
    assert quantiles.mean() == pytest.approx(0.3 * -2 + 0.7, abs=2e-3)
    assert samples.mean() == pytest.approx(quantiles.mean(), abs=0.03)
    assert np.percentile(samples, [10, 50, 90]) == pytest.approx(np.percentile(quantiles, [10, 50, 90]), abs=0.05)


BROKEN = {
    "V without log(1 − D)": ("equation_1_value_function", "value_function", lambda a, b: -softplus(-a).mean()),
    "D ascends on data only": (
        "equation_2_optimal_discriminator",
        "discriminator_loss",
        lambda a, b: (0.0, discriminator_loss(a, b)[1], 0 * b),
    ),
    "D* = p_g/(p_data + p_g)": ("equation_4_virtual_training_criterion", "optimal_logit", lambda p, q, x: q.log(x) - p.log(x)),
    "p_g without 1/|G′|": ("equation_3_change_of_variables", "generator_cdf", lambda G, x: norm.cdf(x)),
    "JSD without the halves": ("equation_6_jensen_shannon", "jsd", lambda p, q: 2 * jsd(p, q)),
    "KL the other way round": ("maximum_likelihood_cost", "kl", lambda p, q: kl(q, p)),
    "C without the ‖p_g‖ term": ("theorem_1_global_minimum", "criterion", lambda p, q: -LOG_4 + kl(p, q) - kl(q, p)),
    "U with log D for log(1 − D)": (
        "proposition_2_subderivative",
        "discrete_value",
        lambda p_data, p_g, a: float(-p_data @ softplus(-a) - p_g @ softplus(-a)),
    ),
    "p_g climbs": ("proposition_2_convergence", "descend", lambda steps, rate=0.2, **how: descend(steps, -rate, **how)),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_code_is_seen(fault, monkeypatch):
    statement, name, broken = BROKEN[fault]
    monkeypatch.setattr(theory, name, broken)
    if name == "discriminator_loss":  # no other fault changes what a D learns: they do with those that were trained before
        monkeypatch.setattr(theory, "trained_discriminators", functools.cache(theory.trained_discriminators.__wrapped__))
    trains = "steps" in getattr(theory, statement).__code__.co_varnames and statement != "proposition_2_convergence"
    steps = {"steps": STEPS} if trains else {}  # as in the statement's own test, in which the unbroken code holds
    assert not all(check.holds for check in getattr(theory, statement)(**steps))


def test_a_check_that_fails_says_so():
    check = theory.Check("two and two", 5, "=", 4, 0.5)
    assert not check.holds
    assert str(check).endswith("FAILS")
    assert theory.Check("two and two", 4, "=", 4).holds
    assert theory.opposite("two and two", 5, ">", 4).holds


@pytest.mark.slow
def test_the_program_prints_every_statement_and_draws(tmp_path):
    printed = smoke("theory.py", tmp_path)
    assert "0 fail" in printed
    (path,) = (tmp_path / "runs").rglob("results.json")
    results = json.loads(path.read_text(encoding="utf-8"))
    statements = [name for name in dir(theory) if f"\n{name}:" in printed]
    assert sorted(results["checks"]) == statements
    assert len(statements) == 16
    for name in ("equation2", "theorem1", "proposition2", "held_out"):
        assert path.with_name(f"theory_{name}.png").stat().st_size < 150_000
