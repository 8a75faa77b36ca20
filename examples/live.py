"""Algorithm 1 in a browser, one line at a time: the real code runs, and the page shows what each line does.

    python examples/live.py              opens the page; Ctrl-C ends it
    python examples/live.py LINK         opens it with the settings of a page's address, such as "game=ring&generator_steps=50"
    python examples/live.py --smoke      plays a few iterations through the page's own server, in seconds

On the left is the source of GAN.iteration and of the step that it is in. A thread executes this very code, and a trace
function stops it before each line. On the right is the game: Figure 1's line, a ring of eight Gaussians, or min max xy.

Six situations are one click away: near convergence, D at its optimum, saturation under minimax, Helvetica, order of updates,
oscillation. The page's address holds the settings, behind a #. Send this part to somebody else as a LINK.

The server listens on 127.0.0.1 alone, on --port or on the first free port from 2014. Its address has a token that nobody can
guess. It serves the page's three files and its own games. --no-browser only prints the address.
"""

import argparse
import dis
import hmac
import http.client
import inspect
import json
import math
import secrets
import sys
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import numpy as np
from collapse import MODES, coverage, discriminator, endless, generator, ring, spread
from figure1 import ARROWS, build_discriminator, build_generator, probability
from scipy.special import expit, ndtri
from theory import SUPPORT, generator_cdf, normal

from tinygan import (
    GAN,
    GENERATOR_COSTS,
    PRIORS,
    VARIANTS,
    ArgumentError,
    Batch,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Simultaneous,
    Streams,
    TinyganError,
    guard,
    random_generator,
)
from tinygan.backend import Array
from tinygan.gan import Gradient
from tinygan.init import Constant
from tinygan.run import main, natural

PORT, PORTS = 2014, 20  # the first that is tried, and how many
FILES = {"": ("live.html", "text/html"), "live.css": ("live.css", "text/css"), "live.js": ("live.js", "text/javascript")}
FOLDER = Path(__file__).parent / "live"
BATCH = 128  # m
BODY = 4096  # bytes in a request
CONNECTIONS, SESSIONS = 64, 16  # at a time
IDLE = 900.0  # seconds after which a game that nobody asks about is dropped
LINES, ITERATIONS = 200, 50  # that one request may run
PATIENCE = 0.1  # seconds after which a request for several iterations ends early, at the end of an iteration
HELD_OUT = 512  # rows that V, D(x) and D(G(z)) are means over


# ---- The games


class Bilinear(GAN):
    """min over x, max over y of V = xy, as a GAN: G(z) = x whatever z is, and D's logit of a sample is y times it.

    J(D) = −V and J(G) = V in every variant. So `printed` plays as `alternating` does.
    """

    def discriminator_loss(self, a_real: Any, a_fake: Any) -> tuple[Any, Any, Any]:
        """J(D) = −xy and its gradients by D's logits of data and of samples."""
        return -a_fake.mean(), np.zeros_like(a_real), np.full_like(a_fake, -1 / len(a_fake))

    def generator_gradient(self, samples: Any, G_cache: Any, rng: Any, judged: Any = None) -> Any:
        """∇ J(G) = y, written into G_grad; returns J(G) = xy."""
        a, D_cache = judged or self.D.forward(samples, train=True, rng=rng)
        dsamples = self.D.backward(np.full_like(a, 1 / len(a)), D_cache)
        self.G.backward(dsamples, G_cache, self.G_grad, need_dx=False)
        return a.mean()

    def report(self, held_out: Batch, streams: Streams) -> dict[str, Any]:
        """V = xy."""
        return {"value": self.G.theta[1] * self.D.theta[0]}


class Nothing(Noise):
    """The prior of the bilinear game, whose G uses no noise: z = 0."""

    def __call__(self, rng: Any, m: int, dtype: Any = np.float32) -> Any:
        return np.zeros((m, self.n), dtype)


def bilinear_networks(seed: int, units: int) -> tuple[Network, Network]:
    """x and y, at (1, 0)."""
    zero = Constant(np.zeros((1, 1)))
    return Network([Linear(1, 1, weight=zero, bias=1.0)]), Network([Linear(1, 1, weight=zero, bias=None)])


def line_networks(seed: int, units: int) -> tuple[Network, Network]:
    return build_generator(seed, np, units), build_discriminator(seed, np, units)


