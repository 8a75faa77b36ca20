"""examples/GUIDE.md is true: what it names exists, the code it shows is the code, and no equation of the paper is missing.

Its links are tested in test_links.py, with those of all pages.
"""

import ast
import functools
import re

import pytest
from helpers import require_typesettable
from pages import ROOT

GUIDE = ROOT / "examples" / "GUIDE.md"
TEXT = GUIDE.read_text(encoding="utf-8")
STATEMENTS = [*(f"Eq. {n}" for n in range(1, 7)), "Proposition 1", "Theorem 1", "Proposition 2", "Algorithm 1", "Figure 1"]

FILE = r"(?:tinygan|examples|tests|benchmarks)/[\w./-]+?\.\w+"
NAMES = sorted(set(re.findall(rf"`({FILE})(?:(?:::|:)([\w.]+))?`", TEXT)))
PICTURES = sorted(set(re.findall(r"\]\((\S+\.(?:png|gif))\)", TEXT)))
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
FORMULAS = re.findall(r"^<!-- (.*) -->\n```math\n(.*)\n```$", TEXT, re.MULTILINE)
"""(in Unicode, in LaTeX)"""
SECTIONS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


@functools.cache
def definitions(path):
    """The names that a Python file defines: functions, classes, "Class.method", and what it assigns at the top."""

    def walk(body, prefix=""):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return set(walk(ast.parse(path.read_text(encoding="utf-8")).body))


def lines(code):
    return [line.strip() for line in code.splitlines() if line.strip()]


@pytest.mark.parametrize(("file", "symbol"), NAMES)
def test_what_the_guide_names_exists(file, symbol):
    assert (ROOT / file).is_file()
    if symbol:
        assert symbol in definitions(ROOT / file)


@pytest.mark.parametrize("picture", PICTURES)
def test_the_guides_pictures_exist_and_are_small(picture):
    assert (GUIDE.parent / picture).stat().st_size < 150_000


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: lines(block)[0][:40])
def test_the_code_that_the_guide_shows_is_in_a_file_named_above_it(block):
    section = next(text for text in SECTIONS.values() if block in text)
    above = set(re.findall(rf"`({FILE})", section[: section.index(block)]))
    wanted = lines(block)
    found = [
        file
        for file in above
        for have in [lines((ROOT / file).read_text(encoding="utf-8"))]
        if any(have[i : i + len(wanted)] == wanted for i in range(len(have)))
    ]
    assert found, f"not in {sorted(above)}:\n{block}"


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_numbered_statement_has_its_code_its_test_and_its_picture(statement):
    text = next(text for title, text in SECTIONS.items() if re.search(rf"{statement}\b", title))
    assert re.search(r"`(tinygan|examples)/\w+\.py:[\w.]+`", text), "no code"
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", text), "no test"
    assert re.search(r"\]\(figures/\w+\.(png|gif)\)|^- Picture: ", text, re.MULTILINE), "no picture"


SIGNS = {  # LaTeX, and what stands for it in a terminal
    r"\mathbb{E}": "E", r"\sim": "∼", r"\nabla": "∇", r"\theta": "θ", r"\sigma": "σ", r"\pi": "π", r"\sum": "Σ", r"\int": "∫",
    r"\geq": "≥", r"\|": "‖", r"\cdot": "·", r"\sqrt": "√", r"\,": "", r"\left": "", r"\right": "",
    r"\min": "min", r"\max": "max", r"\log": "log", r"\exp": "exp", "^*": "*", "^2": "²", "_j": "ⱼ", "-": "−",
    "_{data}": "_data",
}  # fmt: skip


def in_unicode(latex):
    for sign, plain in SIGNS.items():
        latex = latex.replace(sign, plain)
    return re.sub(r"\\frac{([^{}]*)}{([^{}]*)}", r"\1/\2", latex)


def without_brackets(formula):
    """Brackets and spaces are where the two differ: a fraction's bar needs no brackets, a subscript needs braces."""
    return re.sub(r"[ (){}]", "", formula)


@pytest.mark.parametrize(("in_terminal", "on_the_web"), FORMULAS)
def test_an_equation_says_the_same_in_a_terminal_and_typeset_on_the_web(in_terminal, on_the_web):
    assert without_brackets(in_unicode(on_the_web)) == without_brackets(in_terminal)
    require_typesettable(on_the_web)


@pytest.mark.parametrize("statement", [name for name in STATEMENTS if name != "Figure 1"])
def test_each_numbered_statement_has_its_equation_in_both_forms(statement):
    text = next(text for title, text in SECTIONS.items() if re.search(rf"{statement}\b", title))
    assert [pair for pair in FORMULAS if pair[0] in text and pair[1] in text]


def test_no_formula_stands_in_one_form_alone():
    assert TEXT.count("```math") == TEXT.count("<!--") - 1 == len(FORMULAS) > 10  # the page explains the sign once


def test_two_forms_that_differ_would_be_seen():
    for wrong in r"C(G) \geq \log 4", r"C(G) \geq -\log 2", r"C(D) \geq -\log 4":
        assert without_brackets(in_unicode(wrong)) != without_brackets("C(G) ≥ −log 4")
    with pytest.raises(ValueError, match="(?i)parse"):
        require_typesettable(r"\farc{1}{2}")


def test_the_guide_names_a_test_for_each_numbered_equation():
    for n in range(1, 7):
        assert any(symbol.startswith(f"test_equation_{n}_") for file, symbol in NAMES if file.startswith("tests/"))


def test_names_that_do_not_exist_would_be_seen():
    assert "GAN.iteration" in definitions(ROOT / "tinygan" / "gan.py")
    assert "GAN.no_such_method" not in definitions(ROOT / "tinygan" / "gan.py")
    assert len(NAMES) > 50
    assert len(BLOCKS) >= 8
