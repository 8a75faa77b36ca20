"""Every table between markers, in any page, is what its command writes from the committed results."""

import re

import plateau
import pytest
import records
import soak
import study
import tables
from pages import PAGES


def test_regenerating_all_tables_changes_no_page():
    pages = study.tables() | tables.tables() | {soak.PAGE: {"soak": soak.table()}}
    pages[plateau.PAGE] = plateau.tables(records.read_records(plateau.RECORDS))
    for page, found in pages.items():
        assert tables.filled(page, found) == page.read_text(encoding="utf-8"), f"{page}: write its tables again"
    for page in PAGES:  # and no table stands between markers that no command fills
        marked = re.findall(r"<!-- table (.*?) -->", page.read_text(encoding="utf-8"))
        assert marked == [name for name in marked if name in pages.get(page, {})]


def test_the_page_of_the_tests_is_written_by_its_own_command_from_the_kept_figures(tmp_path, monkeypatch):
    assert soak.filled() == soak.PAGE.read_text(encoding="utf-8"), "python tests/soak.py writes its table again"
    monkeypatch.setattr(soak, "FILE", tmp_path / "soak.json")
    monkeypatch.setattr(soak, "SCALE", 1)
    with soak.Record("Kills", 7) as record:
        record["kills"] = 1234
    with pytest.raises(ZeroDivisionError), soak.Record("Memory"):
        raise ZeroDivisionError  # what fails leaves no figures
    assert re.search(r"\| Kills \| kills: 1,234 \| 7 \| \d+ \| ", soak.table())
    assert "Memory" not in soak.table()
    assert soak.table() in soak.filled()
