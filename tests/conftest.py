"""The fixtures that run one test on every backend.

    from strict_cupy import host, no_transfers

    def test_something(xp):                     # runs three times: numpy, strict-cupy, and cupy where there is a GPU
        x = xp.asarray([1.0, 2.0], dtype=xp.float32)
        with no_transfers():                    # fails if anything is copied between host and device in here
            y = x * 2
        assert host(y).tolist() == [2.0, 4.0]   # host() copies to NumPy and is not counted

    def test_counted(xp, transfers):            # the counter, at 0: transfers.to_host, transfers.to_device, .reset()
        ...

"strict-cupy" is the stand-in of strict_cupy.py, which explains what it refuses. On NumPy and on the real CuPy nothing
is counted, so `assert transfers.to_host == 1` belongs in a test that takes `strict_xp`, the stand-in alone. There,
`with strict_cupy.no_gpu():` is a machine that has CuPy and no driver.

And those that run examples/mnist.py on a tiny set in MNIST's format, with tiny networks:

    def test_something(run):                    # run("name", "--epochs", 2) returns the folder that it wrote

`train_dcgan` does the same with examples/dcgan.py, on the set `pictures`.

And headless Chromium, for tests marked `browser`:

    @pytest.mark.browser
    def test_something(open_page):              # open_page(address, color_scheme="dark", …) returns a Page of playwright
"""

import gc
import os
import shutil
import signal
import sys
from urllib.parse import urlsplit

# Before NumPy is imported: for the small matrices of the tests a second thread only costs time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import strict_cupy
from helpers import NO_GPU, SMALL, SMALL_DCGAN, idx, write_mnist

import tinygan.run
from tinygan.backend import get_backend

# What is imported and collected stays to the end, a million objects: Python's collector need not walk them again and again.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    if NO_GPU:
        terminalreporter.write_line(f"No test ran on a GPU: {NO_GPU}. The rows [cupy] need one; see tests/README.md.")


# A job in the background may ignore Ctrl-C, and all its children with it: the tests of Ctrl-C need Python's own answer.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def strict_xp(monkeypatch):
    """The stand-in for CuPy, in the place of cupy."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy.cupy)
    strict_cupy.transfers.reset()
    return strict_cupy.cupy


@pytest.fixture(params=["numpy", "strict-cupy", *([] if NO_GPU else ["cupy"])])
def xp(request):
    """The array module that the test runs on."""
    if request.param == "numpy":
        return np
    if request.param == "strict-cupy":
        return request.getfixturevalue("strict_xp")
    return get_backend("cupy")


@pytest.fixture
def transfers():
    """The counter of copies between host and device, set to 0."""
    strict_cupy.transfers.reset()
    return strict_cupy.transfers


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """72 images of 6 × 6 for training and validation, 10 for the test."""
    return write_mnist(tmp_path_factory.mktemp("tiny"), (6, 6), lambda n: np.zeros(n, np.uint8))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """72 images of 8 × 12 for training and validation, 10 for the test: sides that 4 divides."""
    return write_mnist(tmp_path_factory.mktemp("pictures"), (8, 12), lambda n: np.arange(n, dtype=np.uint8) % 10)


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """20 records for training, 4 for validation, 10 for the test, of smooth pictures in colour."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for name, n in ("data_batch_1", 25), ("test_batch", 10):
        planes = np.kron(rng.integers(0, 256, (n, 3, 8, 8)), np.ones((4, 4))).astype(np.uint8)
        (folder / f"{name}.bin").write_bytes(b"".join(bytes([i % 10]) + image.tobytes() for i, image in enumerate(planes)))
    return folder


@pytest.fixture
def other_data(tmp_path):
    """Fewer images than in `data`, of the same size."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name, n in ("train", 60), ("t10k", 10):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 6, 6), np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(n, np.uint8)))
    return folder


@pytest.fixture
def draw_curves(monkeypatch):
    """Few samples, and no curves: matplotlib takes longer than all the rest. Returns what draws them."""
    original = tinygan.run.draw_curves
    monkeypatch.setattr(tinygan.run, "SAMPLES", 50)
    monkeypatch.setattr(tinygan.run, "draw_curves", lambda *_: None)
    return original


@pytest.fixture
def call(monkeypatch, draw_curves):
    """call(program, *arguments): run an example's program in this process."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", ["examples/mnist.py", *map(str, arguments)])
        return program()

    return call


@pytest.fixture
def run(call, data, tmp_path):
    """run(name, *arguments): examples/mnist.py, into a folder of that name."""
    import mnist  # in here: the engine's tests do without the examples

    def run(name, *arguments):
        call(mnist.program, "--data", data, "--out", tmp_path / name, "--evaluate-every", 2, *SMALL, *arguments)
        return tmp_path / name

    return run


@pytest.fixture
def train_dcgan(call, pictures, tmp_path):
    """train_dcgan(name, *arguments): examples/dcgan.py, into a folder of that name."""
    import dcgan

    def train(name, *arguments):
        call(dcgan.program, "--data", pictures, "--out", tmp_path / name, *SMALL_DCGAN, *arguments)
        return tmp_path / name

    return train


@pytest.fixture(scope="session")
def chromium():
    """Headless Chromium: the system's, or playwright's own where the system has none."""
    from playwright.sync_api import sync_playwright  # in here: an optional extra

    with sync_playwright() as playwright:
        options = {"executable_path": path} if (path := shutil.which("chromium")) else {}
        browser = playwright.chromium.launch(args=["--no-sandbox"], **options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """open_page(address, **options of a context): a window of its own. No page may throw, or ask any other host.

    Messages on the console are kept as page.errors: a test that expects them empties the list.
    """
    contexts, pages = [], []

    def open_page(address, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.errors, page.requested = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        page.on("request", lambda request: page.requested.append(request.url))
        page.set_default_timeout(20_000)
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    errors = [error for page in pages for error in page.errors]
    elsewhere = [url for page in pages for url in page.requested if urlsplit(url).hostname not in ("127.0.0.1", None, "")]
    for context in contexts:
        context.close()
    assert (errors, elsewhere) == ([], [])
