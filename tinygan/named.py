"""Layers of your own modules, by name: what `python -m tinygan gradcheck mylayers:Softplus` and testing.py share.

A wrong name, a module that cannot be imported, and a class that needs arguments each raise an ArgumentError: one line that says
what was found and what to write.
"""

import argparse
import contextlib
import difflib
import importlib
import inspect
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

from tinygan.checks import shown
from tinygan.errors import ArgumentError, GradientError
from tinygan.gradcheck import TOLERANCE, Block, Comparison, Report, examine_layer
from tinygan.layers import Layer
from tinygan.protocol import Fault

DEFAULT = "5,3"
"""The shape of x if none is given: it suits every layer that works entry by entry."""


def layer_named(name: str) -> Layer:
    """The layer that "module:name" names: a class without arguments, a function that returns the layer, or the layer."""
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        path = re.sub(r"^\.[/\\]|\.py$", "", module_name)
        folder, last = os.path.split(path)
        away = os.path.isabs(path) or path.startswith("..")  # no name of a module leads there from the current folder
        remedy = f"in {folder}, write the name of the module" if away else "write the name of the module"
        dotted = last if away else re.sub(r"[/\\]+", ".", path)
        raise ArgumentError(f"{name} has the path of a file: {remedy}, {dotted}:{attribute or 'MyLayer'}")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        module_name, _, attribute = name.rpartition(".")
        guess = f"{module_name}:{attribute}" if module_name and ":" not in name else "MODULE:NAME, such as mylayers:Softplus"
        raise ArgumentError(f"{name} names no layer of a module: write {guess}")
    found: Any = _import(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ArgumentError(_no_such_name(module_name, attribute))
        found = getattr(found, part)
    remedy = f"write a function that returns the layer, def make(): return {attribute}(…), and name the function instead"
    return make_layer(found, name, remedy)


def make_layer(given: Any, name: str, remedy: str) -> Layer:
    """The layer itself, or what this class or function returns without arguments. `remedy` says what to do if it needs some."""
    if isinstance(given, Layer):
        return given
    if isinstance(given, type) and not issubclass(given, Layer):
        raise ArgumentError(f"{name} is a class, but not of layers: class {given.__name__}(tinygan.Layer)")
    if not callable(given):
        raise ArgumentError(
            f"{name} is {shown(given)}, not a layer: give a class of layers, or a function that returns a layer"
        )
    if needed := _required(given):
        raise ArgumentError(f"{name} needs arguments ({', '.join(needed)}): {remedy}")
    try:
        made = given()
    except Exception as error:
        raise ArgumentError(f"{name}() fails, {type(error).__name__}: {error}{_place(error)}") from error
    if not isinstance(made, Layer):
        raise ArgumentError(f"{name}() returns {shown(made)}, not a layer: it must end in return MyLayer(…)")
    return made


def label(layer: Layer) -> str:
    """The repr of a layer, without an address; where it fails, only the name of its class."""
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(layer))
    except Exception:  # the code of a layer that is wrong can raise anything
        return f"{type(layer).__name__}()"