def ring_networks(seed: int, units: int) -> tuple[Network, Network]:
    return generator(seed, units), discriminator(seed, units)


def normal_rows(distance: float, rng: Any, m: int) -> np.ndarray:
    """N(distance, 1), (m, 1)."""
    return rng.standard_normal((m, 1), dtype=np.float32) + np.float32(distance)


def ring_rows(distance: float, rng: Any, m: int) -> np.ndarray:
    return ring(rng, m)


def zero_rows(distance: float, rng: Any, m: int) -> np.ndarray:
    return np.zeros((m, 1), np.float32)


class OfUniform(NamedTuple):
    """G on a prior that is made from z ~ U(−√3, √3): what generator_cdf asks of a network."""

    G: Network
    prior: str

    def z(self, uniform: np.ndarray) -> np.ndarray:
        """The noise of this prior that stands at the same share of all noise as `uniform` does."""
        share = np.clip((uniform / SUPPORT + 1) / 2, 1e-4, 1 - 1e-4)
        return {"uniform": uniform, "gaussian": ndtri(share), "spherical": np.sign(uniform)}[self.prior]

    def __call__(self, uniform: np.ndarray) -> np.ndarray:
        return self.G(self.z(uniform).astype(self.G.dtype))

    @property
    def dtype(self) -> Any:
        return self.G.dtype

    @property
    def xp(self) -> Any:
        return self.G.xp


def line_picture(gan: GAN, session: "Session") -> tuple[dict[str, Any], dict[str, Any]]:
    """Figure 1: p_data, p_g, D and D* on a grid, and from which z to which x arrows lead."""
    G, p_data = OfUniform(gan.G, gan.noise.kind), normal(session.distance)
    edges = np.linspace(-6, 6 + session.distance, 201)
    cdf, dx = generator_cdf(G, edges, 256), edges[1] - edges[0]
    x = (edges[1:] + edges[:-1]) / 2
    data, p_g, D = p_data(x), np.diff(cdf) / dx, probability(gan.D, x)
    D_star = np.where(data + p_g > 0.01, data / (data + p_g), np.nan)  # elsewhere it is defined by next to nothing
    numbers = {
        "W₁(p_g, p_data)": abs(cdf - p_data.cdf(edges)).sum() * dx,
        "mean |D − D*|": np.nansum(abs(D - D_star) * (data + p_g)) / 2 * dx,
    }
    curves = {"x": x, "p_data": data, "p_g": p_g, "D": D, "D_star": D_star}
    return curves | {"from": G.z(ARROWS), "to": G(ARROWS[:, None])[:, 0]}, numbers


RING_HALF = 3.4  # the picture is a square of [−3.4, 3.4]²
SHADE, FIELD = (
    np.stack(np.meshgrid(*[(np.arange(n, dtype=np.float32) + 0.5) * (2 * RING_HALF / n) - RING_HALF] * 2), -1).reshape(-1, 2)
    for n in (40, 13)
)


def ring_picture(gan: GAN, session: "Session") -> tuple[dict[str, Any], dict[str, Any]]:
    """Samples, D(x) on a grid from below as 0 … 255, and ∇D(x) on a coarser grid."""
    z = gan.noise(random_generator(np, session.seed, "picture"), HELD_OUT)
    samples = gan.G(z)
    modes, good = coverage(samples)
    a, cache = gan.D.forward(FIELD)
    slope = gan.D.backward(expit(a) * expit(-a), cache)
    shade = np.nan_to_num(255 * expit(gan.D(SHADE))[:, 0]).astype(int)
    numbers = {f"modes covered, of {MODES}": modes, "share of good samples": good, "spread (ring: 2.01)": spread(samples)}
    return {"samples": samples, "shade": shade, "at": FIELD, "slope": slope}, numbers


def bilinear_picture(gan: GAN, session: "Session") -> tuple[dict[str, Any], dict[str, Any]]:
    """The orbit of (x, y), and the step that each player's gradient asks for."""
    x, y = float(gan.G.theta[1]), float(gan.D.theta[0])
    return {"orbit": [*session.orbit, (x, y)]}, {"x": x, "y": y, "distance from (0, 0)": math.hypot(x, y)}


