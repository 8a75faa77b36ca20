"""tinygan.run.Run around a loop of one's own, and what it does without tqdm, without matplotlib, and around the bar."""

import argparse
import csv
import json
import sys
import types

import mnist
import numpy as np
import pytest
from helpers import bits, refused
from PIL import Image
from tqdm import tqdm as std_tqdm

import tinygan.run
from tinygan import (
    GAN,
    Adam,
    BatchNorm,
    CheckpointError,
    DataError,
    Linear,
    Network,
    Noise,
    Printed,
    ReLU,
    Reshape,
    Sigmoid,
    Streams,
    Trainer,
    load_checkpoint,
    load_generator,
    load_mnist,
)
from tinygan.console import PlainProgress, progress_bar
from tinygan.figures import CUT, PANELS, curves, read_metrics
from tinygan.images import image_grid
from tinygan.run import COLUMNS, Run, add_options

pytestmark = pytest.mark.slow

EPOCHS = 3


# ---- A run of one's own


def play(data, *arguments, name="own", columns=COLUMNS, kind=Printed, optimizer=Adam, **options):
    """A script's program with another game than the recipe's: its nets, its optimisers, its options."""
    parser = argparse.ArgumentParser()
    add_options(parser, batch_size=10, seed=3, epochs=EPOCHS)
    parser.add_argument("--width", type=int, default=6)
    args = parser.parse_args([*map(str, arguments)])
    with Run(name, args, columns) as run:
        dataset = load_mnist(data)
        d = dataset.train.images.shape[1]
        G = Network([Linear(2, args.width), BatchNorm(args.width), ReLU(), Linear(args.width, d), Sigmoid()], seed=args.seed)
        D = Network([Reshape((d,)), Linear(d, 4), BatchNorm(4), ReLU(), Linear(4, 1)], seed=args.seed + 1)
        game = {"noise": Noise("spherical", 2), "batch_size": args.batch_size, "k": 2, "generator_steps": 3} | options
        gan = kind(G, D, optimizer(G.theta, 0.01), optimizer(D.theta, 0.01), **game)
        trainer = Trainer(gan, dataset.train, dataset.validation, seed=args.seed)
        run.start(trainer, dataset)
        z = gan.noise(Streams(args.seed)["picture"], 4)
        while trainer.epoch < args.epochs:
            with run.timed():
                row = trainer.train_epoch(run.after_iteration)
            if run.due("picture"):
                run.save_picture(image_grid(G(z), dataset.image_shape))
            run.record(row)
        run.finish("a game of one's own", {"mine": args.width})
        return gan


def metrics(folder, columns=COLUMNS):
    """Its lines without the timing."""
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [[row[name] for name in columns] for row in csv.DictReader(file)]


@pytest.mark.usefixtures("draw_curves")
def test_a_game_with_other_options_has_a_run_too(data, tmp_path):
    """Batch norm, Adam, D's k = 2, another variant, another prior."""
    gan = play(data, "--out", tmp_path / "a", "--picture-every", 1)
    facts = json.loads((tmp_path / "a" / "run.json").read_text(encoding="utf-8"))
    settings = facts["configuration"]
    expected = {"variant": "printed", "generator_cost": "minimax", "k": 2, "generator_steps": 3, "prior": "spherical"}
    assert {name: settings[name] for name in expected} == expected
    assert (settings["noise"], settings["batch_size"], settings["width"], settings["seed"]) == (2, 10, 6, 3)
    assert (facts["results"]["mine"], facts["results"]["iterations"]) == (6, EPOCHS * 3)
    checkpoint = load_checkpoint(tmp_path / "a" / "checkpoint.npz")
    assert checkpoint.updates == {"G": EPOCHS * 3 * 3, "D": EPOCHS * 3 * 2}
    assert {"G.statistics", "D.statistics", "G.first_moment", "D.second_moment"} < checkpoint.vectors.keys()
    lines = metrics(tmp_path / "a")
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert {line[COLUMNS.index("momentum")] for line in lines} == {""}  # Adam has none
    assert all(line[COLUMNS.index("value")] for line in lines)
    for epoch in range(1, EPOCHS + 1):
        with Image.open(tmp_path / "a" / "samples" / f"epoch-{epoch:04d}.png") as picture:
            assert picture.size == (2 + 2 * 8, 2 + 2 * 8)
    assert bits(load_generator(tmp_path / "a").sample(5)) == bits(gan.sample(5))


