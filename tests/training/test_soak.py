"""What only time shows: kills at random moments, memory over many iterations, the same bits in different processes.

The long forms carry the mark `soak`. Kills at chosen moments, in the suite: tests/examples/test_mnist_example.py.
"""

import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from helpers import SMALL, discriminator, generator, rows
from scripts import ENVIRONMENT, EXAMPLES
from soak import Record, times

from tinygan import MomentumSGD, Noise, Simultaneous, Trainer, learning_rate_schedule, load_checkpoint
from tinygan.run import COLUMNS

# ---- Kills

EPOCHS = 60


def command(data, folder):
    options = ["--data", data, "--out", folder, "--epochs", EPOCHS, "--picture-every", 1, "--keep-checkpoints", 5]
    options += ["--evaluate-every", 10, *SMALL]
    return [sys.executable, str(EXAMPLES / "mnist.py"), *map(str, options)]


@contextlib.contextmanager
def started(data, folder, *options):
    """The run as a process of its own, which does not outlive the block. What it says goes into a file beside its folder."""
    with open(folder.with_suffix(".txt"), "wb") as words:
        process = subprocess.Popen([*command(data, folder), *options], stdout=words, stderr=words, env=ENVIRONMENT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def written(path):
    return path.stat().st_mtime_ns if path.exists() else None


def wait_for_training(process, folder, before):
    """Until the run writes its run.json, which it does when it starts to train; or until it has ended."""
    while process.poll() is None and written(folder / "run.json") == before:
        time.sleep(0.002)


def result(folder):
    """All of a run that has to be the same, to the bit, in any other of the same settings; and no temporary file."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".npz", ".png", ".gif", ".tmp"))
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
    names = "evaluation", "reading", "epochs", "iterations"
    metrics = [row[: len(COLUMNS)] for row in rows(folder)]
    return metrics, {str(file.relative_to(folder)): file.read_bytes() for file in files}, [facts[name] for name in names]


def killed_once(data, folder, delay, in_training=True):
    """Start or resume the run, and kill it so many seconds after that, or after it started to train.

    Returns whether it was still running.
    """
    before = written(folder / "run.json")
    with started(data, folder, "--resume") as process:
        if in_training:
            wait_for_training(process, folder, before)
        try:
            code = process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
    assert code == 0, folder.with_suffix(".txt").read_text(encoding="utf-8")
    return False


def state(folder):
    """At which epoch a killed run is; None before its first checkpoint. Its checkpoints are whole."""
    for file in folder.glob("checkpoint*.npz"):
        load_checkpoint(file)
    path = folder / "checkpoint.npz"
    return load_checkpoint(path).epoch if path.exists() else None


@pytest.mark.soak
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_the_run_that_never_stopped(data, tmp_path):
    seed, kills, runs, epochs, halves = 2014, 0, 0, [], 0
    rng = random.Random(seed)
    with Record(f"SIGKILL at random moments of a run of {EPOCHS} epochs, each resumed to its end", seed) as record:
        begun, folder = time.perf_counter(), tmp_path / "whole"
        with started(data, folder) as process:
            wait_for_training(process, folder, None)
            first = written(folder / "run.json")
            assert process.wait(timeout=600) == 0, folder.with_suffix(".txt").read_text(encoding="utf-8")
        all_of_it, training = time.perf_counter() - begun, (written(folder / "checkpoint.npz") - first) / 1e9
        whole = result(folder)
        assert not [name for name in whole[1] if name.endswith(".tmp")]
        while kills < times(100):
            folder, alive = tmp_path / f"killed-{runs}", True
            while alive and kills < times(100):
                # Four in five while it trains and saves; the others, and all after its last epoch, at any moment.
                in_training = rng.random() < 0.8 and (not folder.exists() or state(folder) != EPOCHS)
                alive = killed_once(data, folder, rng.uniform(0, training / 4 if in_training else all_of_it), in_training)
                if alive:
                    kills += 1
                    epochs.append(state(folder))
                    halves += any(folder.rglob("*.tmp"))
            if alive:
                assert not killed_once(data, folder, 600)
            assert result(folder) == whole, f"run {runs}, after {kills} kills; checkpoints at {epochs}"
            runs += 1
        record.figures |= {
            "kills": kills,
            "runs": runs,
            "runs equal to the bit": runs,
            "before the first checkpoint": epochs.count(None),
            "while epochs were left to train": sum(epoch not in (None, EPOCHS) for epoch in epochs),
            "different epochs at a kill": len(set(epochs) - {None}),
            "with half a file": halves,
        }


# ---- Memory


def train(xp, iterations, epochs):
    """Train a small GAN; yields the number of each epoch, at its end."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (iterations * 5, 4), dtype=np.uint8)
    G, D = generator(np.float32, xp, normalised=True), discriminator(np.float32, xp, keep=0.5)
    players = (MomentumSGD(net.theta, lambda t: learning_rate_schedule(t, 0.02, decay=1.00001)) for net in (G, D))
    trainer = Trainer(Simultaneous(G, D, *players, noise=Noise("uniform", 3), batch_size=5), images, images)
    for _ in range(epochs):
        yield trainer.train_epoch()["epoch"]


def resident():
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(xp, iterations, epochs):
    """By how many bytes the memory of Python and NumPy has grown, and the process, from the third epoch to the last."""
    traced, held = [], []
    tracemalloc.start()
    try:
        for epoch in train(xp, iterations, epochs):
            if epoch in (3, epochs):
                gc.collect()
                traced.append(tracemalloc.get_traced_memory()[0])
                held.append(resident())
    finally:
        tracemalloc.stop()
    return traced[1] - traced[0], held[1] - held[0]


ROW = 2_000  # bytes that an epoch may add: the dict of its metrics


@pytest.mark.slow
def test_memory_is_flat_over_500_iterations():
    traced, _ = growth(np, 50, 10)
    assert traced < 7 * ROW


@pytest.mark.soak
@pytest.mark.parametrize(("where", "iterations"), [("NumPy", 20_000), ("the stand-in for CuPy", 2_000)])
def test_memory_is_flat_over_20_000_iterations(where, iterations, request):
    xp = np if where == "NumPy" else request.getfixturevalue("strict_xp")
    each = iterations // 100
    with Record(f"Memory of a small GAN in training, {where}") as record:
        epochs = max(4, times(100))
        traced, held = growth(xp, each, epochs)
        record.figures |= {
            "iterations": each * epochs,
            "growth by tracemalloc, bytes": traced,
            "bytes for each epoch's row of metrics": traced // (epochs - 3),
            "growth of the process, bytes": held,
        }
        assert traced < (epochs - 3) * ROW
        assert held < 4e6


# ---- The same bits

TRAIN = """
import sys
import numpy as np
from tinygan import Trainer, bias_from_marginals, load_mnist, recipes

size, out = sys.argv[1:]
settings, images = dict(recipes.MNIST), [np.random.default_rng(i).integers(0, 256, (200, 30), dtype=np.uint8) for i in (0, 1)]
if size == "small":
    settings |= {"generator_width": 40, "discriminator_width": 10, "batch_size": 20}
else:
    data = load_mnist(download=False)
    assert data.name == "mnist-subset"
    images = data.train.images, data.validation.images
gan = recipes.mnist(settings, bias_from_marginals(images[0]))
trainer = Trainer(gan, *images, seed=settings["seed"], momentum=recipes.momentum(settings))
trainer.train_epoch()
trainer.save(out)
"""
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def trained(out, size, threads, hash_seed):
    """The checkpoint of one epoch that a process of its own has written, with so many threads of BLAS."""
    alone = dict.fromkeys(THREADS, str(threads)) | {"XDG_CACHE_HOME": str(out.parent), "PYTHONHASHSEED": str(hash_seed)}
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "TINYGAN_DATA"} | alone
    done = subprocess.run([sys.executable, "-c", TRAIN, size, str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


def test_the_same_seed_gives_the_same_bits_in_two_processes(tmp_path):
    first, second = (trained(tmp_path / f"{i}.npz", "small", 1, hash_seed=i) for i in (1, 2))
    assert first == second
    assert load_checkpoint(tmp_path / "1.npz").epoch == 1


@pytest.mark.soak
def test_what_the_number_of_threads_changes(tmp_path):
    """One epoch of the 5,000 images that work offline, with the paper's nets, twice with each number of threads."""
    with Record("One epoch of the 5,000 offline images with the paper's nets, other numbers of threads of BLAS", 0) as record:
        counts = 1, 2
        for n in counts:
            first, second = (trained(tmp_path / f"{n}-{i}.npz", "the paper's", n, hash_seed=i) for i in (1, 2))
            assert first == second, f"{n} threads: two processes of the same seed differ"
        record["processes of the same seed and number of threads, equal to the bit"] = 2 * len(counts)
        one = load_checkpoint(tmp_path / "1-1.npz")
        for n in counts[1:]:
            other = load_checkpoint(tmp_path / f"{n}-1.npz")
            for name in "G.theta", "D.theta":
                difference = float(np.abs(one.vectors[name] - other.vectors[name]).max())
                words = f"differs from that with 1 thread by at most {difference:.1e}" if difference else "the bits of 1 thread"
                record[f"{name} with {n} threads"] = words
                assert difference < 1e-3