class Game(NamedTuple):
    """What a game is made of."""

    networks: Callable[[int, int], tuple[Network, Network]]
    data: Callable[..., np.ndarray]
    noise: type[Noise]
    n: int  # of the noise
    classes: Mapping[str, type[GAN]]
    picture: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
    unused: tuple[str, ...] = ()  # settings that change nothing


BILINEAR = {name: type(f"Bilinear{kind.__name__}", (Bilinear, kind), {}) for name, kind in VARIANTS.items()}
BILINEAR_UNUSED = "generator_cost", "prior", "units", "distance", "seed"
GAMES = {
    "line": Game(line_networks, normal_rows, Noise, 1, VARIANTS, line_picture),
    "ring": Game(ring_networks, ring_rows, Noise, 2, VARIANTS, ring_picture, ("distance",)),
    "bilinear": Game(bilinear_networks, zero_rows, Nothing, 1, BILINEAR, bilinear_picture, BILINEAR_UNUSED),
}


# ---- Settings


class Setting(NamedTuple):
    """One control of the page: one of `choices`, or a number from `low` to `high`, an integer if the default is one."""

    label: str
    default: str | int | float
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    title: str = ""

    def bounds(self) -> dict[str, Any]:
        """For the page's control."""
        return self._asdict() | {"step": 1 if isinstance(self.default, int) else "any"}


SETTINGS = {
    "game": Setting("game", "line", tuple(GAMES), title="Figure 1's line, a ring of eight Gaussians, or min max xy"),
    "variant": Setting("variant", "alternating", tuple(VARIANTS), title="the order of the updates, and the costs"),
    "generator_cost": Setting("cost of G", "non_saturating", GENERATOR_COSTS, title="what G descends"),
    "k": Setting("k", 1, low=1, high=100, title="updates of D in an iteration"),
    "generator_steps": Setting("steps of G", 1, low=1, high=100, title="updates of G in an iteration"),
    "eta_d": Setting("η of D", 0.05, low=1e-6, high=10, title="learning rate of D"),
    "eta_g": Setting("η of G", 0.01, low=1e-6, high=10, title="learning rate of G"),
    "momentum": Setting("μ", 0.0, low=0, high=0.99, title="momentum of both players"),
    "prior": Setting("prior", "uniform", PRIORS, title="the distribution of the noise z"),
    "units": Setting("units", 32, low=4, high=128, title="hidden units of each network; a new game"),
    "distance": Setting("distance", 0.0, low=0, high=8, title="of the data's mean from 0, on the line; a new game"),
    "seed": Setting("seed", 0, low=0, high=2**31 - 1, title="of all random numbers; a new game"),
    "warm": Setting(
        "iterations before",
        0,
        low=0,
        high=2000,
        title="of Algorithm 1 with one update of each player, before the game starts; a new game",
    ),
    "ahead": Setting("D ahead by", 0, low=0, high=5000, title="updates of D alone, before the game starts; a new game"),
}
OF_A_NEW_GAME = "game", "units", "distance", "seed", "warm", "ahead"


def settings_of(given: Any) -> dict[str, Any]:
    """All settings, those that are not given at their defaults. ArgumentError for an unknown one, or one out of bounds."""
    if not isinstance(given, dict) or not given.keys() <= SETTINGS.keys():
        raise ArgumentError(f"settings are {', '.join(SETTINGS)}, not {str(given):.200}")
    return {name: _checked(name, given.get(name, setting.default)) for name, setting in SETTINGS.items()}


def _checked(name: str, value: Any) -> Any:
    setting = SETTINGS[name]
    if setting.choices:
        if value not in setting.choices:
            raise ArgumentError(f"{name} is one of {', '.join(setting.choices)}, not {str(value):.40}")
        return value
    kind = type(setting.default)
    number = not isinstance(value, bool) and isinstance(value, int | float) and setting.low <= value <= setting.high
    if not number or kind(value) != value:
        what = "an integer" if kind is int else "a number"
        raise ArgumentError(f"{name} is {what} from {setting.low:g} to {setting.high:g}, not {str(value):.40}")
    return kind(value)


def settings_of_link(link: str) -> dict[str, Any]:
    """The settings in a page's address, or in what is behind its #."""
    pairs = dict(parse_qsl(link.rpartition("#")[2], keep_blank_values=True))
    return settings_of({name: _number(text) for name, text in pairs.items()})