def examine(layer: Layer, x: Any, seed: int = 0) -> Report:
    """What check_layer finds, passed or not; a layer that cannot be called has this one fault."""
    try:
        return examine_layer(layer, x, seed)
    except GradientError as error:
        subject = f"{label(layer)} on an input of shape {getattr(x, 'shape', x)}"
        return Report(subject, (), (Fault("runs", str(error).removeprefix(f"{subject}: ")),))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `command` reads."""
    parser.add_argument(
        "layers", nargs="*", metavar="LAYER",
        help="MODULE:NAME. NAME is a class of layers, or, if it needs arguments, a function that returns the layer. The module "
        "may be in the current folder. Without LAYER, all derivatives in tinygan are checked",
    )  # fmt: skip
    parser.add_argument(
        "--input", action="append", metavar="M,N",
        help=f"the shape of x, rows first (default: {DEFAULT}). Give it once for all layers, or once for each, in their order",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, metavar="N",
        help="the seed of x, the parameters and dy (default: 0). If an entry is wrong with one seed alone, it lies on a kink",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables, with every wrong entry")
    parser.epilog = (
        "Example: python -m tinygan gradcheck mylayers:Softplus mylayers:gated --input 5,3 checks two layers of mylayers.py. "
        "What is checked: python -m pydoc tinygan.check_layer. How the error is defined: python -m pydoc tinygan.gradcheck. In "
        "your own test suite: python -m pydoc tinygan.testing."
    )


def command(args: argparse.Namespace) -> int:
    """Check the layers that are named, and print their reports. Nothing is computed before all names and shapes are read."""
    start = time.perf_counter()
    shapes = [read_shape(text) for text in args.input or [DEFAULT]]
    if len(shapes) not in (1, len(args.layers)):
        raise ArgumentError(f"{len(shapes)} --input for {len(args.layers)} LAYER: give one for all, or one for each")
    shapes *= len(args.layers) // len(shapes)
    reports = []
    # What a module prints must not stand in the JSON.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        layers = [layer_named(name) for name in args.layers]
        for name, layer, shape in zip(args.layers, layers, shapes, strict=True):
            try:
                report = examine(layer, shape, args.seed or 0)
            except ArgumentError as error:
                raise ArgumentError(f"{name}, --input {','.join(map(str, shape))}: {error}") from error
            reports.append(report)
            if not args.json:
                print(f"{name}: {report}", flush=True)
    if not args.json and not args.input and any(fault.promise == "runs" for report in reports for fault in report.faults):
        print(
            f"\nx had the shape {DEFAULT}. If a layer needs a different one, give it with --input"
            ". If it needs different numbers, give them to tinygan.check_layer or to tinygan.testing"
        )
    wrong = [name for name, report in zip(args.layers, reports, strict=True) if not report.passed]
    if args.json:
        print(as_json(args.layers, reports))
    elif wrong:
        print(f"\n{len(wrong)} of {len(reports)} did not pass: {', '.join(wrong)} ({time.perf_counter() - start:.1f} s)")
    else:
        print(f"\n{len(reports)} of {len(reports)} passed ({time.perf_counter() - start:.1f} s)")
    return 1 if wrong else 0


def read_shape(text: str) -> tuple[int, ...]:
    """(5, 3) from "5,3"."""
    shape = tuple(map(int, re.findall(r"\d+", text)))
    if not re.fullmatch(r"\s*\(?\s*\d+(\s*[,x×]\s*\d+)*\s*,?\s*\)?\s*", text) or shape[0] < 2 or 0 in shape:
        raise ArgumentError(
            f"--input {text} is no shape of x: give at least 2 rows, then the sizes of a row, such as --input {DEFAULT}"
        )
    return shape


def as_json(names: Iterable[str], reports: Iterable[Report]) -> str:
    """The reports as JSON, each with the name that was given. A number that is not finite is null."""
    results = [
        {
            "name": name,
            "subject": report.subject,
            "passed": report.passed,
            "worst_relative_error": _number(report.error),
            "faults": [{"promise": fault.promise, "words": str(fault)} for fault in report.faults],
            "derivatives": [_block(block) for block in report.blocks],
        }
        for name, report in zip(names, reports, strict=True)
    ]
    passed = all(result["passed"] for result in results)
    return json.dumps({"passed": passed, "tolerance": TOLERANCE, "results": results}, ensure_ascii=False)


def _block(block: Block) -> dict[str, Any]:
    return {
        "by": block.name,
        "shape": block.shape,
        "entries": block.entries,
        "directions": block.directions,
        "verdict": block.verdict or "passed",
        "worst_relative_error": _number(block.worst.error),
        "wrong": [_comparison(comparison) for comparison in block.wrong],
        "hidden": [_comparison(comparison) for comparison in block.hidden],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    numbers = {"backward": comparison.analytic, "numeric": comparison.numeric, "relative_error": comparison.error}
    return {"index": comparison.index} | {name: _number(value) for name, value in numbers.items()}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ArgumentError(
                f"{name} cannot be imported, {error}{_place(error)}: install it, or correct the line"
            ) from error
        first = name.partition(".")[0]
        remedy = f"run this in the folder that has {first}.py, or set PYTHONPATH to it"
        if getattr(sys.flags, "safe_path", False):
            remedy = (
                f"PYTHONSAFEPATH or -P keeps Python from looking there, so set PYTHONPATH to the folder that has {first}.py"
            )
        raise ArgumentError(f"there is no module {error.name} in {os.getcwd()} or among those installed: {remedy}") from error
    except SystemExit as error:
        raise ArgumentError(
            f"{name} ends Python when it is imported{_place(error)}: put what it runs under if __name__ == '__main__':"
        ) from error
    except Exception as error:  # an import runs the module, which can raise anything
        raise ArgumentError(f"{name} cannot be imported, {type(error).__name__}: {error}{_place(error)}: correct it") from error


def _no_such_name(module_name: str, attribute: str) -> str:
    module = importlib.import_module(module_name)
    own = [name for name, value in vars(module).items() if callable(value)]
    layers = [name for name in own if getattr(vars(module)[name], "__module__", None) == module_name]
    close = difflib.get_close_matches(attribute, own, 1)
    remedy = f"is it {module_name}:{close[0]}?" if close else f"it has {', '.join(layers) or 'no layers'}"
    return f"{module_name} ({getattr(module, '__file__', None) or 'no file'}) has no {attribute}: {remedy}"


def _required(given: Any) -> list[str]:
    """The names of the arguments without which it cannot be called."""
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in optional]


def _place(error: BaseException) -> str:
    """Where it was raised: " (mylayers.py, line 3)"."""
    if isinstance(error, SyntaxError):
        return ""  # its words say so
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<") and f.filename != __file__]
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
