"""Downloads, from servers that misbehave in every way."""

import gzip
import hashlib
import io
import os
import socket
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from helpers import idx

from tinygan.datasets import download, load_mnist
from tinygan.datasets import mnist as loader
from tinygan.datasets.download import fetch
from tinygan.errors import DataError

NAMES = list(loader.FILES)


# ---- Through load_mnist


def test_download_fills_the_cache_once(server, home, mnist):
    data = load_mnist()
    assert data.name == "mnist"
    assert "user's cache" in data.source
    assert server.asked == [("a", f"{name}.gz") for name in NAMES]
    assert sorted(path.name for path in home.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    np.testing.assert_array_equal(load_mnist().train.images, data.train.images)
    assert len(server.asked) == 4
    (home / f"{NAMES[2]}.gz").unlink()  # a download that was interrupted goes on with what is missing
    load_mnist()
    assert server.asked[4:] == [("a", f"{NAMES[2]}.gz")]


WRONG = gzip.compress(idx(np.zeros((12, 4, 5), np.uint8)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: None,  # 404
        lambda content: b"<html>Please log in</html>",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-4],
        lambda content: content[:-1] + b"\1",
        lambda content: content + b"\0",
        lambda content: WRONG,
        lambda content: gzip.compress(gzip.decompress(content) + b"\0"),
    ],
)
def test_the_second_mirror_makes_up_for_the_first(server, home, spoil):
    server.spoil["a"] = spoil
    assert load_mnist().name == "mnist"
    assert [mirror for mirror, _ in server.asked] == ["a", "b", "b", "b", "b"]


def test_a_wrong_checksum_everywhere_is_an_error_and_nothing_is_kept(server, home):
    server.spoil["a"] = server.spoil["b"] = lambda content: WRONG
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz has a wrong checksum.*folder.*download=False"):
        load_mnist()
    assert list(home.iterdir()) == []


def test_a_download_without_end_is_cut(server, monkeypatch, no_mlxtend):
    monkeypatch.setattr(loader, "LARGEST", 100)
    server.spoil["a"] = server.spoil["b"] = lambda content: bytes(10_000)
    with pytest.raises(DataError, match="sends more than 100 bytes"):
        load_mnist()


