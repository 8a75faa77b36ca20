"""The page: page.html, page.css and page.js with what they show, in one file that asks no other host for anything.

The run's text is in the page as JSON. The script shows it as text, never as HTML.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinygan.backend import write_atomically
from tinygan.errors import ArgumentError, CheckpointError
from tinygan.files import holds_run, nearest_run
from tinygan.report.content import facts

MOST_RUNS = 8  # as many colours as most people can tell apart


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Write the page of these runs, the whole file or nothing. Raises CheckpointError and ArgumentError, as require_runs."""
    require_runs(folders)
    text = page(facts(folders, embedded=True), embedded=True)
    with write_atomically(path) as file:
        file.write(text)


def require_runs(folders: Sequence[Path]) -> None:
    """Raise CheckpointError, which names the nearest run, unless each folder holds a run; ArgumentError for too many."""
    if len(folders) > MOST_RUNS:
        raise ArgumentError(f"{len(folders)} runs are too many for one page: give at most {MOST_RUNS}")
    for folder in folders:
        if not (folder.is_dir() and holds_run(folder)):
            what = "it is no folder" if folder.exists() and not folder.is_dir() else "it holds no run"
            what = what if folder.exists() else "there is no such folder"
            raise CheckpointError(f"{folder}: {what}; {nearest_run(folder)}: name the folder of a run")


def page(content: dict[str, Any], embedded: bool) -> bytes:
    """The page: its parts, and what it shows as JSON. Its content security policy allows no other host.

    embedded   the pictures are in the page; else the page asks its own server for them, and for what is new
    """
    files = importlib.resources.files("tinygan.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    own = "" if embedded else " 'self'"
    policy = f"default-src 'none'; img-src data:{own}; style-src {_hash(style)}; script-src {_hash(script)}"
    policy += "; base-uri 'none'; form-action 'none'" + (f"; connect-src{own}" if own else "")
    title = ", ".join(run["name"] for run in content["runs"])
    parts = {"policy": policy, "title": html.escape(title), "style": style, "script": script, "content": as_json(content)}
    whole = files.joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], whole).encode(errors="backslashreplace")


def as_json(content: Any) -> str:
    """JSON that can stand in a <script>: no sign of it can end the script, or a line of it."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
