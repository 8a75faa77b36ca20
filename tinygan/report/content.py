"""What the page shows of a run, from the run's files alone: facts([folder, …]).

The files may be missing, damaged or hostile. `missing` of a run says in words what cannot be shown, and why. Text is cut, sizes
are bounded, numbers of metrics.csv are kept as they are written there, and no link leads out of the folder.
"""

import base64
import csv
import io
import json
import re
import shlex
import struct
from collections.abc import Sequence
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
    columns, last = _read_metrics(folder, missing)
    results, repeat, by_epoch = _dict(about, "results"), _dict(about, "repeat"), _dict(looks, "epochs")
    evaluation, options = _dict(results, "evaluation"), _dict(about, "options")
    pictures = _pictures(folder, address, budget, missing)
    for picture in pictures:
        picture["look"] = _look(_dict(by_epoch, str(picture["epoch"])))
    latest = _dict(by_epoch, max(by_epoch, key=lambda epoch: int(epoch) if EPOCH.fullmatch(epoch) else -1, default=""))
    script = options.get("script")
    known = isinstance(script, str) and SCRIPT.fullmatch(script)
    if not known:
        missing.append("run.json: it does not say which script made the run: no commands that repeat and resume it")
    return {
        "name": _shown(folder.resolve().name),
        "state": _state(about, last),
        "reading": _shown(results.get("reading", latest.get("verdict", ""))),
        "columns": columns,
        "pictures": pictures,
        "rows": _shown(looks.get("rows", "")),
        "distinct_data": _shown(looks.get("distinct_data", "")),
        "nearest": _picture(folder, "nearest.png", address, missing) if (folder / "nearest.png").exists() else None,
        "parzen": [_score(name, _dict(evaluation, name)) for name in [*evaluation][:9]],
        "cautions": _cautions(results),
        "settings": _table(_dict(about, "configuration")) | _table({"epochs": about.get("epochs")}),
        "departures": _table(_dict(about, "departures")) if "departures" in about else None,
        "environment": _table({"data source": _dict(about, "data").get("source")} | _dict(about, "environment")),
        "repeat": shlex.join(["python", f"examples/{script}", *_words(repeat)]) if known and repeat else None,
        "resume": shlex.join(["python", f"examples/{script}", "--out", str(folder), "--resume"]) if known else None,
        "missing": missing,
    }


def _state(about: dict[str, Any], last: int) -> str:
    if "diverged" in about:
        return f"diverged: {_shown(about['diverged'])}"
    of = f" of {_shown(about['epochs'])}" if "epochs" in about else ""
    return f"finished: {last} epochs" if _dict(about, "results") else f"{last}{of} epochs so far"


