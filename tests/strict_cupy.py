"""A stand-in for CuPy 14.2 on a machine without a GPU: NumPy inside, CuPy's refusals outside.

`cupy` below is put in the place of the real module (sys.modules["cupy"]), so that tinygan's own code runs unchanged.
Its arrays live "on the device": they hold a NumPy array that only this file touches. What CuPy refuses is refused:
NumPy arrays and lists in arithmetic, implicit conversion, functions, methods and keywords that CuPy has not. What CuPy
accepts is accepted, down to np.add(x, y), which CuPy takes over by __array_ufunc__. Every copy between host and device
is counted in `transfers`, an explicit one or one that hides in float(x), in `if x:`, in x[mask] or in a NumPy index.

Stricter than CuPy on purpose, where CuPy computes rubbish without a word: an integer index out of bounds raises
(CuPy wraps around), and so does a matmul whose `out` overlaps an operand.

test_strict_cupy.py compares names and signatures with the real module where that is installed; it needs no GPU.
"""

import contextlib
import functools
import sys
import types

import numpy as np


class CUDARuntimeError(RuntimeError):
    """What CuPy raises when the driver or the device is missing."""


class Transfers:
    """The copies between host and device so far, each with the call that made it."""

    def __init__(self):
        self.calls = []

    def add(self, direction, what):
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__:
            frame = frame.f_back
        self.calls.append((direction, f"{what} at {frame.f_code.co_filename}:{frame.f_lineno}"))

    @property
    def to_host(self):
        return sum(direction == "to host" for direction, _ in self.calls)

    @property
    def to_device(self):
        return sum(direction == "to device" for direction, _ in self.calls)

    def reset(self):
        self.calls.clear()


transfers = Transfers()


@contextlib.contextmanager
def no_transfers():
    """Fails if anything was copied between host and device inside the with block."""
    before = len(transfers.calls)
    yield
    made = [f"{direction}: {what}" for direction, what in transfers.calls[before:]]
    assert not made, "copied between host and device:\n  " + "\n  ".join(made)


def host(x):
    """Any backend's array as a NumPy array, without being counted: for the assertions of a test."""
    if isinstance(x, ndarray):
        return x._a.copy()
    return x.get() if hasattr(x, "get") else np.asarray(x)


_gpu = True


@contextlib.contextmanager
def no_gpu():
    """A machine with CuPy and without a driver: the module imports, and whatever allocates fails."""
    global _gpu
    _gpu = False
    try:
        yield
    finally:
        _gpu = True


