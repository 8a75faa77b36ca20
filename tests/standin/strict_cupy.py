"""A stand-in for CuPy on a machine without a GPU: NumPy inside, CuPy's refusals outside.

`cupy` below takes the place of the real module (sys.modules["cupy"]), so that tinygan's own code runs unchanged. Its
arrays live "on the device": each holds a NumPy array that only this file touches. What CuPy refuses is refused: NumPy
arrays and lists in arithmetic, implicit conversion, functions and keywords that CuPy has not. What CuPy accepts is
accepted, down to np.add(x, y), which CuPy takes over by __array_ufunc__: a refusal here is to mean a fault there. Every
copy between host and device is counted in `transfers`, also where it hides in float(x), `if x:` or x[mask].

Stricter than CuPy only where CuPy does harm without a word: an integer index out of bounds raises (CuPy wraps around), an
assignment that names one place twice raises (CuPy keeps any of the values), matmul raises where `out` overlaps an operand (CuPy
reads what it has just written), and a function of a NumPy array raises (some of CuPy's pass it on to NumPy). Where CuPy has
something that is missing here, the error says so: add it.

Parameters come from the table of the real CuPy, cupy_table.json. test_conformance.py compares the rest with that table.
"""

import contextlib
import functools
import os
import sys
import types

import cupy_table
import numpy as np

TABLE = cupy_table.load()


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where the driver or the device is missing."""


class Transfers:
    """The copies between host and device so far: (direction, what copied and where it was called)."""

    def __init__(self):
        self.calls = []

    def add(self, direction, what):
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__:
            frame = frame.f_back
        self.calls.append((direction, f"{what} at {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"))

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
    """Fails if anything is copied between host and device inside the with block, and says what and where."""
    before = len(transfers.calls)
    yield
    made = [f"{direction}: {what}" for direction, what in transfers.calls[before:]]
    assert not made, "copied between host and device:\n  " + "\n  ".join(made)


def host(x):
    """Any backend's array as a NumPy array of its own, not counted: for the assertions of a test."""
    if isinstance(x, ndarray):
        return x._a.copy()
    return x.get() if hasattr(x, "get") else np.array(x)


_gpu = True


@contextlib.contextmanager
def no_gpu():
    """A machine with CuPy but without a driver: the module imports, and whatever allocates fails."""
    global _gpu
    _gpu = False
    try:
        yield
    finally:
        _gpu = True


def _need_gpu():
    if not _gpu:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")


# Between the two sides ------------------------------------------------------------------------------------------------


def _wrap(result):
    """What NumPy returned, on the device: scalars become 0-d arrays."""
    if isinstance(result, (tuple, list)):
        return type(result)(_wrap(x) for x in result)
    _need_gpu()
    x = object.__new__(ndarray)
    x._a = np.asarray(result)
    return x


def _array(x):
    """The memory of a device array; nothing else will do."""
    if not isinstance(x, ndarray):
        raise TypeError(f"Unsupported type {type(x)}: CuPy wants a cupy.ndarray here")
    return x._a


def _is_scalar(x):
    return type(x) in (bool, int, float, complex) or isinstance(x, np.generic)


def _operand(x):
    """An operand of a ufunc: a device array, a Python or NumPy scalar. A NumPy array is refused, even a 0-d one."""
    if isinstance(x, ndarray):
        return x._a
    if _is_scalar(x):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _upload(x, what, dtype=None):
    """Host data that CuPy moves to the device by itself. A scalar travels as a kernel's argument: no copy."""
    if isinstance(x, ndarray):
        return x._a
    a = np.array(x, dtype)
    if a.dtype.char not in "?bhilqBHILQefdFD":
        raise ValueError(f"Unsupported dtype {a.dtype}")
    if a.ndim:
        transfers.add("to device", what)
    return a


