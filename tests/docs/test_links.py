"""Every page leads to files and headings that exist, and names scripts that exist."""

import re

import pytest
from pages import PAGES, ROOT, headings, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading(page):
    broken = []
    for path, heading in links(page):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(f"{path}#{heading}")
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_script_that_a_command_runs_exists(page):
    scripts = set(re.findall(r"\bpython ([\w./-]+\.py)\b", page.read_text(encoding="utf-8")))
    assert not {script for script in scripts if not (ROOT / script).is_file()}


def test_pages_links_and_headings_are_found(tmp_path):
    assert {"README.md", "GUIDE.md", "STUDY.md"} <= {page.name for page in PAGES}
    page = tmp_path / "page.md"
    page.write_text("# Why not `225`?\n[a](b.md#c-d) [e](https://f.g/h) [i](#j) ![k](l.png)\n```\n# no heading\n[m](n)\n```\n")
    assert links(page) == [("", "j"), ("b.md", "c-d"), ("l.png", "")]
    assert headings(page) == {"why-not-225"}
