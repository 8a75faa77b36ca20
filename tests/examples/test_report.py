"""python -m tinygan report: what the page holds of a run, of an older one, of a damaged one, and of one that attacks it."""

import base64
import hashlib
import html.parser
import json
import math
import os
import re
import shlex
import zlib

import mnist
import numpy as np
import pytest
from helpers import SMALL, refused, rows
from runs import make_run, metrics, png, run_json

import tinygan.report
import tinygan.run
from tinygan import CheckpointError, __main__
from tinygan.report.content import facts
from tinygan.report.page import MOST_RUNS, page, write_report

pytestmark = pytest.mark.slow


class Page(html.parser.HTMLParser):
    """A page as a browser takes it apart: its tags, and the text of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self.texts = [], "", []
        self.feed(text)
        self.content = json.loads(self.texts[-2], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.texts.append("")
            self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


def reported(*folders):
    path = folders[0].parent / "page.html"
    write_report(folders, path)
    return Page(path.read_text(encoding="utf-8"))


def only(folder):
    """What the page shows of one run."""
    return reported(folder).content["runs"][0]


# ---- A run of an example


def test_a_run_ends_with_its_report_and_the_printed_line_names_it(run, capsys):
    folder = run("a", "--epochs", 3, "--picture-every", 1, "--learning-rate", 0.07)
    assert str(folder / "report.html") in capsys.readouterr().err.splitlines()[-1]
    shown = Page((folder / "report.html").read_text(encoding="utf-8")).content["runs"][0]
    header, *lines = rows(folder)
    for name in "epoch", "value", "D_x", "D_G_z", "generator_cost", "validation_log_likelihood":
        assert shown["columns"][name] == [line[header.index(name)] for line in lines]
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert shown["reading"] == facts["results"]["reading"]
    assert shown["settings"]["learning_rate"] == "0.07"
    small = {"learning_rate": "0.1", "generator_width": "1200", "discriminator_width": "240", "batch_size": "100"}
    assert shown["departures"] == small
    assert [line["line"][2].split()[0] for line in shown["parzen"]] == [
        f"{facts['results']['evaluation'][grid]['log_likelihood']:.1f}" for grid in ("authors", "fine")
    ]
    assert [picture["epoch"] for picture in shown["pictures"]] == [0, 1, 2, 3]
    for picture in shown["pictures"]:
        stored = (folder / "samples" / f"epoch-{picture['epoch']:04d}.png").read_bytes()
        assert picture["source"] == f"data:image/png;base64,{base64.b64encode(stored).decode()}"
    assert shown["nearest"]


@pytest.mark.slow
def test_the_histograms_have_the_means_of_metrics_csv_and_change_no_number_of_the_run(train_dcgan, monkeypatch):
    histogram, means = tinygan.run.histogram, []
    monkeypatch.setattr(tinygan.run, "histogram", lambda a: means.append(np.mean(1 / (1 + np.exp(-a)))) or histogram(a))
    arguments = "--epochs", 2, "--weight-range", 0.5  # so wide that D judges each sample differently
    folder = train_dcgan("a", *arguments)
    header, *lines = rows(folder)
    columns = header.index("D_x"), header.index("D_G_z")
    assert means[2:] == pytest.approx([float(line[i]) for line in lines for i in columns], abs=1e-6)
    looks = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert looks["epochs"].keys() == {"0", "1", "2"}
    for line in lines:
        look = looks["epochs"][line[0]]
        for name in "D_x", "D_G_z":
            counts = np.array(look[name])
            middles = (np.arange(len(counts)) + 0.5) / len(counts)
            assert counts.sum() == looks["rows"] == 12
            assert abs((counts * middles).sum() / 12 - float(line[header.index(name)])) <= 0.5 / len(counts) + 1e-6
    monkeypatch.setattr(tinygan.run.Run, "save_picture", lambda *_: None)
    monkeypatch.setattr(tinygan.run, "read_png", lambda _: np.zeros((4, 4)))
    plain = train_dcgan("b", *arguments)
    assert not (plain / "report.json").exists()
    assert (plain / "checkpoint.npz").read_bytes() == (folder / "checkpoint.npz").read_bytes()


def test_a_run_whose_samples_no_picture_shows_ends_all_the_same(run, monkeypatch, capsys):
    monkeypatch.setattr(tinygan.GAN, "sample", lambda self, n, rng: np.full((n, 36), 7, np.float32))
    folder = run("a", "--epochs", 1)
    assert "neighbours.png is not drawn" in capsys.readouterr().err
    assert only(folder)["nearest"] is None


def test_a_histogram_counts_sigmoids():
    counts = tinygan.run.histogram(np.array([-np.inf, -1000, 0, 0.01, 1000, np.inf], np.float32))
    assert (counts[0], counts[len(counts) // 2], counts[-1], sum(counts)) == (2, 2, 2, 6)


@pytest.mark.slow
def test_a_resumed_run_keeps_what_report_json_says_of_earlier_epochs(run):
    whole = run("whole", "--epochs", 3, "--picture-every", 1)
    parts = run("parts", "--epochs", 1, "--picture-every", 1)
    run("parts", "--epochs", 3, "--resume")
    assert (parts / "report.json").read_text() == (whole / "report.json").read_text()
    (parts / "report.json").write_text("[" * 10**5)
    run("parts", "--epochs", 4, "--resume")
    assert json.loads((parts / "report.json").read_text())["epochs"].keys() == {"4"}


@pytest.mark.slow
def test_the_command_on_the_page_repeats_the_run(run, call, tmp_path, monkeypatch):
    folder = run("a", "--epochs", 2, "--learning-rate", 0.07, "--calm", "--seed", 5, "--generator-cost", "minimax")
    shown = only(folder)
    assert {"calm", "learning_rate", "generator_cost"} <= shown["departures"].keys()
    assert "seed" not in shown["departures"]
    python, script, *words = shlex.split(shown["commands"][0])
    assert (python, script) == ("python", "examples/mnist.py")
    call(mnist.program, *words, "--out", tmp_path / "again")
    assert (tmp_path / "again" / "checkpoint.npz").read_bytes() == (folder / "checkpoint.npz").read_bytes()
    python, script, *words = shlex.split(shown["commands"][1])
    call(mnist.program, *words, "--epochs", 3)
    assert only(folder)["departures"] == shown["departures"]
    assert only(folder)["state"] == "finished: 3 epochs"


@pytest.mark.slow
def test_a_recipe_as_it_is_departs_in_nothing_that_was_not_asked_for(run):
    names = {"generator_width", "discriminator_width", "batch_size"}  # of SMALL
    assert len(SMALL) == 2 * len(names | {"backend"})
    folder = run("a", "--epochs", 1)
    assert only(folder)["departures"].keys() == names
    run("a", "--epochs", 2, "--resume")  # its generator_cost comes from the checkpoint now
    assert only(folder)["departures"].keys() == names


# ---- The page


def test_the_page_is_one_file_that_allows_no_other_host(tmp_path):
    shown = reported(make_run(tmp_path / "a"))
    style, _, script = shown.texts
    policies = [tag["content"] for name, tag in shown.tags if tag.get("http-equiv") == "Content-Security-Policy"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    ]
    named = [tag[key] for _, tag in shown.tags for key in ("src", "href") if key in tag]
    assert named == ["data:,"]
    assert "innerHTML" not in script
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)", style + script)


def test_several_runs_are_on_one_page_and_each_keeps_its_name(tmp_path):
    folders = [make_run(tmp_path / name / "same") for name in ("one", "two")]
    content = reported(*folders, make_run(tmp_path / "three")).content
    assert [run["name"] for run in content["runs"]] == [*map(str, folders), str(tmp_path / "three")]


def test_the_axis_is_that_of_the_curves_and_takes_no_harm_from_what_is_not_finite(tmp_path):
    folder = make_run(tmp_path / "a", 20)  # so few that no point is left out for lying far off
    text = (
        metrics(20)
        .replace("\n5,-1.005,", "\n5,1.7e308,")
        .replace("\n6,-1.006,", "\n6,-1.7e308,")
        .replace("0.60009,0.30009", "nan,inf")
        .replace("\n7,-1.007,", "\n7,1e300,")
        .replace("\n8,-1.008,", "\n8,-inf,")
    )
    (folder / "metrics.csv").write_text(text)
    content = reported(folder).content
    assert content["runs"][0]["columns"]["D_x"][8] == "nan"
    assert content["runs"][0]["columns"]["value"][6:8] == ["1e300", "-inf"]
    value, D, *_ = content["panels"]
    assert -2 < value["low"] < -math.log(4) < -1.001 < value["high"] < 0
    assert D["low"] < 0 < 1 < D["high"]


@pytest.mark.slow
def test_a_thousand_epochs_fit_into_5_mb_and_say_what_was_left_out(tmp_path):
    folder = make_run(tmp_path / "a", 1000, 1000)
    picture = png((302, 100))  # 30 kB, as pictures of MNIST's samples
    for epoch in range(1001):
        (folder / "samples" / f"epoch-{epoch:04d}.png").write_bytes(picture)
    path = tmp_path / "page.html"
    write_report([folder], path)
    assert path.stat().st_size < 5_000_000
    shown = Page(path.read_text(encoding="utf-8")).content["runs"][0]
    epochs = [each["epoch"] for each in shown["pictures"]]
    assert (epochs[0], epochs[-1]) == (0, 1000)
    assert len(epochs) > 100
    assert len(set(np.diff(epochs[1:]))) == 1
    assert len(shown["columns"]["epoch"]) == 1000
    (note,) = shown["missing"]
    assert f"{len(epochs)} of its 1001" in note


@pytest.mark.parametrize(("pixels", "kept"), [(1100, True), (2000, False)])
def test_large_neighbours_leave_less_room_for_samples_or_are_left_out(pixels, kept, tmp_path):
    folder = make_run(tmp_path / "a", 200, 1)
    for epoch in range(201):
        (folder / "samples" / f"epoch-{epoch:04d}.png").write_bytes(png((302, 100)))
    (folder / "neighbours.png").write_bytes(png((2000, pixels)))  # 2.2 MB, and 4 MB
    path = tmp_path / "page.html"
    write_report([folder], path)
    assert path.stat().st_size < 5_000_000
    shown = Page(path.read_text(encoding="utf-8")).content["runs"][0]
    assert (shown["nearest"] is not None) == kept
    assert any("neighbours.png: 4.0 MB" in note for note in shown["missing"]) != kept
    assert len(shown["pictures"]) > 20


def test_a_departure_is_shown_also_where_one_of_its_two_values_is_none(tmp_path):
    folder, facts = make_run(tmp_path / "a"), run_json(4)
    facts["configuration"] |= {"max_column_norm": None, "generator_cost": "minimax", "data_digest": None}
    facts["departures"] = {"max_column_norm": 1.9365, "generator_cost": None}
    (folder / "run.json").write_text(json.dumps(facts))
    shown = only(folder)
    assert shown["departures"] == {"max_column_norm": "1.9365", "generator_cost": "none"}
    assert (shown["settings"]["max_column_norm"], shown["settings"]["generator_cost"]) == ("none", "minimax")
    assert "data_digest" not in shown["settings"]


# ---- What is missing or damaged


def test_a_run_of_an_older_version_has_a_page_that_says_what_it_does_not_know(tmp_path):
    folder = make_run(tmp_path / "a")
    old = {name: value for name, value in run_json(4).items() if name not in ("options", "departures", "repeat")}
    (folder / "run.json").write_text(json.dumps(old))
    for name in "report.json", "neighbours.png":
        (folder / name).unlink()
    shown = only(folder)
    assert (shown["departures"], shown["commands"], shown["nearest"]) == (None, [], None)
    assert [note.split(":")[0] for note in shown["missing"]] == ["report.json", "run.json"]


METRICS = {  # the text, what is still shown, and what is said
    "lost": (None, [], "not there"),
    "a folder": (..., [], "folder"),
    "empty": (b"", [], "no column epoch"),
    "of 100 MB": (10**8, [], "100000000 bytes"),
    "zeros": (b"\0" * 4096, [], "no column epoch"),
    "not UTF-8": (b"epoch,value\n1,\xff\n", [], "utf-8"),
    "other columns": (b"step,loss\n1,2\n", [], "no column epoch"),
    "one long field": (b"epoch," + b"x" * 200_000 + b"\n", [], "limit"),
    "a line too short": (b"epoch,value\n1,-1\n2\n3,-1\n", ["1", "3"], "line 3"),
    "a word": (b"epoch,value\n1,<b>\n2,-1\n", ["2"], "line 2"),
    "a script": (b"epoch,value\n1,</script><script>alert(1)</script>\n2,-1\n", ["2"], "line 2"),
    "no epoch": (b"epoch,value\nx,-1\n-1,-1\n1e3,-1\n\xd9\xa3,-1\n4,-1\n", ["4"], "line 2"),
    "epochs backwards": (b"epoch,value\n2,-1\n1,-1\n", ["2"], "line 3"),
    "a huge epoch": (b"epoch,value\n1" + b"0" * 400 + b",-1\n2,-1\n", ["2"], "line 2"),
    "a huge number": (b"epoch,value\n1," + b"9" * 400 + b"\n2,-1\n", ["2"], "line 2"),
    "half a line": (b"epoch,value\n1,-1\n2,-0.", ["1"], None),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_damaged_metrics_csv_is_named(tmp_path, case):
    content, epochs, words = METRICS[case]
    folder, path = make_run(tmp_path / "a"), tmp_path / "a" / "metrics.csv"
    path.unlink()
    if isinstance(content, int):
        with open(path, "wb") as file:
            file.truncate(content)
    elif content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    shown = only(folder)
    assert shown["columns"].get("epoch", []) == epochs
    assert [note for note in shown["missing"] if "metrics.csv" in note and words in note] if words else not shown["missing"]


EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028\u2029\"'`&lt;${1}\ud800{{script}}"
DEEP = '{"a": ' * 100_000 + "1" + "}" * 100_000


def fields(evil):
    """Fields of run.json: this in the place of each text and each object, and as each name."""
    if not isinstance(evil, str):
        return dict.fromkeys([*run_json(4), "diverged"], evil)
    return {
        "data": {"source": evil}, "epochs": evil, "options": {"script": evil}, "configuration": {evil: evil, "list": [evil]},
        "departures": {evil: evil}, "repeat": {evil: evil}, "environment": {evil: {evil: evil}}, "earlier_commits": [evil],
        "diverged": evil,
        "results": {"reading": evil, "units": evil, "evaluation": {evil: {"sigma": evil, "warnings": [evil]}}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "evil",
    [EVIL, "x" * 10**6, 10**300, -1e308, True, None, [], {}, [[EVIL]] * 400, {EVIL: {EVIL: EVIL}}],
    ids=lambda value: str(value)[:20],
)
def test_a_hostile_run_stays_text(tmp_path, evil):
    folder = make_run(tmp_path / "<b>&\"'<script>\u2028\udcff")
    (folder / "run.json").write_text(json.dumps(run_json(4) | fields(evil)))
    looks = {"D_x": evil, "D_G_z": [evil], "distinct": evil, "verdict": evil}
    (folder / "report.json").write_text(json.dumps({"rows": evil, "distinct_data": evil, "epochs": {"1": looks}}))
    shown = reported(folder)
    assert [tag for tag, _ in shown.tags if tag in ("script", "img", "style", "b", "svg")] == ["style", "script", "script"]
    assert not [key for _, tag in shown.tags for key in tag if key.startswith("on")]
    assert len(json.dumps(shown.content)) < 60_000
    assert shown.content["runs"][0]["columns"]["epoch"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "text",
    ["", "null", "[1]", '"epochs"', "{", DEEP, '{"epochs": ' + "9" * 5000 + "}", b"\xff\xfe", "\0" * 100],
    ids=lambda t: str(t[:9]),
)
@pytest.mark.parametrize("name", ["run.json", "report.json"])
def test_a_damaged_json_file_is_named(tmp_path, name, text):
    folder = make_run(tmp_path / "a")
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    shown = only(folder)
    assert [note for note in shown["missing"] if note.startswith(name) and "damaged" in note]
    assert shown["columns"]["epoch"] == ["1", "2", "3", "4"]


def test_numbers_that_are_no_numbers_are_shown_as_text(tmp_path):
    folder = make_run(tmp_path / "a", configuration={"learning_rate": math.nan, "k": 10**400, "scale": math.inf})
    shown = only(folder)
    assert (shown["settings"]["learning_rate"], shown["settings"]["scale"]) == ("nan", "inf")
    assert len(shown["settings"]["k"]) < 400


def test_a_command_is_words_for_a_shell_whatever_the_run_says(tmp_path):
    repeat = {
        "seed": "1; rm -rf ~",
        "data": "$(x)",
        "x y": 1,
        "--out": 1,
        "K": 1,
        "k": 2,
        "batch_norm": False,
        "calm": True,
        "m": [1],
    }
    words = shlex.split(only(make_run(tmp_path / "a", repeat=repeat))["commands"][0])
    assert words[2:] == ["--seed=1; rm -rf ~", "--data=$(x)", "--k=2", "--no-batch-norm", "--calm"]
    for script in "x.py; rm", "../x.py", "a/b.py", "x", 3, None, "-c.py":
        shown = only(make_run(tmp_path / f"run{len(os.listdir(tmp_path))}", options={"script": script}))
        assert shown["commands"] == []


def bomb(width, height):
    """A PNG whose header says that it has this size, with its checksum."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png()[24:29]
    return png()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png()[33:]