def _need_gpu():
    if not _gpu:
        raise CUDARuntimeError(
            "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Between the two sides
# ---------------------------------------------------------------------------------------------------------------------


def _wrap(a):
    """A NumPy result as a device array: scalars become 0-d arrays."""
    _need_gpu()
    x = object.__new__(ndarray)
    x._a = np.asarray(a)
    return x


def _array_only(x, name="array"):
    if not isinstance(x, ndarray):
        raise TypeError(f"{name} must be cupy.ndarray, not {type(x).__module__}.{type(x).__name__}")
    return x._a


def _operand(x):
    """An operand of a ufunc: a device array, a Python or NumPy scalar. Not a NumPy array, even of 0 dimensions."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, (bool, int, float, complex, np.generic)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _upload(x, what):
    """Host data that CuPy copies to the device by itself. A scalar travels as a kernel argument: no copy."""
    if isinstance(x, ndarray):
        return x._a
    a = np.asarray(x)
    if a.dtype == object:
        raise ValueError(f"Unsupported dtype {a.dtype}")
    if a.ndim:
        transfers.add("to device", what)
    return a


def _out(out):
    return None if out is None else _array_only(out, "out")


def _quiet(function):
    """A device raises no floating-point warnings: overflow is inf, 0/0 is nan."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return call


class ufunc:
    """cupy.ufunc: the keywords are out, dtype and casting; there is no where=."""

    def __init__(self, name):
        self.__name__ = name
        self._np = getattr(np, name)

    @_quiet
    def __call__(self, *args, out=None, dtype=None, casting="same_kind", **kwargs):
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        _need_gpu()
        nin = self._np.nin
        if not nin <= len(args) <= nin + 1:
            raise TypeError(f"Wrong number of arguments for {self.__name__!r}: {len(args)}")
        if len(args) > nin:
            args, out = args[:nin], args[nin]
        if isinstance(out, tuple):
            (out,) = out
        operands = [_operand(a) for a in args]
        if out is None:
            return _wrap(self._np(*operands, dtype=dtype, casting=casting))
        self._np(*operands, out=_out(out), dtype=dtype, casting=casting)
        return out

    @property
    def __signature__(self):
        raise ValueError(f"callable <ufunc 'cupy_{self.__name__}'> is not supported by signature")

    def __repr__(self):
        return f"<ufunc 'cupy_{self.__name__}'>"


def _matmul(a, b, out=None):
    a, b = _array_only(a, "a"), _array_only(b, "b")
    if out is None:
        return _wrap(np.matmul(a, b))
    target = _out(out)
    if np.may_share_memory(target, a) or np.may_share_memory(target, b):
        raise ValueError("matmul: out overlaps an operand; cuBLAS would read what it has just written")
    np.matmul(a, b, out=target)
    return out


def _binary(name, reflected=False):
    def operator(self, other):
        function = getattr(cupy, name)
        if not isinstance(other, (ndarray, np.ndarray, bool, int, float, complex, np.generic)):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return operator


def _in_place(name):
    def operator(self, other):
        return getattr(cupy, name)(self, other, self)

    return operator


def _comparison(name):
    def operator(self, other):
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()  # CuPy does this for comparisons alone
        if not isinstance(other, (ndarray, np.ndarray, bool, int, float, complex, np.generic)):
            return NotImplemented
        return getattr(cupy, name)(self, other)

    return operator


class Flags:
    """c_contiguous, f_contiguous, owndata and nothing else: CuPy's arrays cannot be made read-only."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, flags):
        self.c_contiguous = flags.c_contiguous
        self.f_contiguous = flags.f_contiguous
        self.owndata = flags.owndata

    @property
    def fnc(self):
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self):
        return self.f_contiguous or self.c_contiguous

    def __getitem__(self, name):
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return getattr(self, name.lower())


class ndarray:
    """cupy.ndarray. `_a`, a NumPy array, is its memory on the device."""

    __slots__ = ("_a",)
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, order="C"):
        _need_gpu()
        self._a = np.empty(shape, dtype, order)

    # to the host

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def _download(self, what):
        transfers.add("to host", what)
        return self._a.copy()

    def get(self, stream=None, order="C", out=None, blocking=True):
        a = self._download("get()").copy(order)
        if out is None:
            return a
        if out.dtype != a.dtype or out.shape != a.shape:
            raise TypeError(f"{out.dtype} {out.shape} array cannot be obtained from {a.dtype} {a.shape} array")
        out[...] = a
        return out

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._download("item()").item()

    def tolist(self):
        return self._download("tolist()").tolist()

    def tobytes(self, order="C"):
        return self._download("tobytes()").tobytes(order)

    def __float__(self):
        return float(self._download("float()"))

    def __int__(self):
        return int(self._download("int()"))

    def __complex__(self):
        return complex(self._download("complex()"))

    def __bool__(self):
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(self._download("bool()"))

    def __repr__(self):
        return repr(self._download("repr()"))

    def __str__(self):
        return str(self._download("str()"))

    def __format__(self, spec):
        return format(self._download("format()"), spec)

    # from the host

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        transfers.add("to device", "set()")
        self._a[...] = arr

    # NumPy's protocols

    def __array_ufunc__(self, function, method, *inputs, **kwargs):
        if method != "__call__" or not hasattr(cupy, function.__name__):
            return NotImplemented
        return getattr(cupy, function.__name__)(*inputs, **kwargs)

    def __array_function__(self, function, classes, args, kwargs):
        if not all(issubclass(c, (ndarray, np.ndarray)) for c in classes):
            return NotImplemented
        module = cupy.linalg if function.__module__ == "numpy.linalg" else cupy
        if not hasattr(module, function.__name__):
            return NotImplemented
        return getattr(module, function.__name__)(*args, **kwargs)

    # shape and memory

    @property
    def shape(self):
        return self._a.shape

    @property
    def dtype(self):
        return self._a.dtype

    @property
    def ndim(self):
        return self._a.ndim

    @property
    def size(self):
        return self._a.size

    @property
    def itemsize(self):
        return self._a.itemsize

    @property
    def nbytes(self):
        return self._a.nbytes

    @property
    def strides(self):
        return self._a.strides

    @property
    def base(self):
        return None if self._a.base is None else _wrap(self._a.base)

    @property
    def flags(self):
        return Flags(self._a.flags)

    @property
    def T(self):
        return self if self.ndim < 2 else _wrap(self._a.T)

    def reshape(self, *shape, order="C", copy=None):
        return _wrap(self._a.reshape(*shape, order=order, copy=copy))

    def ravel(self, order="C"):
        return _wrap(self._a.ravel(order))

    def flatten(self, order="C"):
        return _wrap(self._a.flatten(order))

    def transpose(self, *axes):
        return _wrap(self._a.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return _wrap(self._a.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return _wrap(self._a.squeeze(axis))

    def view(self, dtype=None, array_class=None):
        return _wrap(self._a.view() if dtype is None else self._a.view(dtype))

    @_quiet
    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None:
            raise TypeError("casting is not supported yet")
        if subok is not None:
            raise TypeError("subok is not supported yet")
        a = self._a.astype(dtype, order=order, copy=copy)
        return self if a is self._a else _wrap(a)

    def copy(self, order="C"):
        return _wrap(self._a.copy(order))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    @_quiet
    def fill(self, value):
        if isinstance(value, ndarray):
            value = value._a
        value = np.asarray(value, dtype=self.dtype)
        if value.ndim:
            raise ValueError("non-scalar array cannot be used for fill")
        self._a.fill(value)

    # elements

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        index = _index(key)
        keys = index if isinstance(index, tuple) else (index,)
        if any(isinstance(k, np.ndarray) and k.dtype == bool for k in keys):
            transfers.add("to host", "x[mask], whose size the host must know,")
        return _wrap(self._a[index])

    @_quiet
    def __setitem__(self, key, value):
        index = _index(key)
        if isinstance(value, ndarray):
            self._a[index] = value._a
        elif not isinstance(index, tuple) and isinstance(index, np.ndarray):
            self._a[index] = _upload(value, "x[indices] = host data")
        else:
            value = np.asarray(value, dtype=self.dtype)
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            self._a[index] = value

    def take(self, indices, axis=None, out=None):
        return cupy.take(self, indices, axis, out)

    def nonzero(self):
        return cupy.nonzero(self)

    # reductions

    @_quiet
    def _reduce(self, name, out, **kwargs):
        _need_gpu()
        result = np.asarray(getattr(self._a, name)(**kwargs))
        if out is None:
            return _wrap(result)
        target = _out(out)
        if target.shape != result.shape:
            raise ValueError("Out shape is mismatched")
        target[...] = result
        return out

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduce("sum", out, axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduce("prod", out, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduce("mean", out, axis=axis, dtype=dtype, keepdims=keepdims)

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
        return self._reduce("var", out, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
        return self._reduce("std", out, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return self._reduce("max", out, axis=axis, keepdims=keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return self._reduce("min", out, axis=axis, keepdims=keepdims)

    def all(self, axis=None, out=None, keepdims=False):
        return self._reduce("all", out, axis=axis, keepdims=keepdims)

    def any(self, axis=None, out=None, keepdims=False):
        return self._reduce("any", out, axis=axis, keepdims=keepdims)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return self._reduce("argmax", out, axis=axis, keepdims=keepdims)

    def argmin(self, axis=None, out=None, dtype=None, keepdims=False):
        return self._reduce("argmin", out, axis=axis, keepdims=keepdims)

    def cumsum(self, axis=None, dtype=None, out=None):
        return self._reduce("cumsum", out, axis=axis, dtype=dtype)

    def argsort(self, axis=-1, kind=None):
        return _wrap(np.argsort(self._a, axis, kind="stable"))

    def sort(self, axis=-1, kind=None):
        self._a.sort(axis, kind="stable")

    def clip(self, min=None, max=None, out=None):
        return cupy.clip(self, min, max, out)

    def dot(self, b, out=None):
        return cupy.dot(self, b, out)

    # operators

    def __neg__(self):
        return cupy.negative(self)

    def __pos__(self):
        return cupy.positive(self)

    def __abs__(self):
        return cupy.absolute(self)

    def __invert__(self):
        return cupy.invert(self)

    __hash__ = None
    __eq__, __ne__ = _comparison("equal"), _comparison("not_equal")
    __lt__, __le__ = _comparison("less"), _comparison("less_equal")
    __gt__, __ge__ = _comparison("greater"), _comparison("greater_equal")


for _method, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "matmul": "matmul",
}.items():
    setattr(ndarray, f"__{_method}__", _binary(_name))
    setattr(ndarray, f"__r{_method}__", _binary(_name, reflected=True))
    if _method != "matmul":  # CuPy has no __imatmul__: x @= y makes a new array
        setattr(ndarray, f"__i{_method}__", _in_place(_name))


def _index(key):
    """An index with device arrays unwrapped. CuPy uploads index arrays of the host by itself: counted."""

    def one(k):
        if isinstance(k, ndarray):
            return k._a
        if isinstance(k, (list, tuple, np.ndarray)):
            return _upload(k, "a host array as an index")
        return k

    return tuple(one(k) for k in key) if isinstance(key, tuple) else one(key)


# ---------------------------------------------------------------------------------------------------------------------
# The module
# ---------------------------------------------------------------------------------------------------------------------


class _Module(types.ModuleType):
    def __getattr__(self, name):
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r} (tests/strict_cupy.py: add it if CuPy 14.2 has it)"
        )


cupy = _Module("cupy")
cupy.linalg = _Module("cupy.linalg")
cupy.random = _Module("cupy.random")
cupy.cuda = _Module("cupy.cuda")
cupy.cuda.runtime = _Module("cupy.cuda.runtime")

cupy.__version__ = "14.2.0"
cupy.ndarray = ndarray
cupy.newaxis = None
for _name in "pi e inf nan dtype finfo iinfo result_type promote_types can_cast broadcast_shapes".split():
    setattr(cupy, _name, getattr(np, _name))
for _name in "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 intp".split():
    setattr(cupy, _name, getattr(np, _name))

for _name in """
    exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 sqrt square cbrt reciprocal power tanh sinh cosh sin cos
    absolute sign negative positive add subtract multiply divide true_divide floor_divide remainder maximum minimum
    fmax fmin floor ceil trunc rint isfinite isinf isnan signbit copysign hypot arctan2
    equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not logical_xor
    bitwise_and bitwise_or bitwise_xor invert left_shift right_shift
""".split():
    setattr(cupy, _name, ufunc(_name))
cupy.abs = cupy.absolute


def _function(function, name=None, module=cupy):
    setattr(module, name or function.__name__, _quiet(function))
    return function


def _export_reductions():
    """sum(a, …) is a.sum(…): with CuPy's keywords alone."""

    def make(name):
        def reduction(a, axis=None, **kwargs):
            _array_only(a, "a")
            return getattr(a, name)(axis, **kwargs)

        return reduction

    for name in ("sum", "prod", "mean", "var", "std", "max", "min", "all", "any", "argmax", "argmin"):
        _function(make(name), name)
    cupy.amax, cupy.amin = cupy.max, cupy.min


_export_reductions()


@_function
def matmul(a, b, out=None):
    return _matmul(a, b, out)


@_function
def dot(a, b, out=None):
    a_, b_ = _array_only(a, "a"), _array_only(b, "b")
    if out is not None:
        target = _out(out)
        if np.result_type(a_, b_) != target.dtype:
            raise ValueError("Not supported dtype combination.")
        if not target.flags.c_contiguous:
            raise ValueError("Output array must be C-contiguous")
    if min(a.ndim, b.ndim) == 0:
        return cupy.multiply(a, b, out)
    if max(a.ndim, b.ndim) <= 2:
        return _matmul(a, b, out)
    return _wrap(np.dot(a_, b_))


@_function
def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    _need_gpu()
    if isinstance(obj, ndarray):
        return _wrap(np.array(obj._a, dtype, copy=copy, order=order, ndmin=ndmin))
    if isinstance(obj, (list, tuple)) and obj and all(isinstance(x, ndarray) for x in obj):
        return _wrap(np.array([x._a for x in obj], dtype, ndmin=ndmin))
    return _wrap(np.array(_upload(obj, "array()"), dtype, order=order or "K", ndmin=ndmin))


@_function
def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray) and dtype in (None, a.dtype) and not copy and order is None:
        return a
    return cupy.array(a, dtype, copy=copy, order=order)