@pytest.mark.usefixtures("draw_curves")
def test_such_a_run_resumes_bit_for_bit_and_with_its_own_settings_alone(data, tmp_path):
    play(data, "--out", tmp_path / "whole")
    play(data, "--out", tmp_path / "parts", "--epochs", 1)
    play(data, "--out", tmp_path / "parts", "--resume")
    assert (tmp_path / "parts" / "checkpoint.npz").read_bytes() == (tmp_path / "whole" / "checkpoint.npz").read_bytes()
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    arguments = data, "--out", tmp_path / "parts", "--epochs", 4, "--resume"
    for options, facts in (
        ({"k": 1}, ["k", 2, 1]),
        ({"kind": GAN, "generator_cost": "minimax"}, ["variant", "printed", "alternating"]),
        ({"noise": Noise("gaussian", 2)}, ["prior", "spherical", "gaussian"]),
    ):
        with refused(tmp_path / "parts", *facts, error=CheckpointError):
            play(*arguments, **options)
    with refused(tmp_path / "parts", "architecture", 6, 7, error=CheckpointError):
        play(*arguments, "--width", 7)


@pytest.mark.usefixtures("draw_curves")
def test_the_columns_of_metrics_csv_are_the_callers(data, tmp_path):
    columns = "epoch", "generator_cost", "unknown"
    play(data, "--out", tmp_path / "a", columns=columns)
    lines = metrics(tmp_path / "a", columns)
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert all(line[1] for line in lines)
    assert not any(line[2] for line in lines)


@pytest.mark.usefixtures("draw_curves")
def test_a_run_without_out_gets_a_folder_of_its_name(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    play(data, name="mine", columns=COLUMNS)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-")
    assert (folder / "run.json").exists()
    assert f"runs/{folder.name}" in capsys.readouterr().err


# ---- Without the optional packages


def test_without_tqdm_there_is_a_line_for_each_epoch(run, monkeypatch, capsys):
    for name in "tqdm", "tqdm.auto":
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    assert isinstance(progress_bar(10), PlainProgress)
    folder = run("a", "--epochs", 3)
    lines = [line for line in capsys.readouterr().err.splitlines() if "iterations" in line]
    for epoch, (line, row) in enumerate(zip(lines, metrics(folder), strict=True), 1):
        assert f"{6 * epoch} of 18" in line
        assert f"epoch {epoch}" in line
        for name in "D_x", "D_G_z":
            assert f"{float(row[COLUMNS.index(name)]):.3f}" in line
    run("a", "--epochs", 4, "--resume")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "iterations" in line]
    assert "24 of 24" in line


def a_notebook(monkeypatch, *, widgets):
    """In the place of IPython: this process is a notebook's kernel, which has ipywidgets or lacks it."""
    from tqdm.notebook import tqdm

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.SimpleNamespace())  # where newer versions of tqdm look
    monkeypatch.setattr("tqdm.notebook.IProgress", object if widgets else None)
    for name in "tqdm.auto", "tqdm.autonotebook":
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(tqdm, "__init__", lambda self, *_, **options: vars(self).update(options, disable=True))
    return tqdm


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_gets_its_bar_without_a_warning(widgets, monkeypatch):
    notebook = a_notebook(monkeypatch, widgets=widgets)
    bar = progress_bar(10, 3, "games")
    assert isinstance(bar, notebook) == widgets
    assert isinstance(bar, std_tqdm)
    assert (bar.total, bar.initial) == (10, 3)
    bar.disable = True  # what closes a bar of widgets is not there


def test_without_tqdm_the_run_is_the_same(run, monkeypatch):
    with_it = run("a", "--epochs", 2)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert (run("b", "--epochs", 2) / "checkpoint.npz").read_bytes() == (with_it / "checkpoint.npz").read_bytes()


def test_without_matplotlib_one_line_says_how_to_install_it_and_all_else_is_there(run, monkeypatch, capsys, draw_curves):
    monkeypatch.setattr(tinygan.run, "draw_curves", draw_curves)
    for name in "matplotlib", "matplotlib.figure":
        monkeypatch.setitem(sys.modules, name, None)
    folder = run("a", "--epochs", 1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "pip install" in line]
    assert "curves.png" in line
    assert "pip install matplotlib" in line
    assert not (folder / "curves.png").exists()
    assert (folder / "samples.gif").exists()
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]["epochs"] == 1


# ---- The bar


class Bar:
    """In the place of the progress bar: what is done to it, in order."""

    def __init__(self, events, total, initial=0):
        self.events = events
        events.append(("begin", total, initial))

    def update(self):
        self.events.append("iteration")

    def set_postfix_str(self, text):
        self.events.append("epoch")

    def close(self):
        self.events.append("close")