PICTURES = {
    "a page": b"<html><script>alert(1)</script>",
    "nothing": b"",
    "half of it": png()[:60],
    "a flipped byte": png()[:50] + bytes([png()[50] ^ 1]) + png()[51:],
    "a GIF": b"GIF89a" + bytes(100),
    "a picture of 67 million pixels": bomb(2**13, 2**13),
    "no width": bomb(0, 8),
    "5 MB": 5_000_000,
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to nothing": lambda path: os.symlink("nowhere", path),
    "a link out of the folder": lambda path: os.symlink(path.parents[2] / "secret.png", path),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_picture_that_is_none_is_named_and_left_out(tmp_path, case):
    folder, content = make_run(tmp_path / "a"), PICTURES[case]
    (tmp_path / "secret.png").write_bytes(png())
    path = folder / "samples" / "epoch-0002.png"
    path.unlink()
    if callable(content):
        content(path)
    else:
        path.write_bytes(bytes(content))
    shown = only(folder)
    assert [picture["epoch"] for picture in shown["pictures"]] == [0, 1, 3, 4]
    (note,) = shown["missing"]
    assert note.startswith("samples/epoch-0002.png: ")


@pytest.mark.parametrize("name", ["run.json", "metrics.csv", "report.json", "samples", "neighbours.png"])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path, name):
    folder, other = make_run(tmp_path / "a"), make_run(tmp_path / "other")
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(other / name)
    shown = only(folder)
    assert [note for note in shown["missing"] if note.startswith(name) and "link" in note]


