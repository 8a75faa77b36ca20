"""The Gaussian Parzen window log-likelihood: the paper's measure of a generator (section 5, Table 1).

    log p(x) = log (1/n) Σⱼ exp(−‖x − sⱼ‖² / 2σ²) − d log(σ √(2π))

in nats. Each of n samples s₁ … sₙ of the generator gets a Gaussian of width σ. The score is the mean of log p(x) over a test
set. σ is chosen on validation data, never on the test set. The samples may come from any framework, on either backend:

    result = evaluate(samples, validation[:1000], test)     # pixels in [0, 1], one row per image
    print(result)

The score has limits. These figures are from benchmarks/study/anchors.py (MNIST, the authors' protocol, nats):

- It depends on the number of samples. Real training images as samples score 114 with 1,000 of them, 241 with 10,000 and
  318 with 50,000. Compare scores of the same number of samples only.
- A higher score need not mean better samples. 10,000 k-means centroids of the training images, which are blurred, score
  335, more than all 50,000 images. Noise of 0.05 on each pixel of real images, hardly visible, costs 35.
- It does not notice memorising. A generator that only repeats 10,000 of its training images scores 241; the paper's has 225.
- Its standard error, 2.1, covers the choice of test images only; σ and the samples are held fixed. Five disjoint sets of
  10,000 training images score from 238.0 to 242.5.
- It sees one sample at a time. For 96 % of the test images the nearest of 10,000 samples makes more than 90 % of p(x), so
  the score is little more than the distance to that sample.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinygan import checks
from tinygan.backend import Array, get_array_module, to_device, to_host
from tinygan.errors import ArgumentError
from tinygan.ranks import Ranks

AUTHORS_SIGMAS: Any = np.logspace(-1, 0, 10)
"""The authors' ten bandwidths, from 0.1 to 1 in steps of 29 %."""

FINE_SIGMAS: Any = np.logspace(-1, 0, 46)
"""The same range in steps of 5 %. Every fifth value is one of the authors'."""

BLOCK = 1000  # rows, and samples, in a block of distances: 4 MB in float32, so that it stays in the cache
LARGEST = 1e15  # the largest pixel, σ and 1/σ: squares of larger numbers could be infinite in float32


class ParzenWarning(UserWarning):
    """The base of the three warnings below."""


class SigmaEdgeWarning(ParzenWarning):
    """The best σ is the smallest or the largest that was tried: a better one may lie beyond it."""


class RangeWarning(ParzenWarning):
    """Samples and data have different ranges, such as [−1, 1] and [0, 1]: their distances mean nothing."""


class FewSamplesWarning(ParzenWarning):
    """There are fewer than 1,000 samples: the score then depends more on their number than on the generator."""