def _quiet(function):
    """A device raises no floating-point warnings: overflow is inf, 0/0 is nan."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return call


# Arrays ---------------------------------------------------------------------------------------------------------------


class Flags:
    """c_contiguous, f_contiguous, owndata and nothing else: CuPy's arrays cannot be made read-only."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata

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
    """cupy.ndarray; `_a`, a NumPy array, is its memory on the device. More methods: METHODS below."""

    __slots__ = ("_a",)
    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, order="C"):
        _need_gpu()
        self._a = np.empty(shape, dtype, order)

    def __getattr__(self, name):
        raise AttributeError(f"cupy.ndarray has no attribute {name!r} (or strict_cupy.py lacks it)")

    # Device to host: each is a transfer

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def _download(self, what):
        transfers.add("to host", what)
        return self._a.copy()

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is None:
            return self._download("get()").copy(order)
        if (out.dtype, out.shape) != (self.dtype, self.shape):
            raise TypeError(f"{out.dtype} {out.shape} cannot be obtained from {self.dtype} {self.shape}")
        out[...] = self._download("get()")
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

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more or less than one element is ambiguous")
        return bool(self._download("bool()"))

    def __repr__(self):
        return repr(self._download("repr()"))

    def __str__(self):
        return str(self._download("str()"))

    def __format__(self, spec):
        return format(self._download("format()"), spec)

    # Host to device

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._a[...] = _upload(arr, "set()")

    # NumPy hands over to CuPy

    def __array_ufunc__(self, function, method, *inputs, **kwargs):
        operation = getattr(cupy, function.__name__, None)
        if method != "__call__":
            operation = getattr(operation, method, None)
        known = (ndarray, np.ndarray)
        if operation is None or not all(_is_scalar(x) or isinstance(x, known) for x in inputs):
            return NotImplemented
        return operation(*inputs, **kwargs)

    def __array_function__(self, function, classes, args, kwargs):
        module = cupy.linalg if function.__module__ == "numpy.linalg" else cupy
        operation = getattr(module, function.__name__, None)
        if operation is None or not all(issubclass(c, (ndarray, np.ndarray)) for c in classes):
            return NotImplemented
        return operation(*args, **kwargs)

    # Shape and memory

    @property
    def base(self):
        return None if self._a.base is None else _wrap(self._a.base)

    @property
    def flags(self):
        return Flags(self._a.flags)

    @property
    def T(self):
        return self if self.ndim < 2 else _wrap(self._a.T)

    @property
    def mT(self):
        return _wrap(self._a.mT)

    def reshape(self, *shape, order="C", copy=None):
        return _wrap(self._a.reshape(*shape, order=order, **({} if copy is None else {"copy": copy})))  # NumPy ≥ 2.1

    def transpose(self, *axes):
        return _wrap(self._a.transpose(*axes))

    def flatten(self, order="C"):
        return _wrap(self._a.flatten(order))

    def view(self, dtype=None, type=None):
        return _wrap(self._a.view() if dtype is None else self._a.view(dtype))

    def copy(self, order="C"):
        return _wrap(self._a.copy(order))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    @_quiet
    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        a = self._a.astype(dtype, order=order, copy=copy)
        return self if a is self._a else _wrap(a)

    @_quiet
    def fill(self, value):
        value = np.asarray(value._a if isinstance(value, ndarray) else value, dtype=self.dtype)
        if value.ndim:
            raise ValueError("non-scalar array cannot be used for fill")
        self._a.fill(value)

    # Elements

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        index, _ = _index(key)
        return _wrap(self._a[index])

    @_quiet
    def __setitem__(self, key, value):
        index, with_arrays = _index(key)
        if with_arrays:
            places = np.arange(self.size).reshape(self.shape)[index]
            if np.unique(places).size < places.size:
                raise ValueError("the same place is assigned to more than once: CuPy keeps any one of the values")
        if isinstance(value, ndarray):
            self._a[index] = value._a
        elif with_arrays:
            self._a[index] = _upload(value, "x[indices] = host data", self.dtype)
        else:
            cupy.ndarray.fill(self[key], value)

    def sort(self, axis=-1, kind=None):
        self._a.sort(axis, kind="stable")

    def clip(self, min=None, max=None, out=None):
        return cupy.clip(self, min, max, out)

    # Operators

    def __neg__(self):
        return cupy.negative(self)

    def __pos__(self):
        return cupy.positive(self)

    def __abs__(self):
        return cupy.absolute(self)

    def __invert__(self):
        return cupy.invert(self)


