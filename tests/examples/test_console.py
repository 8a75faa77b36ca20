"""What scripts show: in any encoding, into pipes whose reader goes away, into files, and without optional packages."""

import json
import os
import subprocess
import sys

import pytest
from helpers import SMALL
from scripts import ENVIRONMENT, EXAMPLES, ROOT

from tinygan.console import PlainProgress, progress_bar

pytestmark = pytest.mark.slow  # mostly processes of their own

PROGRAM = """
import os, sys
import tinygan.run
def program():
    print("first σ ± ½")
    sys.stdout.flush()
    sys.stdin.readline()
    print("second", file=sys.stderr)
    print("third 字")
    sys.stdout.flush()
    open(sys.argv[1], "w").write("done")
tinygan.run.main(program)
"""


@pytest.mark.parametrize(
    ("environment", "first", "third"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "first sigma +/- 1/2", "third ?"),
        ({"PYTHONIOENCODING": "cp1252"}, "first sigma ± ½", "third ?"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "first sigma +/- 1/2", "third ?"),
        ({"PYTHONIOENCODING": "utf-8"}, "first σ ± ½", "third 字"),
    ],
)
def test_any_text_is_printed_in_any_encoding(tmp_path, environment, first, third):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "file")]
    done = subprocess.run(command, input=b"", capture_output=True, env=ENVIRONMENT | environment, timeout=60)
    encoding = environment.get("PYTHONIOENCODING", "ascii")
    assert (done.returncode, done.stdout.decode(encoding).splitlines()) == (0, [first, third]), done.stderr


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_reader_goes_away_runs_to_its_end(tmp_path, both, unbuffered):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.STDOUT if both else pipe,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout.readline().startswith(b"first")
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    errors = b"second\n" if both else process.stderr.read()
    if not both:
        process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"second\n")
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize(("unbuffered", "words"), [("1", ["one", "two", "three"]), ("", ["two", "one", "three"])])
def test_an_unbuffered_program_writes_at_once(unbuffered, words):
    code = "import sys, tinygan.console as c; c.prepare_streams(); print('one'); print('two', file=sys.stderr); print('three')"
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert done.stdout.decode().split() == words


def test_the_results_are_in_the_file_before_a_word_is_printed(run, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("tinygan.run.tell", broken)
    with pytest.raises(OSError, match="terminal"):
        run("a", "--epochs", 1)
    assert json.loads((tmp_path / "a" / "run.json").read_text(encoding="utf-8"))["results"]["evaluation"]


def test_progress_into_a_file_is_a_line_an_epoch_without_carriage_returns(run, capsys):
    run("a", "--epochs", 60, "--picture-every", 60, "--evaluate-every", 60)
    errors = capsys.readouterr().err
    assert "\r" not in errors
    assert len([line for line in errors.splitlines() if "iterations" in line]) == 60


def test_progress_with_a_title_is_ten_lines(capsys):
    with progress_bar(1000, title="games") as bar:
        assert isinstance(bar, PlainProgress)
        for _ in range(1000):
            bar.update()
    assert capsys.readouterr().err.splitlines() == [f"games: {n} of 1000" for n in range(100, 1001, 100)]


def without(folder, *packages):
    """The environment of a process that lacks these packages: each has in its place a file that cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return ENVIRONMENT | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


@pytest.mark.parametrize("name", ["collapse.py", "costs.py", "figure1.py"])
def test_without_matplotlib_a_script_that_only_draws_ends_at_once(tmp_path, name):
    command = [sys.executable, str(EXAMPLES / name), "--smoke", "--out", str(tmp_path / "out")]
    environment = without(tmp_path, "matplotlib", "tqdm")
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "pip install matplotlib" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_a_run_says_so_at_its_start(data, tmp_path):
    command = [sys.executable, str(EXAMPLES / "mnist.py"), "--data", str(data), "--out", str(tmp_path / "a"), *SMALL]
    environment = without(tmp_path, "matplotlib", "tqdm")
    done = subprocess.run([*command, "--smoke"], capture_output=True, encoding="utf-8", env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (place,) = [i for i, line in enumerate(lines) if "pip install matplotlib" in line]
    assert place < min(i for i, line in enumerate(lines) if "iterations" in line)
    assert not (tmp_path / "a" / "curves.png").exists()
