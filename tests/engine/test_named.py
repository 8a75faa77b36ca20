"""python -m tinygan gradcheck mylayers:Softplus: what it finds, its exit codes, and the line that each wrong call gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinygan
from tinygan import __main__, named

MODULE = """
import numpy as np
from tinygan import Constant, Layer, Linear

class Softplus(Layer):
    def forward(self, x, train=False, rng=None):
        return np.logaddexp(0, x), x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy / (1 + np.exp(-cache)) if need_dx else None

class BadTanh(Layer):
    def forward(self, x, train=False, rng=None):
        y = np.tanh(x)
        return y, y

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * (1 - cache) if need_dx else None

class Explodes(Softplus):
    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy / 0.0 if need_dx else None

class Silent(Layer):
    def forward(self, x, train=False, rng=None):
        return x, None

class Inner:
    Softplus = Softplus

class Other:
    pass

class Gated(Softplus):
    def __init__(self, n, *more, depth=1):
        self.n = n

def linear():
    return Linear(3, 4)

def fails():
    return Gated(1 / 0)

def nothing():
    Softplus()

softplus, number = Softplus(), 3
"""
FAULTY = {
    "lacks": "x = 1\nimport torhc\n",
    "unfinished": "def f(:\n",
    "divides": "x = 1\ny = x / 0\n",
    "exits": "import sys\nsys.exit(1)\n",
    "prints": "print('hello')\nfrom mine import *\n",
}


@pytest.fixture
def gradcheck(tmp_path, monkeypatch, capsys):
    """gradcheck(*arguments): the exit code, the lines on stdout, and those on stderr, in a folder that has mine.py."""
    for name, text in {"mine": MODULE, **FAULTY}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def gradcheck(*arguments):
        code = __main__.main(["gradcheck", *arguments])
        output, errors = capsys.readouterr()
        return code, output.splitlines(), errors.splitlines()

    yield gradcheck
    for name in ["mine", *FAULTY]:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mine:Softplus", "5,3"),
        ("mine:softplus", "4,2,2,3"),
        ("mine:linear", "(5, 3)"),
        ("mine:Inner.Softplus", "5x3"),
        ("tinygan:Tanh", "2,1"),
    ],
)
def test_a_correct_layer_passes_however_it_is_named(gradcheck, name, shape):
    code, output, errors = gradcheck(name, "--input", shape)
    assert (code, errors) == (0, [])
    assert output[0].startswith(f"{name}: ")
    assert output[0].endswith("passed")
    assert "1 of 1 passed" in output[-1]


def test_the_default_input_suits_what_works_entry_by_entry(gradcheck):
    code, output, _ = gradcheck("mine:Softplus")
    assert code == 0
    assert "(5, 3)" in output[0]


def test_a_wrong_layer_is_exit_code_1_beside_correct_ones(gradcheck):
    code, output, errors = gradcheck("mine:Softplus", "mine:BadTanh", "mine:linear", "mine:Silent", "--input", "5,3")
    assert (code, errors) == (1, [])
    assert [line.rpartition(": ")[2] for line in output if line.startswith("mine:")] == ["passed", "WRONG", "passed", "WRONG"]
    assert any("x[" in line and "backward" in line and "numeric" in line for line in output)
    assert any("has no backward" in line for line in output)
    assert output[-1].startswith("2 of 4 did not pass: mine:BadTanh, mine:Silent")


def test_each_layer_may_have_an_input_of_its_own(gradcheck):
    code, output, _ = gradcheck("mine:linear", "mine:Softplus", "--input", "7,3", "--input", "2,5")
    assert code == 0
    assert "(7, 3)" in output[0]
    assert any("(2, 5)" in line for line in output)


def test_the_seed_changes_the_numbers(gradcheck):
    outputs = [gradcheck("mine:BadTanh", *seed)[1][:-1] for seed in ([], ["--seed", "0"], ["--seed", "1"])]
    assert outputs[0] == outputs[1] != outputs[2]


def test_json_holds_every_wrong_entry_and_nothing_that_a_module_prints(gradcheck):
    code, output, errors = gradcheck("mine:linear", "prints:BadTanh", "mine:Silent", "mine:Explodes", "--json")
    assert (code, errors) == (1, ["hello"])
    found = json.loads("\n".join(output), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["passed"], found["tolerance"]) == (False, 1e-6)
    linear, tanh, silent, explodes = found["results"]
    assert [result["passed"] for result in found["results"]] == [True, False, False, False]
    assert [(d["by"], d["shape"], d["verdict"]) for d in linear["derivatives"]] == [
        ("x", [5, 3], "passed"), ("W", [3, 4], "passed"), ("b", [4], "passed"),
    ]  # fmt: skip
    (by_x,) = tanh["derivatives"]
    assert (by_x["verdict"], len(by_x["wrong"]), tanh["faults"]) == ("WRONG", 15, [])
    assert by_x["worst_relative_error"] == tanh["worst_relative_error"] > 1e-6
    entry = by_x["wrong"][0]
    assert len(entry["index"]) == 2
    assert entry["backward"] != entry["numeric"]
    assert [fault["promise"] for fault in silent["faults"]] == ["runs"]
    assert explodes["worst_relative_error"] is None or explodes["faults"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["nowhere:Softplus"], ["nowhere", "nowhere.py", "PYTHONPATH"]),
        (["mine.inner:Softplus"], ["mine.inner"]),
        (["mine.py:Softplus"], ["write", "mine:Softplus"]),
        (["./src/mine.py:Softplus"], ["write", "src.mine:Softplus"]),
        (["/src/mine.py:Softplus"], ["in /src, write", " mine:Softplus"]),
        (["../mine.py:Softplus"], ["in .., write", " mine:Softplus"]),
        (["src\\mine.py"], ["write", "src.mine:MyLayer"]),
        (["mine.Softplus"], ["write", "mine:Softplus"]),
        (["mine"], ["MODULE:NAME"]),
        ([":Softplus"], ["MODULE:NAME"]),
        (["my-layers:Softplus"], ["MODULE:NAME"]),
        (["mine:Softplsu"], ["mine.py", "Softplsu", "is it mine:Softplus?"]),
        (["mine:Zzzzzzzzz"], ["Zzzzzzzzz", "it has Softplus, BadTanh"]),
        (["mine:Inner.Softplsu"], ["Inner.Softplsu"]),
        (["mine:Gated"], ["(n)", "def make(): return Gated(…)"]),
        (["mine:fails"], ["fails()", "ZeroDivisionError", "mine.py, line"]),
        (["mine:nothing"], ["None", "return"]),
        (["mine:number"], ["3", "class of layers"]),
        (["mine:Other"], ["class Other(tinygan.Layer)"]),
        (["lacks:X"], ["torhc", "lacks.py, line 2"]),
        (["unfinished:X"], ["SyntaxError", "unfinished.py, line 1"]),
        (["divides:X"], ["ZeroDivisionError", "divides.py, line 2"]),
        (["exits:X"], ["exits.py, line 2", "__main__"]),
        (["mine:linear", "--input", "5,4"], ["mine:linear", "5,4", "(m, 3)"]),
        *(
            (["mine:Softplus", "--input", text], [text, "--input 5,3"])
            for text in ("1,3", "5,0", "a", "", "5,,3", "5.3", "5,a")
        ),
        (["mine:Softplus", "mine:linear", *["--input", "5,3"] * 3], ["3 --input", "2 LAYER"]),
        (["mine:Softplus", "--input", "5,3", "--input", "5,3"], ["2 --input", "1 LAYER"]),
        (["mine:Softplus", "--seed", "-1"], ["seed", "-1"]),
        (["--json"], ["mylayers:Softplus"]),
        (["--input", "5,3"], ["mylayers:Softplus"]),
        (["--seed", "1"], ["mylayers:Softplus"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_call_gets_one_line_with_the_remedy_and_exit_code_2(gradcheck, arguments, facts):
    code, output, errors = gradcheck(*arguments)
    assert (code, output) == (2, [])
    (line,) = errors
    assert line.startswith("error: ")
    assert [fact for fact in facts if fact not in line] == []


def test_where_a_layer_cannot_be_called_with_the_default_input_the_option_is_named(gradcheck):
    assert "--input" in "\n".join(gradcheck("mine:Silent")[1])
    assert "--input" not in "\n".join(gradcheck("mine:Silent", "--input", "5,3")[1])


@pytest.mark.slow
def test_the_current_folder_is_searched(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(tinygan.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = [sys.executable, "-W", "error", "-m", "tinygan", "gradcheck", "mine:Softplus"]
    for safe_path, code in ({}, 0), ({"PYTHONSAFEPATH": "1"}, 2):
        done = subprocess.run(arguments, cwd=tmp_path, env=environment | safe_path, capture_output=True, encoding="utf-8")
        expected = code if sys.version_info >= (3, 11) else 0
        assert done.returncode == expected, done.stderr
    assert expected == 0 or "PYTHONSAFEPATH" in done.stderr


@pytest.mark.parametrize("text", ["5,3", "(5, 3)", "5x3", " 5 , 3 ", "5×3", "5,3,"])
def test_a_shape_is_read_as_people_write_it(text):
    assert named.read_shape(text) == (5, 3)
