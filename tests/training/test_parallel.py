"""One run on several ranks: in threads that play MPI here, and under mpiexec, as users start it (marker mpi)."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import allreduce
import many_ranks
import numpy as np
import pytest
from helpers import SMALL, refused
from many_ranks import GAMES, M, trainer
from scripts import ENVIRONMENT, EXAMPLES, ROOT

from tinygan import (
    BackendError,
    DataError,
    DivergenceError,
    Layer,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Simultaneous,
    load_checkpoint,
    parzen,
    ranks,
    run,
)
from tinygan.backend import Streams, random_generator
from tinygan.parallel import PartRng, PartStreams, distribute
from tinygan.ranks import Ranks

TOLERANCES = {"float64": 1e-12, "float32": 2e-6}  # of parameters, statistics and metrics of size 1, after 50 iterations

# ---- Ranks that are threads of this process


class Threads:
    """Stands in for MPI's communicator among threads: the same five methods, and sums in the order of the ranks."""

    def __init__(self, size):
        self.size, self.slots, self.local = size, [None] * size, threading.local()
        self.barrier = threading.Barrier(size, timeout=5)

    def Get_rank(self):
        return self.local.rank

    def Get_size(self):
        return self.size

    def allgather(self, value):
        self.slots[self.local.rank] = value
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def Allreduce(self, in_place, array):
        assert in_place == "in place"
        array[...] = sum(self.allgather(array.copy()))

    def bcast(self, value):
        return self.allgather(value)[0]


def on_ranks(size, function):
    """function(ranks) in each of `size` threads; what each returned, or raised."""
    comm, found = Threads(size), [None] * size

    def work(rank):
        comm.local.rank = rank
        try:
            found[rank] = function(Ranks(SimpleNamespace(COMM_WORLD=comm, IN_PLACE="in place")))
        except Exception as error:
            found[rank] = error  # if it is the only one, the others give up at the next barrier

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def same(found, expected):
    """Whether the vectors of these games agree, within the tolerance of their dtype."""
    assert found.keys() <= expected.keys()
    for name, array in found.items():
        tolerance = TOLERANCES["float32" if "float32" in name else "float64"]
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("game", ["simultaneous, k = 2", "batch norm, alternating"])
def test_two_ranks_compute_the_run_of_one(game):
    found = on_ranks(2, lambda ranks: many_ranks.ends([game], ranks, epochs=1))
    for rank in found:
        same(rank, many_ranks.ends([game], epochs=1))
    assert [found[0][name].tobytes() for name in found[0]] == [found[1][name].tobytes() for name in found[1]]


def test_a_batch_norm_of_a_ranks_own_rows_is_refused_since_its_statistics_differ():
    def work(ranks):
        trained = trainer(normalised=True)
        distribute(trained, ranks)
        for player in trained.model.players.values():
            for layer in player.network.layers:
                vars(layer).pop("average", None)
        trained.train_epoch()

    for error in on_ranks(2, work):
        with refused("rank 1 of 2", "G.statistics", error=BackendError):
            raise error


