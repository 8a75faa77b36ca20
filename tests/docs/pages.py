"""What the tests of the pages share: which pages there are, their links and headings, and how long a file's code is."""

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "examples/**/*.md", "benchmarks/**/*.md", "tests/*.md")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def prose(page):
    """A page without its blocks of code between fences."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page):
    """The links to files of this project: (path, heading), either may be empty."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page))
    return sorted({(path, heading) for path, heading in found if "://" not in path})


def headings(page):
    """The names by which links lead to the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


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
