"""A disk that fails at the n-th call, for every n: what was there stays whole, nothing temporary is left, the error is named.

Python's calls that change a disk are replaced: opening a file to write, each write, truncation and close of it, fsync,
rename, mkdir, unlink. Whatever the code under test makes of them, each counts. What test_checkpoint.py and
test_mnist_example.py let fail by name is among them.
"""

import builtins
import contextlib
import errno
import io
import json
import os
import shutil

import numpy as np
import pytest
from helpers import rows
from soak import SCALE, Record

import tinygan.run
from tinygan import Checkpoint, CheckpointError, DataError, Linear, Network, load_checkpoint, save_checkpoint, write_idx
from tinygan.run import COLUMNS

NEVER = 10**9
WATCHED = ("open", "fsync", "fdatasync", "replace", "rename", "link", "mkdir", "unlink", "remove", "rmdir")  # of os
FREES = ("unlink", "remove", "rmdir", "close")  # what works on a full disk

# Which error, and how it goes on after the n-th call: "once"; "half": once, but half of what is written gets there;
# "on": all later calls fail too, but for those that free room; "all": those too.
FAULTS = {
    "full at one call": (errno.ENOSPC, "once"),
    "full after half a write": (errno.ENOSPC, "half"),
    "full from then on": (errno.ENOSPC, "on"),
    "an input/output error": (errno.EIO, "once"),
    "input/output errors from then on": (errno.EIO, "on"),
    "read-only from then on": (errno.EROFS, "all"),
    "the folder is removed": (None, "removed"),
}


class Disk:
    """In the place of the calls that change what is in `folder`. The n-th of them fails."""

    def __init__(self, folder, fault, n=NEVER):
        self.folder, self.n = os.path.realpath(folder), n
        self.error, self.how = FAULTS[fault]
        self.calls, self.busy = [], False

    def concerns(self, path):
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.path.realpath(os.fspath(path))
        return path == self.folder or path.startswith(self.folder + os.sep)

    def call(self, name):
        """Count it, and raise if it fails."""
        self.calls.append(name)
        now = len(self.calls)
        if self.how == "removed":
            if now == self.n:
                self.busy = True
                shutil.rmtree(self.folder)
                self.busy = False
        elif now == self.n or (now > self.n and (self.how == "all" or (self.how == "on" and name not in FREES))):
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        """open(), with a file whose writes are calls."""
        if self.busy or not set(mode) & set("wxa+") or not self.concerns(path):
            return self.real_open(path, mode, buffering, encoding, errors, newline, closefd, opener)
        self.call("open")
        raw = Raw(self, path, mode.replace("b", "").replace("t", ""), closefd, opener)
        file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return file if "b" in mode else io.TextIOWrapper(file, encoding, errors, newline)

    def watched(self, name, real):
        """This function of os, counted where it changes something in the folder."""

        def watched(*args, **options):
            path = args[1 if name in ("replace", "rename", "link") else 0]
            writes = name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not self.busy and writes and self.concerns(path):
                self.call(name)
            return None if name in ("fsync", "fdatasync") else real(*args, **options)  # no test can see a disk's own cache

        return watched

    @contextlib.contextmanager
    def mounted(self):
        self.real_open = builtins.open
        with pytest.MonkeyPatch.context() as patch:
            for name in WATCHED:
                patch.setattr(os, name, self.watched(name, getattr(os, name)))
            for module in builtins, io:
                patch.setattr(module, "open", self.open)
            yield self


class Raw(io.FileIO):
    """A file on the disk, below Python's buffers."""

    def __init__(self, disk, path, mode, closefd, opener):
        self.disk = disk
        super().__init__(path, mode, closefd=closefd, opener=opener)

    def write(self, data):
        disk = self.disk
        if disk.how == "half" and len(disk.calls) + 1 == disk.n and len(data) > 1:
            disk.n += 1  # Python writes the rest by a second call, which fails
            data = bytes(data)[: len(data) // 2]
            disk.calls.append("write")
        else:
            disk.call("write")
        return super().write(data)

    def truncate(self, size=None):
        self.disk.call("truncate")
        return super().truncate(size)

    def close(self):
        if not self.closed:
            super().close()
            self.disk.call("close")


# ---- One file


def checkpoint(seed, size):
    return Checkpoint(
        vectors={"G.theta": np.random.default_rng(seed).random(size, dtype=np.float32)},
        epoch=seed,
        updates={"G": 20},
        architecture={"G": Network([Linear(3, 4)]).describe()},
        metrics=[],
        configuration={},
    )


def array(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 28, 28), dtype=np.uint8)


