"""The stand-in for CuPy refuses what CuPy refuses, accepts what it accepts, and counts every copy."""

import copy
import inspect
import re

import numpy as np
import pytest
import strict_cupy
from strict_cupy import CUDARuntimeError, cupy, host, no_gpu, no_transfers

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
A = np.ones((2, 3), np.float32)
NAMES = {"A": A, "X": X, "np": np, "copy": copy, "inspect": inspect}


@pytest.fixture
def x(strict_xp):
    """X on the device, the counter at 0."""
    made = cupy.asarray(X)
    strict_cupy.transfers.reset()
    return made


def cases(text):
    return [case.strip() for case in re.split(r"[;\n]", text) if case.strip()]


def evaluate(expression, x):
    """An expression in x (X on the device) and cp (the stand-in)."""
    return eval(expression, {**NAMES, "x": x, "cp": cupy})


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    cases("""
    x + A; A + x; x * A; A * x; A.T @ x; x @ A.T; x < A; A == x; x ** A; x + np.array(1.0); np.array(1.0) * x
    x + [1, 2, 3]; [1.0] * x; x == [1, 2, 3]; x != "a"; (1, 2, 3) - x; x.__iadd__(A); x.__imul__([1, 2, 3])
    A.__iadd__(x); np.add(x, 1, out=A); cp.add(x, A); cp.add(x, 1, A); cp.exp(A); cp.exp([1.0]); cp.add(x, [1, 2, 3])
    cp.maximum(x, 0, out=A); cp.sqrt(A); cp.sum(A); cp.zeros_like(A); cp.add(x, 1j, x); cp.matmul(x, A.T)
    cp.matmul(x, x.T, out=np.ones((2, 2))); cp.matmul(x, x.T, x); cp.dot(x, A.T); x.dot(A.T); cp.where(A > 0, x, 0)
    cp.where(x > 0, x, A); cp.where([True], x, 0); cp.clip(x, [0, 0, 0], 1)
    cp.outer(x, [1, 2]); cp.searchsorted(x[0], [1]); cp.clip(x, A, 1); cp.copyto(x, A); cp.concatenate([x, A])
    cp.stack([A, x]); np.concatenate([x, A]); cp.full((2, 3), A); cp.sum(x, axis=0, out=np.ones(3))
    x.mean(out=np.array(0.0)); x.get(out=np.empty((2, 3))); x.set([[1, 2, 3]]); np.asarray(x); np.array([x[0, 0]])
    np.array([1.0, x.sum()]); cp.array([x[0, 0], 1.0]); A.__setitem__(0, x[0])
    np.testing.assert_allclose(x, X); np.median(x); np.save("never", x); range(x[1, 2]); [1, 2, 3][cp.arange(3)[1]]
    x[: x[1, 2]]; hash(x); iter(x.sum()); len(x.sum()); cp.exp(x, where=x > 0); np.exp(x, where=True)
    cp.sum(x, where=x > 0); x.sum(initial=0); cp.max(x, initial=0); cp.mean(x, where=True)
    x.astype(int, casting="safe"); cp.exp(x, x, x); cp.maximum(x); x.sum(0, None, None, False, 1)
    cp.random.default_rng(0).random(3, dtype=np.float32, out=cp.empty(3))
    cp.random.default_rng(0).standard_normal(3, dtype=np.float16)
    """),
)
def test_refused_with_a_type_error(x, expression):
    with pytest.raises(TypeError):
        evaluate(expression, x)
    np.testing.assert_array_equal(host(x), X)
    np.testing.assert_array_equal(A, np.ones((2, 3)))


@pytest.mark.parametrize(
    "expression",
    cases("""
    bool(x); not x > 0; x.item(); x.fill(A); x.__setitem__(slice(None), A); x.__setitem__(0, [1, 2, 3])
    cp.asarray([None]); x.sum(axis=0, out=cp.empty(2, np.float32)); x.set(A.T); cp.dot(x, x.T, out=cp.empty((2, 2)))
    cp.dot(x, x.T, out=cp.empty((2, 2), np.float32, "F")); cp.random.default_rng(0).random(3, out=cp.empty(4))
    cp.random.default_rng(0).integers(3, 3); inspect.signature(cp.exp)
    """),
)
def test_refused_with_a_value_error(x, expression):
    with pytest.raises(ValueError, match="."):
        evaluate(expression, x)
    np.testing.assert_array_equal(host(x), X)