@pytest.fixture
def events(monkeypatch):
    """What happens to the bar, and when the measurement is printed."""
    events = []
    monkeypatch.setattr(tinygan.run, "progress_bar", lambda *numbers: Bar(events, *numbers))
    measure = tinygan.run.measure
    monkeypatch.setattr(tinygan.run, "measure", lambda *arguments: events.append("measure") or measure(*arguments))
    return events


def test_the_bar_is_closed_before_the_measurement_is_printed(run, events):
    run("a", "--epochs", 2)
    epoch = ["iteration"] * 6 + ["epoch"]
    assert events[:16] == [("begin", 12, 0), *epoch, *epoch, "close"]
    assert events.index("measure") == 16
    assert set(events[17:]) <= {"close"}


def test_the_bar_of_a_resumed_run_starts_where_it_was(run, events):
    run("a", "--epochs", 2)
    events.clear()
    run("a", "--epochs", 3, "--resume")
    assert events[0] == ("begin", 18, 12)
    assert events.count("iteration") == 6
    events.clear()
    run("a", "--epochs", 3, "--resume")  # nothing is left to train
    assert events == ["measure"]


def test_the_bar_is_closed_when_the_run_stops(call, data, tmp_path, events, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(mnist.program, "--data", data, "--out", tmp_path / "a", "--backend", "numpy", "--generator-width", 8,
             "--discriminator-width", 8, "--batch-size", 10)  # fmt: skip
    assert events[-1] == "close"


# ---- The pictures


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_first_picture_has_the_data_on_its_left_and_the_film_has_only_samples(run, data):
    folder = run("a", "--epochs", 1)
    real = image_grid(load_mnist(data).train.images[:100], (6, 6))
    first, last = (picture(folder / "samples" / f"epoch-000{epoch}.png") for epoch in (0, 1))
    np.testing.assert_array_equal(first[: len(real), : real.shape[1]], real)
    with Image.open(folder / "samples.gif") as film:
        assert film.size == last.shape[::-1]
        np.testing.assert_array_equal(np.asarray(film.convert("L")), first[:, -last.shape[1] :])


def test_scale_enlarges_every_picture_and_changes_no_number(run, call):
    options = ["--picture-every", 1, "--epochs"]
    plain, large = run("plain", *options, 2), run("a", "--enlarge", 3, *options, 1)
    call(mnist.program, "--out", large, "--resume", "--epochs", 2)  # it goes on with its scale
    for path in (plain / "samples").iterdir():
        enlarged = picture(path).repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_array_equal(picture(large / "samples" / path.name), enlarged)
    with Image.open(large / "samples.gif") as film:
        assert film.size == (3 * 82, 3 * 82)
    assert (plain / "checkpoint.npz").read_bytes() == (large / "checkpoint.npz").read_bytes()


def test_the_curves_are_drawn_while_the_run_goes_on_with_a_row_of_its_latest_samples(run, monkeypatch):
    drawn = []

    def draw(path, metrics, title, row):
        drawn.append((path.name, len(metrics), title, np.array(row)))

    monkeypatch.setattr(tinygan.run, "draw_curves", draw)
    folder = run("a", "--epochs", 5, "--picture-every", 2, "--enlarge", 2)
    assert [entry[:2] for entry in drawn] == [("curves.png", 2), ("curves.png", 4), ("curves.png", 5)]
    assert "epoch 4 of 5" in drawn[1][2]
    for epoch, (_, _, _, row), scale in zip((2, 4, 5), drawn, (1, 1, 2), strict=True):
        whole = picture(folder / "samples" / f"epoch-000{epoch}.png")
        assert row.shape == (scale * 10, scale * 82)
        np.testing.assert_array_equal(row.repeat(2 // scale, axis=0).repeat(2 // scale, axis=1), whole[:20])
    drawn.clear()
    run("a", "--epochs", 5, "--resume")  # nothing is left to train
    assert [entry[1] for entry in drawn] == [5]


@pytest.mark.parametrize("scale", [1, 3])
def test_a_finished_run_cuts_the_row_of_the_curves_with_the_scale_of_its_pictures(scale, run, call, monkeypatch):
    folder, rows = run("a", "--epochs", 1, "--scale", scale), []
    monkeypatch.setattr(tinygan.run, "draw_curves", lambda path, metrics, title, row: rows.append(row))
    for _ in range(2):  # the second time, run.json has the new scale already
        call(mnist.program, "--out", folder, "--resume", "--scale", 2)
    last = picture(folder / "samples" / "epoch-0001.png")
    assert len(rows) == 2
    for row in rows:
        np.testing.assert_array_equal(row, last[: scale * 10])


# ---- The curves


def made_up(epochs):
    """The metrics of a run that starts far from where it ends."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((epochs, 5)) / 50
    rows = [dict(zip(COLUMNS[1:6], [-1.4, 0.6, 2.0, 0.6, 0.4] + noise[i], strict=True)) for i in range(epochs)]
    for i, row in enumerate(rows):
        row["epoch"] = i + 1
        if i % 2:
            row["validation_log_likelihood"] = 200 + noise[i, 0] if i > 20 else -5000.0
    return rows


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 1, *(pytest.param(n, marks=SLOW) for n in (2, 5, 30)), 1000])
def test_the_axes_of_the_curves_can_be_read_however_many_points_there_are(epochs):
    from matplotlib.figure import Figure

    rows = made_up(epochs)
    figure = curves(rows, axes=Figure(figsize=(10, 7)).subplots(2, 2))  # a constrained layout takes a second
    figure.draw_without_rendering()
    for axis, panel in zip(figure.axes, PANELS, strict=True):
        left, right = axis.get_xlim()
        assert (left, right >= max(2, epochs)) == (0, True)
        ticks = [label.get_text() for label in axis.get_xticklabels() if label.get_text()]
        assert all(float(text) == int(text) for text in ticks)
        low, high = axis.get_ylim()
        assert epochs == 0 or high - low >= panel.least or not any(set(panel.labels) & set(row) for row in rows)
        assert axis.yaxis.get_offset_text().get_text() == ""
        heights = [label.get_text().replace("−", "-") for label in axis.get_yticklabels()]
        assert len({*heights}) == len(heights), "two ticks have the same text"
        shown = [row[key] for row in rows for key in panel.labels if key in row and low <= row[key] <= high]
        everything = [row[key] for row in rows for key in panel.labels if key in row]
        said = [text.get_text() for text in axis.texts]
        assert said == ([] if everything else ["not measured yet"]) + (
            [f"{len(everything) - len(shown)} points outside"] if len(shown) < len(everything) else []
        )
        assert len(shown) >= 0.9 * len(everything)
        assert any(line.get_marker() == "o" for line in axis.lines) == (0 < len(everything) and epochs <= 100)
    if epochs == 1000:
        assert figure.axes[3].get_ylim()[0] > 150, "the first points do not stretch the axis"


def test_a_measurement_is_told_with_each_warning_once(capsys):
    result = {"log_likelihood": 9.0, "standard_error": 0.5, "samples": 10, "sigma": 0.1, "test_rows": 10}
    tinygan.run.tell({"authors": result | {"warnings": ["few"]}, "fine": result | {"warnings": ["few", "wide"]}})
    authors, fine, *warnings = capsys.readouterr().out.splitlines()
    assert "9.0 ± 0.5 nats" in authors
    assert "σ = 0.100 of the authors' grid" in authors
    assert "of the fine grid" in fine
    assert warnings == ["  warning: few", "  warning: wide"]


@pytest.mark.parametrize("points", [CUT, CUT + 1])
def test_only_of_many_points_is_one_that_lies_far_off_left_out(points):
    from matplotlib.figure import Figure

    rows = [{"epoch": i + 1, "value": -100.0 if i == 0 else -1.4 + i % 2 / 1000} for i in range(points)]
    low, _ = curves(rows, axes=Figure().subplots(2, 2)).axes[0].get_ylim()
    assert (low < -100) == (points <= CUT)


def test_a_figure_takes_axes_and_is_returned(run):
    from matplotlib.figure import Figure

    folder = run("a", "--epochs", 2)
    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["D_x"] == pytest.approx(load_checkpoint(folder / "checkpoint.npz").metrics[1]["D_x"], rel=1e-5)
    mine = Figure()
    axes = mine.subplots(2, 2)
    assert curves(rows, axes=axes) is mine
    assert [len(axis.lines) for axis in axes.flat] == [2, 3, 2, 1]
    assert isinstance(curves(rows, samples=np.zeros((10, 82))), Figure)
    with refused("4 axes", 2):
        curves(rows, axes=axes[0])
    with refused("samples", "axes"):
        curves(rows, samples=np.zeros((10, 82)), axes=axes)
    with refused(folder / "samples" / "metrics.csv", error=DataError):
        read_metrics(folder / "samples")
    (folder / "metrics.csv").write_text("epoch,value\n1,x\n")
    with refused(folder / "metrics.csv", "damaged", error=DataError):
        read_metrics(folder)


def test_curves_are_drawn_of_a_run_that_measures_other_things(draw_curves, tmp_path):
    draw_curves(tmp_path / "curves.png", [{"epoch": 1, "error": 2.0}, {"epoch": 2, "value": -1.0}], "a title")
    with Image.open(tmp_path / "curves.png") as picture:
        assert np.asarray(picture).std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