def test_a_download_shows_its_progress_on_a_terminal(server, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    load_mnist()
    bars = terminal.getvalue()
    assert "127.0.0.1" in bars
    for name in NAMES:
        assert f"{name}.gz [{'#' * 30}]" in bars
    assert bars.count("\n") == 5  # one line for each file, and one that says where they are


def test_two_runs_fill_one_empty_cache(server, home, monkeypatch):
    downloading, written, replace = threading.Barrier(4), threading.Barrier(4), os.replace

    def slow(content):
        downloading.wait(timeout=10)  # all four are in the middle of the same file,
        return content

    def late(temporary, path):
        written.wait(timeout=10)  # and all four have written it before one gives it its name
        replace(temporary, path)

    server.spoil["a"] = slow
    monkeypatch.setattr(os, "replace", late)
    names, threads = [], [threading.Thread(target=lambda: names.append(load_mnist().name)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["mnist"] * 4
    assert sorted(path.name for path in home.iterdir()) == sorted(f"{name}.gz" for name in NAMES)


def test_a_write_that_fails_leaves_nothing(server, home, monkeypatch, no_mlxtend):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="No space left"):
        load_mnist()
    assert list(home.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_no_end(server, home):
    home.parent.parent.mkdir()
    home.parent.write_text("a file where the folder should be")
    assert load_mnist().name == "mnist-subset"


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def deaf():
    """A port that accepts no connection and refuses none: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.fixture
def mute():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "deaf", "mute", "name"])
def test_without_a_network_all_mirrors_together_give_up_in_time(kind, request, monkeypatch, capsys):
    monkeypatch.setattr(download, "PATIENCE", 0.6)
    start = time.monotonic()
    port = closed_port() if kind in ("refused", "name") else request.getfixturevalue(kind)
    if kind == "name":  # a name server that does not answer: urllib's time limit does not reach there
        over = threading.Event()
        request.addfinalizer(over.set)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10))
    monkeypatch.setattr(loader, "MIRRORS", (f"http://127.0.0.1:{port}/a/", f"http://127.0.0.1:{port}/b/"))
    assert load_mnist().name == "mnist-subset"
    assert time.monotonic() - start < 5
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "urlopen" not in said  # the cause, and not Python's words around it
    assert said.count("Connection refused" if kind == "refused" else "no answer within 0.3 s") == 2


def test_the_mirrors_are_public_and_at_least_two(monkeypatch):
    monkeypatch.undo()
    assert len(set(loader.MIRRORS)) >= 2
    assert all(url.startswith("https://") and url.endswith("/") for url in loader.MIRRORS)
    assert download.PATIENCE < 10


# ---- fetch, for any data set


TAR = b"any bytes, a tar for one" * 10_000


@pytest.fixture
def tar(server):
    """One file of another data set on the same mirrors: {name: MD5}."""
    server.files["some.tar"] = TAR
    return {"some.tar": hashlib.md5(TAR).hexdigest()}


def test_fetch_keeps_the_bytes_as_they_are_sent(server, tar, tmp_path):
    folder = tmp_path / "cache" / "of another set"
    fetch([server.url("a")], tar, folder, largest=len(TAR))  # the limit itself is allowed
    assert [path.name for path in folder.iterdir()] == ["some.tar"]
    assert (folder / "some.tar").read_bytes() == TAR


def test_fetch_stops_at_its_limit(server, tar, tmp_path):
    with pytest.raises(ConnectionError, match=rf"127.0.0.1.*more than {len(TAR) - 1} bytes"):
        fetch([server.url("a")], tar, tmp_path / "cache", largest=len(TAR) - 1)
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_holds_one_part_of_a_file_at_a_time(server, tar, tmp_path):
    server.files["some.tar"] = content = bytes(30_000_000)
    tracemalloc.start()
    try:
        fetch([server.url("a")], {"some.tar": hashlib.md5(content).hexdigest()}, tmp_path, largest=len(content))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_fetch_tells_every_mirrors_fault(server, tar, tmp_path):
    server.spoil = {"a": lambda content: None, "b": lambda content: content[1:], "c": lambda content: None}
    with pytest.raises(DataError, match=r"127.0.0.1.*404.*; 127.0.0.1.*some.tar has a wrong checksum.*; .*404"):
        fetch([server.url("a"), server.url("b"), server.url("c")], tar, tmp_path, largest=10**6)
    server.spoil["b"] = server.spoil["a"]
    with pytest.raises(ConnectionError, match=r"404.*; .*404"):
        fetch([server.url("a"), server.url("b")], tar, tmp_path, largest=10**6)
    with pytest.raises(ConnectionError, match="mirror"):
        fetch([], tar, tmp_path, largest=10**6)
    assert not (tmp_path / "some.tar").exists()


def test_a_file_that_arrived_stays_when_the_next_one_fails(server, tar, tmp_path):
    server.files["next.tar"] = b"x"
    with pytest.raises(DataError, match="next.tar has a wrong checksum"):
        fetch([server.url("a")], {**tar, "next.tar": "0" * 32}, tmp_path / "cache", largest=10**6)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["some.tar"]


def test_a_disk_that_is_full_is_no_mirrors_fault(server, tar, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch([server.url("a"), server.url("b")], tar, tmp_path / "cache", largest=10**6)
    assert not isinstance(caught.value, ConnectionError)
    assert [mirror for mirror, _ in server.asked] == ["a"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n0123456789", "no answer within 0.3 s"),  # then silence
        (b"HTTP/1.0 200 OK\r\nContent-Length: much\r\n\r\n", "much"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
    ],
)
def test_what_is_no_proper_answer_is_a_connections_fault(head, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    over = threading.Event()

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(head)
            over.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        start = time.monotonic()
        try:
            with pytest.raises(ConnectionError, match=fault):
                fetch([f"http://127.0.0.1:{listener.getsockname()[1]}/"], {"x": ""}, tmp_path / "cache", largest=1000)
        finally:
            over.set()
            thread.join()
    assert time.monotonic() - start < 5
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_of_unknown_size_shows_how_much_has_come(server, tar, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    server.announce = False
    fetch([server.url("a")], tar, tmp_path, largest=10**6)
    assert "some.tar" in terminal.getvalue()
    assert "0.2 MB\n" in terminal.getvalue()
    assert "#" not in terminal.getvalue()
