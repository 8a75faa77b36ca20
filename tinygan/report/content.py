"""What the page shows of a run, from the run's files alone: facts([folder, …]).

The files may be missing, damaged or hostile. `missing` of a run says in words what cannot be shown, and why. Text is cut, sizes
are bounded, numbers of metrics.csv are kept as they are written there, and no link leads out of the folder.
"""

import base64
import contextlib
import csv
import io
import json
import re
import shlex
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinygan.errors import DataError
from tinygan.figures import PANELS, limits
from tinygan.files import read_bytes

MOST_BYTES = 2**22  # of run.json, metrics.csv and report.json, ten thousand epochs or more: no larger one is read
MOST_PICTURE = 2**22  # bytes of a picture
MOST_PIXELS = 2**24  # of a picture
PICTURES = 3_300_000  # bytes of pictures in a file: a third more in base64
LONGEST = 300  # characters of a value, and values of a list
HUGE = 1e15  # no count and no score is as large

NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?|nan|[+-]?inf")  # in metrics.csv
EPOCH = re.compile("[0-9]{1,9}")
PICTURE = re.compile(r"epoch-([0-9]{1,9})\.png")
SCRIPT = re.compile(r"\w[\w.-]{0,60}\.py")
OPTION = re.compile(r"[a-z][a-z_]{0,40}")


