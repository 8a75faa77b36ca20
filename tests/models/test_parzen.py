"""The Parzen window evaluator against closed forms, scikit-learn, and the identities that any density obeys."""

import argparse
import doctest
import json
import math
import os
import tracemalloc
import warnings

import numpy as np
import pytest
from helpers import idx, refused
from strict_cupy import host

from tinygan import parzen, score
from tinygan.backend import pixels
from tinygan.datasets import load_mnist
from tinygan.errors import ArgumentError, DataError
from tinygan.parzen import (
    AUTHORS_SIGMAS,
    FINE_SIGMAS,
    FewSamplesWarning,
    ParzenWarning,
    ParzenWindow,
    RangeWarning,
    SigmaEdgeWarning,
    evaluate,
    select_sigma,
)

few_are_enough = pytest.mark.filterwarnings("ignore::tinygan.parzen.FewSamplesWarning")


def uniform(*shape, seed=0, xp=np, dtype=np.float64):
    return xp.asarray(np.random.default_rng(seed).random(shape).astype(dtype))


def definition(x, samples, sigma):
    """log p(x) as printed: no trick, float64, every difference written out. For few values that do not underflow."""
    kernels = np.exp(-((x[:, None] - samples) ** 2).sum(axis=2) / (2 * sigma**2))
    return np.log(kernels.mean(axis=1) / (sigma * np.sqrt(2 * np.pi)) ** x.shape[1])


# ---- The density


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_closed_form_for_one_centre(xp, dtype):
    """n = 1: the Gaussian itself, log p = −‖x − s‖²/2σ² − d log(σ √(2π))."""
    x, s, sigma = uniform(5, 30, dtype=dtype), uniform(1, 30, seed=1, dtype=dtype), 0.3
    log_p = ParzenWindow(sigma).fit(xp.asarray(s)).score_samples(xp.asarray(x))
    exact = -((x.astype(float) - s) ** 2).sum(axis=1) / (2 * sigma**2) - 30 * math.log(sigma * math.sqrt(2 * math.pi))
    assert log_p.dtype == np.float64
    np.testing.assert_allclose(host(log_p), exact, rtol=1e-12 if dtype == np.float64 else 1e-5)


def test_the_definition(xp):
    x, samples = uniform(20, 4), uniform(50, 4, seed=1)
    log_p = ParzenWindow(0.4).fit(xp.asarray(samples)).score_samples(xp.asarray(x))
    np.testing.assert_allclose(host(log_p), definition(x, samples, 0.4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.2154, 1.0])
def test_equals_scikit_learn(xp, monkeypatch, sigma):
    neighbors = pytest.importorskip("sklearn.neighbors")
    monkeypatch.setattr(parzen, "BLOCK", 37)  # many blocks, the last ones shorter
    x, samples = uniform(50, 100), uniform(120, 100, seed=1)
    log_p = ParzenWindow(sigma).fit(xp.asarray(samples)).score_samples(xp.asarray(x))
    # One leaf. With its default tree scikit-learn 1.9 loses hundreds of nats at these σ: differences of bounds cancel.
    oracle = neighbors.KernelDensity(bandwidth=sigma, leaf_size=len(samples)).fit(samples)
    expected = oracle.score_samples(x)
    np.testing.assert_allclose(host(log_p), expected, rtol=0, atol=1e-6)


def test_bound(xp):
    """log p ≤ −d log(σ √(2π)), 541.35 nats at σ = 0.2, d = 784; attained where every sample is x."""
    bound = -784 * math.log(0.2 * math.sqrt(2 * math.pi))
    assert round(bound, 2) == 541.35
    # Float32, and far from 0: rounding must not lift it over the bound.
    x = xp.asarray(np.full((3, 784), 0.1, np.float32) + uniform(1, 784).astype(np.float32) * 1000)
    log_p = host(ParzenWindow(0.2).fit(x[:1]).score_samples(x))
    np.testing.assert_allclose(log_p, bound, rtol=1e-12)
    assert (host(ParzenWindow(0.2).fit(uniform(90, 784, xp=xp)).score_samples(uniform(9, 784, seed=1, xp=xp))) < bound).all()


