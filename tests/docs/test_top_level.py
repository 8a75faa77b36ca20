"""`import tinygan`: every name of the top level, those that are imported later too, and the map in its docstring."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
from pages import ROOT

import tinygan

TREE = ast.parse((ROOT / "tinygan/__init__.py").read_text(encoding="utf-8"))


def imported(nodes):
    """{name: module} of the imports among these nodes."""
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in found for alias in node.names if node.module != "typing"}


def type_checking():
    (block,) = [node for node in TREE.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    return imported(block.body)


def test_mypy_and_python_import_the_same_names_later():
    later = {name: f"tinygan.{module}" for module, names in tinygan.LATER.items() for name in names}
    assert later == type_checking()


def test_every_name_is_the_one_of_its_module_and_can_be_found():
    names = imported(TREE.body) | type_checking()
    assert sorted(names) == sorted(tinygan.__all__)
    for name, module in names.items():
        assert getattr(tinygan, name) is getattr(importlib.import_module(module), name)
        assert name in dir(tinygan)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tinygan.no_such_name
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from tinygan import no_such_name")


CODE = """
import sys, tinygan
loaded = {name.split(".")[1] for name in sys.modules if name.startswith("tinygan.")}
print(sorted(loaded & set(tinygan.LATER)))
print(tinygan.run.load_generator is tinygan.load_generator)
from tinygan import *
print(Trainer is tinygan.training.Trainer, image_grid is tinygan.images.image_grid, evaluate is tinygan.parzen.evaluate)
"""


def test_import_tinygan_imports_none_of_the_modules_that_come_later():
    done = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]", "True", "True True True"], done.stderr


def test_the_docstring_is_a_map_of_one_screen_and_names_what_there_is():
    lines = tinygan.__doc__.splitlines()
    assert len(lines) <= 24
    words = re.findall(r"\b(?:[a-z]+_[a-z_]+|[A-Z]\w+)\b", "\n".join(line for line in lines if line.startswith("    ")))
    assert len(words) > 40
    assert {word for word in words if not hasattr(tinygan, word)} == {
        "p_z", "Algorithm", "MyLayer", "train_epoch", "parametrize_layers",
    }  # fmt: skip
    assert callable(tinygan.testing.parametrize_layers)
    assert callable(tinygan.figures.curves)
