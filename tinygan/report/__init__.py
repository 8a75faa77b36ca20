"""python -m tinygan report RUN: one page in HTML that shows a run, or several, from their files alone.

    write_report([Path("runs/mnist-…")], Path("report.html"))

content.py reads a run's files, page.py makes the page of page.html, page.css and page.js, server.py shows a run that goes on.
"""

import argparse
from pathlib import Path

from tinygan.errors import ArgumentError
from tinygan.report.page import MOST_RUNS
from tinygan.report.page import write_report as write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `command` reads."""
    parser.description = (
        "Write report.html, one page that shows a run from its files: settings, verdict, curves, samples over time, nearest "
        "neighbours, log-likelihoods, environment, and the commands that repeat and resume it. Several runs are compared on "
        "one page. It needs no network, and can be sent to others as it is."
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help=f"folder of a run; at most {MOST_RUNS}")
    either = parser.add_mutually_exclusive_group().add_argument
    text = "the page's file (default: report.html, in the folder of the run, or for several runs in the current folder)"
    either("--out", type=Path, metavar="FILE", help=text)
    text = "write no file, but show the page on this machine while the run goes on: open the address that is printed"
    either("--serve", action="store_true", help=text)
    parser.epilog = "Example: python -m tinygan report runs/mnist-20260131-120000 --serve"


def command(args: argparse.Namespace) -> int:
    """Write the page, or serve it until Ctrl-C."""
    if args.serve:
        from tinygan.report.server import serve

        serve(args.runs)
    else:
        path = args.out or (args.runs[0] if len(args.runs) == 1 else Path()) / "report.html"
        try:
            write_report(args.runs, path)
        except OSError as error:
            needed = "a run's files have to be readable, and the page's folder writable: name a page elsewhere with --out"
            raise ArgumentError(f"{error.filename or path}: {error.strerror or error}: {needed}") from error
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. Open it in a browser")
    return 0
