"""What has to stay small stays small: lines of code, without docstrings, comments and blank lines."""

import pytest
from pages import ROOT, code_lines

LIMITS = [  # files, and how many lines of code they have at most, all together
    ([f"tinygan/{name}.py" for name in ("errors", "backend", "init", "layers", "network", "losses", "optim", "gan")], 799),
    (["tinygan/normalisation.py"], 80),
    (["tinygan/parallel.py"], 80),
    (["tinygan/convolution.py"], 220),
    (["tinygan/datasets/idx.py", "tinygan/datasets/download.py", "tinygan/datasets/mnist.py"], 220),
    (["tinygan/datasets/cifar10.py", "tinygan/datasets/contrast.py"], 150),
    (["tinygan/datasets/tfd.py"], 160),
    (["tests/standin/strict_cupy.py", "tests/standin/recorder.py"], 700),
    (["examples/mnist.py"], 110),
    (["examples/tfd.py"], 150),
    (["examples/first_loop.py"], 30),
    (["examples/progressive.py"], 150),
]
PRESENT = [(files, limit) for files, limit in LIMITS if all((ROOT / file).exists() for file in files)]


@pytest.mark.parametrize(("files", "limit"), PRESENT, ids=lambda value: str(value[0]) if isinstance(value, list) else "")
def test_no_more_lines_of_code_than(files, limit):
    lines = {file: code_lines(ROOT / file) for file in files}
    assert sum(lines.values()) <= limit, lines


def test_the_core_and_the_main_example_are_measured():
    assert {limit for _, limit in PRESENT} >= {799, 80, 110}


def test_a_docstring_and_a_comment_are_not_code(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""One.\n\nTwo."""\n\n# three\nx = (\n    4\n)  # five\n', encoding="utf-8")
    assert code_lines(path) == 3
