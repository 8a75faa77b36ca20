"""What the real CuPy has: every public name, its signature, and the dtypes of every ufunc, as a table in cupy_table.json.

    python -m pip install cupy-cuda12x            no GPU and no CUDA is needed to import it
    python tests/standin/cupy_table.py            writes the table
    python tests/standin/cupy_table.py --check    says what the installed CuPy has that the table has not, or the reverse

A signature comes from inspect.signature. Ufuncs and most methods of an array have none for it. Theirs is the first line of
the docstring, which is what CuPy's API reference shows (docs.cupy.dev, of the version in the table: "cupy.ndarray",
"cupy.ufunc", and the page of each ufunc).
"""

import builtins
import collections
import functools
import inspect
import json
import re
import sys
from pathlib import Path

PATH = Path(__file__).with_suffix(".json")
OWNERS = """
    cupy cupy.cuda cupy.cuda.runtime cupy.lib.stride_tricks cupy.linalg cupy.random
    cupy.ndarray cupy.ndarray.flags cupy.random.Generator cupy.ufunc
""".split()


def signature(thing):
    """The text of its parameters, "(a, axis=None)"; None if it is no function, or says nothing of them."""
    if not callable(thing):
        return None
    try:
        parameters = inspect.signature(thing).parameters.values()
        text = str(inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]))
    except (TypeError, ValueError):
        first = (thing.__doc__ or "").partition("\n")[0].replace("\\", "")
        found = re.match(r"[\w.]+(\([^[]*?\))( -> .*)?$", first)
        if not found:
            return None
        text = re.sub(r"([(,] ?)(\w+ )+(?=\w)", r"\1", found[1])  # "int axis": Cython writes the type before the name
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)


def table(cupy):
    """The table of this module. Names that begin with an underscore are no promise, but for the operators of an array."""
    names, loops = {}, {}
    for owner in OWNERS:
        flags = owner == "cupy.ndarray.flags"
        where = cupy._core.flags.Flags if flags else functools.reduce(getattr, owner.split(".")[1:], cupy)
        if isinstance(where, type) and not flags:
            names[owner] = signature(where)
        for name in dir(where):
            thing = getattr(where, name)
            operator = owner == "cupy.ndarray" and name.startswith("__") and callable(thing)
            if name.startswith("_") and not operator or inspect.ismodule(thing):
                continue
            if owner == "cupy.cuda.runtime" and not callable(thing):
                continue  # CUDA's own constants
            names[f"{owner}.{name}"] = signature(thing)
            if type(thing).__name__ == "ufunc":
                loops[f"{owner}.{name}"] = " ".join(thing.types)
    return {"version": cupy.__version__, "names": names, "loops": loops}


def load():
    """The committed table."""
    return json.loads(PATH.read_text(encoding="utf-8"))


@functools.cache
def parameters(text):
    """The signature that a text of the table stands for."""
    import numpy

    # The defaults name NumPy's types. Those of some functions of CUDA name its constants, which are nothing to us.
    constants = collections.defaultdict(lambda: ..., vars(builtins), numpy=numpy)
    return inspect.signature(eval(f"lambda {text[1:-1]}: None", {"__builtins__": {}}, constants))


if __name__ == "__main__":
    import cupy

    found = table(cupy)
    if sys.argv[1:] == ["--check"]:
        committed = load()
        for part in "names", "loops":
            for name in sorted(found[part].keys() | committed[part].keys()):
                here, there = (t[part].get(name, "missing") for t in (found, committed))
                if here != there:
                    print(f"{name}: {here} in CuPy {found['version']}, {there} in the table of {committed['version']}")
        sys.exit(found != committed)
    PATH.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{PATH}: {len(found['names'])} names, {len(found['loops'])} ufuncs of CuPy {found['version']}")
