"""The README is short, its example prints what it says, and its two commands stand on lines of their own."""

import re
import subprocess
import sys

import pytest
from pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.\d+")


def test_it_has_at_most_120_lines():
    assert len(README.splitlines()) <= 120


@pytest.mark.slow
def test_the_example_prints_what_the_readme_says():
    code, output = re.search(r"^```python\n(.*?)^```\n.*?^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL).groups()
    assert len([line for line in code.splitlines() if line]) <= 15
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    # The words to the letter; the numbers up to what another BLAS may round otherwise over thousands of updates.
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