def _number(text: str) -> str | int | float:
    for kind in int, float:
        try:
            return kind(text)
        except ValueError:
            pass
    return text


class Situation(NamedTuple):
    """Settings to start from, what happens there, and the section of GUIDE.md that explains it."""

    settings: dict[str, Any]
    why: str
    section: str


ON_THE_LINE = {"eta_d": 0.1, "eta_g": 0.01, "momentum": 0.5}
ON_THE_RING = {"game": "ring", "units": 64, "prior": "gaussian", "eta_d": 0.1, "eta_g": 0.0125, "momentum": 0.5}
SITUATIONS = {
    "near convergence": Situation(
        ON_THE_LINE | {"warm": 9},
        "p_g lies beside p_data. D is partly right: it rises where D* rises. Press run. G follows D's slope, p_g comes "
        "to lie on p_data, and D comes to ½.",
        "Figure 1: the game on a line",
    ),
    "D at its optimum": Situation(
        ON_THE_LINE | {"k": 50, "ahead": 3000},
        "D alone has had 3,000 updates. So it lies on D* = p_data/(p_data + p_g). Press run. With k = 50 updates in "
        "each iteration D stays near D* while G moves.",
        "Proposition 1 and Eq. 2: the optimal discriminator",
    ),
    "saturation under minimax": Situation(
        ON_THE_LINE | {"distance": 5.0, "ahead": 1000, "generator_cost": "minimax"},
        "The data are far away, and D rejects every sample: D(G(z)) is nearly 0. There log(1 − D) has next to no slope. "
        "Press run: G hardly moves. Then choose non_saturating as the cost of G: it moves at once.",
        "The cost that saturates, and the one that does not",
    ),
    "Helvetica": Situation(
        ON_THE_RING | {"generator_steps": 50},
        "G has 50 updates for each of D. Press run. The samples gather where D is high, and go elsewhere when D has "
        "learned it. G covers two of the eight modes at most. Then set steps of G to 1 and press reset: in 1,000 "
        "iterations G covers the ring.",
        "What comes after",
    ),
    "order of updates": Situation(
        {"eta_d": 0.4, "eta_g": 0.4, "variant": "simultaneous"},
        "Both gradients are taken before either player moves, and η is large. Press run: p_g does not come to rest. "
        "Then choose alternating and press reset. G's gradient now comes from the new D, and p_g stays near p_data, "
        "with the same η.",
        "Three variants, one set of hyper-parameters",
    ),
    "oscillation": Situation(
        {"game": "bilinear", "eta_d": 0.1, "eta_g": 0.1},
        "The bilinear game, V = xy. Press run. Each player follows its own gradient, and the two circle (0, 0) for "
        "ever: the costs swing, and nothing converges. Choose simultaneous, and they spiral out.",
        "What comes after",
    ),
}


# ---- A game that stops before each line

WATCHED: dict[CodeType, str] = {
    getattr(kind, name).__code__: f"{kind.__name__}.{name}"
    for kind, names in (
        (GAN, ("iteration", "discriminator_step", "generator_step")),
        (Simultaneous, ("iteration", "simultaneous_step")),
    )
    for name in names
}
"""The functions whose lines the page shows, by their code."""


def sources() -> dict[str, dict[str, Any]]:
    """{"GAN.iteration": {"first": number of its first line, "lines": […]}, …}, as they stand in tinygan/gan.py."""
    found = {name: inspect.getsourcelines(code) for code, name in WATCHED.items()}
    return {name: {"first": first, "lines": [line.rstrip("\n") for line in lines]} for name, (lines, first) in found.items()}


SOURCES = sources()


def first_line(code: CodeType) -> int:
    """The number of the line that a function executes first."""
    return next(line for _, line in dis.findlinestarts(code) if line is not None and line > code.co_firstlineno)


class Closed(BaseException):
    """Ends the thread of a session that is closed, wherever it stands."""