@pytest.mark.parametrize(
    ("owner", "name"),
    [case.rsplit(".", 1) for case in cases("""
    cp.vecdot; cp.errstate; cp.block; cp.spacing; cp.softplus; cp.linalg.vector_norm; cp.linalg.multi_dot
    cp.random.SFC64; cp.random.default_rng(0).permutation; cp.random.default_rng(0).normal
    cp.random.default_rng(0).shuffle; x.__index__; x.__imatmul__; x.__array_interface__; x.setflags; x.ctypes
    x.flags.writeable; cp.exp.signature
    """)],
)  # fmt: skip
def test_what_cupy_lacks_is_refused_by_name(x, owner, name):
    with pytest.raises(AttributeError, match=name):
        evaluate(f"{owner}.{name}", x)
    path = {"x": "cupy.ndarray", "cp.random.default_rng(0)": "cupy.random.Generator", "x.flags": "cupy.ndarray.flags"}
    path["cp.exp"] = "cupy.ufunc"
    assert f"{path.get(owner, owner.replace('cp', 'cupy'))}.{name}" not in strict_cupy.TABLE["names"]


@pytest.mark.parametrize("attribute", ["shape", "dtype", "mine"])
def test_attributes_cannot_be_set(x, attribute):
    with pytest.raises(AttributeError):
        setattr(x, attribute, None)


def test_an_integer_index_out_of_bounds_raises_where_cupy_wraps_around(x):
    with pytest.raises(IndexError):
        x[cupy.asarray([5])]


def test_a_product_that_overwrites_its_own_operand_is_refused(strict_xp):
    memory = cupy.ones((4, 4))
    square = memory[:2].reshape(-1)[:4].reshape(2, 2)
    for function in (cupy.matmul, cupy.dot):
        with pytest.raises(ValueError, match="overlaps"):
            function(square, cupy.ones((2, 2)), out=square)
        function(square, cupy.ones((2, 2)), out=memory[2:].reshape(-1)[:4].reshape(2, 2))
    # Here CuPy goes through a temporary array: the layout or the dtype of `out` demands it.
    cupy.matmul(memory[:2, :2], memory[:2, :2], out=memory[:2, 2:])
    assert host(memory)[:2, 2:].tolist() == [[2, 2], [2, 2]]


