"""The laws of the house, read off the imports: what may import what, and that no module reaches into the privacy of another.

Each law is a function of the source files that returns its breaches. It finds none here, and it is shown made-up files that
break it. Imports count wherever they stand: at the top, inside a function, under TYPE_CHECKING, or as a constant given to
import_module. `from tinygan import Linear` counts as an import of the module that Linear comes from.
"""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tinygan", "examples", "benchmarks", "tests")
HOUSE = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}

# ---- The rooms: what each module of tinygan may import

GROUND = ["errors", "checks", "files", "console", "backend", "init"]
ENGINE = [*GROUND, "layers", "description", "convolution", "normalisation", "network", "losses", "optim", "gan"]  # downwards
LAYERS = ["layers", "description", "convolution", "normalisation"]
TRAINING = ["training", "checkpoint", "parallel"]
TOP = ["run", "testing", "score", "tinygan", "__main__"]  # these import anything that is not further to the right
CHECKER = ["probes", "protocol", "gradcheck"]
OTHERS = [*CHECKER, "named", "derivatives", "parzen", "images", "datasets", "recipes", "report"]
OTHERS += ["generators", "reading", "figures", "ranks"]
MAY_IMPORT = {
    **{name: ENGINE[:i] for i, name in enumerate(ENGINE)},
    **{name: [*GROUND, "layers"] for name in LAYERS[1:]},
    **{name: ENGINE + TRAINING for name in TRAINING},
    "ranks": GROUND,
    "parallel": [*ENGINE, *TRAINING, "ranks"],
    "probes": [*GROUND, "layers"],
    "protocol": [*GROUND, *LAYERS, "network", "probes"],
    "gradcheck": [*GROUND, "layers", "probes", "protocol"],
    "named": [*GROUND, "layers", "protocol", "gradcheck"],
    "derivatives": [*ENGINE, "gradcheck", "named"],
    "parzen": [*GROUND, "network", "ranks"],
    "images": [*GROUND, "network"],
    "datasets": [*GROUND, "datasets"],
    "recipes": ENGINE,
    "report": [*GROUND, "figures", "report"],
    "generators": [*ENGINE, "checkpoint"],
    "reading": GROUND,
    "figures": GROUND,
    **{name: ENGINE + TRAINING + OTHERS + TOP[:i] for i, name in enumerate(TOP)},
}
NOT_THE_ENGINES = [*TRAINING, "ranks", "run", "datasets", "recipes", "report", "parzen", "images", "generators"]
NOT_THE_ENGINES += ["reading", "figures"]

# ---- Reading the imports


@functools.cache
def nodes(source):
    """All nodes of a file's syntax tree. Every law asks for them, so they are gathered once."""
    return tuple(ast.walk(ast.parse(source)))


def breach(file, node, words):
    return f"{file}:{node.lineno}: {words}"


@functools.cache
def module_of(file):
    """tinygan/datasets/idx.py is "tinygan.datasets.idx", tinygan/__init__.py is "tinygan"; a script goes by its stem."""
    parts = list(Path(file).with_suffix("").parts)
    if parts[0] != "tinygan":
        return parts[-1]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file, house):
    """(node, module, name) for all imports of a file; name is None where the module itself is imported."""
    return imports_of(file, house[file])


@functools.cache
def imports_of(file, source):
    return tuple(find_imports(file, source))


def find_imports(file, source):
    package = list(Path(file).parent.parts)
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node, module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            words = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if words and isinstance(words[0], str):
                level = len(words[0]) - len(words[0].lstrip("."))
                base = str(words[1]).split(".") if level and len(words) > 1 else []
                yield node, ".".join([*base[: len(base) - level + 1], words[0].lstrip(".")]), None


DYNAMIC = ("import_module", "__import__")


def resolved(module, name, house, seen=()):
    """The module that an import leads to. A name that a package only hands on comes from where the package has it."""
    files = {module_of(file): file for file in house if file.startswith("tinygan/")}
    if name is None or module not in files:
        return module
    if f"{module}.{name}" in files:
        return f"{module}.{name}"
    if files[module].endswith("__init__.py") and (module, name) not in seen:
        for node, source, imported in imports(files[module], house):
            aliases = node.names if isinstance(node, ast.ImportFrom) else []
            if any(alias.name == imported and (alias.asname or alias.name) == name for alias in aliases):
                return resolved(source, imported, house, (*seen, (module, name)))
    return module