class ParzenWindow:
    """log p(x) = log (1/n) Σⱼ exp(−‖x − sⱼ‖² / 2σ²) − d log(σ √(2π))

    Shapes     samples (n, d)    x (m, d)    log p (m,)
    Types      float32 or float64. Distances have the type of the samples; the result is float64.
    Raises     ArgumentError for σ that is not a positive number, NaN, an empty array, or rows of a different length

    The largest term of the sum is factored out before exp, so that nothing overflows and log p is finite. It follows
    that log p ≤ −d log(σ √(2π)), with equality only where every sample is x.
    The samples' mean is subtracted from x and s, because in float32 ‖x‖² + ‖s‖² − 2 x·s loses the digits that x and s share.
    The largest difference between float32 and float64 over MNIST's test images, at σ = 0.1, is 0.005 nat. Without this
    subtraction it is 0.011, and 757 if all pixels have an offset of 100.
    Memory: a copy of the samples, and a block of BLOCK × BLOCK distances.

    >>> window = ParzenWindow(sigma=0.2).fit(np.zeros((1, 784)))
    >>> round(float(window.score_samples(np.zeros((1, 784)))[0]), 2)
    541.35
    """

    def __init__(self, sigma: float):
        self.sigma = sigma
        self._blocks: list[Array] = []

    @property
    def sigma(self) -> float:
        """The width of the Gaussians, in the units of the pixels."""
        return self._sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self._sigma = _check_sigma(sigma)

    def fit(self, samples: Array) -> "ParzenWindow":
        """Take the samples (n, d) as the centres of the Gaussians, and copy them. Returns self."""
        samples, self._range = _check_pixels(samples, "samples")
        self._dtype = samples.dtype
        self._xp = get_array_module(samples)
        self.n_samples, self.n_dimensions = samples.shape
        self._centre = samples.mean(axis=0, dtype=np.float64).astype(samples.dtype)
        self._blocks = []
        for start in range(0, len(samples), BLOCK):
            rows, half_squares = self._centred(samples[start : start + BLOCK])
            self._blocks.append(self._xp.concatenate([rows, -half_squares], axis=1))
        return self

    def score_samples(self, x: Array) -> Array:
        """log p(x) of each row of x (m, d), in nats: (m,), float64, on x's device."""
        x, _ = self._check_rows(x, "x")
        return self._log_densities(x, [self.sigma])[0]

    def log_likelihood(self, x: Array) -> tuple[float, float]:
        """The mean of log p over the rows of x, in nats, and its standard error s/√m.

        s is the population standard deviation over the m rows, as in the authors' code. σ and the samples are held fixed:
        other samples of the same generator give a different mean.

        Warns      FewSamplesWarning, RangeWarning
        """
        result = self._mean_and_standard_error(x, "x")
        _warn_few_samples(self.n_samples)
        return result

    def _mean_and_standard_error(self, x: Array, name: str, ranks: Ranks | None = None) -> tuple[float, float]:
        x, x_range = self._check_rows(x, name)
        _warn_range(self._range, x_range)
        log_p = self._log_densities(x, [self.sigma], ranks)[0]
        return float(log_p.mean()), float(log_p.std()) / len(x) ** 0.5

    def _select_sigma(self, validation: Array, sigmas: Sequence[float], ranks: Ranks | None = None) -> tuple[float, Any]:
        widths = list(sigmas)
        validation, validation_range = self._check_rows(validation, "validation")
        _warn_range(self._range, validation_range)
        means = to_host(self._log_densities(validation, widths, ranks).mean(axis=1))
        best = widths[int(means.argmax())]
        if best in (min(widths), max(widths)):
            message = f"the best σ, {best:.4g}, is the smallest or the largest that was tried: try a wider range"
            warnings.warn(message, SigmaEdgeWarning, stacklevel=3)
        return best, means

    def _check_rows(self, x: Array, name: str) -> tuple[Array, tuple[float, float]]:
        """x and its range. Raises ArgumentError unless x can be compared with the samples."""
        if not self._blocks:
            raise ArgumentError("no samples yet: call fit(samples) first")
        x, x_range = _check_pixels(x, name)
        if x.shape[1] != self.n_dimensions:
            raise ArgumentError(f"{name}: {x.shape[1]} values in a row, but {self.n_dimensions} in a sample")
        if get_array_module(x) is not self._xp:
            raise ArgumentError(f"{name} and the samples are on different devices: move one with tinygan.to_device")
        return x, x_range

    def _centred(self, rows: Array) -> tuple[Array, Array]:
        """r − centre (m, d), and ½‖r − centre‖² (m, 1), which is summed in float64."""
        rows = rows.astype(self._dtype) - self._centre
        return rows, ((rows.astype(np.float64) ** 2).sum(axis=1) / 2).astype(self._dtype)[:, None]

    def _log_densities(self, x: Array, sigmas: Sequence[float], ranks: Ranks | None = None) -> Array:
        """log p(x) for every σ, from one pass over the distances: (len(sigmas), m), float64.

        Several ranks divide the blocks of rows, and the σ where there are fewer blocks than ranks. A block is the same on any
        number of ranks, and so are the digits. Raises BackendError unless all ranks have the same samples, rows and σ.
        """
        xp = self._xp
        if ranks is not None:
            samples = {f"samples (block {i})": block for i, block in enumerate(self._blocks)}
            ranks.require_same(samples | {"rows to score": x, "σ": repr([float(sigma) for sigma in sigmas])})
        # These buffers are used for every block: with new memory for each, the arithmetic takes 40 % longer.
        buffers = xp.empty((2, min(BLOCK, len(x)) * min(BLOCK, self.n_samples)), self._dtype)
        starts = range(0, len(x), BLOCK)
        groups = 1 if ranks is None else -(-ranks.size // len(starts))
        items = [(start, slice(i, None, groups)) for start in starts for i in range(groups)]

        def block(item: tuple[int, slice]) -> Array:
            start, some = item
            return self._log_densities_of_block(x[start : start + BLOCK], sigmas[some], buffers)

        log_p = xp.empty((len(sigmas), len(x)), np.float64)
        found = map(block, items) if ranks is None else ranks.map(lambda item: to_host(block(item)), items)
        for (start, some), densities in zip(items, found, strict=True):
            log_p[some, start : start + BLOCK] = to_device(densities, xp)
        return log_p

    def _log_densities_of_block(self, x: Array, sigmas: Sequence[float], buffers: Array) -> Array:
        # −½‖x − s‖² = u − ½‖x‖²; one matrix product computes u = x·s − ½‖s‖² = (x, 1)·(s, −½‖s‖²).
        # Σⱼ exp(uⱼ/σ²) = exp(top/σ²) Σⱼ exp((uⱼ − top)/σ²); top = maxⱼ uⱼ is that of the nearest sample, for every σ.
        xp = self._xp
        inverse_variances = [1 / sigma**2 for sigma in sigmas]
        rows, half_squares = self._centred(x)
        rows = xp.concatenate([rows, xp.ones_like(half_squares)], axis=1)
        top = xp.full(len(rows), -np.inf, self._dtype)
        sums = xp.zeros((len(sigmas), len(rows)), np.float64)
        for samples in self._blocks:
            shape = len(rows), len(samples)
            u, terms = (buffer[: math.prod(shape)].reshape(shape) for buffer in buffers)
            xp.matmul(rows, samples.T, out=u)
            new_top = xp.maximum(top, u.max(axis=1))
            u -= new_top[:, None]
            for k, inverse_variance in enumerate(inverse_variances):
                xp.multiply(u, inverse_variance, out=terms)
                # exp(−87) is nothing beside the largest term, 1; smaller numbers are subnormal, and exp is slow on them.
                xp.maximum(terms, -87, out=terms)
                xp.exp(terms, out=terms)
                sums[k] *= xp.exp((top - new_top) * inverse_variance)
                sums[k] += xp.einsum("ij->i", terms)  # half the time of terms.sum(axis=1)
            top = new_top
        nearest = top - half_squares[:, 0]  # −½ minⱼ ‖x − sⱼ‖²
        log_p = xp.empty(sums.shape, np.float64)
        for k, sigma in enumerate(sigmas):
            log_normaliser = math.log(self.n_samples) + self.n_dimensions * math.log(sigma * math.sqrt(2 * math.pi))
            log_p[k] = nearest / sigma**2 + xp.log(sums[k]) - log_normaliser
        return log_p


def select_sigma(samples: Array, validation: Array, sigmas: Sequence[float], ranks: Ranks | None = None) -> tuple[float, Any]:
    """The σ with the best mean log-likelihood of the validation data, and this mean for every σ.

    Shapes     samples (n, d)    validation (m, d)    sigmas (K,)    means (K,), float64, in nats, on the host
    Raises     ArgumentError, as ParzenWindow
    Warns      SigmaEdgeWarning, FewSamplesWarning, RangeWarning

    ranks      the processes that divide the work (ranks.world()): all call this. Different arrays are a BackendError

    The distances do not depend on σ, so they are computed once. The authors use AUTHORS_SIGMAS and the first 1,000
    validation images of MNIST.
    """
    sigmas = _widths(sigmas)
    window = ParzenWindow(sigma=1).fit(samples)
    _warn_few_samples(window.n_samples)
    return window._select_sigma(validation, sigmas, ranks)


@dataclass(frozen=True)
class ParzenResult:
    """A Parzen window log-likelihood, with all that must be stated for it to mean something."""

    log_likelihood: float
    standard_error: float
    sigma: float
    samples: int
    dimensions: int
    test_rows: int
    validation_rows: int
    sigmas: tuple[float, ...]
    validation_log_likelihoods: tuple[float, ...]

    def __str__(self) -> str:
        curve = (
            f"  {sigma:8.4f}  {value:14,.2f}" + ("  <- chosen" if sigma == self.sigma else "")
            for sigma, value in zip(self.sigmas, self.validation_log_likelihoods, strict=True)
        )
        return "\n".join(
            (
                f"log-likelihood  {self.log_likelihood:,.1f} ± {self.standard_error:.1f} nats"
                f"  (Gaussian Parzen window; mean ± standard error of {self.test_rows:,} test rows)",
                f"samples         {self.samples:,} of {self.dimensions:,} dimensions",
                f"σ               {self.sigma:.4g}, the best of {len(self.sigmas)} on {self.validation_rows:,} rows of"
                " validation data",
                "       σ  log-likelihood (nats, validation)",
                *curve,
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, numbers and lists of numbers only, for JSON."""
        return asdict(self)


def evaluate(
    samples: Array,
    validation: Array,
    test: Array,
    sigmas: Sequence[float] = AUTHORS_SIGMAS,
    ranks: Ranks | None = None,
) -> ParzenResult:
    """The whole protocol: the validation data choose σ, then the mean log-likelihood of the test data is computed, once.

    Shapes     samples (n, d)    validation (m_v, d)    test (m, d)    sigmas (K,)
    Raises     ArgumentError, as ParzenWindow
    Warns      SigmaEdgeWarning, FewSamplesWarning, RangeWarning
    ranks      as for select_sigma

    Source: section 5 of the paper, and the authors' code: 10,000 samples, the first 1,000 validation images of MNIST,
    AUTHORS_SIGMAS, the whole test set.
    """
    sigmas = _widths(sigmas)  # once: a generator would be empty afterwards
    window = ParzenWindow(sigma=1).fit(samples)
    window._check_rows(test, "test")  # before any time is spent
    _warn_few_samples(window.n_samples)
    window.sigma, means = window._select_sigma(validation, sigmas, ranks)
    mean, standard_error = window._mean_and_standard_error(test, "test", ranks)
    return ParzenResult(
        log_likelihood=mean,
        standard_error=standard_error,
        sigma=window.sigma,
        samples=window.n_samples,
        dimensions=window.n_dimensions,
        test_rows=len(test),
        validation_rows=len(validation),
        sigmas=tuple(sigmas),
        validation_log_likelihoods=tuple(means.tolist()),
    )


def _check_sigma(sigma: float) -> float:
    sigma = checks.real("sigma, the bandwidth,", sigma, "(0, inf)")
    if not 1 / LARGEST < sigma < LARGEST:
        raise ArgumentError(f"sigma is {sigma}: the bandwidth must be positive and finite, in the units of the pixels")
    return sigma


def _widths(sigmas: Any) -> list[float]:
    widths = [_check_sigma(sigma) for sigma in checks.items("sigmas", sigmas, "[0.1, 0.2]")]
    if not widths:
        raise ArgumentError("sigmas is empty: give at least one bandwidth")
    return widths


def _check_pixels(x: Array, name: str) -> tuple[Array, tuple[float, float]]:
    """x as an array (m, d), and its range. Raises ArgumentError unless x is finite floats."""
    checks.unmasked(name, x)
    if get_array_module(x) is np:
        x = _as_array(x, name)
    if x.dtype not in (np.float32, np.float64):
        raise ArgumentError(f"{name} is {x.dtype}: give float32 or float64 in the range of the data, such as images / 255")
    if x.ndim != 2 or x.size == 0:
        raise ArgumentError(f"{name} has the shape {x.shape}: give one row for each image, x.reshape(len(x), -1)")
    low, high = float(x.min()), float(x.max())
    if not (-LARGEST < low and high < LARGEST):  # NaN fails both
        raise ArgumentError(f"{name} has NaN or infinite values (range {low} to {high}): find what made them")
    return x, (low, high)


def _as_array(x: Any, name: str) -> Array:
    try:
        return np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise ArgumentError(f"{name}: the rows have different lengths: give one row of d values for each image") from error


def _warn_few_samples(n: int) -> None:
    if n < 1000:
        message = f"{n} samples: the log-likelihood grows with their number. Take 10,000, as the authors do"
        warnings.warn(message, FewSamplesWarning, stacklevel=3)


def _warn_range(samples: tuple[float, float], data: tuple[float, float]) -> None:
    # [0, 1] and [-1, 1] differ by half of the second's width. Blurred or noisy images differ by less from real ones.
    if max(abs(samples[0] - data[0]), abs(samples[1] - data[1])) > 0.45 * (data[1] - data[0]):
        message = (
            f"the samples lie in [{samples[0]:.3g}, {samples[1]:.3g}] but the data in [{data[0]:.3g}, {data[1]:.3g}]: "
            "are both on the same scale?"
        )
        warnings.warn(message, RangeWarning, stacklevel=4)