def test_a_density_integrates_to_one(xp):
    """In one dimension, by the trapezoidal rule."""
    x = xp.asarray(np.linspace(-3, 4, 4001)[:, None])
    p = np.exp(host(ParzenWindow(0.1).fit(uniform(30, 1, xp=xp)).score_samples(x)))
    assert p.sum() * (7 / 4000) == pytest.approx(1, abs=1e-9)


def test_identities(xp):
    """Order of the samples, copies of them, translation, scale: log p(ax; as, aσ) = log p(x; s, σ) − d log a."""
    x, samples, sigma = uniform(20, 50), uniform(60, 50, seed=1), 0.2

    def score(x, samples, sigma):
        return host(ParzenWindow(sigma).fit(xp.asarray(samples)).score_samples(xp.asarray(x)))

    expected = score(x, samples, sigma)
    for same in (
        score(x, samples[::-1], sigma),
        score(x, np.concatenate([samples, samples]), sigma),
        score(x + 1000, samples + 1000, sigma),
        score(x * 255, samples * 255, sigma * 255) + 50 * math.log(255),
        score(x[::-1], samples, sigma)[::-1],
        [score(x[i : i + 1], samples, sigma)[0] for i in range(20)],
    ):
        np.testing.assert_allclose(same, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_do_not_show(xp, monkeypatch, block):
    """Also where a later block holds the nearest sample, whose term then rescales the sum so far."""
    x, samples = uniform(10, 20), np.concatenate([uniform(23, 20, seed=1) + 3, uniform(20, 20, seed=2)])
    expected = definition(x, samples, 0.5)
    monkeypatch.setattr(parzen, "BLOCK", block)
    log_p = ParzenWindow(0.5).fit(xp.asarray(samples)).score_samples(xp.asarray(x))
    np.testing.assert_allclose(host(log_p), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_away_nothing_vanishes(xp, dtype):
    """Where exp(−‖x − s‖²/2σ²) is 0 in any float, log p is the nearest sample's term."""
    samples = xp.asarray(np.array([[0.0, 0.0], [4.0, 0.0]], dtype))
    log_p = ParzenWindow(0.01).fit(samples).score_samples(xp.asarray(np.array([[3.0, 0.0]], dtype)))
    expected = -1 / (2 * 0.01**2) - math.log(2) - 2 * math.log(0.01 * math.sqrt(2 * math.pi))
    assert host(log_p)[0] == pytest.approx(expected, rel=1e-6)


def test_float32_agrees_with_float64_on_digits():
    """To 0.01 nat in every row, at the smallest σ of the grid, where rounding weighs most."""
    data = load_mnist(download=False)
    samples, x = pixels(data.train.images[:4000]), pixels(data.test.images[:500])
    for offset in (0, 1):
        single = ParzenWindow(0.1).fit(samples + np.float32(offset)).score_samples(x + np.float32(offset))
        double = ParzenWindow(0.1).fit(samples.astype(float)).score_samples(x.astype(float))
        # The offset itself rounds the pixels, to 2⁻²⁴: that is not the evaluator's error, but it is this small too.
        np.testing.assert_allclose(single, double, rtol=0, atol=0.01)


def test_nothing_is_written_to_or_kept(xp):
    samples, x = uniform(40, 10, xp=xp), uniform(7, 10, seed=1, xp=xp)
    before = host(samples), host(x)
    window = ParzenWindow(0.3).fit(samples)
    expected = host(window.score_samples(x))
    assert (host(samples) == before[0]).all()
    assert (host(x) == before[1]).all()
    samples *= 0
    np.testing.assert_array_equal(host(window.score_samples(x)), expected)


def test_memory_is_bounded(monkeypatch):
    """All distances together would be 200 MB: no more than a copy of the samples and a few blocks is held."""
    monkeypatch.setattr(parzen, "BLOCK", 500)
    x, samples = uniform(5000, 20), uniform(5000, 20, seed=1)
    tracemalloc.start()
    try:
        ParzenWindow(0.3).fit(samples).score_samples(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < samples.nbytes + 4 * 500 * 500 * 8


@few_are_enough
def test_no_transfers_in_the_loop(strict_xp, transfers, monkeypatch):
    """What travels between host and device does not depend on the number of blocks: six ranges and two scalars a σ."""
    counts = []
    for block in (1000, 10):
        monkeypatch.setattr(parzen, "BLOCK", block)
        arrays = [uniform(100, 20, seed=seed, xp=strict_xp) for seed in range(3)]
        transfers.reset()
        evaluate(*arrays, sigmas=[0.1, 0.3, 1.0])
        counts.append((transfers.to_host, transfers.to_device))
    assert counts[0] == counts[1]
    assert counts[0][1] == 0


# ---- σ


def test_grids():
    np.testing.assert_allclose(AUTHORS_SIGMAS, 10 ** (-1 + np.arange(10) / 9))
    np.testing.assert_allclose(FINE_SIGMAS[::5], AUTHORS_SIGMAS)


def test_the_curve_is_the_mean_at_each_sigma(xp):
    samples, validation = uniform(1000, 10, xp=xp, dtype=np.float32), uniform(50, 10, seed=1, xp=xp, dtype=np.float32)
    sigma, means = select_sigma(samples, validation, AUTHORS_SIGMAS)
    assert isinstance(means, np.ndarray)
    expected = [ParzenWindow(s).fit(samples).log_likelihood(validation)[0] for s in AUTHORS_SIGMAS]
    np.testing.assert_allclose(means, expected, rtol=1e-12)
    assert sigma == AUTHORS_SIGMAS[np.argmax(expected)]
    # The order of the grid is the caller's.
    sigma_again, reversed_means = select_sigma(samples, validation, AUTHORS_SIGMAS[::-1])
    assert sigma_again == sigma
    np.testing.assert_allclose(reversed_means[::-1], means, rtol=1e-12)


@few_are_enough
def test_the_distances_are_computed_once(strict_xp, monkeypatch):
    products = []
    matmul = strict_xp.matmul
    monkeypatch.setattr(strict_xp, "matmul", lambda *args, **out: products.append(1) or matmul(*args, **out))
    monkeypatch.setattr(parzen, "BLOCK", 50)
    select_sigma(uniform(100, 50, xp=strict_xp), uniform(150, 50, seed=1, xp=strict_xp), AUTHORS_SIGMAS)
    assert len(products) == 2 * 3


def test_sigma_of_a_gaussian(xp):
    """With one sample, at 0, and data N(0, 0.3²) the likelihood is greatest at σ = 0.3."""
    validation = xp.asarray(np.random.default_rng(0).normal(0, 0.3, (2000, 50)))
    with pytest.warns(ParzenWarning):
        sigma, _ = select_sigma(xp.zeros((1, 50)), validation, np.linspace(0.1, 0.5, 41))
    assert sigma == pytest.approx(0.3, abs=1e-9)


# ---- The whole protocol


def test_log_likelihood_is_mean_and_standard_error(xp):
    window = ParzenWindow(0.3).fit(uniform(1000, 8, xp=xp))
    x = uniform(64, 8, seed=1, xp=xp)
    log_p = host(window.score_samples(x))
    mean, standard_error = window.log_likelihood(x)
    assert isinstance(mean, float)
    assert isinstance(standard_error, float)
    assert mean == pytest.approx(log_p.mean())
    assert standard_error == pytest.approx(np.sqrt(np.mean((log_p - log_p.mean()) ** 2)) / 8)  # population, n not n − 1


def test_evaluate_is_select_sigma_then_log_likelihood(xp):
    samples, validation, test = (uniform(n, 12, seed=n, xp=xp, dtype=np.float32) for n in (1000, 60, 90))
    result = evaluate(samples, validation, test)
    sigma, means = select_sigma(samples, validation, AUTHORS_SIGMAS)
    assert result.sigma == sigma
    assert result.validation_log_likelihoods == tuple(means)
    assert (result.log_likelihood, result.standard_error) == ParzenWindow(sigma).fit(samples).log_likelihood(test)
    assert (result.samples, result.dimensions, result.validation_rows, result.test_rows) == (1000, 12, 60, 90)
    stated = json.loads(json.dumps(result.as_dict()))
    assert stated["samples"] == 1000
    assert stated["sigmas"] == AUTHORS_SIGMAS.tolist()
    text = str(result)
    for fact in (
        "nats",
        "1,000 of 12 dimensions",
        f"{sigma:.4g}, the best of 10 on 60 rows of validation data",
        "90 test rows",
    ):
        assert fact in text
    assert f"{result.log_likelihood:,.1f} ± {result.standard_error:.1f} nats" in text
    assert sum("chosen" in line for line in text.splitlines()) == 1


def test_the_test_set_has_no_say_in_sigma():
    samples, validation = uniform(1000, 12), uniform(60, 12, seed=1)
    chosen = {evaluate(samples, validation, test).sigma for test in (uniform(60, 12, seed=2), uniform(60, 12) ** 4)}
    assert len(chosen) == 1


# ---- Warnings


def caught_by(function, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args)
    return [warning.category for warning in caught]


def test_warns_by_name(xp):
    samples, x = uniform(1000, 10, xp=xp), uniform(100, 10, seed=1, xp=xp)
    best = select_sigma(samples, x, AUTHORS_SIGMAS)[0]
    around = [best / 2, best, best * 2]
    assert caught_by(evaluate, samples, x, x, around) == []
    assert caught_by(evaluate, samples, x, x, around[1:]) == [SigmaEdgeWarning]
    assert caught_by(evaluate, samples, x, x, around[:2]) == [SigmaEdgeWarning]
    assert caught_by(evaluate, samples, x, x, [best]) == [SigmaEdgeWarning]  # fixed by hand
    assert caught_by(evaluate, samples[:999], x, x, around) == [FewSamplesWarning]
    assert caught_by(select_sigma, samples[:999], x, around) == [FewSamplesWarning]
    assert caught_by(ParzenWindow(best).fit(samples[:999]).log_likelihood, x) == [FewSamplesWarning]
    assert caught_by(ParzenWindow(best).fit(samples[:999]).score_samples, x) == []
    assert all(issubclass(c, ParzenWarning) for c in (SigmaEdgeWarning, FewSamplesWarning, RangeWarning))


@pytest.mark.parametrize(
    ("samples", "data", "warned"),
    [
        ((-1, 1), (0, 1), True),
        ((0, 1), (-1, 1), True),
        ((0, 1), (0, 255), True),
        ((0, 255), (0, 1), True),
        ((0, 1), (-0.42, 2.82), True),  # MNIST standardised by its mean and standard deviation
        ((0.02, 0.98), (0, 1), False),
        ((-0.4, 1.4), (0, 1), False),  # noise of 0.08 on the images
        ((0.1, 0.6), (0, 1), False),  # blurred
        ((-300, 310), (-290, 300), False),
    ],
)
def test_range_warning(samples, data, warned):
    def between(low, high, seed):
        x = uniform(1000, 10, seed=seed) * (high - low) + low
        x[0], x[1] = low, high
        return x

    samples, data = between(*samples, 0), between(*data, 1)
    expected = [RangeWarning] if warned else []
    assert caught_by(ParzenWindow(1.0).fit(samples).log_likelihood, data) == expected
    assert [c for c in caught_by(select_sigma, samples, data, [1.0, 2.0]) if c is RangeWarning] == expected


def test_range_warning_for_the_test_set_alone():
    samples, x = uniform(1000, 10), uniform(100, 10, seed=1)
    with pytest.warns(RangeWarning, match=r"samples lie in \[.*, 1\] but the data in \[.*, 255\]"):
        evaluate(samples, x, x * 255)


# ---- Refusals


@few_are_enough
@pytest.mark.parametrize("sigma", [0, -0.1, math.nan, math.inf, 1e-200, 1e200])
def test_refuses_sigma(sigma):
    with refused("sigma", sigma, "finite"):
        ParzenWindow(sigma)
    with pytest.raises(ArgumentError, match="sigma"):
        select_sigma(uniform(9, 2), uniform(9, 2), [0.1, sigma])


@few_are_enough
def test_refuses_an_empty_grid():
    with pytest.raises(ArgumentError, match="sigmas is empty"):
        select_sigma(uniform(9, 2), uniform(9, 2), [])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:0], "has the shape"),
        (lambda x: x[:, :0], "has the shape"),
        (lambda x: x[0], "has the shape"),
        (lambda x: x.reshape(6, 2, 2), r"reshape\(len\(x\), -1\)"),
        (lambda x: x.astype("uint8"), "is uint8"),
        (lambda x: x.astype("int64"), "is int64"),
        (lambda x: x.astype("float16"), "is float16"),
        (lambda x: x * math.nan, "NaN or infinite"),
        (lambda x: x + math.inf, "NaN or infinite"),
        (lambda x: x - math.inf, "NaN or infinite"),
        (lambda x: x * 1e200, "NaN or infinite"),
    ],
)
@few_are_enough
def test_refuses_arrays(xp, spoil, message):
    good = uniform(6, 4, xp=xp)
    bad = spoil(uniform(6, 4, xp=xp))
    with pytest.raises(ArgumentError, match=f"samples.*{message}"):
        ParzenWindow(0.2).fit(bad)
    with pytest.raises(ArgumentError, match=f"x.*{message}"):
        ParzenWindow(0.2).fit(good).score_samples(bad)
    with pytest.raises(ArgumentError, match=f"x.*{message}"):
        ParzenWindow(0.2).fit(good).log_likelihood(bad)
    with pytest.raises(ArgumentError, match=f"validation.*{message}"):
        select_sigma(good, bad, [0.1, 0.2, 0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SigmaEdgeWarning)
        with pytest.raises(ArgumentError, match=f"test.*{message}"):
            evaluate(good, good, bad)


def test_one_nan_is_found(xp):
    x = uniform(300, 40)
    x[217, 31] = math.nan
    with pytest.raises(ArgumentError, match="NaN"):
        ParzenWindow(0.2).fit(xp.asarray(x))


def test_refuses_another_dimension(xp):
    with pytest.raises(ArgumentError, match="x: 3 values in a row, but 4 in a sample"):
        ParzenWindow(0.2).fit(uniform(6, 4, xp=xp)).score_samples(uniform(6, 3, xp=xp))


def test_refuses_to_score_before_fit():
    for method in (ParzenWindow(0.2).score_samples, ParzenWindow(0.2).log_likelihood):
        with pytest.raises(ArgumentError, match="call fit"):
            method(uniform(6, 4))


def test_refuses_two_devices(strict_xp):
    with pytest.raises(ArgumentError, match="different devices"):
        ParzenWindow(0.2).fit(uniform(6, 4, xp=strict_xp)).score_samples(uniform(6, 4))
    with pytest.raises(ArgumentError, match="different devices"):
        ParzenWindow(0.2).fit(uniform(6, 4)).score_samples(uniform(6, 4, xp=strict_xp))


# ---- The command line


def run(*words):
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    return score.command(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def files(tmp_path):
    """Samples as floats in .npy, data as bytes in IDX and in .npy."""
    images = np.random.default_rng(0).integers(0, 256, (2100, 3, 4), dtype=np.uint8)
    np.save(tmp_path / "samples.npy", (images[:1000] / np.float32(255)).astype(np.float32))
    (tmp_path / "data-idx3-ubyte").write_bytes(idx(images[1000:]))
    np.save(tmp_path / "data.npy", images[1000:])
    return tmp_path, images.reshape(-1, 12) / 255


@pytest.mark.parametrize("name", ["data.npy", "data-idx3-ubyte"])
def test_command(files, name, capsys):
    folder, images = files
    assert run(folder / "samples.npy", "--validation", folder / name, "--test", folder / name) == 0
    expected = evaluate(*(x.astype(np.float32) for x in (images[:1000], images[1000:2000], images[1000:])))
    assert capsys.readouterr().out == f"{expected}\n"


def test_command_options(files, capsys):
    folder, images = files
    data = folder / "data.npy"
    assert run(folder / "samples.npy", "--validation", data, "--test", data, "--validation-rows", "7:19", "--fine") == 0
    expected = evaluate(*(x.astype(np.float32) for x in (images[:1000], images[1007:1019], images[1000:])), FINE_SIGMAS)
    assert capsys.readouterr().out == f"{expected}\n"
    with pytest.raises(SystemExit):
        run("a", "--validation", "b", "--test", "c", "--validation-rows", "9:3")
    assert "--validation-rows: 9:3 is no range of rows: give A:B" in capsys.readouterr().err


def test_command_prints_warnings(files, capsys):
    folder, images = files
    np.save(folder / "few.npy", images[:900])
    assert run(folder / "few.npy", "--validation", folder / "data.npy", "--test", folder / "data.npy") == 0
    assert capsys.readouterr().err.startswith("warning: 900 samples: ")
    np.save(folder / "wide.npy", images[:1000] * 2 - 1)
    run(folder / "wide.npy", "--validation", folder / "data.npy", "--test", folder / "data.npy")
    assert capsys.readouterr().err.count("are both on the same scale?") == 1


def test_command_refuses_validation_rows_past_the_end(files):
    folder, _ = files
    data = folder / "data.npy"
    with pytest.raises(DataError, match="data.npy has 1100 rows: --validation-rows 1000:1101 goes past its end"):
        run(folder / "samples.npy", "--validation", data, "--test", data, "--validation-rows", "1000:1101")


def sparse(path, shape, descr, size=None):
    """An .npy file whose header promises this; the data are `size` zeros, which take no room on the disk."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        promised = np.dtype(descr).itemsize * math.prod(shape)
        file.truncate(file.tell() + (min(promised, 10**12) if size is None else size))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "folder"),
        (lambda path: os.mkfifo(path), "pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: sparse(path, (400_000, 784), "<f4"), r"float32 of shape \(400000, 784\) needs 1254400000.*fewer rows"),
        (lambda path: sparse(path, (400_000, 784), "|u1", 313_600_000), r"uint8 .*needs 1254400000"),
        (lambda path: sparse(path, (10**30, 784), "<f4"), "at most 1073741824"),
        (lambda path: sparse(path, (10, 784), "<f4", 31_359), "31360 bytes.*31359 are there"),
        (lambda path: sparse(path, (10, 784), "<f4", 31_361), "31360 bytes.*31361 are there"),
        (lambda path: path.write_bytes(b""), "IDX"),
        (lambda path: path.write_bytes(b"PNG and so on"), "IDX"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "numpy.save"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x03\x00{'(" + bytes(64)), "numpy.save"),  # tokenize.TokenError
        (lambda path: np.save(path, np.array([{}, 1], object)), "allow_pickle=False"),
        (lambda path: np.save(path, np.arange(6).reshape(2, 3)), "int64 of shape"),
        (lambda path: np.save(path, np.arange(6.0)), r"of shape \(6,\)"),
        (lambda path: np.save(path, np.array(1.0)), r"of shape \(\)"),
    ],
)
def test_command_refuses_files(files, content, message):
    folder, _ = files
    content(folder / "bad.npy")
    with pytest.raises(DataError, match=f"bad.npy.*{message}"):
        run(folder / "samples.npy", "--validation", folder / "data.npy", "--test", folder / "bad.npy")


def test_command_refuses_truncated_file(files):
    folder, _ = files
    whole = (folder / "samples.npy").read_bytes()
    (folder / "samples.npy").write_bytes(whole[:-100])
    with pytest.raises(DataError, match="samples.npy"):
        run(folder / "samples.npy", "--validation", folder / "data.npy", "--test", folder / "data.npy")


def test_docstrings():
    assert doctest.testmod(parzen).failed == 0