def inner(house, folder="tinygan"):
    """(file, node, module) for all imports in a folder, resolved."""
    for file in house:
        if file.startswith(f"{folder}/"):
            for node, module, name in imports(file, house):
                yield file, node, resolved(module, name, house)


def room(module):
    """tinygan.datasets.idx is in the room "datasets", tinygan itself in the room "tinygan"."""
    return module.split(".")[1] if "." in module else module


def is_own(module):
    return module == "tinygan" or module.startswith("tinygan.")


# ---- The laws


def each_module_imports_what_its_room_allows(house):
    found = [f"{file}: it has no room: give it one in MAY_IMPORT" for file in house if has_no_room(file)]
    for file, node, module in inner(house):
        mine = room(module_of(file))
        if is_own(module) and mine in MAY_IMPORT and room(module) not in MAY_IMPORT[mine]:
            found.append(breach(file, node, f"{mine} may not import {module}"))
    return found


def has_no_room(file):
    return file.startswith("tinygan/") and room(module_of(file)) not in MAY_IMPORT


def the_engine_imports_no_training_run_datasets_or_recipes(house):
    return [
        breach(file, node, f"the engine imports {module}")
        for file, node, module in inner(house)
        if room(module_of(file)) in [*ENGINE, *CHECKER] and is_own(module) and room(module) in NOT_THE_ENGINES
    ]


def no_import_runs_in_a_circle(house):
    found = []
    for folder in {str(Path(file).parent) for file in house if not file.startswith(("tinygan/", "tests/"))} | {"tinygan"}:
        files = [file for file in house if file.startswith(f"{folder}/")]
        graph = {module_of(file): set() for file in files}
        for file in files:
            for _, module, name in imports(file, house):
                module = resolved(module, name, house)
                if module in graph:
                    graph[module_of(file)].add(module)
        found += circles(graph)
    return found


def circles(graph):
    """One circle for each module that reaches itself, by the shortest way, named from its first module in the alphabet."""
    found = set()
    for start in graph:
        ways, reached = [[start]], set()
        while ways:
            way = ways.pop(0)
            for module in sorted(graph[way[-1]]):
                if module == start:
                    first = way.index(min(way))
                    found.add(" → ".join([*way[first:], *way[:first], way[first]]))
                    ways = []
                    break
                if module not in reached:
                    reached.add(module)
                    ways.append([*way, module])
    return sorted(found)


def outside(file, module, scripts):
    """Whether a module belongs to another folder of scripts or tests than the file's own."""
    folder, top = str(Path(file).parent), module.split(".")[0]
    return top in FOLDERS[1:] or (top in scripts and folder not in scripts[top])


def scripts_of(house):
    """In which folders, other than tinygan's, there is a module of each name."""
    scripts = {}
    for file in house:
        if not file.startswith("tinygan/"):
            scripts.setdefault(module_of(file), set()).add(str(Path(file).parent))
    return scripts


def nothing_in_tinygan_imports_examples_or_benchmarks(house):
    scripts = scripts_of(house)
    return [breach(f, node, f"tinygan imports {module}") for f, node, module in inner(house) if outside(f, module, scripts)]


def examples_and_benchmarks_import_tinygan_and_their_siblings_only(house):
    scripts = scripts_of(house)
    return [
        breach(file, node, f"{module} is no sibling")
        for folder in ("examples", "benchmarks")
        for file, node, module in inner(house, folder)
        if outside(file, module, scripts)
    ]


def only_the_backend_imports_cupy(house):
    return [
        breach(file, node, f"it imports {module}")
        for folder in FOLDERS[:3]
        for file, node, module in inner(house, folder)
        if module.split(".")[0] in ("cupy", "cupyx") and file != "tinygan/backend.py"
    ]


def sys_path_is_nowhere(house):
    found = []
    for file, source in house.items():
        if "sys" not in source or "path" not in source:
            continue  # both words are in each way to it, so there is no need to parse
        names = {
            alias.asname or alias.name
            for node in nodes(source)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "sys"
        }
        for node in nodes(source):
            imported = isinstance(node, ast.ImportFrom) and node.module == "sys" and "path" in [a.name for a in node.names]
            used = isinstance(node, ast.Attribute) and node.attr == "path" and getattr(node.value, "id", None) in names
            if imported or used:
                found.append(breach(file, node, "sys.path"))
    return found