for _name in "shape dtype ndim size itemsize nbytes strides".split():
    setattr(ndarray, _name, property(lambda self, name=_name: getattr(self._a, name)))


def _index(key):
    """The index for the NumPy array inside, and whether it holds arrays.

    As in CuPy, index arrays on the host are moved to the device, and a mask makes the host wait for the number of its
    elements. The Ellipsis makes x[0, 0] a 0-d view, as CuPy has it, where NumPy returns a scalar.
    """
    keys, with_arrays = [], False
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, (ndarray, list, tuple, np.ndarray, bool, np.bool_)):
            k = _upload(k, "an index array from the host")
            k = k.astype(int) if k.size == 0 and k.dtype != bool else k
            with_arrays = True
            if k.dtype == bool:
                transfers.add("to host", "x[mask], which counts its elements,")
        keys.append(k)
    return tuple(keys) if any(k is Ellipsis for k in keys) else (*keys, Ellipsis), with_arrays


OPERATORS = {"__neg__", "__pos__", "__abs__", "__invert__"}
"""The methods behind operators: each calls the ufunc of its name."""


def _add_operators():
    def arithmetic(name, reflected):
        def operator(self, other):
            if not (isinstance(other, (ndarray, np.ndarray)) or _is_scalar(other)):
                return NotImplemented
            function = getattr(cupy, name)
            return function(other, self) if reflected else function(self, other)

        return operator

    def in_place(name):
        return lambda self, other: getattr(cupy, name)(self, other, self)

    def comparison(name):
        def operator(self, other):
            if other is None:
                return cupy.full(self.shape, name == "not_equal", bool)
            if isinstance(other, np.ndarray) and other.ndim == 0:
                other = other.item()  # CuPy makes this exception for comparisons alone
            return getattr(cupy, name)(self, other)

        return operator

    for method, name in {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
        "mod": "remainder", "pow": "power", "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and",
        "or": "bitwise_or", "xor": "bitwise_xor", "matmul": "matmul",
    }.items():  # fmt: skip
        OPERATORS.update(f"__{prefix}{method}__" for prefix in ("", "r", "i"))
        setattr(ndarray, f"__{method}__", arithmetic(name, reflected=False))
        setattr(ndarray, f"__r{method}__", arithmetic(name, reflected=True))
        if method != "matmul":  # CuPy has no __imatmul__: x @= y makes a new array
            setattr(ndarray, f"__i{method}__", in_place(name))
    for method, name in {
        "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    }.items():  # fmt: skip
        OPERATORS.add(f"__{method}__")
        setattr(ndarray, f"__{method}__", comparison(name))


_add_operators()


# The module -----------------------------------------------------------------------------------------------------------


class _Module(types.ModuleType):
    def __getattr__(self, name):
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} (or strict_cupy.py lacks it)")


cupy = _Module("cupy")
for _name in "linalg random cuda cuda.runtime lib lib.stride_tricks".split():
    *_parents, _last = _name.split(".")
    setattr(functools.reduce(getattr, _parents, cupy), _last, _Module(f"cupy.{_name}"))
cupy.__version__ = TABLE["version"]
cupy.ndarray = ndarray
for _name in """
    pi e inf nan newaxis bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp float16 float32 float64
    dtype finfo iinfo result_type promote_types can_cast broadcast_shapes isscalar
""".split():
    setattr(cupy, _name, getattr(np, _name))