class Session:
    """One game. A thread of its own plays it, and rests before each line until `advance` lets it go on.

    .here     the lines that run next: {"GAN.iteration": 140}, and inside a step {…, "GAN.generator_step": 181}
    .ran      the line that ran last, (function, number), or None
    .changed  what the last line changed or, after advance(iterations=n), the last iteration
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.lock, self.asked = threading.Lock(), time.monotonic()
        self.go, self.rests = threading.Semaphore(0), threading.Semaphore(0)
        self.closed, self.error = False, ""
        self.lines: float = 0
        self.iterations: float = 0
        self.deadline, self.before = math.inf, None
        self._begin(settings)
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.thread.start()
        self.rests.acquire()

    # Between two iterations

    def _begin(self, settings: dict[str, Any]) -> None:
        """A new game, and what is to happen before it starts."""
        self.wanted, self.game, self.seed = settings, GAMES[settings["game"]], settings["seed"]
        self.distance, data = settings["distance"], partial(self.game.data, settings["distance"])
        self.iteration, self.streams = 0, Streams(self.seed)
        self.orbit: deque[tuple[float, float]] = deque(maxlen=400)
        self.batches = endless(data, self.streams["examples"])
        self.held_out = Batch(data(random_generator(np, self.seed, "held-out examples"), HELD_OUT))
        networks = self.game.networks(self.seed, settings["units"])
        self.players = *networks, *(MomentumSGD(network.theta, 1.0) for network in networks)
        self.gan = self._game(settings | {"k": 1, "generator_steps": 1})
        self.gan.G_grad[...] = self.gan.D_grad[...] = 0
        self.costs: dict[str, Any] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(settings["warm"]):
                self.costs = self.gan.iteration(self.batches, self.streams)
            for _ in range(settings["ahead"]):
                self.gan.discriminator_step(next(self.batches).x, self.gan.sample_noise(self.streams), None)
        self._change_game(settings)
        self.ran, self.changed, self.frames = None, [], ()
        self._set_here(())

    def _game(self, settings: dict[str, Any]) -> GAN:
        """The game of these settings between the same players."""
        G, D, G_optimizer, D_optimizer = self.players
        G_optimizer.learning_rate, D_optimizer.learning_rate = settings["eta_g"], settings["eta_d"]
        G_optimizer.momentum = D_optimizer.momentum = settings["momentum"]
        return self.game.classes[settings["variant"]](
            G, D, G_optimizer, D_optimizer,
            noise=self.game.noise(settings["prior"], self.game.n), batch_size=BATCH,
            **{name: settings[name] for name in ("generator_cost", "k", "generator_steps")},
        )  # fmt: skip

    def _settle(self) -> None:
        """Take the settings that are wanted."""
        if any(self.wanted[name] != self.settings[name] for name in OF_A_NEW_GAME):
            self._begin(self.wanted)
        elif self.wanted != self.settings:
            self._change_game(self.wanted)
            self._set_here(())

    def _change_game(self, settings: dict[str, Any]) -> None:
        """The same players, and their last gradients, in a game with these settings."""
        self.settings = settings
        gradients = self.gan.G_grad, self.gan.D_grad
        self.gan = self._game(settings)
        self.gan.G_grad[...], self.gan.D_grad[...] = gradients

    # In the thread

    def _play(self) -> None:
        try:
            while True:
                self._rest(())
                self.at_start = True
                self.orbit.append((float(self.gan.G.theta[-1]), float(self.gan.D.theta[0])))
                sys.settrace(self._trace)
                with np.errstate(over="ignore", invalid="ignore"):
                    self.costs = self.gan.iteration(self.batches, self.streams)
                sys.settrace(None)
                self.iteration += 1
                self.iterations -= 1
                guard(self.costs, self.gan.players, f"iteration {self.iteration}")
        except Closed:
            pass
        except Exception as error:
            self.error = f"{error}. Reset the game, or give it a smaller η."
            if not isinstance(error, TinyganError):
                raise
        finally:
            sys.settrace(None)
            self.rests.release()

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Python calls this at each call of a function; what it returns, at each line of it."""
        return self._line if frame.f_code in WATCHED else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and not self.at_start:
            above = frame.f_back
            self._rest((above, frame) if above and above.f_code in WATCHED else (frame,))
        self.at_start = False  # the rest before an iteration is the rest before its first line
        return self._line

    def _set_here(self, frames: tuple[FrameType, ...]) -> None:
        code = type(self.gan).iteration.__code__
        self.here = {WATCHED[frame.f_code]: frame.f_lineno for frame in frames} or {WATCHED[code]: first_line(code)}

    def _rest(self, frames: tuple[FrameType, ...]) -> None:
        """Before a line of the last of these frames, or between two iterations: wait, if no more is to run now."""
        self.ran = [*self.here.items()][-1] if self.before else None
        self._set_here(frames)
        self.lines -= 1
        waits = self.lines <= 0 or (not frames and (self.iterations <= 0 or time.monotonic() > self.deadline))
        if waits:
            self.changed = self._changes(frames) if self.before else []
            self.frames = frames
            self.rests.release()
            self.go.acquire()
            if self.closed:
                raise Closed
        if not frames:
            self._settle()
        if waits or not frames or self.lines < math.inf:
            self.before = self._snapshot(frames)

    def _snapshot(self, frames: tuple[FrameType, ...]) -> tuple[dict[str, np.ndarray], dict[FrameType, dict[str, Any]]]:
        """The vectors that training changes, and the local variables of functions."""
        gan, vectors = self.gan, {}
        for name, grad, player in ("D", gan.D_grad, gan.players["D"]), ("G", gan.G_grad, gan.players["G"]):
            vectors[f"self.{name}_grad"] = grad.copy()
            vectors[f"self.{name}_optimizer.velocity"] = player.optimizer.state["velocity"].copy()
            vectors[f"self.{name}.theta"] = player.network.theta.copy()
        return vectors, {frame: dict(frame.f_locals) for frame in frames}

    def _changes(self, frames: tuple[FrameType, ...]) -> list[dict[str, Any]]:
        """What is different from the last snapshot, in a few words and numbers."""
        vectors, variables = self.before
        now, variables_now = self._snapshot(frames)
        changes = [
            described(name, vector if name.endswith("grad") else vector - vectors[name], name.endswith("grad"))
            for name, vector in now.items()
            if not np.array_equal(vector, vectors[name], equal_nan=True)
        ]
        for frame in variables.keys() & variables_now.keys():
            before = variables[frame]
            new = {name: value for name, value in variables_now[frame].items() if before.get(name, self) is not value}
            changes += [described(name, value) for name, value in new.items()]
        return changes

    # For the page

    def advance(self, lines: int = 0, iterations: int = 0) -> None:
        """Let so many lines run, or so many iterations: to the end of the last, or earlier if that takes long."""
        with self.lock:
            self.asked = time.monotonic()
            if self.error or self.closed or not (lines or iterations):
                return
            self.lines, self.iterations = lines or math.inf, iterations or math.inf
            self.deadline = time.monotonic() + PATIENCE
            self.go.release()
            self.rests.acquire()

    def change(self, settings: dict[str, Any]) -> None:
        """These settings from the next iteration on: at once, if none has begun."""
        with self.lock:
            self.wanted = settings
            if not self.frames and not self.error:
                self._settle()

    def close(self) -> None:
        """End the thread."""
        self.closed = True
        self.go.release()

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        with self.lock:
            gan = self.gan
            costs = self.costs | {
                f"{player}_cost": value
                for player, name in (("discriminator", "D_cost"), ("generator", "G_cost"))
                for value in [frame.f_locals.get(name) for frame in self.frames[:1]]
                if value is not None
            }
            with np.errstate(over="ignore", invalid="ignore"):
                report = gan.report(self.held_out, Streams(self.seed))
                picture, more = self.game.picture(gan, self)
            numbers = {
                "V": report["value"],
                "J(D)": costs.get("discriminator_cost"),
                "J(G)": costs.get("generator_cost"),
                "D(x)": report.get("D_x"),
                "D(G(z))": report.get("D_G_z"),
                "‖∇J(D)‖": np.linalg.norm(gan.D_grad),
                "‖∇J(G)‖": np.linalg.norm(gan.G_grad),
                "‖v_d‖": np.linalg.norm(gan.D_optimizer.state["velocity"]),
                "‖v_g‖": np.linalg.norm(gan.G_optimizer.state["velocity"]),
            } | more
            return {
                "iteration": self.iteration,
                "here": self.here,
                "ran": self.ran,
                "changed": self.changed,
                "unit": "line" if self.lines < math.inf else "iteration",
                "waiting": self.wanted != self.settings,
                "game": self.settings["game"],
                "settings": self.wanted,
                "unused": self.game.unused,
                "error": self.error,
                "numbers": numbers,
                "picture": picture,
            }


