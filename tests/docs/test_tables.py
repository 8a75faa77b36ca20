"""Every table between markers, in any page, is what its command writes from the committed results."""

import re

import study
import tables
from pages import PAGES


def test_regenerating_all_tables_changes_no_page():
    pages = study.tables() | tables.tables()
    for page, found in pages.items():
        assert tables.filled(page, found) == page.read_text(encoding="utf-8"), f"{page}: write its tables again"
    for page in PAGES:  # and no table stands between markers that no command fills
        marked = re.findall(r"<!-- table (.*?) -->", page.read_text(encoding="utf-8"))
        assert marked == [name for name in marked if name in pages.get(page, {})]