class ufunc:
    """cupy.ufunc: its keywords are out, dtype and casting. There is no where=."""

    def __init__(self, name):
        self.__name__ = name
        self._np = getattr(np, name)

    @_quiet
    def __call__(self, *args, out=None, dtype=None, casting="same_kind", **kwargs):
        if kwargs:
            raise TypeError(f"Wrong arguments {sorted(kwargs)} for ufunc {self.__name__!r}")
        nin = self._np.nin
        if not nin <= len(args) <= nin + 1:
            raise TypeError(f"Wrong number of arguments for {self.__name__!r}: {len(args)}")
        if len(args) > nin:
            args, out = args[:nin], args[nin]
        if isinstance(out, tuple):
            (out,) = out
        target = None if out is None else _array(out)
        # order="C": CuPy's results are stored by rows whatever the operands are; NumPy's would follow them
        result = self._np(*map(_operand, args), out=target, dtype=dtype, casting=casting, order="C")
        return _wrap(result) if out is None else out

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`cupy_{self.__name__}.reduce` is not supported yet")
        return getattr(array, {"add": "sum", "multiply": "prod"}[self.__name__])(axis, dtype, out, keepdims)

    def at(self, a, indices, b=None):
        if self.__name__ not in ("add", "maximum", "minimum"):
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet, or strict_cupy.py lacks it")
        self._np.at(_array(a), _index(indices)[0], _upload(b, f"{self.__name__}.at() with host data"))

    @property
    def __signature__(self):
        raise ValueError(f"callable <ufunc 'cupy_{self.__name__}'> is not supported by signature")


for _name in """
    exp exp2 expm1 log log2 log10 log1p logaddexp sqrt square cbrt reciprocal power tanh sinh cosh sin cos arctan2 hypot
    absolute sign negative positive add subtract multiply divide true_divide floor_divide remainder maximum minimum
    fmax fmin floor ceil trunc rint isfinite isinf isnan signbit copysign heaviside
    equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not logical_xor
    bitwise_and bitwise_or bitwise_xor invert left_shift right_shift
""".split():
    setattr(cupy, _name, ufunc(_name))
cupy.abs = cupy.absolute

# Each function does what NumPy's of that name does, with the device arrays unwrapped and the result wrapped. Its parameters
# are those of the real one. `a`, `tup` and the like must be on the device, `out` too.
FUNCTIONS = """
    all any argmax argmin argsort around ascontiguousarray broadcast_to clip concatenate copy copyto count_nonzero cumprod
    cumsum diag empty_like expand_dims flip hstack isclose max mean min moveaxis ones_like outer pad prod ravel repeat roll
    searchsorted sort split squeeze stack std sum swapaxes take_along_axis tensordot tile trace transpose tril triu var vstack
    zeros_like linalg.norm lib.stride_tricks.as_strided lib.stride_tricks.sliding_window_view
"""
CREATION = "empty zeros ones eye linspace"  # made on the device, so nothing is copied
METHODS = """
    all any argmax argmin argsort cumprod cumsum dot max mean min nonzero prod ravel repeat round searchsorted squeeze std sum
    swapaxes take trace var
"""  # ndarray.name(…) is cupy.name(array, …)
OTHER_OPERANDS = ("a_min", "a_max", "b", "src", "v")  # on the device, or numbers
NOT_IN_NUMPY = ("subok", "kind")


def _bind(signature, name, args, kwargs):
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{name}(): {error}, CuPy has {name}{signature}") from None


def _argument(name, value, function):
    if name == "tup":
        return [_array(x) for x in value]
    is_list = isinstance(value, list | tuple) and name in OTHER_OPERANDS and function != "isclose"
    if isinstance(value, np.ndarray) or is_list:
        raise TypeError(f"Unsupported type {type(value)}")
    return value._a if isinstance(value, ndarray) else value


def _from_numpy(path, on_device=True):
    """Puts the function of this path below cupy, which is NumPy's of that path."""
    *modules, name = path.split(".")
    home, source = (functools.reduce(getattr, modules, library) for library in (cupy, np))
    function, signature = getattr(source, name), cupy_table.parameters(TABLE["names"][f"cupy.{path}"])

    @_quiet
    def call(*args, **kwargs):
        _need_gpu()
        arguments = _bind(signature, name, args, kwargs)
        arguments.update(arguments.pop("kwargs", {}))
        out = arguments.pop("out", None)
        first, *others = (
            (k, _argument(k, v, name)) for k, v in arguments.items() if v is not None or k not in ("dtype", "where")
        )
        if on_device and first[0] != "tup":
            _array(arguments[first[0]])
        options = {k: v for k, v in others if k not in NOT_IN_NUMPY}
        if out is None:
            result = function(first[1], **options)
            if isinstance(result, np.ndarray) and result.base is None and "order" not in signature.parameters:
                result = np.asarray(result, order="C")
            return None if result is None else _wrap(result)
        function(first[1], **options, out=_array(out))
        return out

    call.__name__, call.__signature__ = name, signature
    setattr(home, name, call)