def facts(folders: Sequence[Path], embedded: bool) -> dict[str, Any]:
    """All that the page shows. embedded: the pictures are in it; else their addresses on the page's server."""
    runs = [read_run(folder, None if embedded else f"{i}/", PICTURES // len(folders)) for i, folder in enumerate(folders)]
    if len({run["name"] for run in runs}) < len(runs):
        for run, folder in zip(runs, folders, strict=True):
            run["name"] = _shown(str(folder))
    panels = []
    for panel in PANELS:
        lines = [[float(text) for text in run["columns"].get(key, []) if text] for run in runs for key in panel.labels]
        low, high = limits(panel, lines)
        panels.append({"title": panel.title, "labels": panel.labels, "equal": panel.equal, "low": low, "high": high})
    return {"runs": runs, "panels": panels, "live": not embedded}


def read_run(folder: Path, address: str | None, budget: int) -> dict[str, Any]:
    """What the page shows of one run. `missing` says in words what is not there, or damaged.

    address   of the folder on the page's server, for the pictures; None puts them into the page
    budget    bytes of pictures at most, in the page
    """
    missing: list[str] = []
    about, looks = (_read_json(folder, name, missing) for name in ("run.json", "report.json"))
    columns = _read_metrics(folder, missing)
    nearest = _picture(folder, "neighbours.png", address, missing) if (folder / "neighbours.png").exists() else None
    used = len(nearest or "") * 3 // 4 if address is None else 0  # base64 has four letters for three bytes
    if used > budget:
        missing.append(f"neighbours.png: {used / 1e6:.1f} MB, too large for this page")
        nearest, used = None, 0
    pictures = _pictures(folder, address, budget - used, missing)
    results, by_epoch = _dict(about, "results"), _dict(looks, "epochs")
    for picture in pictures:
        look = _dict(by_epoch, str(picture["epoch"]))
        picture |= {name: _shown(look.get(name, "")) for name in ("distinct", "verdict")}
        picture["counts"] = [_numbers(look, name) for name in ("D_x", "D_G_z")]
    evaluation, script = _dict(results, "evaluation"), _dict(about, "options").get("script")
    commands = []
    if isinstance(script, str) and SCRIPT.fullmatch(script):
        words = [_words(_dict(about, "repeat")), ["--out", str(folder), "--resume"]]
        commands = [shlex.join(["python", f"examples/{script}", *each]) for each in words]
    else:
        missing.append("run.json: it does not say which script made the run. No commands that repeat and resume it")
    departures = _dict(about, "departures")
    return {
        "name": _shown(folder.resolve().name),
        "state": _state(about, columns),
        "reading": _shown(results.get("reading", "")),
        "columns": columns,
        "pictures": pictures,
        "rows": _shown(looks.get("rows", "")),
        "distinct_data": _shown(looks.get("distinct_data", "")),
        "nearest": nearest,
        "parzen": [_score(name, _dict(evaluation, name)) for name in [*evaluation][:9]],
        "cautions": [_shown(results["units"])] if "units" in results else [],
        "settings": _table(_dict(about, "configuration") | {"epochs": about.get("epochs")}, departures),
        "departures": _table(departures, departures) if "departures" in about else None,
        "environment": _table({"data source": _dict(about, "data").get("source")} | _dict(about, "environment")),
        "commands": commands,
        "missing": missing,
    }


def _state(about: dict[str, Any], columns: dict[str, list[str]]) -> str:
    if "diverged" in about:
        return f"diverged: {_shown(about['diverged'])}"
    last = [0, *columns.get("epoch", [])][-1]
    return f"finished: {last} epochs" if "results" in about else f"{last} of {_shown(about.get('epochs', '?'))} epochs so far"


def _score(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A line of the Parzen table; what σ was chosen from, pairs of σ and the score of the validation images; the warnings."""
    keys = "sigma", "log_likelihood", "standard_error", "samples", "validation_rows", "test_rows"
    values = [result.get(key) for key in keys]
    sound = [isinstance(value, int | float) and abs(value) < HUGE for value in values]
    forms = ".3f", ".1f", ".1f", ",", ",", ","
    cells = [format(value, form) if fits else "–" for value, form, fits in zip(values, forms, sound, strict=True)]
    sigmas, means = _numbers(result, "sigmas"), _numbers(result, "validation_log_likelihoods")
    return {
        "line": [f"{_shown(name)}, {len(sigmas)} values", cells[0], f"{cells[1]} ± {cells[2]}", *cells[3:]],
        "chosen": [[f"{sigma:.3f}", f"{mean:.1f}"] for sigma, mean in zip(sigmas, means, strict=False)],
        "warnings": [_shown(warning) for warning in _list(result, "warnings")],
    }


# ---- What may be anything


def _dict(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _list(content: dict[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    return found[:LONGEST] if isinstance(found, list) else []


def _numbers(content: dict[str, Any], name: str) -> list[float]:
    """The list of numbers of this name; an empty one where an entry is no number, or beyond HUGE."""
    found = _list(content, name)
    return found if all(type(x) in (int, float) and abs(x) < HUGE for x in found) else []


def _shown(value: Any) -> str:
    """A value as short text. Of what is in a list or an object, nothing that is one itself."""
    if isinstance(value, dict | list):
        named = [(f"{name}=", entry) for name, entry in value.items()] if isinstance(value, dict) else [("", v) for v in value]
        return ", ".join(_shown(name) + _shown(entry) for name, entry in named[:9] if not isinstance(entry, dict | list))
    text = "yes" if value is True else "no" if value is False else "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _table(values: dict[str, Any], kept: Iterable[str] = ()) -> dict[str, str]:
    """Names and values as text. What says nothing is left out, unless it departs from the recipe: kept are their names."""
    some = [(name, value) for name, value in [*values.items()][:LONGEST] if name in kept or value not in (None, "", [], {})]
    return {_shown(name): _shown(value) for name, value in some}


def _words(repeat: dict[str, Any]) -> list[str]:
    """The options of a command line: {"calm": true, "batch_norm": false, "k": 2} is --calm --no-batch-norm --k=2."""
    words: list[str] = []
    for name, value in [*repeat.items()][:LONGEST]:
        if OPTION.fullmatch(name) and isinstance(value, str | int | float):
            option = name.replace("_", "-")
            words.append(f"--{option}" if value is True else f"--no-{option}" if value is False else f"--{option}={value}")
    return words


# ---- The files


@contextlib.contextmanager
def _noted(name: str, missing: list[str]) -> Iterator[None]:
    """Go on without a file that is not there, or damaged: `missing` says why."""
    try:
        yield
    except FileNotFoundError:
        missing.append(f"{name}: it is not there")
    except OSError as error:
        missing.append(f"{name}: {error.strerror or error}")
    except (ValueError, RecursionError, csv.Error) as error:
        missing.append(f"{name}: it is damaged: {_shown(str(error))}")


def inside(folder: Path, name: str, most: int) -> bytes:
    """What is in a file of the folder. Raises OSError if there is none, if it is too large, or if a link leads elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise OSError("a link leads out of the folder of the run")
    return read_bytes(path, most)


def _read_json(folder: Path, name: str, missing: list[str]) -> dict[str, Any]:
    with _noted(name, missing):
        content = json.loads(inside(folder, name, MOST_BYTES))
        if isinstance(content, dict):
            return content
        raise ValueError("it holds no JSON object")
    return {}


def _read_metrics(folder: Path, missing: list[str]) -> dict[str, list[str]]:
    """The columns of metrics.csv that the panels show, as they are written there."""
    columns: dict[str, list[str]] = {}
    with _noted("metrics.csv", missing):
        text = inside(folder, "metrics.csv", MOST_BYTES).decode()
        header, *lines = csv.reader(text[: text.rfind("\n") + 1].splitlines() or [""])  # the last line may be half written
        wanted = ["epoch", *(key for panel in PANELS for key in panel.labels if key in header)]
        if "epoch" not in header:
            raise ValueError("its first line has no column epoch")
        rows, damaged, last = [], [], 0
        for number, line in enumerate(lines, 2):
            row = dict(zip(header, line, strict=False)) if len(line) == len(header) else {"epoch": ""}
            sound = EPOCH.fullmatch(row["epoch"]) and all(NUMBER.fullmatch(row[key]) for key in wanted if row[key])
            if sound and int(row["epoch"]) > last:
                last = int(row["epoch"])
                rows.append(row)
            else:
                damaged.append(number)
        if damaged:
            missing.append(f"metrics.csv: {len(damaged)} of its lines are damaged, the first is line {damaged[0]}")
        columns = {key: [row[key] for row in rows] for key in wanted}
    return columns


def _pictures(folder: Path, address: str | None, budget: int, missing: list[str]) -> list[dict[str, Any]]:
    """The pictures of the samples, by epoch: all, or as many as fit, at equal distances, the first and the last among them."""
    found: list[tuple[int, int, str]] = []
    with _noted("samples", missing):
        for path in (folder / "samples").iterdir():
            if match := PICTURE.fullmatch(path.name):
                found.append((int(match[1]), path.lstat().st_size, f"samples/{path.name}"))
    found.sort()
    step, chosen = 1, found
    while address is None and sum(size for _, size, _ in chosen if size <= MOST_PICTURE) > budget and step < len(found):
        step += 1
        chosen = found[:1] + found[1:][::-1][::step][::-1]
    if step > 1:
        missing.append(f"samples: {len(chosen)} of its {len(found)} pictures are shown here, to keep the page small")
    pictures = [{"epoch": epoch, "source": _picture(folder, name, address, missing)} for epoch, _, name in chosen]
    return [picture for picture in pictures if picture["source"]]


def _picture(folder: Path, name: str, address: str | None, missing: list[str]) -> str | None:
    """A picture as an address: of the page's server, or with the picture in it."""
    if address is not None:
        return address + name  # the server looks at it when it is asked for it
    with _noted(name, missing):
        return f"data:image/png;base64,{base64.b64encode(read_picture(folder, name)).decode()}"
    return None


def read_picture(folder: Path, name: str) -> bytes:
    """A PNG of the folder. Raises OSError as `inside`, DataError if it is no PNG, or larger than a browser should draw."""
    from PIL import Image  # here: it is slow to import

    content = inside(folder, name, MOST_PICTURE)
    width, height = struct.unpack(">II", content[16:24]) if len(content) > 24 and content[12:16] == b"IHDR" else (0, 0)
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(f"no PNG of at most {MOST_PIXELS} pixels")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    except Exception as error:  # on damaged bytes Pillow raises half a dozen kinds
        raise DataError("no PNG") from error
    return content
