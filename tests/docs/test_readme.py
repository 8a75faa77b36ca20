"""The README says nothing that is not so: its example prints what it says, its line counts are true, its commands stand."""

import ast
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.\d+")


def code_lines(path):
    """Lines that hold code: neither blank, nor only a comment, nor part of a docstring."""
    with tokenize.open(path) as file:
        text = file.read()
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, node.end_lineno + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def stated_counts():
    return {name: int(count) for name, count in re.findall(r"^\| `(tinygan/\w+\.py)` \| (\d+) \|", README, re.MULTILINE)}


def test_the_line_counts_are_true():
    assert stated_counts() == {f"tinygan/{p.name}": code_lines(p) for p in (ROOT / "tinygan").glob("*.py")}


def test_the_size_of_the_core_is_true():
    core = ("backend", "layers", "init", "network", "losses", "optim", "gan")
    (stated,) = re.findall(r"the core, (\d+) lines", README)
    assert int(stated) == sum(code_lines(ROOT / "tinygan" / f"{name}.py") for name in core)


def test_a_docstring_and_a_comment_are_not_code(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""One.\n\nTwo."""\n\n# three\nx = (\n    4\n)  # five\n', encoding="utf-8")
    assert code_lines(path) == 3


def test_the_example_prints_what_the_readme_says():
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    assert len([line for line in code.splitlines() if line]) <= 15
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    # The words to the letter; the numbers up to what another BLAS may round otherwise over two thousand updates.
    assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", output)
    printed, stated = ([float(x) for x in NUMBER.findall(text)] for text in (done.stdout, output))
    assert printed == pytest.approx(stated, abs=0.1)


@pytest.mark.parametrize(
    "command",
    [
        "python -m pip install -e '.[examples]' && python examples/mnist.py",
        "python -m pip install -e '.[test]' && python -m pytest",
    ],
)
def test_the_two_commands_stand_on_lines_of_their_own(command):
    assert command in [line.strip() for line in README.splitlines()]


def test_every_file_that_the_readme_links_exists():
    links = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README) if "://" not in target]
    assert links
    assert [target for target in links if not (ROOT / target).exists()] == []
