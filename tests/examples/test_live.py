"""examples/live.py: the lines that its page marks are the lines that run, and its server is safe.

What the page itself does is tested in test_live_page.py, in a browser.
"""

import http.client
import inspect
import json
import socket
import sys
import threading
import time
from contextlib import contextmanager

import live
import numpy as np
import pytest
from helpers import bits, refused
from scripts import EXAMPLES, run_example

from tinygan import ArgumentError

SMALL = {"units": 4}


@contextmanager
def serving():
    """A server that serves, in a thread."""
    with live.Server(0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


@pytest.fixture
def session():
    """A small game of these settings, closed at the end."""
    sessions = []

    def begin(**settings):
        sessions.append(live.Session(live.settings_of(SMALL | settings)))
        return sessions[-1]

    yield begin
    for each in sessions:
        each.close()
        each.thread.join(5)
        assert not each.thread.is_alive()


def ask(server, method, path, body=None, **headers):
    """(status, answer) of one request; a header that is None is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    defaults = {"Host": f"127.0.0.1:{server.server_port}"}
    if content is not None:
        defaults |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (defaults | headers).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer, text


def call(server, name, **body):
    answer, text = ask(server, "POST", f"/{server.token}/{name}", body)
    return answer.status, json.loads(text)


# ---- The lines


def lines_of(gan, batches, streams, iterations):
    """(function, line) for each line of the functions that the page shows, seen by a trace function of this test's own."""
    names = {
        getattr(kind, name).__code__: f"{kind.__name__}.{name}"
        for kind in type(gan).__mro__
        for name in STEPS & vars(kind).keys()
    }
    seen = []

    def trace(frame, event, argument):
        if frame.f_code not in names:
            return None
        if event == "line":
            seen.append((names[frame.f_code], frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(iterations):
            gan.iteration(batches, streams)
    finally:
        sys.settrace(before)
    return seen


STEPS = {"iteration", "discriminator_step", "generator_step", "simultaneous_step"}


@pytest.mark.parametrize("game", live.GAMES)
@pytest.mark.parametrize("variant", ["simultaneous", "alternating", "printed"])
def test_the_lines_that_rest_are_the_lines_that_run(variant, game, session):
    settings = {"game": game, "variant": variant, "k": 2, "generator_steps": 2}
    played, same = session(**settings), session(**settings)
    expected = lines_of(same.gan, same.batches, same.streams, 2)
    found = []
    while played.iteration < 2:
        [*_, following] = played.here.items()
        played.advance(lines=1)
        assert played.ran == following, "what was to run next is what ran"
        found.append(played.ran)
    assert found == expected
    assert len({function for function, _ in found}) == (4 if variant == "simultaneous" else 3)


def test_the_source_shown_is_the_source_that_runs():
    for name, shown in live.SOURCES.items():
        kind, function = name.split(".")
        lines, first = inspect.getsourcelines(getattr(getattr(live, kind), function))
        assert (shown["first"], [line + "\n" for line in shown["lines"]]) == (first, lines)


@pytest.mark.parametrize(
    "values",
    [[2, np.nextafter(np.float32(2), 3)], [1e20] * 4, [-3e38, 3e38], [0, 1e-45], [0, 0], [1, np.nan, np.inf], [0.25, 0.5]],
    ids=str,
)
def test_values_that_are_close_or_far_apart_have_a_histogram(values):
    seen = live.described("x", np.array(values, np.float32))
    finite = [float(np.float32(value)) for value in values if np.isfinite(value)]
    assert sum(seen["counts"]) == len(finite)
    assert seen["low"] <= min(finite) <= max(finite) <= seen["high"]


@pytest.mark.parametrize("by", [{"lines": 7}, {"iterations": 1}, {"iterations": 5}])
def test_a_game_that_is_watched_is_the_game_that_is_not(by, session):
    watched, plain = session(seed=3), session(seed=3)
    while watched.iteration < 5:
        watched.advance(**by)
        watched.state()
    if watched.frames:
        watched.advance(iterations=1)
    for _ in range(watched.iteration):
        plain.gan.iteration(plain.batches, plain.streams)
    assert not watched.frames
    assert bits([net.theta for net in watched.players[:2]]) == bits([net.theta for net in plain.players[:2]])


def test_each_vector_changes_in_the_line_that_changes_it(session):
    game, where = session(), {}
    while game.iteration < 1:
        game.advance(lines=1)
        function, line = game.ran
        code = live.SOURCES[function]["lines"][line - live.SOURCES[function]["first"]].strip()
        for change in game.changed:
            where.setdefault(change["name"], set()).add(code)
    assert where["self.D.theta"] == where["self.D_optimizer.velocity"] == {"self.D_optimizer.step(self.D_grad)"}
    assert where["self.G.theta"] == where["self.G_optimizer.velocity"] == {"self.G_optimizer.step(self.G_grad)"}
    assert where["self.D_grad"] == {"gradient = self.discriminator_gradient(x, samples, rng)"}
    assert where["self.G_grad"] == {"G_cost = self.generator_gradient(samples, G_cache, rng)"}
    assert where["x"] == {"x = self.next_examples(batches)"}


def test_what_changed_is_told_in_numbers(session):
    game = session()
    before = game.gan.D.theta.copy()
    while not any(change["name"] == "self.D.theta" for change in game.changed):
        game.advance(lines=1)
    change = next(change for change in game.changed if change["name"] == "self.D.theta")
    moved = game.gan.D.theta - before
    assert change["shape"] == moved.shape
    assert change["norm"] == pytest.approx(np.linalg.norm(moved), rel=1e-6)
    assert sum(change["counts"]) == moved.size
    assert (change["low"], change["high"]) == (pytest.approx(moved.min()), pytest.approx(moved.max()))


# ---- The settings


NEW = {  # a setting, a value, and where the game has it
    "variant": ("simultaneous", lambda s: s.gan.variant),
    "generator_cost": ("minimax", lambda s: s.gan.generator_cost),
    "k": (3, lambda s: s.gan.k),
    "generator_steps": (2, lambda s: s.gan.generator_steps),
    "eta_d": (0.25, lambda s: s.gan.D_optimizer.learning_rate),
    "eta_g": (0.125, lambda s: s.gan.G_optimizer.learning_rate),
    "momentum": (0.75, lambda s: s.gan.D_optimizer.momentum + s.gan.G_optimizer.momentum - 0.75),
    "prior": ("gaussian", lambda s: s.gan.noise.kind),
    "units": (7, lambda s: s.gan.G.layers[0].b.size),
    "distance": (4.0, lambda s: float(np.round(s.held_out.x.mean()))),
    "seed": (5, lambda s: s.streams.seed),
    "game": ("ring", lambda s: "ring" if s.gan.noise.n == 2 else "line"),
}


@pytest.mark.parametrize("name", NEW)
def test_a_setting_takes_effect_at_the_next_iteration(name, session):
    value, found = NEW[name]
    game = session()
    old = found(game)
    game.advance(lines=4)  # in the middle of an iteration
    game.change(game.settings | {name: value})
    assert found(game) == old != value
    assert game.state()["waiting"]
    game.advance(iterations=1)
    game.advance(lines=1)
    assert found(game) == value
    assert not game.state()["waiting"]


@pytest.mark.parametrize("name", NEW)
def test_between_iterations_it_takes_effect_at_once(name, session):
    value, found = NEW[name]
    game = session()
    game.advance(iterations=1)
    game.change(game.settings | {name: value})
    assert found(game) == value
    game.advance(lines=3)
    assert not game.error


def test_every_setting_is_tested_or_describes_a_start():
    assert set(NEW) | {"warm", "ahead"} == set(live.SETTINGS)


def test_what_happens_before_a_game_starts(session):
    assert session(warm=3, ahead=2).gan.D_optimizer.updates == 5
    assert session(warm=3, ahead=2, k=9).gan.G_optimizer.updates == 3


WRONG = [
    ({"nonsense": 1}, "nonsense"), (["game"], "game"), ({"game": "chess"}, "chess"), ({"game": None}, "None"),
    ({"variant": ["printed"]}, "printed"), ({"k": 0}, "0"), ({"k": 101}, "101"), ({"k": 1.5}, "1.5"), ({"k": True}, "True"),
    ({"k": "1"}, "from 1 to 100"), ({"eta_d": 0}, "eta_d"), ({"eta_d": float("nan")}, "nan"), ({"eta_g": float("inf")}, "inf"),
    ({"momentum": 1}, "0.99"), ({"units": 10**30}, "128"), ({"seed": -1}, "-1"), ({"warm": 2001}, "2000"),
    ({"prior": "x" * 9999}, "xxx"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "fact"), WRONG, ids=str)
def test_a_setting_out_of_bounds_is_refused(given, fact):
    with refused(fact) as _:
        live.settings_of(given)


def test_a_message_is_short_however_long_what_was_given():
    with pytest.raises(ArgumentError) as raised:
        live.settings_of({"prior": "x" * 9999})
    assert len(str(raised.value)) < 200


def test_a_link_has_the_settings_of_an_address():
    expected = live.settings_of({"game": "ring", "eta_d": 0.5, "k": 3})
    for link in "game=ring&eta_d=0.5&k=3", "http://127.0.0.1:2014/token/#k=3&game=ring&eta_d=0.5":
        assert live.settings_of_link(link) == expected
    with refused("k", "many"):
        live.settings_of_link("k=many")


# ---- The games


@pytest.mark.parametrize("variant", ["simultaneous", "alternating"])
def test_the_bilinear_game_has_the_orbit_of_its_closed_form(variant, session):
    game = session(game="bilinear", variant=variant, eta_d=0.1, eta_g=0.1)
    for n in range(1, 60):
        game.advance(iterations=1)
        x, y = (game.state()["numbers"][name] for name in "xy")
        if variant == "simultaneous":
            assert np.hypot(x, y) == pytest.approx(1.01 ** (n / 2), rel=1e-5)
        else:
            assert x * x + y * y + 0.1 * x * y == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("prior", ["uniform", "gaussian", "spherical"])
def test_p_g_on_the_line_is_the_density_of_samples(prior, session):
    game = session(prior=prior)
    picture = game.state()["picture"]
    width = picture["x"][1] - picture["x"][0]
    samples = game.gan.sample(20_000, 0)[:, 0]
    z = picture["from"].astype(np.float32)[:, None]
    assert np.array_equal(game.gan.G(z)[:, 0], picture["to"]), "each arrow leads from z to G(z)"
    shares = np.cumsum(picture["p_g"]) * width
    below = [(samples < x + width / 2).mean() for x in picture["x"]]
    assert abs(shares - below).max() < 0.02


def test_the_numbers_are_the_games(session):
    game = session()
    game.advance(iterations=2)
    numbers = game.state()["numbers"]
    a_real, a_fake = (
        game.gan.D(game.held_out.x),
        game.gan.D(game.gan.G(game.gan.noise(live.Streams(0)["report"], live.HELD_OUT))),
    )
    assert numbers["V"] == live.GAN.report(game.gan, game.held_out, live.Streams(0))["value"]
    assert numbers["D(x)"] == pytest.approx(live.expit(a_real).mean(), rel=1e-5)
    assert numbers["D(G(z))"] == pytest.approx(live.expit(a_fake).mean(), rel=1e-5)
    assert numbers["J(D)"] == game.costs["discriminator_cost"]
    assert numbers["‖v_g‖"] == np.linalg.norm(game.gan.G_optimizer.velocity)


def test_a_cost_is_shown_as_soon_as_its_line_has_run(session):
    game = session()
    while game.state()["numbers"]["J(D)"] is None:
        game.advance(lines=1)
    assert game.iteration == 0
    assert game.state()["numbers"]["J(G)"] is None


def test_a_game_that_diverges_says_so_and_stops(session):
    game = session(eta_d=10.0, eta_g=10.0, momentum=0.99, generator_cost="maximum_likelihood")
    for _ in range(100):
        game.advance(iterations=50)
    state = live.plain(game.state())
    assert "η" in state["error"]
    assert json.dumps(state, allow_nan=False)


def test_the_reason_of_each_situation_names_a_section_of_the_guide():
    guide = (EXAMPLES / "GUIDE.md").read_text(encoding="utf-8")
    for situation in live.SITUATIONS.values():
        assert f"### {situation.section}\n" in guide
        assert situation.why
    assert len(live.SITUATIONS) == 6


def numbers_at(settings, iterations):
    game = live.Session(live.settings_of(settings))
    while game.iteration < iterations:
        game.advance(iterations=min(50, iterations - game.iteration))
    numbers = game.state()["numbers"]
    game.close()
    return numbers


@pytest.mark.slow
def test_near_convergence_p_g_is_beside_p_data_and_arrives():
    start = numbers_at(live.SITUATIONS["near convergence"].settings, 0)
    assert 0.5 < start["W₁(p_g, p_data)"] < 1
    assert start["mean |D − D*|"] > 0.04
    end = numbers_at(live.SITUATIONS["near convergence"].settings, 1000)
    assert end["W₁(p_g, p_data)"] < 0.1
    assert abs(end["D(x)"] - 0.5) < 0.02


@pytest.mark.slow
def test_d_at_its_optimum_is_d_star_and_stays_near_it():
    settings = live.SITUATIONS["D at its optimum"].settings
    assert numbers_at(settings, 0)["mean |D − D*|"] < 0.02
    assert numbers_at(settings | {"ahead": 0}, 0)["mean |D − D*|"] > 0.2
    assert numbers_at(settings, 20)["mean |D − D*|"] < 0.04


@pytest.mark.slow
def test_under_minimax_g_hardly_moves_and_under_the_other_cost_it_does():
    settings = live.SITUATIONS["saturation under minimax"].settings
    other = settings | {"generator_cost": "non_saturating"}
    start, one, late = (numbers_at(settings, n) for n in (0, 1, 100))
    assert start["D(G(z))"] < 0.001
    assert one["‖∇J(G)‖"] < numbers_at(other, 1)["‖∇J(G)‖"] / 100
    assert late["W₁(p_g, p_data)"] > 0.95 * start["W₁(p_g, p_data)"]
    assert numbers_at(other, 100)["W₁(p_g, p_data)"] < 1


@pytest.mark.slow
def test_helvetica_covers_two_modes_at_most_and_one_step_of_g_covers_eight():
    settings = live.SITUATIONS["Helvetica"].settings
    assert max(numbers_at(settings, n)["modes covered, of 8"] for n in (20, 40, 60)) <= 2
    assert numbers_at(settings | {"generator_steps": 1}, 1000)["modes covered, of 8"] >= 7


@pytest.mark.slow
def test_the_order_of_updates_decides_whether_p_g_comes_to_rest():
    settings = live.SITUATIONS["order of updates"].settings
    distances = {
        variant: np.mean([numbers_at(settings | {"variant": variant}, n)["W₁(p_g, p_data)"] for n in (200, 300, 400)])
        for variant in ("simultaneous", "alternating")
    }
    assert distances["simultaneous"] > 3 * distances["alternating"]
    assert distances["alternating"] < 0.25


def test_oscillation_neither_rests_nor_runs_away():
    numbers = [numbers_at(live.SITUATIONS["oscillation"].settings, n) for n in (16, 31, 200)]
    assert all(0.9 < each["distance from (0, 0)"] < 1.1 for each in numbers)
    assert numbers[0]["y"] > 0.9
    assert numbers[1]["x"] < -0.9


# ---- The server, attacked


def attack(name, status, method="POST", path="/{token}/new", body=None, **headers):
    return pytest.param(status, method, path, b"{}" if body is None and method == "POST" else body, headers, id=name)


ATTACKS = [
    attack("a page that has renamed itself to this host", 403, Host="evil.example:{port}"),
    attack("no Host", 403, Host=None),
    attack("this host, a different port", 403, Host="127.0.0.1:1"),
    attack("a page of a different origin", 403, Origin="https://evil.example"),
    attack("a page of no origin", 403, Origin="null"),
    attack("a page of a different port", 403, Origin="http://127.0.0.1:1"),
    attack("a file of a page, for a different origin", 403, "GET", "/{token}/live.js", Origin="http://evil.example"),
    attack("no token", 403, "GET", "/"),
    attack("no token, a file", 403, "GET", "/live.js"),
    attack("a part of the token", 403, "GET", "/{part}/"),
    attack("a longer token", 403, "GET", "/{token}x/"),
    attack("a token that is not ASCII", 403, "GET", "/%C3%A9/"),
    attack("the token without a page", 403, "GET", "/{token}"),
    attack("a path that leaves the folder", 404, "GET", "/{token}/../live.py"),
    attack("the same, encoded", 404, "GET", "/{token}/..%2flive.py"),
    attack("an absolute path", 404, "GET", "/{token}//etc/passwd"),
    attack("a file beside the page's", 404, "GET", "/{token}/live.py"),
    attack("a query", 404, "GET", "/{token}/live.js?x"),
    attack("a call by GET", 404, "GET", "/{token}/new"),
    attack("a page by POST", 404, "POST", "/{token}/live.js"),
    attack("a different method", 501, "PUT", "/{token}/new", b"{}"),
    attack("a body without length", 411, Content_Length=None),
    attack("a negative length", 411, Content_Length="-1"),
    attack("a length that is no ASCII digit", 411, Content_Length="²"),
    attack("a body in chunks", 411, Transfer_Encoding="chunked"),
    attack("a body that is too long", 413, body=b" " * 5000),
    attack("a length that is too long", 413, Content_Length="9" * 5000),
    attack("a form, which any page may send", 415, Content_Type="text/plain"),
    attack("no JSON", 400, body=b"{"),
    attack("no UTF-8", 400, body=b"\xff\xfe{"),
    attack("deeply nested JSON", 400, body=b"[" * 4000),
    attack("JSON that is no object", 400, body=b"[]"),
    attack("settings that are no object", 400, body=b'{"settings": 1}'),
    attack("NaN", 400, body=b'{"settings": {"eta_d": NaN}}'),
    attack("a number without end", 400, body=b'{"settings": {"eta_d": 1e999}}'),
    attack("an integer of a thousand digits", 400, body=b'{"settings": {"k": ' + b"9" * 1000 + b"}}"),
    attack("an unknown session", 404, path="/{token}/step", body=b'{"session": "x"}'),
    attack("a session that is no text", 404, path="/{token}/step", body=b'{"session": ["x"]}'),
    attack("too many lines", 400, path="/{token}/step", body=b'{"session": "{session}", "lines": 201}'),
    attack("too many iterations", 400, path="/{token}/step", body=b'{"session": "{session}", "iterations": 51}'),
    attack("lines that are no integer", 400, path="/{token}/step", body=b'{"session": "{session}", "lines": true}'),
]


@pytest.fixture(scope="module")
def name(server):
    return call(server, "new", settings=SMALL)[1]["session"]


@pytest.mark.parametrize(("status", "method", "path", "body", "headers"), ATTACKS)
def test_an_attack_is_refused_and_the_server_goes_on(status, method, path, body, headers, server, name):
    filled = {"token": server.token, "part": server.token[:-1], "port": server.server_port}
    headers = {key: value.format(**filled) if value else value for key, value in headers.items()}
    body = body.replace(b"{session}", name.encode()) if body else body
    answer, text = ask(server, method, path.format(**filled), body, **headers)
    assert answer.status == status
    assert b"import" not in text
    assert server.token.encode() not in text
    assert call(server, "step", session=name)[0] == 200


def test_two_hosts_are_refused(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as line:
        host = f"Host: 127.0.0.1:{server.server_port}\r\n"
        line.sendall(f"GET /{server.token}/ HTTP/1.1\r\n{host}{host}\r\n".encode())
        assert line.recv(20).split()[1] == b"403"


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_the_token_is_long_new_and_compared_in_constant_time(server, monkeypatch):
    assert len(server.token) >= 32
    with live.Server(0) as other:
        assert other.token != server.token
    compared = []
    original = live.hmac.compare_digest
    monkeypatch.setattr(live.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or original(a, b))
    ask(server, "GET", "/guess/")
    assert compared == [(b"guess", server.token.encode())]


@pytest.mark.parametrize("name", ["", "live.css", "live.js"])
def test_its_own_files_are_served_and_may_do_nothing_elsewhere(name, server):
    for host in "127.0.0.1", "localhost":
        answer, text = ask(server, "GET", f"/{server.token}/{name}", Host=f"{host}:{server.server_port}")
        assert (answer.status, text) == (200, (EXAMPLES / "live" / live.FILES[name][0]).read_bytes())
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
        assert answer.getheader("Referrer-Policy") == "no-referrer"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_each_session_is_a_game_of_its_own(server, name):
    other = call(server, "new", settings=SMALL)[1]["session"]
    call(server, "step", session=other, iterations=3)
    assert call(server, "step", session=other)[1]["iteration"] == 3
    assert call(server, "step", session=name)[1]["iteration"] == 0
    assert call(server, "close", session=other) == (200, {})
    assert call(server, "step", session=other)[0] == 404


def test_sessions_are_few_and_the_idle_ones_are_dropped(monkeypatch):
    monkeypatch.setattr(live, "SESSIONS", 2)
    server = live.Server(0)
    names = [server.new({"settings": SMALL})["session"] for _ in range(2)]
    with refused("2", error=live.Refused):
        server.new({})
    monkeypatch.setattr(live, "IDLE", 50.0)
    server.sessions[names[0]].asked -= 60
    threads = [session.thread for session in server.sessions.values()]
    server.service_actions()
    assert list(server.sessions) == names[1:]
    threads[0].join(5)
    assert [thread.is_alive() for thread in threads] == [False, True]
    server.server_close()


def test_connections_are_few_and_one_that_says_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(live, "CONNECTIONS", 1)
    monkeypatch.setattr(live.Handler, "timeout", 0.2)
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as silent:
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as second:
                assert second.recv(1) == b""  # at once
            assert silent.recv(1) == b""  # in the end
        for _ in range(100):  # its place is free again soon
            try:
                assert ask(server, "GET", f"/{server.token}/")[0].status == 200
                break
            except (http.client.HTTPException, ConnectionError):
                time.sleep(0.01)
        else:
            pytest.fail("the place stays taken")


def test_a_long_request_ends_after_an_iteration(session, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.0)
    game = session()
    game.advance(iterations=50)
    assert (game.iteration, game.frames) == (1, ())


# ---- The script


def test_a_port_that_is_taken_is_named(server, monkeypatch):
    with refused(server.server_port, "--port"):
        live.listen(server.server_port)
    monkeypatch.setattr(live, "PORT", server.server_port)
    with live.listen(None) as other:
        assert server.server_port < other.server_port < server.server_port + live.PORTS


def test_a_wrong_link_ends_it_with_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["live.py", "--smoke", "game=chess"])
    with pytest.raises(SystemExit) as ended:
        live.main(live.program)
    assert ended.value.code.startswith("error: ")
    assert "chess" in ended.value.code


@pytest.mark.slow
def test_smoke_plays_each_situation_and_leaves_no_file(tmp_path):
    lines = run_example("live.py", "--smoke", cwd=tmp_path, timeout=120).splitlines()
    assert [line.split(":")[0] for line in lines] == list(live.SITUATIONS)
    assert not list(tmp_path.iterdir())


def test_the_page_is_small():
    files = [EXAMPLES / "live" / name for name, _ in live.FILES.values()]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 430
    assert {path.name for path in (EXAMPLES / "live").iterdir()} == {file.name for file in files}
