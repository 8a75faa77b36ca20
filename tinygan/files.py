"""Files and folders that other processes use too: open what is a file, make a folder of one's own, hold it, find runs."""

import contextlib
import difflib
import errno
import io
import itertools
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tinygan.errors import ArgumentError

LOCK = "run.lock"
WINDOWS = os.name == "nt"
ATTEMPTS = 1000
BEYOND = 2**20  # the byte that Windows locks: behind the text, which others have to read
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading, without waiting. Raises OSError for a folder, a pipe, a device: they are no files."""
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file")
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something special')}, not a file")
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # so that even a pipe that takes its place blocks nothing


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """What is in a file. Raises OSError for what is no file, or has more than `most` bytes."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {most} are read")
        return file.read(size)  # not `most`: Python would allocate as much at once


def make_folder(folder: Path, exist_ok: bool = True) -> list[Path]:
    """Make a folder and its parents. Returns those that were not there, the deepest first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=exist_ok)
    return missing


# ---- Where runs are

FILES = ("checkpoint.npz", "run.json", "metrics.csv", "samples")  # a folder with one of these holds a run


def holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in FILES)


def runs_in(folder: Path) -> list[Path]:
    """The folders of runs in a folder, the latest first."""
    found = [path for path in folder.iterdir() if holds_run(path)] if folder.is_dir() else []
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def nearest_run(path: Path) -> str:
    """In words, the run whose path is most like this one: in it, beside it, or under runs/."""
    near = {*runs_in(path), *runs_in(path.parent), *runs_in(Path("runs"))} - {path}
    names = sorted(near, key=lambda each: difflib.SequenceMatcher(None, str(each), str(path)).ratio())
    return f"the nearest run is {names[-1]}" if names else "there is no run in it, beside it or under runs/"


# ---- A folder that is held


class FolderLock:
    """A folder held by one process, until release(), or until the process ends, however it ends.

    The operating system holds the lock, on the file run.lock in the folder, which names the owner: process, host and start. A
    file that a killed process has left locks nothing. release() removes the file, and each folder in `made` that is empty.
    Raises ArgumentError, which names the owner, if a different process holds the folder, and if it cannot be written.

    folder   is made if it is not there
    made     folders that were made for it before
    """

    def __init__(self, folder: Path, made: list[Path] | None = None) -> None:
        self.path, self.made = folder / LOCK, list(made or ())
        try:
            self._descriptor = self._acquire()
        except OSError as error:
            self._remove_folders()
            raise ArgumentError(
                f"{folder}: {error.strerror or error} ({self.path.name}): choose a folder that can be written"
            ) from error

    def _acquire(self) -> int:
        for attempt in itertools.count(1):  # again if its last owner removes the file, or the folder, in between
            try:
                self.made[:0] = [each for each in make_folder(self.path.parent) if each not in self.made]
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            except (FileNotFoundError, FileExistsError):
                if attempt == ATTEMPTS:
                    raise
                continue
            try:
                if not _lock(descriptor, self.path.parent):
                    raise ArgumentError(
                        f"{self.path.parent} is in use by {self._owner()}: wait until it ends, stop it, "
                        f"or choose a different folder"
                    )
                if _is_still(self.path, descriptor):
                    owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
                    with contextlib.suppress(OSError):  # on a full disk it is held all the same
                        text = (json.dumps(owner) + "\n").encode()
                        os.write(descriptor, text)
                        os.ftruncate(descriptor, len(text))
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise AssertionError

    def _owner(self) -> str:
        for _ in range(20):  # it may not have written its name yet
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                owner = json.loads(read_bytes(self.path, 1000))
                return f"process {owner['pid']} on {owner['host']} since {owner['started']}"
            time.sleep(0.02)
        return "a process that has not said its name"

    def release(self) -> None:
        """Let others have the folder."""
        steps = [lambda: self.path.unlink(missing_ok=True), lambda: os.close(self._descriptor)]
        for step in reversed(steps) if WINDOWS else steps:  # Windows removes no file that is open
            with contextlib.suppress(OSError):
                step()
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in self.made:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder inside `with`: see FolderLock."""
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()


def _lock(descriptor: int, folder: Path) -> bool:
    """Whether the lock is ours now. Where the file system knows no locks it is, and a line on stderr says so."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            os.lseek(descriptor, BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
            return False
        print(f"{folder}: not locked ({error.strerror}): start no second run in this folder", file=sys.stderr)
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
