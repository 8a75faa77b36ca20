"""Downloads: from the first mirror that sends the right bytes, into the user's cache, all of a file or nothing."""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tinygan.backend import write_atomically
from tinygan.errors import DataError

PATIENCE = 9.0  # seconds of silence after which all mirrors together are given up


def cache_folder(name: str = "mnist") -> Path:
    """Where the downloads of one data set are kept: $XDG_CACHE_HOME/tinygan/<name>, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "tinygan", name)


def fetch(mirrors: Sequence[str], files: Mapping[str, str], folder: Path, *, largest: int) -> None:
    """Downloads files into folder.    mirrors: URLs that end in /    files: {name: MD5}    largest: bytes of one file

    A file is kept only if its MD5 is right. A mirror that fails once is not asked again: silence is paid for once, and
    all mirrors together give up after PATIENCE seconds of it. Raises DataError where no mirror is left and one of them
    sent wrong bytes, ConnectionError (an OSError) where no mirror is left, OSError where folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, todo, faults, wrong = list(mirrors), list(files), [], False
    while todo and left:
        name, host, md5 = todo[0], left[0].split("/")[2], hashlib.md5(usedforsecurity=False)
        try:
            with write_atomically(folder / name) as file:
                for part in _receive(left[0] + name, largest, PATIENCE / len(mirrors)):
                    file.write(part)
                    md5.update(part)
                if md5.hexdigest() != files[name]:
                    raise DataError(f"{name} has a wrong checksum")
            del todo[0]
        except (ConnectionError, DataError) as error:
            wrong = wrong or isinstance(error, DataError)
            faults.append(f"{host}: {error}")
            del left[0]
    if todo and wrong:
        advice = "Try again later, or download the file by other means and name its folder, or use download=False"
        raise DataError(f"{'; '.join(faults)}. Nothing of it was kept. Perhaps a proxy or a login page answered. {advice}")
    if todo:
        raise ConnectionError("; ".join(faults) or "no mirror is known")


def _receive(url: str, largest: int, patience: float) -> Iterator[bytes]:
    """What url sends, part by part; where stderr is a terminal, a bar shows the progress.

    Raises ConnectionError if that fails, is more than `largest` bytes, or is silent for longer than `patience` seconds.
    The connection is made in a thread of its own: looking up a host's name cannot be given a time limit, but waiting
    for a thread can.
    """
    import concurrent.futures  # here, not above: `import tinygan` is quicker without these four
    import http.client
    import urllib.error
    import urllib.request

    answer: concurrent.futures.Future[http.client.HTTPResponse] = concurrent.futures.Future()

    def connect() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=patience))
        except Exception as error:  # whatever goes wrong, the waiting side must hear of it
            answer.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    done = 0
    try:
        with answer.result(patience) as reply:
            total = int(reply.headers["Content-Length"] or 0)
            while part := reply.read1(2**16):
                done += len(part)
                if done > largest:
                    raise ConnectionError(f"sends more than {largest} bytes")
                if sys.stderr.isatty():
                    bar = f"[{'#' * (done * 30 // total):30}]" if done <= total else ""
                    print(f"\r{url.split('/')[2]} {url.split('/')[-1]} {bar} {done / 1e6:.1f} MB", end="", file=sys.stderr)
                yield part
    except Exception as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if isinstance(reason, TimeoutError | concurrent.futures.TimeoutError):  # one class since Python 3.11
            reason = f"no answer within {patience:.1f} s"
        raise ConnectionError(str(reason) or type(reason).__name__) from error
    finally:
        if done and sys.stderr.isatty():
            print(file=sys.stderr)
