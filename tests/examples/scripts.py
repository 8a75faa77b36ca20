"""The examples as their users run them: each in a process of its own, with this checkout's tinygan."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}


def run_example(name, *arguments, timeout=600, **options):
    """Run examples/`name` to its end, which has to be a good one. Returns what it prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=timeout, env=ENVIRONMENT, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def smoke(name, folder):
    """An example's short form, as users call it, in an empty folder: it writes into runs/ alone. Returns what it prints."""
    printed = run_example(name, "--smoke", cwd=folder)
    assert [path.name for path in folder.iterdir()] == ["runs"]
    assert list((folder / "runs").rglob("*.png"))
    return printed
