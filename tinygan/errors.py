"""tinygan's errors. `except TinyganError` catches them all. Each is a built-in error too: an ArgumentError is a ValueError."""


class TinyganError(Exception):
    """The base of every error that tinygan raises on purpose."""


class ArgumentError(TinyganError, ValueError):
    """An argument that cannot be used: a wrong shape, a value outside its range, an unknown name."""


class DataError(TinyganError, ValueError):
    """A data file that is missing or damaged, or that holds something different from what is needed."""


class CheckpointError(TinyganError, ValueError):
    """A checkpoint that cannot be used: it is truncated or altered, its architecture is different, or it is not finite."""


class DivergenceError(TinyganError, ArithmeticError):
    """Training has diverged: a cost or a parameter is not finite, or a cost is beyond its bound."""


class BackendError(TinyganError, RuntimeError):
    """The array backend that was asked for does not work on this machine."""


class GradientError(TinyganError, AssertionError):
    """A hand-written derivative disagrees with its numeric one, or a layer breaks the protocol."""