WRITERS = {  # write this version of a file, and the error that it may end with
    "checkpoint.npz": (lambda path, seed: save_checkpoint(path, checkpoint(seed, 16)), CheckpointError),
    "a larger checkpoint.npz": (lambda path, seed: save_checkpoint(path, checkpoint(seed, 20_000)), CheckpointError),
    "images": (lambda path, seed: write_idx(path, array(seed)), DataError),
    "images.gz": (lambda path, seed: write_idx(path, array(seed)), DataError),
}


def every_call_fails(folder, name, fault):
    """Let the first call fail, then the second … Returns how many calls there are, and how many saves failed."""
    write, error = WRITERS[name]
    path, versions = folder / name, []
    for seed in (1, 2):
        folder.mkdir(exist_ok=True)
        write(path, seed)
        versions.append(path.read_bytes())
    refused, n = 0, 0
    while True:
        n += 1
        folder.mkdir(exist_ok=True)
        path.write_bytes(versions[0])
        with Disk(folder, fault, n).mounted() as disk:
            message = None
            try:
                write(path, 2)
            except error as raised:
                message = str(raised)
        if message is not None:
            refused += 1
            assert str(path) in message
            assert disk.how == "removed" or os.strerror(disk.error) in message
        expected = versions[1 if message is None else 0]
        if disk.how == "removed":
            if len(disk.calls) >= n:
                assert not folder.exists(), f"call {n}, {disk.calls}"
                assert expected == versions[0] or "replace" in disk.calls[: n - 1], f"call {n}, {disk.calls}"
        else:
            assert path.read_bytes() == expected, f"call {n}, {disk.calls}"
            left = [file.name for file in folder.iterdir()]
            assert left == [name] or disk.how == "all", f"call {n}, {disk.calls}: {left}"  # no file can be removed there
            for file in folder.iterdir():
                file.unlink()
        if len(disk.calls) < n:
            return n - 1, refused


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_at_any_call_leaves_the_old_file_whole_or_the_new(tmp_path, name, fault):
    calls, refused = every_call_fails(tmp_path / "folder", name, fault)
    assert calls >= 6  # open, write, fsync, close, rename, fsync of the folder
    assert calls - 1 <= refused < calls  # that of the folder is the one that no save needs


# ---- A run


def results(folder):
    """All of a run that has to be the same, to the bit, in any other of the same settings."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".npz", ".png", ".gif", ".tmp"))
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
    return (
        [row[: len(COLUMNS)] for row in rows(folder)],
        {str(file.relative_to(folder)): file.read_bytes() for file in files},
        {name: facts[name] for name in ("evaluation", "reading", "epochs")},
    )


OPTIONS = "--epochs", 2, "--picture-every", 1, "--keep-checkpoints", 1


def a_run_fails(run, tmp_path, fault, n, whole):
    """A run whose n-th call fails, then its resume. Returns its calls, and how it ended: "finished" or "stopped"."""
    folder, message = tmp_path / "a", None
    shutil.rmtree(folder, ignore_errors=True)
    with Disk(folder, fault, n).mounted() as disk, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            tinygan.run.main(lambda: run("a", *OPTIONS))
        except SystemExit as stopped:
            message = str(stopped.code)
    if message is not None:
        assert message.startswith("error: "), f"call {n}, {disk.calls}: {message}"
        assert len(message.splitlines()) == 1
        assert disk.how == "removed" or os.strerror(disk.error) in message, f"call {n}: {message}"
        assert "Traceback" not in err.getvalue()
        assert disk.how in ("removed", "all") or not list(folder.rglob("*.tmp")), f"call {n}, {disk.calls}"
    for file in folder.rglob("checkpoint*.npz"):
        load_checkpoint(file)
    if message is not None:
        with contextlib.redirect_stderr(io.StringIO()):
            run("a", *OPTIONS, *["--resume"] * folder.exists())  # without a folder there is nothing to resume
    if message is not None or disk.how != "removed":
        assert results(folder) == whole, f"call {n}, {disk.calls}"
    return disk.calls, "finished" if message is None else "stopped"


@pytest.fixture
def whole(run):
    return results(run("whole", *OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full from then on", "the folder is removed"])
def test_a_run_whose_disk_fails_ends_with_one_line_and_resumes_to_the_same_bits(run, tmp_path, whole, fault):
    for n in (1, 9, 40, 71):
        a_run_fails(run, tmp_path, fault, n, whole)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_whose_disk_fails_at_any_call(run, tmp_path, whole, fault, capsys):
    with Record(f"A run of 2 epochs, {fault}: at each call that changes the disk") as record:
        ends, n = {"finished": 0, "stopped": 0}, 1
        while True:
            calls, ended = a_run_fails(run, tmp_path, fault, n, whole)
            capsys.readouterr()
            if len(calls) < n:
                break
            ends[ended] += 1
            n += round(1 / min(SCALE, 1))
        record.figures |= {"calls that failed": sum(ends.values()), "stopped and resumed to the same bits": ends["stopped"],
                           "finished all the same": ends["finished"]}  # fmt: skip
