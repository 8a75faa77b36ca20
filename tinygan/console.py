"""What a script shows: text on any terminal and into any pipe, progress, and a line where an optional package is missing."""

import codecs
import errno
import importlib.util
import io
import os
import sys
import warnings
from typing import Any

PLAIN = {  # what stands for a sign that an encoding lacks; "?" for all others
    "σ": "sigma", "η": "eta", "θ": "theta", "μ": "mu", "ε": "epsilon", "∇": "grad ", "∂": "d", "±": "+/-", "−": "-", "–": "-",
    "×": "x", "·": "*", "≠": "!=", "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "←": "<-", "½": "1/2", "…": "...", "²": "^2",
    "‖": "||", "∞": "inf", "∫": "integral ", "Σ": "sum ", "₁": "1", "ᵢ": "_i", "′": "'", "“": '"', "”": '"', "⌊": "floor(",
    "⌋": ")", "⁻": "^-", "∈": " in ",
}  # fmt: skip


def plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler "plain" of codecs: σ becomes sigma where it cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plain", plain)


class Lasting(io.FileIO):
    """A file descriptor whose reader may go away, as in `… | head -1`: what is written afterwards is dropped."""

    gone = False

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows says EINVAL
                raise
        self.gone = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return memoryview(data).nbytes


def prepare_streams() -> list[Lasting]:
    """Let stdout and stderr take any text, whatever their encoding, and outlast their readers. Returns their descriptors.

    Ctrl-C that nothing catches ends the script with one line, and with what a shell calls exit code 130.
    """
    sys.excepthook = _in_one_line
    lasting = []
    for name in "stdout", "stderr":
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="plain")
        if stream is getattr(sys, f"__{name}__"):  # not what a test or a notebook has put in its place
            stream.flush()
            raw = Lasting(stream.fileno(), "w", closefd=False)
            options = {"line_buffering": stream.line_buffering or name == "stderr", "write_through": stream.write_through}
            buffer: Any = raw if stream.write_through else io.BufferedWriter(raw)  # raw: python -u, PYTHONUNBUFFERED
            setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "plain", **options))
            lasting.append(raw)
    return lasting


def _in_one_line(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# ---- Progress


class PlainProgress:
    """Progress in lines on stderr: where stderr is no terminal, and where tqdm is not installed.

    With a title, a line at each tenth of the way. Without one, a line whenever set_postfix_str is called: of each epoch.
    """

    def __init__(self, total: int, initial: int = 0, title: str = "") -> None:
        self.total, self.done, self.title = total, initial, title

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        before, self.done = self.done, self.done + n
        if self.title and self.done * 10 // self.total > before * 10 // self.total:
            print(f"{self.title}: {self.done} of {self.total}", file=sys.stderr)

    def set_postfix_str(self, text: str) -> None:
        print(f"{self.done} of {self.total} iterations, {text}", file=sys.stderr)

    def write(self, text: str) -> None:
        """Print this on stdout, above a bar if there is one."""
        print(text, flush=True)

    def close(self) -> None:
        pass


def progress_bar(total: int, initial: int = 0, title: str = "") -> Any:
    """tqdm's bar on a terminal and in a notebook; PlainProgress where stderr is a file or a pipe, or tqdm is not installed."""
    if not (sys.stderr.isatty() or in_notebook()):
        return PlainProgress(total, initial, title)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a notebook lacks ipywidgets: then the bar is of text
            from tqdm.auto import tqdm
    except ImportError:
        return PlainProgress(total, initial, title)
    return tqdm(total=total, initial=initial, desc=title or None, mininterval=0.1, unit="it")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "IPKernelApp" in shell.config


# ---- matplotlib


def can_draw(what: str) -> bool:
    """Whether matplotlib is there. If not, one line on stderr says that this is not drawn, and how to install it."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    print(f"{what} not drawn: matplotlib is missing. Install it with: python -m pip install matplotlib", file=sys.stderr)
    return False


def need_matplotlib() -> None:
    """End a script that only draws, at its start, with one line and exit code 2, if matplotlib is missing."""
    if not can_draw("error: the figures are"):
        sys.exit(2)


def new_figure(**options: Any) -> Any:
    """matplotlib's Figure with these options; matplotlib is imported only here."""
    from matplotlib.figure import Figure

    return Figure(**options)
