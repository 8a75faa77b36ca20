"""The small family of errors. Catch TinyganError for all of them; each is also the built-in kind that its fault suggests."""


class TinyganError(Exception):
    """The base of every error that tinygan raises on purpose."""


class ArgumentError(TinyganError, ValueError):
    """An argument that cannot be used: a wrong shape, a value outside its range, an unknown name."""


class DataError(TinyganError, ValueError):
    """A data file that is missing, damaged, or not what it is said to be."""


class CheckpointError(TinyganError, ValueError):
    """A checkpoint that cannot be trusted: truncated, altered, of another architecture, or not finite."""


class DivergenceError(TinyganError, ArithmeticError):
    """Training has left the numbers: a cost or a parameter is not finite, or a cost is beyond its bound."""


class BackendError(TinyganError, RuntimeError):
    """The array backend that was asked for does not work on this machine."""


class GradientError(TinyganError, AssertionError):
    """A hand-written derivative disagrees with its numeric one, or a layer breaks the protocol."""