@_function
def ascontiguousarray(a, dtype=None):
    return _wrap(np.ascontiguousarray(_array_only(a), dtype))


@_function
def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


@_function
def copy(a, order="K"):
    return _wrap(_array_only(a).copy(order))


@_function
def get_array_module(*args):
    return cupy if any(isinstance(a, ndarray) for a in args) else np


@_function
def empty(shape, dtype=float, order="C"):
    return _wrap(np.empty(shape, dtype, order))


@_function
def zeros(shape, dtype=float, order="C"):
    return _wrap(np.zeros(shape, dtype, order))


@_function
def ones(shape, dtype=float, order="C"):
    return _wrap(np.ones(shape, dtype, order))


@_function
def full(shape, fill_value, dtype=None, order="C"):
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.asarray(fill_value).dtype
    x = cupy.empty(shape, dtype, order)
    x.fill(fill_value)
    return x


@_function
def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return _wrap(np.empty_like(_array_only(prototype), dtype, order, shape=shape))


@_function
def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return _wrap(np.zeros_like(_array_only(a), dtype, order, shape=shape))


@_function
def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return _wrap(np.ones_like(_array_only(a), dtype, order, shape=shape))


@_function
def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    x = cupy.empty_like(a, dtype, order, subok, shape)
    x.fill(fill_value)
    return x