# Accepted -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    cases("""
    x + x; x - 1; 2 * x; x / 3; 1 / (x + 5); x // 2; x % 2; x ** 2; 2 ** x; x ** 1.5; -x; +x; abs(x); ~(x > 0)
    x @ x.T; x < 1; x >= x; x == x; x != 0; (x > 0) & (x < 2); (x > 0) | (x < -1); (x > 0) ^ (x > 1); 3 - x
    x.sum() * x; np.float32(2) * x; x * np.float32(2); np.float64(2) * x; x * np.float64(2); x + np.int64(1); x * True
    x - (x > 0); x[:, :1] == cp.arange(3); 1 / cp.sqrt(x * x + 1e-5)
    x * (x > 0); x.sum() + 1.0; x.mean() * np.float64(1); cp.exp(1.0); x.astype(np.float64) + x
    x.astype(np.uint8) + 1; np.add(x, x); np.exp(x); np.maximum(x, 0); np.sum(x, axis=0); np.where(x > 0, x, 0)
    np.concatenate([x, x]); np.add.reduce(x); np.zeros_like(x); np.linalg.norm(x, axis=1); cp.exp(x)
    cp.log1p(cp.abs(x)); cp.expm1(-cp.abs(x)); cp.logaddexp(0, x); cp.tanh(x); cp.sqrt(abs(x)); cp.isfinite(x)
    cp.maximum(x, 0); cp.multiply(x > 0, 1.25, dtype=x.dtype); cp.add(x, 1, dtype=np.float64); cp.add(x, 1, x.copy())
    cp.multiply(x, x, out=cp.empty((2, 3))); cp.where(x > 0, x, 0.0); cp.where(x > 0, 1, x); cp.clip(x, 0, None)
    x.clip(0, 1); cp.clip(x, x.min(), 1); cp.matmul(x, x.T); cp.matmul(x.T, x, out=cp.empty((3, 3), np.float32))
    cp.dot(x, x.T); x.dot(x[0]); cp.matmul(x, x.T, out=cp.empty((2, 2), np.float32, "F")); cp.matmul(x[None], x.T)
    cp.where(x > 0, x, 0.2 * x); cp.maximum(x, 0.2 * x); cp.minimum(cp.sqrt(abs(x)), 1.5); cp.log(abs(x) + 1)
    x.sum(axis=(0, 1)); x.reshape(1, 2, 3).mean(axis=(0, 1)); x.max(axis=1, keepdims=True); cp.stack([x.sum(), x.max()])
    cp.isfinite(x).all(); cp.isfinite(x[:0]).all()
    x.sum(); x.sum(axis=0); x.sum(1, keepdims=True); cp.sum(x, axis=0, out=cp.empty(3, np.float32))
    x.sum(dtype=np.float64); x.mean(axis=1); x.max(); x.min(axis=0); x.var(axis=0); x.std(ddof=1); x.prod()
    (x > 0).all(); (x > 0).any(axis=1); x.argmax(axis=1); cp.argmin(x, axis=0); x.cumsum(axis=1); (x > 0).sum()
    x.round(1); cp.count_nonzero(x, axis=0); x.T; x.reshape(3, 2); x.reshape((-1, 2)); x.reshape(6, order="F")
    x.ravel(); x.flatten(); x.transpose(1, 0); x.mT; x.view(np.uint32); x.copy(); x.astype(np.float16); copy.copy(x)
    copy.deepcopy(x); x.squeeze(); x[None].squeeze(0); x[0]; x[1, 2]; x[-1]; x[:, ::2]; x[..., None]; x[None]; x[()]
    x[0][1]; x[cp.arange(2)]; x[:, cp.arange(3) - 1]; x[cp.arange(2), cp.arange(2)]; x.swapaxes(0, 1)
    cp.moveaxis(x, 0, 1); cp.transpose(x, (1, 0)); cp.expand_dims(x, 0); cp.concatenate([x, x], axis=1)
    cp.stack([x, x]); cp.vstack((x, x)); cp.hstack([x, x]); cp.tile(x, 2); x.repeat(2, axis=0)
    cp.broadcast_to(x[0], (4, 3)); cp.reshape(x, (3, 2)); cp.pad(x, 1); cp.roll(x, 1); cp.flip(x)
    cp.take(x, cp.arange(2), 1); cp.split(x, 3, axis=1)[1]; cp.diag(x); cp.tril(x); cp.outer(x[0], x[1])
    cp.einsum("ij,kj->ik", x, x); cp.tensordot(x, x.T, 1); cp.sort(x, axis=0); x.argsort(axis=1)
    cp.take_along_axis(x, cp.argsort(x), -1); cp.searchsorted(x[0], x[1]); cp.zeros(3); cp.zeros((2, 3), np.float32)
    cp.ones(3, dtype=bool); cp.full((2,), 1.5, dtype=x.dtype); cp.full(2, 3); cp.full_like(x, 2)
    cp.ones_like(x, dtype=int); cp.arange(5); cp.arange(1, 7, 2, dtype=np.float32); cp.linspace(0, 1, 5); cp.eye(3)
    cp.asarray(x); cp.array(x, dtype=np.float64); cp.array([x, x]); cp.array(1.5); cp.asarray(2, dtype=np.float32)
    cp.linalg.norm(x); cp.linalg.norm(x, axis=0, keepdims=True); cp.isclose(x, x)
    cp.lib.stride_tricks.sliding_window_view(x, (1, 2))
    """),
)
def test_accepted_with_numpys_values_and_dtypes_and_no_copy(x, expression):
    with np.errstate(all="ignore"):
        expected = eval(expression, {**NAMES, "x": X.copy(), "cp": np})
    with no_transfers():
        result = evaluate(expression, x)
    assert type(result) is cupy.ndarray
    assert result.dtype == expected.dtype
    assert result.shape == np.shape(expected)
    np.testing.assert_array_equal(host(result), expected)
    np.testing.assert_array_equal(host(x), X)


@pytest.mark.parametrize(
    "statement",
    cases("""
    x += 1; x -= x; x *= 2.5; x /= 2; x **= 2; x[0] = 7; x[:, 1] = x[:, 0]; x[1, 2] = x[0, 0]; x[...] = x[::-1].copy()
    x[0] += 1; x[:, cp.arange(2)] = 0; x[cp.arange(2)] = x[0]; x.fill(3); x.fill(x.max()); x.sort(axis=0)
    cp.copyto(x, 1.0); cp.copyto(x, x[0]); cp.copyto(x, 9, where=x > 0); cp.add.at(x, cp.arange(2), 1.0); x[()] = 2.0
    x[0] = np.float32(4)
    """),
)
def test_written_in_place_as_numpy_does_and_without_a_copy(x, statement):
    expected = {**NAMES, "x": X.copy(), "cp": np}
    exec(statement, expected)
    result = {**NAMES, "x": x, "cp": cupy}
    with no_transfers():
        exec(statement, result)
    assert result["x"].dtype == np.float32
    np.testing.assert_array_equal(host(result["x"]), expected["x"])


def test_promotion_is_numpy_2s(x):
    for float32 in (x * 2.5, x * 2, 2.5 * x, x * np.float32(2), x.sum() * 2.5, x * x.mean(), cupy.where(x > 0, x, 0.0)):
        assert float32.dtype == np.float32
    for float64 in (x * np.float64(2.5), np.float64(2.5) * x, x * cupy.asarray(2.5), x.sum() * np.float64(1)):
        assert float64.dtype == np.float64
    with pytest.raises(TypeError):
        x += 1j
    with pytest.raises(OverflowError):
        x.astype(np.uint8) + 300


def test_reductions_and_single_elements_are_0_d_arrays(x):
    norm = cupy.linalg.norm(x)
    for scalar in (x.sum(), x.mean(), x.max(), x.argmax(), (x > 0).any(), norm, x[0, 0], x[0][1], x[0] @ x[0]):
        assert type(scalar) is cupy.ndarray
        assert scalar.shape == ()


def test_a_single_element_is_a_view(x):
    corner = x[0, 0]
    x[0, 0] = 5
    assert float(corner) == 5


def test_what_is_a_view_in_numpy_is_a_view(x):
    for view in (x.T, x[0], x.reshape(3, 2), x.ravel(), x[:, 1:], x.view(np.uint32), cupy.broadcast_to(x[0], (2, 3))):
        assert cupy.shares_memory(view, x)
        assert view.base is not None
    for other in (x.copy(), x + 0, x[cupy.arange(2)], cupy.array(x), x.astype(np.float32), x.flatten()):
        assert not cupy.may_share_memory(other, x)
    assert x.astype(np.float32, copy=False) is x
    assert cupy.asarray(x) is x


def test_new_arrays_are_stored_by_rows_whatever_the_operands_are(x):
    for function in (cupy.exp, abs, lambda t: t * 2, lambda t: cupy.where(t > 0, t, 0), lambda t: t.clip(0, 1)):
        assert function(x.T).flags.c_contiguous
    assert cupy.concatenate([x.T, x.T]).flags.c_contiguous
    assert (x.T @ cupy.ones((2, 2))).flags.c_contiguous
    assert cupy.ones((4, 3, 2)).T.sum(axis=0).flags.c_contiguous
    for keeps_order in (cupy.zeros_like(x.T), x.T.astype(np.float64), cupy.copy(x.T), cupy.asarray(x.T)):
        assert keeps_order.flags.f_contiguous


def test_flags(x):
    assert (x.flags.c_contiguous, x.flags.f_contiguous, x.flags.owndata) == (True, False, True)
    assert x.T.flags["F_CONTIGUOUS"]
    assert x.T.flags.fnc
    with pytest.raises(KeyError):
        x.flags["WRITEABLE"]


def test_a_device_does_not_warn(x):
    assert np.isinf(host(cupy.exp(x * 1000))).any()
    assert np.isnan(host((x - x) / 0)).all()
    assert host(cupy.log(x * 0)).max() == -np.inf


# Counted --------------------------------------------------------------------------------------------------------------

TO_HOST = cases("""
    float(x[0, 0]); int(x[0, 0]); bool(x[0, 0]); x[0, 0].item(); x.tolist(); x.get(); cp.asnumpy(x); x.tobytes()
    repr(x); str(x); f"{x.sum():.2f}"; x[0, 0] and 1; not x[0, 0]; max(x[0, 0], x[0, 1]); 1 in x[0, :1]
    x.get(out=np.empty_like(X)); x[x > 0]; x.__setitem__(x > 0, 0); x.__setitem__(x[:, 0] > 0, 1.0); (x > 0).nonzero()
    cp.nonzero(x); cp.where(x > 0); cp.flatnonzero(x); np.float64(x.sum()); math.sqrt(x.max())
    A.copy().__setitem__((0, 0), x[0, 0])