def described(name: str, value: Any, is_new: bool = True) -> dict[str, Any]:
    """A variable in a few words: a number, or an array's shape, its norm and a histogram of it, or of how it has changed."""
    if isinstance(value, Gradient):
        name, value = f"{name}.a_fake", value.a_fake
    if isinstance(value, int | float | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return {"name": name, "value": float(value), "new": True}
    if not isinstance(value, np.ndarray):
        return {"name": name, "text": type(value).__name__}
    if value.size == 1:
        return {"name": name, "value": float(value.ravel()[0]), "new": is_new}
    finite = value[np.isfinite(value)].astype(np.float64)
    counts, edges = np.histogram(finite, 24, limits_of(finite)) if len(finite) else ([], [math.nan, math.nan])
    norm = float(np.linalg.norm(value.astype(np.float64)))
    facts = {"shape": value.shape, "norm": norm, "low": edges[0], "high": edges[-1], "counts": counts}
    return {"name": name, "new": is_new} | facts


def limits_of(values: Array) -> tuple[float, float]:
    """The least and the largest value, or limits around them where they are too close for bins between them."""
    low, high = float(values.min()), float(values.max())
    room = max(abs(low), abs(high), 1e-9) / 2
    return (low, high) if high - low > 1e-9 * room else (low - room, high + room)


def plain(value: Any) -> Any:
    """What JSON can hold: arrays to four decimals, None for what is not finite."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        rounded = value.round(4) if value.dtype.kind != "f" else value.astype(np.float64).round(4)
        return rounded.tolist() if np.isfinite(rounded).all() else plain(rounded.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


# ---- The server


class Refused(Exception):
    """A request that gets no answer but a status and one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Handler(BaseHTTPRequestHandler):
    """GET the page's files, POST new, step and close. Nothing else, and nothing without the token."""

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds for the next request, or the rest of one
    wbufsize, disable_nagle_algorithm = -1, True  # an answer leaves at once, in one piece
    server: "Server"

    def do_GET(self) -> None:
        self._answer(self._file)

    def do_POST(self) -> None:
        self._answer(self._call)

    def _answer(self, answer: Callable[[str], tuple[bytes, str]]) -> None:
        try:
            status, (content, kind) = 200, answer(self._name())
        except (Refused, ArgumentError) as error:
            status, kind = getattr(error, "status", 400), "application/json"
            content = json.dumps({"error": str(error)}).encode()
            self.close_connection = True  # its body may not have been read
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _name(self) -> str:
        """What is asked for behind the token. The name of this host is checked against pages that rename themselves to it."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise Refused(403, "wrong Host")
        if any(origin != f"http://{hosts[0]}" for origin in self.headers.get_all("Origin", [])):
            raise Refused(403, "wrong Origin")
        _, _, rest = self.path.partition("/")
        token, slash, name = rest.partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()) or not slash:
            raise Refused(403, "wrong token: open the address that the script has printed")
        return name

    def _file(self, name: str) -> tuple[bytes, str]:
        if name not in FILES:
            raise Refused(404, "no such page")
        file, kind = FILES[name]
        return (FOLDER / file).read_bytes(), kind

    def _call(self, name: str) -> tuple[bytes, str]:
        calls = {"new": self.server.new, "step": self.server.step, "close": self.server.close}
        if name not in calls:
            raise Refused(404, "no such call")
        return json.dumps(plain(calls[name](self._body())), allow_nan=False).encode(), "application/json"

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise Refused(411, "a Content-Length is needed")
        if len(length) > 9 or int(length) > BODY:
            raise Refused(413, f"a request has at most {BODY} bytes")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "application/json is needed")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(400, "this is no JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, "a JSON object is needed")
        return body

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal shows the address alone."""


class Server(ThreadingHTTPServer):
    """The page and its games, on the loopback address alone. Raises OSError if the port is taken."""

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # there it would share the port with a stranger

    def __init__(self, port: int) -> None:
        self.sessions: dict[str, Session] = {}
        super().__init__(("127.0.0.1", port), Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.token = secrets.token_urlsafe(24)
        self.address = f"http://127.0.0.1:{self.server_port}/{self.token}/"
        self.lock, self.places = threading.Lock(), threading.BoundedSemaphore(CONNECTIONS)

    # Calls of the page

    def new(self, body: dict[str, Any]) -> dict[str, Any]:
        """A new game; its name, its state, and what does not change: the source, the settings' bounds, the situations."""
        settings = settings_of(body.get("settings", {}))
        full = Refused(503, f"{SESSIONS} games are open: close a window, and reload this one")
        if len(self.sessions) >= SESSIONS:
            raise full
        name, session = secrets.token_urlsafe(9), Session(settings)
        with self.lock:
            if len(self.sessions) < SESSIONS:
                self.sessions[name] = session
        if name not in self.sessions:
            session.close()
            raise full
        constant = {"sources": SOURCES, "bounds": {name: setting.bounds() for name, setting in SETTINGS.items()}}
        situations = {title: each._asdict() | {"settings": settings_of(each.settings)} for title, each in SITUATIONS.items()}
        return {"session": name, "situations": situations} | constant | session.state()

    def step(self, body: dict[str, Any]) -> dict[str, Any]:
        """Change the settings if there are any, let lines or iterations run, and tell the state."""
        session = self._session(body)
        lines, iterations = (_integer(body, name, most) for name, most in (("lines", LINES), ("iterations", ITERATIONS)))
        if "settings" in body:
            session.change(settings_of(body["settings"]))
        session.advance(lines, iterations)
        return session.state()

    def close(self, body: dict[str, Any]) -> dict[str, Any]:
        """End a game."""
        self._session(body).close()
        with self.lock:
            self.sessions.pop(body["session"], None)
        return {}

    def _session(self, body: dict[str, Any]) -> Session:
        session = self.sessions.get(str(body.get("session")))
        if session is None:
            raise Refused(404, "this game is closed, or nobody has looked at it for long: reset it")
        return session

    # Connections

    def service_actions(self) -> None:
        """Twice a second: drop the games that nobody looks at."""
        with self.lock:
            idle = [name for name, session in self.sessions.items() if time.monotonic() - session.asked > IDLE]
            for name in idle:
                self.sessions.pop(name).close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for session in self.sessions.values():
            session.close()


def _integer(body: dict[str, Any], name: str, most: int) -> int:
    value = body.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise ArgumentError(f"{name} is an integer from 0 to {most}, not {str(value):.40}")
    return value


# ---- The programme


def listen(port: int | None) -> Server:
    """A server on this port or, without one, on the first that is free."""
    for each in range(PORT, PORT + PORTS) if port is None else [port]:
        try:
            return Server(each)
        except (OSError, OverflowError) as error:
            problem = error
    asked = f"port {port}" if port is not None else f"all ports from {PORT} to {PORT + PORTS - 1}"
    raise ArgumentError(f"{asked}: {problem}: choose a different one with --port")


def smoke(server: Server) -> None:
    """Play each situation for a few lines and an iteration, through the server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)

    def call(name: str, **body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/{server.token}/{name}", json.dumps(body), headers)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        if "error" in answer and answer["error"]:
            raise ArgumentError(answer["error"])
        return answer

    for title, situation in SITUATIONS.items():
        name = call("new", settings=situation.settings)["session"]
        function, line = call("step", session=name, lines=3)["ran"]
        value = call("step", session=name, iterations=1)["numbers"]["V"]
        print(f"{title}: line {line} of {function} ran; after one iteration V = {value:.3f}")
        call("close", session=name)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("link", nargs="?", default="", metavar="LINK", help="settings to start with: a page's address, or what is behind its #")
    add("--port", type=natural, metavar="N", help=f"port of 127.0.0.1 (default: the first free one from {PORT}; 0: any)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--smoke", action="store_true", help="play a few iterations through the server, and end")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    fragment = "#" + urlencode(settings_of_link(args.link)) if args.link else ""
    server = listen(0 if args.smoke and args.port is None else args.port)
    try:
        if args.smoke:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            smoke(server)
            server.shutdown()
            return
        print(f"{server.address}{fragment}\nCtrl-C ends it.", flush=True)
        if not args.no_browser:
            webbrowser.open(server.address + fragment)
        server.serve_forever()
    finally:
        server.server_close()


if __name__ == "__main__":
    main(program)
