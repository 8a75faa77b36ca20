"""Two processes and one folder: one holds it, the other is told so; and whoever is killed holds nothing any more."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import mnist
import numpy as np
import pytest
from helpers import SMALL, refused, rows
from scripts import ENVIRONMENT, EXAMPLES, ROOT

import tinygan.files
from tinygan import ArgumentError, Checkpoint, CheckpointError, DataError, load_checkpoint, save_checkpoint
from tinygan.files import LOCK, FolderLock, hold
from tinygan.run import claim_folder

pytestmark = pytest.mark.slow  # mostly processes of their own

SLOW = pytest.mark.slow
PATH = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES)))}


def python(code, *arguments, **options):
    """A process of its own that runs this code."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=PATH, text=True, **(pipes | options))


HOLDER = "import sys, pathlib, tinygan.files as f\nlock = f.FolderLock(pathlib.Path(sys.argv[1]))\nprint('held', flush=True)\n"


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder tmp_path/a until it reads a line, or is killed."""
    process = python(HOLDER + "sys.stdin.readline()\nlock.release()", tmp_path / "a")
    assert process.stdout.readline() == "held\n", process.stderr.read()
    yield process
    process.kill()
    process.communicate()


def test_the_folder_of_a_process_is_refused_to_others_until_it_ends(holder, run, tmp_path):
    before = (tmp_path / "a" / LOCK).read_bytes()
    for options in [], ["--resume"], ["--overwrite"]:
        with refused(tmp_path / "a", f"process {holder.pid} on {socket.gethostname()} since 20"):
            run("a", "--epochs", 1, *options)
    with refused(tmp_path / "a", holder.pid), hold(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path / "a") == [LOCK]
    assert (tmp_path / "a" / LOCK).read_bytes() == before
    holder.communicate("\n")
    assert not (tmp_path / "a").exists()  # it had made it, and left nothing in it
    assert not (run("a", "--epochs", 1) / LOCK).exists()


def test_a_killed_process_holds_nothing(holder, run, tmp_path):
    holder.kill()
    holder.wait()
    assert str(holder.pid) in (tmp_path / "a" / LOCK).read_text()  # what it left names it, and locks nothing
    assert not (run("a", "--epochs", 1) / LOCK).exists()


def test_while_it_is_held_the_file_names_this_process(tmp_path):
    (tmp_path / LOCK).write_text("of a killed process " * 30)
    with hold(tmp_path):
        owner = json.loads((tmp_path / LOCK).read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"pid": 3}', b"x" * 10_000])
def test_an_owner_whose_name_cannot_be_read_is_respected_all_the_same(tmp_path, content, monkeypatch):
    monkeypatch.setattr(tinygan.files.time, "sleep", lambda _: None)
    with hold(tmp_path):
        (tmp_path / LOCK).write_bytes(content)
        with refused(tmp_path, "in use"), hold(tmp_path):
            pass


@pytest.mark.parametrize("existed", [True, False])
def test_a_start_that_fails_leaves_no_folder_and_no_file(call, tmp_path, existed, monkeypatch):
    (tmp_path / "empty").mkdir()
    if existed:
        (tmp_path / "runs" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for out in ["--out", tmp_path / "runs" / "a"], []:
        with pytest.raises(DataError):
            call(mnist.program, "--data", tmp_path / "empty", *out)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["empty"] + ["runs", "runs/a"] * existed


def test_a_refused_resume_leaves_the_folder_as_it_was(run, tmp_path):
    folder = run("a", "--epochs", 1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for options in ["--resume", "--seed", 1], ["--resume", "--generator-width", 9], []:
        with pytest.raises(CheckpointError):
            run("a", "--epochs", 2, *options)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(tinygan.files.os, "open", refuse)
        with refused(tmp_path / "a", "Permission denied", LOCK), hold(tmp_path / "a"):
            pass
    assert not (tmp_path / "a").exists()
    (tmp_path / LOCK).mkdir()
    with refused(tmp_path, LOCK), hold(tmp_path):
        pass


def test_starts_within_one_second_get_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tinygan.run.time, "strftime", lambda _: "mine-20260101-000000")
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim_folder("mine", None)[0], range(40)))
    assert len(set(claimed)) == 40
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(folder.name for folder in claimed)


def test_many_that_want_one_folder_hold_it_one_after_the_other(tmp_path):
    """Folder and file come and go with their owners, and never are two inside."""
    inside, most, held, refusals = [], [], [], []

    def work(number):
        while len(held) < 200:
            try:
                with hold(tmp_path / "runs" / "a"):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
                    held.append(number)
            except ArgumentError as error:
                refusals.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert set(most) == {1}
    assert all("in use" in refusal for refusal in refusals)
    assert len(held) >= 200
    assert not (tmp_path / "runs" / "a" / LOCK).exists()


@pytest.mark.parametrize("with_folder", [False, True])
def test_a_file_that_its_last_owner_removes_meanwhile_is_not_taken_for_the_lock(tmp_path, monkeypatch, with_folder):
    import fcntl

    folder, real = tmp_path / "a", fcntl.flock

    def removed_first(*arguments):
        monkeypatch.setattr(fcntl, "flock", real)
        (folder / LOCK).unlink()
        if with_folder:
            folder.rmdir()
        real(*arguments)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with hold(folder):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
        with refused(folder, "in use"), hold(folder):
            pass


def test_of_two_runs_started_at_once_in_one_folder_one_trains_and_the_other_is_told_so(data, tmp_path):
    code = "import tinygan.run as r, mnist, sys\nr.SAMPLES, r.draw_curves = 50, print\nprint('ready', flush=True)\n"
    code += "sys.stdin.readline()\nr.main(mnist.program)"
    arguments = ["--data", data, "--out", tmp_path / "a", "--epochs", 30, *SMALL]
    both = [python(code, *arguments) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = {process.pid: process.communicate()[1] for process in both}
    winner, loser = sorted(both, key=lambda process: process.returncode)
    assert (winner.returncode, loser.returncode) == (0, 1), errors
    for fact in "error: ", str(tmp_path / "a"), f"process {winner.pid} ":
        assert fact in errors[loser.pid]
    assert [row[0] for row in rows(tmp_path / "a")] == ["epoch", *map(str, range(1, 31))]
    assert not (tmp_path / "a" / LOCK).exists()


# ---- Other systems


def test_on_windows_a_byte_behind_the_text_is_locked_and_the_file_is_closed_before_it_is_removed(tmp_path, monkeypatch):
    """With a stand-in for msvcrt: what is locked, where, and in which order the file is closed and removed."""
    calls, real_close = [], os.close

    def locking(descriptor, mode, count):
        calls.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        if len(calls) > 1:
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(LK_NBLCK=2, locking=locking))
    lock = FolderLock(tmp_path)
    with refused(tmp_path, os.getpid()), hold(tmp_path):
        pass
    assert calls == [(tinygan.files.BEYOND, 2, 1)] * 2
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    there = []
    monkeypatch.setattr(tinygan.files, "WINDOWS", True)
    monkeypatch.setattr(tinygan.files.os, "close", lambda fd: there.append((tmp_path / LOCK).exists()) or real_close(fd))
    lock.release()
    assert there == [True]
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, capsys):
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with hold(tmp_path):
        (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
    assert "No locks available" in line


# ---- A checkpoint is read while others write it

WRITER = """
import sys, time, numpy as np, tinygan
seed, path = int(sys.argv[1]), sys.argv[2]
it = tinygan.load_checkpoint(path)
it.vectors["G.theta"][:] = it.epoch = seed
tinygan.backend.os.fsync = lambda _: None  # no power is lost here, and there are more saves in a second
print("ready", flush=True)
while True:
    tinygan.save_checkpoint(path, it)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("reads", [300, pytest.param(2000, marks=SLOW)])