def _method(name):
    signature = cupy_table.parameters(TABLE["names"][f"cupy.ndarray.{name}"])

    def method(*args, **kwargs):
        arguments = _bind(signature, name, args, kwargs)
        return getattr(cupy, name)(arguments.pop("self"), **arguments)

    method.__signature__ = signature
    setattr(ndarray, name, method)


for _name in FUNCTIONS.split():
    _from_numpy(_name)
for _name in CREATION.split():
    _from_numpy(_name, on_device=False)
for _name in METHODS.split():
    _method(_name)
cupy.amax, cupy.amin, cupy.round = cupy.max, cupy.min, cupy.around


def _function(function):
    """Puts a function into the module; what follows differs from NumPy in more than where its arrays live."""
    setattr(cupy, function.__name__, _quiet(function))


@_function
def reshape(a, newshape, order="C", *, copy=None):
    return _wrap(_array(a)).reshape(newshape, order=order, copy=copy)


@_function
def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    _need_gpu()
    order = order or "K"
    if isinstance(obj, ndarray):
        a = np.array(obj._a, dtype, copy=copy, order=order, ndmin=ndmin)
        return obj if a is obj._a else _wrap(a)
    if isinstance(obj, (list, tuple)) and obj and all(isinstance(x, ndarray) for x in obj):
        return _wrap(np.array([x._a for x in obj], dtype, ndmin=ndmin))  # joined on the device
    return _wrap(np.array(_upload(obj, "array()", dtype), order=order, ndmin=ndmin))


@_function
def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return cupy.array(a, dtype, copy, order)


@_function
def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


@_function
def get_array_module(*args):
    return cupy if any(isinstance(a, ndarray) for a in args) else np


@_function
def full(shape, fill_value, dtype=None, order="C"):
    _operand(fill_value)
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.asarray(fill_value).dtype
    x = cupy.empty(shape, dtype, order)
    x.fill(fill_value)
    return x


@_function
def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    x = cupy.empty_like(a, dtype, order, subok, shape)
    x.fill(fill_value)
    return x


@_function
def arange(start, stop=None, step=1, dtype=None):
    return _wrap(np.arange(0 if stop is None else start, start if stop is None else stop, step, dtype))


@_function
def where(condition, x=None, y=None):
    if x is None and y is None:
        return cupy.nonzero(condition)
    return _wrap(np.asarray(np.where(_array(condition), _operand(x), _operand(y)), order="C"))


@_function
def nonzero(a):
    transfers.add("to host", "nonzero(), which counts them,")
    return _wrap(np.nonzero(_array(a)))


@_function
def flatnonzero(a):
    return cupy.nonzero(a.ravel())[0]


@_function
def take(a, indices, axis=None, out=None):
    index = _upload(indices, "take() with host indices", int)
    result = np.take(_array(a), index, axis, None if out is None else _array(out))
    return _wrap(result) if out is None else out


def _check_product_out(out, a, b):
    # cuBLAS writes into `out` itself where it can, and reads a and b meanwhile
    direct = max(a.ndim, b.ndim) <= 2 and out.flags.c_contiguous and np.result_type(a, b) == out.dtype
    if direct and (np.shares_memory(out, a) or np.shares_memory(out, b)):
        raise ValueError("`out` overlaps an operand of the matrix product")


@_function
def matmul(*args, out=None):
    if len(args) != 2:
        raise TypeError(f"matmul takes 2 arrays and the keyword out, not {len(args)} arrays")
    a, b = map(_array, args)
    if out is None:
        return _wrap(np.matmul(a, b, order="C"))
    _check_product_out(_array(out), a, b)
    np.matmul(a, b, out=out._a)
    return out