""")
TO_DEVICE = cases("""
    cp.asarray(A); cp.array(A); cp.asarray([1.0, 2.0]); cp.array(A, dtype=np.float64); x.set(A); x[[0, 1]]
    x[np.array([0, 1])]; x[:, [0, 2]]; x.take([0]); cp.take(x, np.arange(2), axis=0); x.__setitem__([0, 1], 5)
    x.__setitem__(cp.arange(2), A); cp.add.at(x, [0], 1.0)
""")


@pytest.mark.parametrize("expression", TO_HOST)
def test_counted_as_one_copy_to_the_host(x, transfers, expression):
    eval(expression, {**NAMES, "x": x, "cp": cupy, "math": __import__("math")})
    assert (transfers.to_host, transfers.to_device) == (1, 0)


@pytest.mark.parametrize("expression", TO_DEVICE)
def test_counted_as_one_copy_to_the_device(x, transfers, expression):
    evaluate(expression, x)
    assert (transfers.to_host, transfers.to_device) == (0, 1)


def test_a_mask_on_the_host_is_copied_and_then_counted(x, transfers):
    x[X > 0]
    assert (transfers.to_host, transfers.to_device) == (1, 1)


def test_a_copy_planted_in_a_step_is_seen_and_named(x, transfers):
    def step():
        loss = (x * x).mean()
        return float(loss)

    with pytest.raises(AssertionError, match=r"to host: float\(\) at test_strict_cupy.py:\d+"), no_transfers():
        step()
    with pytest.raises(AssertionError, match=r"to device: array\(\) at test_strict_cupy.py:\d+"), no_transfers():
        cupy.asarray(A)
    assert (transfers.to_host, transfers.to_device) == (1, 1)


def test_copies_before_and_after_do_not_matter(x):
    x.get()
    with no_transfers():
        x + 1
    x.get()


def test_no_transfers_lets_other_errors_through(x):
    with pytest.raises(ZeroDivisionError), no_transfers():
        1 / int(x[0, 2])


def test_a_test_looks_without_being_counted(xp, transfers):
    x = xp.zeros(3)
    seen = host(x)
    assert type(seen) is np.ndarray
    seen += 1
    assert host(x).tolist() == [0, 0, 0]
    assert (transfers.to_host, transfers.to_device) == (0, 0)


def test_numpy_counts_nothing(transfers):
    with no_transfers():
        float(np.asarray([1.0]).sum())
    assert (transfers.to_host, transfers.to_device) == (0, 0)


# Random numbers -------------------------------------------------------------------------------------------------------


def test_a_generator_is_determined_by_its_seed(strict_xp):
    def draws(seed):
        rng = cupy.random.Generator(cupy.random.XORWOW(seed))
        made = rng.random(5), rng.standard_normal(5), rng.integers(0, 100, 5), rng.uniform(-1, 1, 5)
        return [host(x) for x in made]

    for first, again, other in zip(draws(3), draws(3), draws(4), strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.any(first != other)


def test_a_generator_draws_on_the_device(strict_xp, transfers):
    rng = cupy.random.Generator(cupy.random.XORWOW(np.random.SeedSequence([1, 2])))
    with no_transfers():
        assert rng.random((2, 3), dtype=np.float32).dtype == np.float32
        assert rng.random().shape == ()
        assert rng.random(4).dtype == np.float64
        assert rng.standard_normal((2, 3), dtype=np.float32).dtype == np.float32
        assert rng.uniform(-1.0, 1.0, size=(3,), dtype=np.float32).dtype == np.float32
        words = rng.integers(0, 2**64 - 1, size=1000, dtype=np.uint64, endpoint=True)
        assert rng.integers(5).shape == ()
        out = cupy.zeros(4, np.float32)
        assert rng.random(dtype=np.float32, out=out) is out
    assert words.dtype == np.uint64
    assert host(words).max() > 2**63
    assert host(out).all()


# Without a device -----------------------------------------------------------------------------------------------------


def test_without_a_driver_the_module_imports_and_all_that_allocates_fails(strict_xp):
    with no_gpu():
        import cupy as imported  # the import that a user's machine would do

        assert imported.__version__ == strict_cupy.TABLE["version"]
        assert not imported.cuda.is_available()
        assert imported.float32 is np.float32
        for expression in cases("""
            cp.empty(0); cp.zeros(2); cp.ones(2).sum(); cp.asarray(1.0); cp.asarray(A); cp.array([1]); cp.arange(3)
            cp.full(2, 1.0); cp.random.XORWOW(0); cp.random.default_rng(0); cp.cuda.runtime.getDeviceCount()
            cp.ndarray((2,)); cp.exp(1.0)
        """):
            with pytest.raises(CUDARuntimeError, match="cudaErrorInsufficientDriver"):
                evaluate(expression, None)
    assert cupy.ones(2).shape == (2,)