def test_while_two_processes_write_each_read_finds_a_whole_checkpoint(tmp_path, reads):
    path, found = tmp_path / "checkpoint.npz", []
    vectors = {"G.theta": np.zeros(1000, np.float32)}
    save_checkpoint(path, Checkpoint(vectors, 0, {"G": 0}, {"G": []}, [], {}))
    writers = [python(WRITER, seed, path) for seed in (1, 2)]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "ready\n", writer.stderr.read()
        for _ in range(reads):
            it = load_checkpoint(path)
            assert (it.vectors["G.theta"] == it.epoch).all()
            found.append(it.epoch)
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert {1, 2} <= set(found)
    assert sum(a != b for a, b in zip(found, found[1:], strict=False)) > 20


# ---- --overwrite, killed

KILLED = """
import os, pathlib, signal, sys, tinygan.run, mnist
tinygan.run.SAMPLES = 50
calls = []
def deadly(owner, name, count, after):
    original = getattr(owner, name)
    def function(*args, **options):
        calls.append(args)
        dies = len(calls) == count
        if dies and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, function)
deadly({owner}, {name!r}, {count}, {after})
mnist.program()
"""


@pytest.mark.parametrize(
    ("owner", "name", "count", "after", "old"),
    [
        pytest.param("pathlib.Path", "unlink", 1, False, True, id="before anything is removed"),
        pytest.param("pathlib.Path", "unlink", 1, True, False, id="after the checkpoint is removed"),
        pytest.param("pathlib.Path", "unlink", 2, True, False, id="after run.json is removed", marks=SLOW),
        pytest.param("pathlib.Path", "unlink", 4, False, False, id="while the rest is removed", marks=SLOW),
        pytest.param("os", "replace", 1, False, False, id="before metrics.csv is new", marks=SLOW),
        pytest.param("os", "replace", 2, True, False, id="after run.json is new", marks=SLOW),
        pytest.param("tinygan.Simultaneous", "iteration", 4, False, False, id="in the first epoch", marks=SLOW),
    ],
)
def test_a_killed_overwrite_never_lets_the_old_run_resume_as_the_new_one(run, data, tmp_path, owner, name, count, after, old):
    """The same settings, so that nothing but the missing checkpoint keeps them apart. The old run has an earlier commit."""
    folder, options = run("a", "--epochs", 2, "--keep-checkpoints", 1), ["--epochs", "3", "--picture-every", "1"]
    earlier = (folder / "checkpoint.npz").read_bytes()
    code = KILLED.format(owner=owner, name=name, count=count, after=after)
    process = python(code, "--data", data, "--out", folder, "--evaluate-every", 2, *SMALL, *options, "--overwrite")
    _, error = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGKILL, error
    assert (folder / "checkpoint.npz").exists() == old
    if old:
        assert (folder / "checkpoint.npz").read_bytes() == earlier
        return
    trained = []
    train_epoch = tinygan.Trainer.train_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tinygan.Trainer, "train_epoch", lambda self, *a: trained.append(self.epoch) or train_epoch(self, *a))
        run("a", *options, "--resume")
    assert trained == [0, 1, 2]
    assert not list(folder.glob("checkpoint-*.npz"))
    assert not (folder / LOCK).exists()