@_function
def dot(a, b, out=None):
    a, b = _array(a), _array(b)
    if out is None:
        return _wrap(np.dot(a, b))
    if np.result_type(a, b) != _array(out).dtype:
        raise ValueError("Not supported dtype combination.")
    if not out.flags.c_contiguous:
        raise ValueError("Output array must be C-contiguous")
    _check_product_out(out._a, a, b)
    np.dot(a, b, out=out._a)
    return out


@_function
def einsum(*operands, **kwargs):
    subscripts, *arrays = operands
    return _wrap(np.einsum(subscripts, *map(_array, arrays), **kwargs))


@_function
def array_equal(a1, a2, equal_nan=False):
    return _wrap(np.array_equal(_array(a1), _array(a2), equal_nan))


@_function
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    return cupy.isclose(a, b, rtol, atol, equal_nan).all()


@_function
def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(_array(a), _array(b))


@_function
def shares_memory(a, b, max_work=None):
    return np.shares_memory(_array(a), _array(b))


@_function
def ndim(a):
    return np.ndim(a._a if isinstance(a, ndarray) else a)


@_function
def shape(a):
    return np.shape(a._a if isinstance(a, ndarray) else a)


# Random numbers -------------------------------------------------------------------------------------------------------


class XORWOW:
    """A bit generator. CuPy keeps 32 bits of the seed, whatever it was given."""

    def __init__(self, seed=None, *, size=-1):
        _need_gpu()
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        self._numpy = np.random.Generator(np.random.Philox(int(sequence.generate_state(1)[0])))


class Generator:
    """cupy.random.Generator, in part: the real one draws from more distributions, but has no permutation, no normal."""

    def __init__(self, bit_generator):
        self.bit_generator = bit_generator

    def _draw(self, method, size, dtype, out=None):
        """Floats of 32 or 64 bits, whatever the dtype asked for."""
        if out is not None:
            if out.dtype != dtype:
                raise TypeError(f"Supplied output array has the wrong type. Expected {dtype}, got {out.dtype}")
            if size is not None and np.empty(size, np.bool_).shape != out.shape:
                raise ValueError("size must match out.shape when used together")
            if not (out.flags.c_contiguous or out.flags.f_contiguous):
                raise ValueError("Supplied output array is not contiguous, writable or aligned.")
            size = out.shape
        kind = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        x = np.asarray(getattr(self.bit_generator._numpy, method)(size, kind)).astype(dtype)
        if out is None:
            return _wrap(x)
        _array(out)[...] = x
        return out

    def random(self, size=None, dtype=np.float64, out=None):
        return self._draw("random", size, dtype, out)

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        if np.dtype(dtype).char not in "fd":
            raise TypeError(f"Unsupported dtype {np.dtype(dtype).name} for standard_normal")
        return self._draw("standard_normal", size, dtype, out)

    def uniform(self, low=0.0, high=1.0, size=None, dtype=np.float64):
        low, high = cupy.asarray(low), cupy.asarray(high)
        size = np.broadcast_shapes(low.shape, high.shape) if size is None else size
        return (low + (high - low) * self._draw("random", size, dtype)).astype(dtype, copy=False)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        low, high = (0, int(low)) if high is None else (int(low), int(high))
        return _wrap(self.bit_generator._numpy.integers(low, high, size, dtype, endpoint))


cupy.random.XORWOW, cupy.random.Generator = XORWOW, Generator
cupy.random.default_rng = lambda seed=None: Generator(XORWOW(seed))


# The device -----------------------------------------------------------------------------------------------------------


cupy.cuda.is_available = lambda: _gpu
cupy.cuda.runtime.CUDARuntimeError = CUDARuntimeError
cupy.cuda.runtime.driverGetVersion = lambda: 13000 if _gpu else 0
cupy.cuda.runtime.runtimeGetVersion = lambda: 13000


def _runtime(function):
    setattr(cupy.cuda.runtime, function.__name__, function)


@_runtime
def getDeviceCount():
    _need_gpu()
    return 1


@_runtime
def getDeviceProperties(device):
    _need_gpu()
    return {"name": b"a stand-in for a GPU", "totalGlobalMem": 1 << 30}
