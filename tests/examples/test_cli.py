"""python -m tinygan: what it prints, and the exit codes of all ways in which it can end."""

import importlib.metadata
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tinygan
from tinygan import Linear, __main__, derivatives

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TINYGAN", "XDG"))},
    "PYTHONPATH": str(Path(tinygan.__file__).parents[1]),
    "PYTHONWARNINGS": "error",
    "OPENBLAS_NUM_THREADS": "1",
}
HEAVY = {"scipy", "matplotlib", "tqdm", "PIL", "cupy", "mlxtend", "sklearn", "pandas", "torch"}


def run(*arguments, **environment):
    """python with these arguments, in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.slow
def test_gradcheck_prints_a_row_for_everything_and_ends_with_a_summary():
    done = run("-m", "tinygan", "gradcheck")
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows, empty, summary = done.stdout.splitlines()
    assert heading.split("  ")[-1].strip() == "worst relative error"
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == list(derivatives.ROWS)
    errors = [float(row.split()[-1]) for row in rows]
    assert 0 < max(errors) < 1e-6
    assert empty == ""
    assert str(len(rows)) in summary
    assert f"{max(errors):.1e}" in summary
    assert "WRONG" not in done.stdout


def test_gradcheck_fails_with_exit_code_1_and_says_where(monkeypatch, capsys):
    correct = Linear.backward

    def wrong(self, dy, cache, grads=None, need_dx=True):
        dx = correct(self, dy, cache, grads, need_dx)
        if grads is not None:
            grads["W"][1, 2] *= 1.0001
        return dx

    monkeypatch.setattr(derivatives, "ROWS", {name: derivatives.ROWS[name] for name in ("Linear", "ReLU")})
    monkeypatch.setattr(Linear, "backward", wrong)
    assert __main__.main(["gradcheck"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Linear")
    assert lines[1].endswith("WRONG")
    assert not lines[2].endswith("WRONG")
    assert any("W[1, 2]: backward" in line and "ratio 1.0001," in line for line in lines)
    assert lines[-1].startswith("1 of 2 are WRONG: Linear")


@pytest.mark.slow
def test_doctor_says_what_there_is(tmp_path):
    done = run("-m", "tinygan", "doctor", XDG_CACHE_HOME=str(tmp_path), OPENBLAS_NUM_THREADS="1")
    assert (done.returncode, done.stderr) == (0, "")
    for name in "Python", "NumPy", "SciPy", "Pillow", "BLAS", "Threads", "Speed", "GPU", "Extras", "Data", "Cache":
        assert re.search(rf"^{name} +\S", done.stdout, re.MULTILINE), name
    assert "OPENBLAS_NUM_THREADS=1" in done.stdout
    assert re.search(r"\d+ GFLOP/s", done.stdout)
    assert str(tmp_path / "tinygan" / "mnist") in done.stdout
    assert not list(tmp_path.iterdir())  # nothing was downloaded
    assert "Not working" not in done.stdout


@pytest.fixture
def quick_doctor(monkeypatch):
    """The doctor without the parts that compute."""
    monkeypatch.setattr(__main__, "_blas", lambda: None)
    monkeypatch.setattr(__main__, "_data", lambda: None)


@pytest.mark.parametrize(
    ("cuda", "remedies"),
    [
        (None, ["python -m pip install", "cupy-cuda12x[ctk]", "cupy-cuda13x[ctk]"]),
        (11, ["CUDA 11", "CUDA 12"]),
        (12, ['python -m pip install --upgrade "cupy-cuda12x[ctk]"']),
        (13, ['python -m pip install --upgrade "cupy-cuda13x[ctk]"']),
    ],
)
def test_doctor_names_the_cupy_for_the_driver(cuda, remedies, quick_doctor, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy raises ImportError
    monkeypatch.setattr(__main__, "_driver_cuda_version", lambda: cuda)
    assert __main__.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "CuPy is not installed" in output
    assert [remedy for remedy in remedies if remedy not in output] == []


def test_doctor_names_the_device(strict_xp, quick_doctor, capsys):
    assert __main__.main(["doctor"]) == 0
    assert "use it with --backend cupy" in capsys.readouterr().out


def test_doctor_fails_where_something_required_is_broken(quick_doctor, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert __main__.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert 'python -m pip install --upgrade "pillow"' in output
    assert "Not working: Pillow" in output.splitlines()[-1]


def test_doctor_refuses_an_old_numpy(quick_doctor, monkeypatch, capsys):
    monkeypatch.setattr("numpy.__version__", "1.26.4")
    assert __main__.main(["doctor"]) == 1
    assert 'python -m pip install --upgrade "numpy>=2"' in capsys.readouterr().out


def test_doctor_names_the_extras_that_are_missing(quick_doctor, monkeypatch, capsys):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert __main__.main(["doctor"]) == 0
    assert "python -m pip install matplotlib tqdm mlxtend" in capsys.readouterr().out


@pytest.mark.slow
def test_doctor_tells_of_damaged_data(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, kind in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        (folder / f"{part}-{kind}-ubyte").write_bytes(b"not MNIST")
    done = run("-m", "tinygan", "doctor", TINYGAN_DATA=str(tmp_path))
    assert done.returncode == 0
    assert re.search(r"^Data .*train-images-idx3-ubyte.*no IDX magic number", done.stdout, re.MULTILINE)


def imported(importtime):
    """The top-level modules in what python -X importtime has written."""
    return {line.split("|")[-1].strip().split(".")[0] for line in importtime.splitlines() if "import time:" in line}


@pytest.mark.parametrize("command", [[], ["gradcheck"], ["parzen"], ["doctor"]])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as ended:
        __main__.main([*command, "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: {' '.join(['python -m tinygan', *command])} [-h]")
    assert len(lines) > 5


def test_help_imports_nothing_heavy():
    done = run("-X", "importtime", "-m", "tinygan", "--help")
    assert done.returncode == 0
    assert "numpy" in imported(done.stderr)
    assert not HEAVY & imported(done.stderr)


def test_a_command_imports_no_other(quick_doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinygan.score", None)  # importing it raises ImportError
    assert __main__.main(["doctor"]) == 0


def test_import_tinygan_imports_nothing_heavy():
    done = run("-X", "importtime", "-c", "import tinygan")
    assert "numpy" in imported(done.stderr)
    assert not HEAVY & imported(done.stderr)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["gradcheck", "--nonsense"], ["doctor", "surplus"]])
def test_a_mistake_in_the_call_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        __main__.main(arguments)
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines()[-1].startswith("python -m tinygan")


def test_an_error_of_tinygan_is_one_line_and_exit_code_2(tmp_path):
    missing = str(tmp_path / "missing.npy")
    done = run("-m", "tinygan", "parzen", missing, "--validation", missing, "--test", missing)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert missing in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_error_of_many_lines_is_one_line(monkeypatch, capsys):
    def fail():
        raise tinygan.DataError("this file:\n  is damaged")

    monkeypatch.setattr(derivatives, "ROWS", {"fails": fail})
    assert __main__.main(["gradcheck"]) == 2
    assert capsys.readouterr().err == "error: this file: is damaged\n"


def test_ctrl_c_ends_cleanly(monkeypatch, capsys):
    monkeypatch.setattr(derivatives, "ROWS", {"interrupted": lambda: signal.raise_signal(signal.SIGINT)})
    assert __main__.main(["gradcheck"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["--help", "gradcheck"])
def test_a_reader_that_goes_away_is_no_error(command):
    arguments = [sys.executable, "-m", "tinygan", command]
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # long before there is anything to read
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=300), errors) == (141, b"")


def test_a_terminal_without_unicode_is_no_error():
    done = run("-m", "tinygan", "parzen", "--help", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