def _dict(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _shown(value: Any) -> str:
    """A value as short text: a list by its first entries, an object by its kind."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(entry)}" for key, entry in [*value.items()][:9] if not isinstance(entry, dict | list))
    if isinstance(value, list):
        return " × ".join(_shown(entry) for entry in value[:9] if not isinstance(entry, dict | list))
    text = "yes" if value is True else "no" if value is False else "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _table(values: dict[str, Any]) -> dict[str, str]:
    return {_shown(name): _shown(value) for name, value in [*values.items()][:LONGEST] if value not in (None, "", [], {})}


def _words(repeat: dict[str, Any]) -> list[str]:
    """The options of a command line: {"calm": true, "batch_norm": false, "k": 2} is --calm --no-batch-norm --k=2."""
    words: list[str] = []
    for name, value in [*repeat.items()][:LONGEST]:
        if OPTION.fullmatch(name) and isinstance(value, str | int | float):
            option = name.replace("_", "-")
            words.append(f"--{option}" if value is True else f"--no-{option}" if value is False else f"--{option}={value}")
    return words


def _numbers(content: dict[str, Any], name: str) -> list[float]:
    """The list of finite numbers of this name; an empty one where there is none."""
    found = _list(content, name)
    return found if all(type(x) in (int, float) and abs(x) < 1e15 for x in found) else []


def _look(look: dict[str, Any]) -> dict[str, Any]:
    """What report.json says of an epoch."""
    words = {name: _shown(look.get(name, "")) for name in ("distinct", "verdict")}
    return words | {"counts": [_numbers(look, name) for name in ("D_x", "D_G_z")]}


def _score(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A line of the Parzen table, and below it what σ was chosen from: pairs of σ and the score of the validation images."""

    def cell(key: str, form: str) -> str:
        value = result.get(key)
        return format(value, form) if isinstance(value, int | float) and abs(value) < 1e15 else "–"

    sigmas, means = _numbers(result, "sigmas"), _numbers(result, "validation_log_likelihoods")
    score = f"{cell('log_likelihood', '.1f')} ± {cell('standard_error', '.1f')}"
    counts = [cell(key, ",") for key in ("samples", "validation_rows", "test_rows")]
    return {
        "line": [f"{_shown(name)}, {len(sigmas)} values", cell("sigma", ".3f"), score, *counts],
        "chosen": [[f"{sigma:.3f}", f"{mean:.1f}"] for sigma, mean in zip(sigmas, means, strict=False)],
    }


def _cautions(results: dict[str, Any]) -> list[str]:
    """What the log-likelihoods are not, and the warnings of the measurement."""
    evaluation = _dict(results, "evaluation")
    warnings = [caution for name in evaluation for caution in _list(_dict(evaluation, name), "warnings")]
    units = f"The scores are in {_shown(results['units'])}. " if "units" in results else ""
    return [*dict.fromkeys(map(_shown, warnings)), *([units] if units else [])]


def _list(content: dict[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    return found[:LONGEST] if isinstance(found, list) else []


def inside(folder: Path, name: str, most: int = MOST_PICTURE) -> bytes:
    """What is in a file of the folder. Raises OSError if there is none, if it is too large, or if a link leads elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise OSError("a link leads out of the folder of the run")
    return read_bytes(path, most)


def _read_json(folder: Path, name: str, missing: list[str]) -> dict[str, Any]:
    """The object in a JSON file; {} if there is none."""
    try:
        content = json.loads(inside(folder, name, MOST_BYTES))
        if isinstance(content, dict):
            return content
        fault = "it is damaged: it holds no JSON object"
    except FileNotFoundError:
        fault = "it is not there"
        if name == "report.json":
            fault += ": the run's version of tinygan did not write it. No histograms of D, and no count of distinct samples"
    except OSError as error:
        fault = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        fault = f"it is damaged: {_shown(str(error))}"
    missing.append(f"{name}: {fault}")
    return {}


def _read_metrics(folder: Path, missing: list[str]) -> tuple[dict[str, list[str]], int]:
    """The columns of metrics.csv that the panels show, as they are written there, and the last epoch."""
    wanted = ["epoch", *(key for panel in PANELS for key in panel.labels)]
    rows, damaged, last = [], [], 0
    try:
        text = inside(folder, "metrics.csv", MOST_BYTES).decode()
        lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())  # the last line may be half written
        header = next(lines, [])
        if "epoch" not in header:
            raise ValueError("its first line has no column epoch")
        at = {key: header.index(key) for key in wanted if key in header}
        for number, line in enumerate(lines, 2):
            row = [line[i] for i in at.values()] if len(line) == len(header) else [""]
            sound = EPOCH.fullmatch(row[0]) and all(NUMBER.fullmatch(cell) for cell in row if cell)
            if sound and int(row[0]) > last:
                last = int(row[0])
                rows.append(row)
            else:
                damaged.append(number)
    except FileNotFoundError:
        missing.append("metrics.csv: it is not there. No curves")
    except OSError as error:
        missing.append(f"metrics.csv: {error.strerror or error}. No curves")
    except (ValueError, csv.Error) as error:
        missing.append(f"metrics.csv: it is damaged: {_shown(str(error))}. No curves")
    else:
        if damaged:
            missing.append(f"metrics.csv: {len(damaged)} of its lines are damaged, the first is line {damaged[0]}")
        return {key: [row[i] for row in rows] for i, key in enumerate(at)}, last
    return {}, last


def _pictures(folder: Path, address: str | None, budget: int, missing: list[str]) -> list[dict[str, Any]]:
    """The pictures of the samples, by epoch: all, or as many as fit, at equal distances, the first and the last among them."""
    samples = folder / "samples"
    matches = [PICTURE.fullmatch(path.name) for path in samples.iterdir()] if samples.is_dir() else []
    found = sorted((int(match[1]), f"samples/{match[0]}") for match in matches if match)
    if not found:
        missing.append("samples: there are no pictures in it")
    step, chosen = 1, found
    while address is None and len(chosen) > 1 and _sizes(folder, chosen) > budget:
        step += 1
        chosen = found[:1] + found[1:][::-1][::step][::-1]
    if step > 1:
        missing.append(f"samples: {len(chosen)} of its {len(found)} pictures are shown here, to keep the page small")
    pictures = [{"epoch": epoch, "source": _picture(folder, name, address, missing)} for epoch, name in chosen]
    return [picture for picture in pictures if picture["source"]]


def _sizes(folder: Path, chosen: list[tuple[int, str]]) -> int:
    sizes = [(folder / name).lstat().st_size for _, name in chosen]
    return sum(size for size in sizes if size <= MOST_PICTURE)


def _picture(folder: Path, name: str, address: str | None, missing: list[str]) -> str | None:
    """A picture as an address: of the page's server, or with the picture in it."""
    if address is not None:
        return address + name  # the server looks at it when it is asked for it
    try:
        return f"data:image/png;base64,{base64.b64encode(read_picture(folder, name)).decode()}"
    except (OSError, DataError) as error:
        if len(missing) < 20:
            missing.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        return None


def read_picture(folder: Path, name: str) -> bytes:
    """A PNG of the folder. Raises OSError as `inside`, DataError if it is no PNG, or larger than a browser should draw."""
    from PIL import Image  # here: it is slow to import

    content = inside(folder, name)
    width, height = struct.unpack(">II", content[16:24]) if len(content) > 24 and content[12:16] == b"IHDR" else (0, 0)
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(f"it is damaged, or no PNG of at most {MOST_PIXELS} pixels")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    except Exception as error:  # on damaged bytes Pillow raises half a dozen kinds
        raise DataError("it is damaged, or no PNG") from error
    return content