def no_private_name_is_used_outside_its_module(house):
    """A name with a leading underscore that a file uses is defined in this file: imported from none, no other's attribute."""
    found = []
    for file, source in house.items():
        if file.startswith("tests/"):
            continue
        own = set(private_definitions(source))
        for node in nodes(source):
            if isinstance(node, ast.ImportFrom):
                used = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute):
                used = [node.attr] if node.attr not in own else []
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr", "delattr"):
                names = [argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)]
                used = [name for name in names if name not in own]
            else:
                used = []
            found += [breach(file, node, name) for name in used if is_private(name) and name not in PUBLIC]
    return found


PUBLIC = ("_replace", "_asdict", "_fields", "_make")  # of named tuples, whose own names could be anything


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def private_definitions(source):
    """Names that a file defines: functions, classes, variables, and attributes that its own methods set on self or cls."""
    for node in nodes(source):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if getattr(node.value, "id", "") in ("self", "cls"):
                yield node.attr


PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


def nothing_is_pickled(house):
    found = []
    for file, source in house.items():
        if file.startswith("tests/"):
            continue
        found += [breach(file, node, module) for node, module, _ in imports(file, house) if module.split(".")[0] in PICKLES]
        for node in nodes(source):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", None) is not False:
                found.append(breach(file, node.value, "allow_pickle"))
    return found