@_function
def arange(start, stop=None, step=1, dtype=None):
    return _wrap(np.arange(start, stop, step, dtype) if stop is not None else np.arange(0, start, step, dtype))


@_function
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    return _wrap(np.linspace(_operand(start), _operand(stop), num, endpoint, dtype=dtype, axis=axis))


@_function
def eye(N, M=None, k=0, dtype=float, order="C"):
    return _wrap(np.eye(N, M, k, dtype, order))


@_function
def where(condition, x=None, y=None):
    if x is None or y is None:
        raise ValueError("Must provide both 'x' and 'y' (one argument is nonzero(), which waits for the device)")
    return _wrap(np.where(_array_only(condition, "condition"), _operand(x), _operand(y)))


@_function
def clip(a, a_min, a_max, out=None):
    target = _out(out)
    limits = [None if limit is None else _operand(limit) for limit in (a_min, a_max)]
    result = np.clip(_array_only(a, "a"), *limits, out=target)
    return _wrap(result) if out is None else out


@_function
def copyto(dst, src, casting="same_kind", where=None):
    mask = True if where is None else _array_only(where, "where")
    np.copyto(_array_only(dst, "dst"), _operand(src), casting, mask)


def _list_of_arrays(tup):
    if any(not isinstance(x, ndarray) for x in tup):
        raise TypeError("Only cupy arrays can be concatenated")
    return [x._a for x in tup]


