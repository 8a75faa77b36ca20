"""Records all that a piece of code uses of CuPy, while the stand-in computes it, and compares it with what CuPy has.

    with recording() as calls:
        step()
    assert not faults(calls, cupy_table.load())

An operator counts twice: as the array's method, and as the ufunc that it calls, with the dtypes. What the stand-in calls
inside one of its functions does not count: the real one goes its own way there.
"""

import contextlib
import functools
import inspect
import sys
from typing import NamedTuple

import cupy_table
import numpy as np
import strict_cupy
from strict_cupy import cupy

DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
"""CuPy's, from "Basics of CuPy" in its user guide, v14: no strings, no objects, no structures."""
MODULES = {
    path: functools.reduce(getattr, filter(None, path.split(".")), cupy)
    for path in ("", "linalg", "random", "lib.stride_tricks", "cuda", "cuda.runtime")
}
CLASSES = {"ndarray": cupy.ndarray, "random.Generator": cupy.random.Generator, "random.XORWOW": cupy.random.XORWOW}
WEAK = {"bool": False, "int": 0, "float": 0.0}
OPEN = ("__init__", "__getattr__", "__array_ufunc__", "__array_function__")  # what these call counts, not they


class Call(NamedTuple):
    """One way of using a name; of arrays and numbers only their dtypes count, of all else the Python type."""

    name: str
    args: tuple[str, ...]
    kwargs: tuple[tuple[str, str], ...]
    result: str


def _kind(value):
    if isinstance(value, (strict_cupy.ndarray, np.ndarray, np.generic)):
        return f"{value.dtype} array"
    if isinstance(value, np.dtype) or isinstance(value, type):
        return f"{np.dtype(value)}"
    return type(value).__name__


def _caller():
    frame = sys._getframe(2)
    while frame.f_code.co_filename in (__file__, strict_cupy.__file__, functools.__file__, contextlib.__file__):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@contextlib.contextmanager
def recording():
    """A dict from each Call made in the block to where it was made: a set of (file, line)."""
    calls, outermost = {}, True

    def recorded(name, function, through=False):
        @functools.wraps(function)
        def call(*args, **kwargs):
            nonlocal outermost
            before, outermost = outermost, outermost and through
            try:
                result = function(*args, **kwargs)
                if before:
                    outermost = False  # what follows only looks
                    own = args[0].__name__ if name == "ufunc" else name
                    given = args[1:] if function.__name__ in ("__call__", "__init__") else args
                    keywords = tuple((keyword, _kind(value)) for keyword, value in kwargs.items())
                    used = Call(f"cupy.{own}", tuple(map(_kind, given)), keywords, _kind(result))
                    calls.setdefault(used, set()).add(_caller())
                return result
            finally:
                outermost = before

        return call

    replaced = []

    def patch(owner, attribute, new):
        replaced.append((owner, attribute, vars(owner)[attribute]))
        setattr(owner, attribute, new)

    try:
        patch(strict_cupy.ufunc, "__call__", recorded("ufunc", strict_cupy.ufunc.__call__))
        for name in "reduce", "at":
            patch(strict_cupy.ufunc, name, recorded(f"ufunc.{name}", getattr(strict_cupy.ufunc, name)))
        for path, module in MODULES.items():
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) and not name.startswith("_"):
                    patch(module, name, recorded(f"{path}.{name}".lstrip("."), value))
        for path, owner in CLASSES.items():
            patch(owner, "__init__", recorded(path, owner.__init__))
            for name, value in list(vars(owner).items()):
                own = f"{path}.{name}"
                if isinstance(value, property):
                    patch(owner, name, property(recorded(own, value.fget)))
                elif inspect.isfunction(value) and name not in OPEN and (name[0] != "_" or name[1] == "_"):
                    patch(owner, name, recorded(own, value, through=name in strict_cupy.OPERATORS))
        yield calls
    finally:
        for owner, attribute, old in reversed(replaced):
            setattr(owner, attribute, old)


def _loop(loops, call):
    """The dtype that this ufunc computes with these operands, as CuPy finds it: the first loop that needs no unsafe cast."""
    n = len(loops.split()[0].partition("->")[0])
    operands = [WEAK.get(kind, np.dtype(kind.split()[0]) if kind.endswith(" array") else kind) for kind in call.args[:n]]
    wanted = dict(call.kwargs).get("dtype", "NoneType")
    for loop in loops.split():
        inputs, _, output = loop.partition("->")
        if wanted != "NoneType" and np.dtype(output) == wanted:
            return np.dtype(output)
        common = np.result_type(*operands)  # a Python number takes the dtype of the arrays, if that has its kind
        dtypes = [common if type(x) in (int, float, bool) else x for x in operands]
        if wanted == "NoneType" and all(map(np.can_cast, dtypes, inputs)):
            return np.dtype(output)
    return None


def faults(calls, table):
    """One line for each call that CuPy has not, or that gives a different dtype there."""
    found = []
    for call, places in sorted(calls.items()):
        where = " and ".join(sorted(f"{file.rpartition('/')[2]}:{line}" for file, line in places)[:3])
        text = f"{call.name}({', '.join([*call.args, *(f'{name}={kind}' for name, kind in call.kwargs)])}), at {where}"
        parameters = table["names"].get(call.name, "missing")
        if parameters == "missing":
            found.append(f"CuPy {table['version']} has no {call.name}: {text}")
        elif parameters:
            try:
                cupy_table.parameters(parameters).bind(*call.args, **dict(call.kwargs))
            except TypeError as error:
                found.append(f"CuPy {table['version']} has {call.name}{parameters}: {error}: {text}")
        for kind in (*call.args, *dict(call.kwargs).values(), call.result):
            if kind.endswith(" array") and kind.split()[0] not in DTYPES:
                found.append(f"CuPy has no dtype {kind.split()[0]}: {text}")
        if call.name in table["loops"]:
            computed, result = _loop(table["loops"][call.name], call), np.dtype(call.result.split()[0])
            out = "out" in dict(call.kwargs) or len(call.args) > len(table["loops"][call.name].partition("->")[0])
            if computed is None or not (np.can_cast(computed, result, "same_kind") if out else computed == result):
                found.append(f"CuPy computes {computed}, NumPy {result}: {text}")
    return found