LAWS = [
    each_module_imports_what_its_room_allows,
    the_engine_imports_no_training_run_datasets_or_recipes,
    no_import_runs_in_a_circle,
    nothing_in_tinygan_imports_examples_or_benchmarks,
    examples_and_benchmarks_import_tinygan_and_their_siblings_only,
    only_the_backend_imports_cupy,
    sys_path_is_nowhere,
    no_private_name_is_used_outside_its_module,
    nothing_is_pickled,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_house_keeps_this_law(law):
    assert law(HOUSE) == []


def test_the_whole_house_is_read():
    assert {"tinygan/gan.py", "examples/mnist.py", "benchmarks/study/study.py", "tests/docs/test_laws.py"} <= HOUSE.keys()


# ---- Each law sees a breach, and does not see one where there is none

SMALL = {
    "tinygan/__init__.py": "from tinygan.layers import Linear as Affine\nfrom tinygan.run import load\n"
    "from tinygan.datasets import read\n__version__ = '1'",
    "tinygan/errors.py": "",
    "tinygan/backend.py": "import cupy",
    "tinygan/layers.py": "from tinygan.backend import Array\nfrom . import errors",
    "tinygan/network.py": "from .layers import Linear",
    "tinygan/gan.py": "from tinygan.network import Network",
    "tinygan/training.py": "from tinygan.gan import GAN",
    "tinygan/run.py": "from tinygan.training import Trainer\ndef f():\n    from tinygan.datasets import read",
    "tinygan/datasets/__init__.py": "from tinygan.datasets.idx import read",
    "tinygan/datasets/idx.py": "from ..errors import DataError",
    "examples/first.py": "import tinygan\nfrom tinygan.run import load\nfrom second import x",
    "examples/second.py": "import numpy as np",
    "benchmarks/speed/time.py": "import table",
    "benchmarks/speed/table.py": "",
    "benchmarks/study/study.py": "from records import x",
    "benchmarks/study/records.py": "from tinygan import load",
    "tests/helpers.py": "import pickle",
}

BREACHES = {
    each_module_imports_what_its_room_allows: [
        ("tinygan/layers.py", "from tinygan.network import Network"),
        ("tinygan/layers.py", "from .network import Network"),
        ("tinygan/layers.py", "from . import network"),
        ("tinygan/layers.py", "import tinygan.network as n"),
        ("tinygan/layers.py", "import tinygan"),
        ("tinygan/errors.py", "from tinygan.backend import Array"),
        ("tinygan/errors.py", "from tinygan import Affine"),  # Linear, which comes from layers
        ("tinygan/network.py", "def f():\n    from tinygan.gan import GAN"),
        ("tinygan/network.py", "import importlib\nimportlib.import_module('tinygan.gan')"),
        ("tinygan/network.py", "from importlib import import_module\nimport_module('.gan', 'tinygan')"),
        ("tinygan/training.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tinygan.run import load"),
        ("tinygan/training.py", "from tinygan import read"),  # comes from tinygan.datasets.idx, by two steps
        ("tinygan/gradcheck.py", "from tinygan.gan import GAN"),
        ("tinygan/parzen.py", "from tinygan.datasets import read"),
        ("tinygan/report.py", "from tinygan import layers"),
        ("tinygan/datasets/idx.py", "from ..layers import Linear"),
        ("tinygan/recipes.py", "from tinygan.training import Trainer"),
        ("tinygan/run.py", "from tinygan import __version__"),
        ("tinygan/attic.py", ""),
    ],
    the_engine_imports_no_training_run_datasets_or_recipes: [
        ("tinygan/gan.py", "from tinygan.training import Trainer"),
        ("tinygan/gradcheck.py", "def f():\n    import tinygan.run"),
        ("tinygan/layers.py", "from tinygan import load"),  # comes from run
        ("tinygan/init.py", "from .datasets.idx import read"),
    ],
    no_import_runs_in_a_circle: [
        ("tinygan/layers.py", "from tinygan.network import Network"),
        ("tinygan/errors.py", "def f():\n    from tinygan import gan"),  # errors → gan → network → layers → errors
        ("tinygan/run.py", "import tinygan"),
        ("examples/second.py", "import first"),
        ("benchmarks/speed/table.py", "import time as t"),
    ],
    nothing_in_tinygan_imports_examples_or_benchmarks: [
        ("tinygan/run.py", "import first"),
        ("tinygan/run.py", "from examples.first import x"),
        ("tinygan/run.py", "import benchmarks.study.study"),
        ("tinygan/run.py", "def f():\n    import importlib\n    importlib.import_module('records')"),
        ("tinygan/run.py", "import helpers"),
    ],
    examples_and_benchmarks_import_tinygan_and_their_siblings_only: [
        ("examples/first.py", "import study"),
        ("examples/first.py", "from helpers import x"),
        ("benchmarks/study/study.py", "import first"),
        ("benchmarks/study/study.py", "from table import x"),  # of the other folder of benchmarks
        ("benchmarks/speed/table.py", "from benchmarks.study import records"),
    ],
    only_the_backend_imports_cupy: [
        ("tinygan/run.py", "import cupy as xp"),
        ("examples/first.py", "def f():\n    from cupy import ndarray"),
        ("benchmarks/speed/time.py", "import cupyx.scipy"),
    ],
    sys_path_is_nowhere: [
        ("tests/helpers.py", "import sys\nsys.path.insert(0, '.')"),
        ("examples/first.py", "import sys as s\ns.path += ['.']"),
        ("tinygan/run.py", "from sys import path"),
    ],
    no_private_name_is_used_outside_its_module: [
        ("tinygan/gan.py", "from tinygan.network import _rows"),
        ("tinygan/gan.py", "import tinygan.network as n\nn._rows(1)"),
        ("examples/first.py", "net._theta"),
        ("benchmarks/study/study.py", "class Mine(GAN):\n    def f(self):\n        self._gradient()"),  # which GAN defines
        ("benchmarks/study/study.py", "getattr(net, '_theta')"),
        ("tinygan/gan.py", "net._theta = 1"),
    ],
    nothing_is_pickled: [
        ("tinygan/run.py", "import pickle"),
        ("examples/first.py", "def f():\n    from joblib import dump"),
        ("tinygan/run.py", "np.load(path, allow_pickle=True)"),
        ("tinygan/run.py", "np.load(path, allow_pickle=trusted)"),
    ],
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_small_house_keeps_it(law):
    assert law(SMALL) == []


@pytest.mark.parametrize(
    ("law", "file", "source"),
    [(law, *case) for law, cases in BREACHES.items() for case in cases],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_breach_is_seen(law, file, source):
    found = law(SMALL | {file: source})
    named = module_of(file) if law is no_import_runs_in_a_circle else file
    assert len(found) == 1, found
    assert named in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("tinygan/layers.py", "from tinygan.backend import Array\nfrom tinygan import errors\nimport numpy.random"),
        ("tinygan/parzen.py", "from tinygan import network"),
        ("tinygan/testing.py", "from tinygan import Affine\nimport tinygan.run"),
        ("tinygan/gan.py", "class A:\n    def _f(self):\n        self._x = 1\n\ndef g(a):\n    return a._x, a._f()"),
        ("tinygan/gan.py", "pair._replace(a=1)\nx.__class__\n_x = 1"),
        ("examples/first.py", "import os\nos.path.join('a')\nmodule.sys.exit()\nnp.load(f, allow_pickle=False)"),
    ],
)
def test_what_is_allowed_is_no_breach(file, source):
    house = SMALL | {file: source}
    assert [found for law in LAWS for found in law(house)] == []