# ---- The command


def test_the_command_writes_a_page_and_says_how_large_it_is(tmp_path, capsys, monkeypatch):
    folders = [make_run(tmp_path / name) for name in "ab"]
    monkeypatch.chdir(tmp_path)
    for arguments, path in (
        ([folders[0]], folders[0] / "report.html"),
        (folders, "report.html"),
        ([*folders, "--out", tmp_path / "x.html"], tmp_path / "x.html"),
    ):
        assert __main__.main(["report", *map(str, arguments)]) == 0
        assert capsys.readouterr().out.startswith(f"{path}: ")
        assert os.path.getsize(path) > 10_000


def test_what_is_no_run_is_refused_with_the_nearest_run(tmp_path):
    make_run(tmp_path / "mnist-1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in "mnist-2", "empty", "file":
        with refused(tmp_path / name, "the nearest run is", tmp_path / "mnist-1", error=CheckpointError):
            write_report([tmp_path / name], tmp_path / "page.html")
    with refused(MOST_RUNS + 1, MOST_RUNS):
        write_report([tmp_path / "mnist-1"] * (MOST_RUNS + 1), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_is_refused(tmp_path, capsys):
    folder = make_run(tmp_path / "a")
    for out in tmp_path / "nowhere" / "x.html", tmp_path:
        assert __main__.main(["report", str(folder), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert [str(out) in error, "--out" in error, len(error.splitlines())] == [True, True, 1]
    assert not list(tmp_path.glob("**/*.tmp"))


def test_a_run_that_cannot_be_read_is_named_and_not_the_page(tmp_path, capsys, monkeypatch):
    folder = make_run(tmp_path / "a")

    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(folder / "samples"))

    monkeypatch.setattr(tinygan.report, "write_report", refuse)
    assert __main__.main(["report", str(folder), "--out", str(tmp_path / "x.html")]) == 2
    error = capsys.readouterr().err
    assert [str(folder / "samples") in error, "x.html" in error] == [True, False]


def test_the_parts_of_a_page_do_not_fill_each_others_places(tmp_path):
    folder = make_run(tmp_path / "{{script}}{{style}}")
    assert "{{script}}" in page(facts([folder], embedded=True), embedded=True).decode()
