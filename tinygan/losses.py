"""The paper's costs and their gradients, computed from the logit a of shape (m, 1): D(x) = σ(a). And three other costs.

    log D = −softplus(−a)        log(1 − D) = −softplus(a)        softplus(a) = log(1 + eᵃ)

These are exact at |a| = 100, without a clip or an epsilon. A clip would change the objective, and the gradient of a D that
is sure and wrong would be 0. Values are means over the minibatch, in nats except for the squared error, and gradients are
those of these means. Values are returned as 0-d arrays or scalars of the backend, so that nothing waits for a device.
"""

import numpy as np

from tinygan import checks
from tinygan.backend import Array, Scalar, get_array_module
from tinygan.errors import ArgumentError, DivergenceError

GENERATOR_COSTS = ("non_saturating", "minimax", "maximum_likelihood")


def softplus(a: Array) -> Array:
    """log(1 + eᵃ), exact for large a of either sign."""
    return get_array_module(a).logaddexp(a, 0)


def value_function(a_real: Array, a_fake: Array) -> Scalar:
    """V(D, G) = E_x[log D(x)] + E_z[log(1 − D(G(z)))]   (Eq. 1), in nats; −log 4 where D = ½ everywhere.

    a_real, a_fake  logits of D on data and on samples, (m, 1)
    """
    _require_logits(a_real, a_fake)
    return -softplus(-a_real).mean() - softplus(a_fake).mean()


def discriminator_loss(a_real: Array, a_fake: Array) -> tuple[Scalar, Array, Array]:
    """J(D) = −½ V(D, G): returns J(D), ∂J/∂a_real, ∂J/∂a_fake

    ∂J/∂a_real = −½ (1 − D(x))/m        ∂J/∂a_fake = ½ D(G(z))/m

    The released code has the ½. Algorithm 1 as printed ascends V, with twice this gradient.
    """
    _require_logits(a_real, a_fake)
    xp = get_array_module(a_real)
    minus_log_D = softplus(-a_real)
    minus_log_1_minus_D = softplus(a_fake)
    # softplus(a) = softplus(−a) + a, so 1 − D = exp(−softplus(a)) and D = exp(−softplus(−a)), both without cancellation
    da_real = xp.exp(-softplus(a_real)) * (-0.5 / len(a_real))
    da_fake = xp.exp(-softplus(-a_fake)) * (0.5 / len(a_fake))
    return 0.5 * (minus_log_D.mean() + minus_log_1_minus_D.mean()), da_real, da_fake


def generator_loss(a_fake: Array, kind: str = "non_saturating") -> tuple[Scalar, Array]:
    """The generator's cost on the logits of its samples: returns J(G), ∂J/∂a_fake. With D = σ(a):

    "minimax"              J =  mean log(1 − D)   ∂J/∂a = −D/m          Eq. 1; saturates where D rejects the sample
    "non_saturating"       J = −mean log D        ∂J/∂a = −(1 − D)/m    section 3: "maximize log D(G(z))"
    "maximum_likelihood"   J = −mean eᵃ           ∂J/∂a = −eᵃ/m         Goodfellow's tutorial (2016), σ⁻¹(D) = a; no ½

    Raises ArgumentError for an unknown kind, and DivergenceError if eᵃ is too large for the dtype (a > 88.7 in float32). On a
    device the infinite cost is returned instead, since looking at it would wait for the device.
    """
    _require_logits(a_fake)
    xp = get_array_module(a_fake)
    m = len(a_fake)
    if kind == "non_saturating":
        return softplus(-a_fake).mean(), xp.exp(-softplus(a_fake)) * (-1 / m)
    if kind == "minimax":
        return -softplus(a_fake).mean(), xp.exp(-softplus(-a_fake)) * (-1 / m)
    if kind == "maximum_likelihood":
        with np.errstate(over="ignore"):
            likelihood_ratio = xp.exp(a_fake)  # D/(1 − D), which is p_data/p_g where D is optimal
            loss = -likelihood_ratio.mean()
        if xp is np and not np.isfinite(loss):
            raise DivergenceError(f"maximum likelihood cost: e^a exceeds {a_fake.dtype}, the largest logit is {a_fake.max()}")
        return loss, likelihood_ratio * (-1 / m)
    raise ArgumentError(f"unknown generator cost {kind!r}: choose one of {', '.join(GENERATOR_COSTS)}")


def bernoulli_cross_entropy(a: Array, x: Array) -> tuple[Scalar, Array]:
    """L = −Σⱼ [xⱼ log σ(aⱼ) + (1 − xⱼ) log(1 − σ(aⱼ))], the mean over rows: returns L, ∂L/∂a = (σ(a) − x)/m

    In nats. For binary x this is −log p(x), the sum over the pixels; x may also be a probability, such as a grey level in
    [0, 1].

    a, x  logits and targets, both (m, d)
    """
    _require_alike(a, x)
    xp = get_array_module(a)
    loss = (softplus(a) - a * x).sum() / len(a)
    return loss, (xp.exp(-softplus(-a)) - x) / len(a)


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Scalar, Array]:
    """L = −log p_c, p = softmax(logits), c the label; the mean over rows: returns L, ∂L/∂logits = (p − onehot(c))/m

    In nats; log n where all of the n classes are equally likely. The largest logit of each row is subtracted before exp, so
    that nothing overflows.

    logits  (m, n)    labels  (m,), integers in 0 … n − 1
    Raises ArgumentError for other shapes, for labels that are not integers and, on the host, for labels out of range. On a
    device the range is not checked, since the check would wait for the device.
    """
    checks.array("logits (m, n)", logits, "(…)"), checks.array("labels (m,)", labels, "(…)", "iu")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(logits):
        found = f"{logits.shape}, {labels.shape} in {labels.dtype}"
        raise ArgumentError(f"logits (m, n) and m integer labels are needed, not {found}")
    xp = get_array_module(logits)
    m, n = logits.shape
    if xp is np and not (0 <= labels.min() and labels.max() < n):
        raise ArgumentError(f"labels go from {labels.min()} to {labels.max()}: {n} logits need 0 … {n - 1}")
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    onehot = labels[:, None] == xp.arange(n)
    loss = (xp.log(sums) - (shifted * onehot).sum(axis=1, keepdims=True)).mean()
    return loss, (exponentials / sums - onehot) / m


def squared_error(y: Array, target: Array) -> tuple[Scalar, Array]:
    """L = ‖y − t‖², the mean over rows: returns L, ∂L/∂y = 2(y − t)/m

    y, target  both (m, …)
    """
    _require_alike(y, target)
    difference = y - target
    return (difference * difference).sum() / len(y), difference * (2 / len(y))


def _require_alike(y: Array, target: Array) -> None:
    checks.array("outputs", y, "(m, …)"), checks.array("targets", target, "(m, …)")
    if y.shape != target.shape or y.ndim < 2 or not len(y):
        raise ArgumentError(f"outputs and targets must have one shape, (m, …) with m ≥ 1, not {y.shape} and {target.shape}")
    if y.dtype != target.dtype:
        raise ArgumentError(f"outputs are {y.dtype}, targets {target.dtype}: convert the targets")


def _require_logits(*logits: Array) -> None:
    for a in logits:
        if checks.array("logits", a, "(m, 1)").shape[1] != 1 or len(a) == 0 or a.dtype != logits[0].dtype:
            raise ArgumentError(f"logits must have shape (m, 1) with m ≥ 1 and one dtype, not {a.shape} in {a.dtype}")