DRAWS = {
    "random": lambda rng, n: rng.random((n, 3), dtype=np.float32),
    "standard_normal": lambda rng, n: rng.standard_normal((n, 3)),
    "masks": lambda rng, n: many_ranks.Dropout(0.5).forward(np.ones((n, 7)), True, rng)[0],
    "integers": lambda rng, n: rng.integers(0, 9, size=(n, 2)),
    "integers of 16 bits": lambda rng, n: rng.integers(5, size=(n, 2), dtype=np.uint16),
    "rows": lambda rng, n: rng.random(n),
    "noise": lambda rng, n: Noise("spherical", 5)(rng, n),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("p", [2, 3])
def test_rank_r_of_p_gets_rows_r_p_of_what_one_process_draws(draw, p):
    whole_rng = random_generator(np, 3, "x")
    whole = [draw(whole_rng, 6) for _ in range(2)]  # masks of 6 × 7 entries end inside a draw of 64 bits
    for r in range(p):
        streams = PartStreams(Streams(3), SimpleNamespace(rank=r, size=p), 6 // p)
        for expected in whole:
            np.testing.assert_array_equal(draw(streams["x"], 6 // p), expected[r::p])


def test_one_number_is_the_same_on_all_ranks():
    expected = random_generator(np, 3, "x").random()
    for r in range(2):
        assert PartRng(random_generator(np, 3, "x"), SimpleNamespace(rank=r, size=2), 4).random() == expected


def test_a_draw_that_is_not_one_for_each_row_is_refused():
    rng = PartRng(random_generator(np, 3, "x"), SimpleNamespace(rank=0, size=2), 4)
    with refused("(1, 7)", "4 rows"):
        rng.random((1, 7))


def test_the_stand_in_for_cupy_gets_the_same_average_through_the_host(strict_xp):
    def work(ranks):
        array = strict_xp.asarray(np.array([ranks.rank + 1.0, 2.0]))
        return ranks.average(array) is array, strict_xp.asnumpy(array).tolist()

    assert on_ranks(2, work) == [(True, [1.5, 2.0])] * 2


class Centred(Layer):
    """y = x − mean over the rows: a layer of one's own that mixes rows."""

    mixes_rows = True

    def forward(self, x, train=False, rng=None):
        return x - x.mean(axis=0), None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy - dy.mean(axis=0)


def with_a_layer_of_ones_own():
    G, D = Network([Linear(3, 16)]), Network([Linear(16, 4), Centred(), Linear(4, 1)])
    return Simultaneous(G, D, *(MomentumSGD(net.theta, 0.1) for net in (G, D)), noise=Noise("uniform", 3), batch_size=M)


def with_a_state():
    gan = trainer().model
    gan.state = {"chains": np.zeros(3)}
    return gan


@pytest.mark.parametrize(
    ("p", "model", "facts"),
    [
        (3, lambda: trainer().model, ["8 rows", "divide by 3", "start 2 processes", "--batch-size 9"]),
        (16, lambda: trainer().model, ["8 rows", "divide by 16", "start 8 processes", "--batch-size 16"]),
        (2, with_a_state, ["chains", "start it alone"]),
        (2, with_a_layer_of_ones_own, ["Centred()", "average", "start it alone"]),
    ],
)
def test_what_ranks_cannot_divide_is_refused(p, model, facts):
    dtype = model().G.dtype
    trained = SimpleNamespace(model=model(), batch_size=M, dtype=dtype)
    with refused(*facts):
        distribute(trained, SimpleNamespace(rank=0, size=p, average=None, require_same=lambda _: None))


@pytest.mark.parametrize("vector", ["theta", "velocity", "statistics"])
def test_ranks_that_differ_are_refused_at_the_end_of_the_epoch_on_all_of_them(vector):
    def work(ranks):
        trained = trainer(normalised=True)
        distribute(trained, ranks)
        trained.train_epoch()
        network, optimizer = trained.model.players["D"]
        if ranks.rank == 1:
            ({"velocity": optimizer.velocity}.get(vector) if vector == "velocity" else getattr(network, vector))[0] += 1e-15
        trained.train_epoch()

    for error in on_ranks(2, work):
        with refused("rank 1 of 2", "D.theta" if vector == "velocity" else f"D.{vector}", error=BackendError):
            raise error


def test_ranks_that_start_from_different_parameters_are_refused():
    def work(ranks):
        trained = trainer()
        trained.model.G.theta += ranks.rank
        distribute(trained, ranks)

    for error in on_ranks(2, work):
        with refused("rank 1", "G.theta", "same options", error=BackendError):
            raise error


def test_a_cost_that_diverges_on_one_rank_stops_all_at_the_same_place():
    def work(ranks):
        trained = trainer()
        gan, loss = trained.model, trained.model.discriminator_loss
        if ranks.rank == 1:
            gan.discriminator_loss = lambda *logits: (np.inf, *loss(*logits)[1:])
        distribute(trained, ranks)
        trained.train_epoch()

    for error in on_ranks(2, work):
        with refused("iteration 1 of epoch 1", "discriminator cost", "inf", error=DivergenceError):
            raise error


def test_outside_an_iteration_the_minibatch_is_that_of_all_ranks():
    """So a checkpoint says the same on any number of ranks."""

    def work(ranks):
        trained = trainer()
        distribute(trained, ranks)
        trained.train_epoch()
        return trained.model.batch_size, trained.model.settings["batch_size"]

    assert on_ranks(2, work) == [(M, M)] * 2


def test_alone_a_trainer_stays_as_it_is():
    trained = trainer()
    model = trained.model
    distribute(trained, None)
    assert trained.model is model


@pytest.mark.parametrize("p", [2, 3])
def test_the_evaluator_has_the_same_bits_on_any_number_of_ranks(p):
    rng, sigmas = np.random.default_rng(0), np.logspace(-2, 0, 7)
    samples, validation, test = (rng.random((n, 5), dtype=np.float32) for n in (1100, 900, 2100))
    alone = parzen.evaluate(samples, validation, test, sigmas)
    assert on_ranks(p, lambda ranks: parzen.evaluate(samples, validation, test, sigmas, ranks)) == [alone] * p


@pytest.mark.parametrize(("which", "name"), [(0, "samples"), (1, "rows to score"), (2, "rows to score"), (3, "σ")])
def test_ranks_that_score_different_things_are_refused(which, name):
    rng = np.random.default_rng(0)
    arrays = [*(rng.random((n, 5)) for n in (1100, 90, 210)), np.array([0.03, 0.1, 0.3])]

    def work(ranks):
        mine = [array.copy() for array in arrays]
        mine[which][-1] *= 1 + 1e-12 * ranks.rank
        parzen.evaluate(*mine, ranks=ranks)

    for error in on_ranks(2, work):
        with refused("rank 1", name, "files", error=BackendError):
            raise error


# ---- Who is there: what mpiexec says, and what MPI says


@pytest.fixture
def launched(monkeypatch):
    """launched(name, n, MPI): what world() finds where a launcher says n, with this module in the place of mpi4py.MPI."""

    def launched(name="PMI_SIZE", n="2", MPI=None):
        for each in ranks.LAUNCHERS:
            monkeypatch.delenv(each, raising=False)
        monkeypatch.setenv(name, n)
        monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=MPI) if MPI else None)
        return ranks.world.__wrapped__()

    return launched


def mpi(size):
    comm = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: size)
    return SimpleNamespace(COMM_WORLD=comm, IN_PLACE=None, Get_library_version=lambda: "Open MPI v4.1.4, package: x\nmore")


@pytest.mark.parametrize("name", ranks.LAUNCHERS)
def test_the_launcher_says_how_many_processes_there_are(launched, name):
    assert launched(name, "4", mpi(4)).size == 4


@pytest.mark.parametrize("n", ["1", "", "two"])
def test_one_process_needs_no_mpi(launched, n):
    assert launched(n=n) is None


def test_without_mpi4py_several_processes_are_refused_with_the_pip_command(launched):
    with refused("2 processes were started", "mpi4py", "python -m pip install mpi4py", error=BackendError):
        launched()


def test_processes_that_do_not_see_each_other_are_refused_with_the_name_of_their_mpi(launched):
    with refused("4 processes were started", "sees 1", "Open MPI v4.1.4", "mpiexec", error=BackendError):
        launched(n="4", MPI=mpi(1))


def test_what_does_not_divide_its_work_is_refused_under_mpiexec(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "world", lambda: SimpleNamespace(size=2))
    with refused("the example theory", "2 processes", "without mpiexec"):
        run.open_folder("theory", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- The model of the cost, in benchmarks/speed/allreduce.py


def test_the_fit_finds_the_line_that_made_the_points_and_no_negative_constant():
    assert allreduce.fit([(x, 3 * x + 2) for x in (1, 10, 1e6)]) == pytest.approx((3, 2))
    assert allreduce.fit([(1, 0.5), (2, 2), (4, 5)])[1] == 0
    with refused("2.7", "100", "quiet machine", error=DataError):  # what a busy machine once gave
        allreduce.fit([(25, 2.747), (50, 2.855), (100, 1.847)])


def test_the_time_of_an_allreduce_is_that_of_the_formula():
    assert allreduce.allreduce(2, 1e9, 1e9, 0.25) == 2 * 1 / 2 * 1 + 2 * 1 * 0.25
    assert allreduce.allreduce(5, 1e9, 1e9, 0.25) == 2 * 4 / 5 * 1 + 2 * 3 * 0.25


def test_the_model_of_an_iteration_is_that_of_the_formula_and_knows_the_papers_nets():
    assert allreduce.parameters("MNIST") == [2_503_984, 1_231_441]
    assert allreduce.parameters("8,000 units") == [89_395_072, 37_393_601]
    assert allreduce.iteration("MNIST", 100, 1, 0.25, 7, 1, 1) == 0.25 * 100 + 7
    expected = 0.25 * 100 / 4 + 7 + 2 * 3 / 4 * 4 * 3_735_425 / 1e6 + 2 * (2 * 2 * 3)
    assert allreduce.iteration("MNIST", 100, 4, 0.25, 7, 1e6, 3) == pytest.approx(expected)


def test_bandwidth_and_latency_are_those_that_made_the_times():
    times = {str(size): 1e3 * allreduce.allreduce(4, size, 2e9, 3e-6) for size in allreduce.SIZES}
    assert allreduce.link({"allreduce": {"4": times}}, 4) == pytest.approx((2e9, 3e-6))


# ---- Under mpiexec, as users start it

REAL = ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"}
MNIST = EXAMPLES / "mnist.py"
GAMES_OF_4 = ["simultaneous", "k = 2, two steps of G", "batch norm"]
GAMES_OF_2 = [game for game in GAMES if game not in GAMES_OF_4]  # 4 ranks on 2 cores take long: MPI does not sleep


def mpiexec(n, *command, timeout=200, **options):
    """Start n processes of Python with these arguments, and wait for their end: code, stdout and stderr."""
    words = ["mpiexec", "-n", str(n), sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=timeout, env=REAL, **options)


def started(n, *command, **options):
    words = ["mpiexec", "-n", str(n), sys.executable, *map(str, command)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=REAL, **options)


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize(("p", "games"), [(1, ["float32"]), (2, GAMES_OF_2), (4, GAMES_OF_4)], ids=["1", "2", "4"])
def test_ranks_compute_the_run_of_one_process(p, games, tmp_path):
    well(mpiexec(p, many_ranks.__file__, tmp_path / "ends.npz", *games))
    with np.load(tmp_path / "ends.npz") as found:
        same(dict(found), many_ranks.ends(games))


TINY = [*SMALL, "--dtype", "float64", "--evaluate-every", "2"]
TINY[TINY.index("--batch-size") + 1] = "8"


def metrics(folder):
    """The rows of metrics.csv as numbers, without the timing."""
    with open(folder / "metrics.csv", newline="") as file:
        return [[float(x) for x in row[:9] if x] for row in list(csv.reader(file))[1:]]


def require_same_run(folder, alone):
    found, expected = load_checkpoint(folder / "checkpoint.npz"), load_checkpoint(alone / "checkpoint.npz")
    assert (found.configuration, found.epoch, found.updates) == (expected.configuration, expected.epoch, expected.updates)
    assert metrics(folder) == metrics(alone)
    for name, vector in found.vectors.items():
        np.testing.assert_allclose(vector, expected.vectors[name], rtol=0, atol=TOLERANCES["float64"], err_msg=name)
    results = [json.loads((each / "run.json").read_text())["results"]["evaluation"] for each in (folder, alone)]
    assert results[0]["fine"]["log_likelihood"] == pytest.approx(results[1]["fine"]["log_likelihood"], abs=1e-6)


@pytest.fixture(scope="module")
def run_alone(data, tmp_path_factory):
    """A run of examples/mnist.py by one process, 4 epochs."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    command = [sys.executable, MNIST, "--data", data, "--out", folder, "--epochs", "4", *TINY]
    well(subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", env=REAL, timeout=200))
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.mpi
def test_a_run_resumed_with_four_then_two_then_one_rank_is_the_run_of_one(data, run_alone, tmp_path):
    folder = tmp_path / "run"
    out = well(mpiexec(4, MNIST, "--data", data, "--out", folder, "--epochs", 1, *TINY))
    assert out.count("IDX files") == 1  # rank 0 alone prints
    assert json.loads((folder / "run.json").read_text())["environment"]["ranks"] == 4
    well(mpiexec(2, MNIST, "--out", folder, "--resume", "--epochs", 3))
    assert json.loads((folder / "run.json").read_text())["environment"]["ranks"] == 2
    well(mpiexec(1, MNIST, "--out", folder, "--resume", "--epochs", 4))
    require_same_run(folder, run_alone)
    pictures = [name for name in files(folder) if "epoch-" not in name]
    assert pictures == [name for name in files(run_alone) if "epoch-" not in name]  # no lock, no temporary file


@pytest.mark.mpi
def test_a_killed_rank_ends_the_job_and_the_checkpoint_is_whole(data, run_alone, tmp_path):
    folder = tmp_path / "run"
    command = [MNIST, "--data", data, "--out", folder, "--epochs", 100_000, "--checkpoint-every", 1, *TINY]
    job = started(2, *command)
    checkpoint, end = folder / "checkpoint.npz", time.monotonic() + 100
    while not checkpoint.exists() and time.monotonic() < end:
        time.sleep(0.05)
    victim = [pid for pid in processes(MNIST, folder) if environment_of(pid).get("PMI_RANK") == "1"]
    assert len(victim) == 1
    os.kill(victim[0], signal.SIGKILL)
    assert job.wait(60) != 0
    job.communicate()
    epochs = load_checkpoint(checkpoint).epoch
    well(mpiexec(2, MNIST, "--out", folder, "--resume", "--epochs", epochs + 1))
    assert load_checkpoint(checkpoint).epoch == epochs + 1
    assert not list(folder.rglob("*.tmp"))
    assert metrics(folder)[:1] == metrics(run_alone)[:1]


def processes(*words):
    """The processes on this machine whose command line has all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if line[0].endswith(b"python") or b"python" in Path(os.fsdecode(line[0])).name.encode():
            if all(str(word).encode() in line for word in words):
                found.append(int(path.parent.name))
    return found


def environment_of(pid):
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


RAISES = """
import sys
from tinygan import DivergenceError
from tinygan.ranks import world
from tinygan.run import main

def program():
    if world().rank in map(int, sys.argv[2:]):
        errors = {"named": DivergenceError("the cost is 7e9"), "other": ZeroDivisionError("by zero"), "exit": SystemExit(3)}
        raise errors[sys.argv[1]]
    world().comm.Barrier()

main(program)
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("kind", "where", "facts"),
    [
        ("named", [1], ["rank 1 of 2", "DivergenceError", "7e9"]),
        ("named", [0, 1], ["rank 0 of 2", "DivergenceError", "7e9"]),
        ("other", [1], ["rank 1 of 2", "ZeroDivisionError", "by zero", "Traceback"]),
        ("exit", [1], ["rank 1 of 2", "SystemExit", "3"]),
    ],
)
def test_an_error_on_any_rank_ends_the_job_with_its_name(kind, where, facts, tmp_path):
    done = mpiexec(2, "-c", RAISES, kind, *where, timeout=60)
    assert done.returncode != 0
    assert [fact for fact in facts if fact not in done.stderr] == []
    assert done.stderr.count("error: rank") == 1  # not once from each rank


@pytest.mark.mpi
def test_ctrl_c_ends_the_job_and_says_how_to_resume(data, tmp_path):
    folder = tmp_path / "run"
    job = started(2, MNIST, "--data", data, "--out", folder, "--epochs", 100_000, "--checkpoint-every", 1, *TINY)
    end = time.monotonic() + 100
    while not (folder / "checkpoint.npz").exists() and time.monotonic() < end:
        time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    _, words = job.communicate(timeout=60)
    assert job.returncode != 0
    assert load_checkpoint(folder / "checkpoint.npz").epoch > 0
    assert "--resume" in words, words


@pytest.mark.mpi
def test_a_folder_in_use_and_a_minibatch_that_does_not_divide_are_told_once(data, tmp_path):
    done = mpiexec(3, MNIST, "--data", data, "--out", tmp_path / "run", "--epochs", 1, *TINY)
    assert done.returncode != 0
    assert done.stderr.count("8 rows do not divide by 3") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_without_mpi4py_no_rank_starts_a_run(data, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = ["mpiexec", "-n", "2", sys.executable, str(MNIST), "--data", str(data), "--out", str(tmp_path / "run"), *TINY]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60, env=REAL | {"PYTHONPATH": path})
    assert done.returncode != 0
    assert "python -m pip install mpi4py" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_two_ranks_print_the_evaluation_of_one_process(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in ("samples", 1500), ("validation", 1100), ("test", 2500):
        np.save(tmp_path / f"{name}.npy", rng.random((n, 6), dtype=np.float32))
    command = ["-m", "tinygan", "parzen", "samples.npy", "--validation", "validation.npy", "--test", "test.npy"]
    alone = subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", env=REAL, cwd=tmp_path)
    done = mpiexec(2, *command, cwd=tmp_path)
    assert well(done) == well(alone)
    assert done.stderr.count("warning") == alone.stderr.count("warning")