@_function
def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    result = np.concatenate(_list_of_arrays(tup), axis, out=_out(out), dtype=dtype, casting=casting)
    return _wrap(result) if out is None else out


@_function
def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    result = np.stack(_list_of_arrays(tup), axis, out=_out(out), dtype=dtype, casting=casting)
    return _wrap(result) if out is None else out


@_function
def hstack(tup, *, dtype=None, casting="same_kind"):
    return _wrap(np.hstack(_list_of_arrays(tup), dtype=dtype, casting=casting))


@_function
def vstack(tup, *, dtype=None, casting="same_kind"):
    return _wrap(np.vstack(_list_of_arrays(tup), dtype=dtype, casting=casting))


@_function
def take(a, indices, axis=None, out=None):
    result = np.take(_array_only(a), _upload(indices, "take() with host indices"), axis, _out(out))
    return _wrap(result) if out is None else out


@_function
def nonzero(a):
    transfers.add("to host", "nonzero(), whose size the host must know,")
    return tuple(_wrap(i) for i in np.nonzero(_array_only(a)))


@_function
def flatnonzero(a):
    return cupy.nonzero(a.ravel())[0]


@_function
def reshape(a, newshape, order="C", *, copy=None):
    return _wrap(np.reshape(_array_only(a), newshape, order, copy=copy))


@_function
def ravel(a, order="C"):
    return a.ravel(order)


@_function
def transpose(a, axes=None):
    return _wrap(np.transpose(_array_only(a), axes))


@_function
def swapaxes(a, axis1, axis2):
    return a.swapaxes(axis1, axis2)


@_function
def moveaxis(a, source, destination):
    return _wrap(np.moveaxis(_array_only(a), source, destination))


@_function
def expand_dims(a, axis):
    return _wrap(np.expand_dims(_array_only(a), axis))


@_function
def squeeze(a, axis=None):
    return a.squeeze(axis)


@_function
def broadcast_to(array, shape):
    return _wrap(np.broadcast_to(_array_only(array), shape))


@_function
def repeat(a, repeats, axis=None):
    return _wrap(np.repeat(_array_only(a), repeats, axis))


@_function
def tile(A, reps):
    return _wrap(np.tile(_array_only(A), reps))


@_function
def cumsum(a, axis=None, dtype=None, out=None):
    return a.cumsum(axis, dtype, out)


@_function
def sort(a, axis=-1, kind=None):
    return _wrap(np.sort(_array_only(a), axis, kind="stable"))


@_function
def argsort(a, axis=-1, kind=None):
    return a.argsort(axis, kind)


@_function
def einsum(*operands, **kwargs):
    return _wrap(np.einsum(*(o if isinstance(o, str) else _array_only(o) for o in operands), **kwargs))


@_function
def tensordot(a, b, axes=2):
    return _wrap(np.tensordot(_array_only(a), _array_only(b), axes))


@_function
def outer(a, b, out=None):
    return _wrap(np.outer(_array_only(a), _array_only(b)))


@_function
def array_equal(a1, a2, equal_nan=False):
    return _wrap(np.array_equal(_array_only(a1), _array_only(a2), equal_nan))


@_function
def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    return _wrap(np.allclose(_operand(a), _operand(b), rtol, atol, equal_nan))


@_function
def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(_array_only(a), _array_only(b))


@_function
def shares_memory(a, b, max_work=None):
    return np.shares_memory(_array_only(a), _array_only(b))


def _norm(x, ord=None, axis=None, keepdims=False):
    return _wrap(np.linalg.norm(_array_only(x), ord, axis, keepdims))


_function(_norm, "norm", cupy.linalg)


# ---------------------------------------------------------------------------------------------------------------------
# Random numbers
# ---------------------------------------------------------------------------------------------------------------------


class XORWOW:
    def __init__(self, seed=None):
        _need_gpu()
        self._numpy = np.random.Generator(np.random.Philox(seed))


class Generator:
    """cupy.random.Generator, in part. The real one has no permutation and no normal."""

    def __init__(self, bit_generator):
        self.bit_generator = bit_generator
        self._numpy = bit_generator._numpy

    def random(self, size=None, dtype=np.float64, out=None):
        kind = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        x = np.asarray(self._numpy.random(size, kind)).astype(dtype)
        if out is None:
            return _wrap(x)
        if out.dtype != x.dtype:
            raise TypeError(f"Supplied output array has the wrong type. Expected {x.dtype}, got {out.dtype}")
        if size is not None and out.shape != x.shape:
            raise ValueError("size must match out.shape when used together")
        out._a[...] = self._numpy.random(out.shape, kind)
        return out

    def uniform(self, low=0.0, high=1.0, size=None, dtype=np.float64):
        low, high = cupy.asarray(low), cupy.asarray(high)
        size = np.broadcast_shapes(low.shape, high.shape) if size is None else size
        kind = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        return (low + (high - low) * _wrap(self._numpy.random(size, kind))).astype(dtype, copy=False)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        low, high = (0, int(low)) if high is None else (int(low), int(high))
        return _wrap(self._numpy.integers(low, high, () if size is None else size, dtype, endpoint))

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        kind = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        x = np.asarray(self._numpy.standard_normal(size, kind)).astype(dtype)
        if out is None:
            return _wrap(x)
        out._a[...] = x
        return out


cupy.random.XORWOW = XORWOW
cupy.random.Generator = Generator


# ---------------------------------------------------------------------------------------------------------------------
# The device
# ---------------------------------------------------------------------------------------------------------------------


def getDeviceCount():
    _need_gpu()
    return 1


cupy.cuda.is_available = lambda: _gpu
cupy.cuda.runtime.CUDARuntimeError = CUDARuntimeError
cupy.cuda.runtime.getDeviceCount = getDeviceCount
