"""python -m tinygan report --serve: the page is for this machine and its own address, and shows nothing but the runs."""

import json
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection

import pytest
from helpers import refused
from runs import make_run, metrics, png
from scripts import ENVIRONMENT

from tinygan import CheckpointError
from tinygan.report import server as module
from tinygan.report.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of three runs. Beside them lies what it must not serve, and links in the second and the third lead there."""
    outside = tmp_path_factory.mktemp("runs")
    a, b, c = folders = [make_run(outside / name) for name in "abc"]
    (outside / "secret.png").write_bytes(png())
    (b / "samples" / "epoch-0003.png").unlink()
    (b / "samples" / "epoch-0003.png").symlink_to(outside / "secret.png")
    (b / "samples" / "epoch-0004.png").write_bytes(b"<script>alert(1)</script>")
    (c / "samples").rename(outside / "moved")
    (c / "samples").symlink_to(outside / "moved")
    with Server(folders) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path="", method="GET", whole=False, **headers):
    """The answer's status, headers and content. path: behind the token; `whole`: all of it."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    path = path if whole else f"/{server.token}/{path}"
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": server.host} | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_it_serves_its_page_the_data_and_the_pictures(server):
    status, headers, content = ask(server)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"img-src data: 'self'" in content
    assert b"connect-src 'self'" in content
    status, headers, content = ask(server, "data", Origin=f"http://{server.host}", Sec_Fetch_Site="same-origin")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    data = json.loads(content)
    assert data["live"]
    for source in [run["nearest"] for run in data["runs"]] + [picture["source"] for picture in data["runs"][0]["pictures"]]:
        run, _, name = source.partition("/")
        status, headers, content = ask(server, source)
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert content == (server.folders[int(run)] / name).read_bytes()
    assert {headers[name] for name in ("Cache-Control", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options")} == {
        "no-store", "no-referrer", "nosniff", "DENY",
    }  # fmt: skip


def test_it_shows_what_the_run_has_written_since(server):
    (server.folders[0] / "metrics.csv").write_text(metrics(9))
    assert json.loads(ask(server, "data")[2])["runs"][0]["columns"]["epoch"][-1] == "9"


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):  # 127.0.0.2 is this machine too, by a different address
        socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Host": None},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_a_page_of_somebody_else_gets_nothing(server, headers):
    for path in "", "data", "0/samples/epoch-0001.png":
        status, _, content = ask(server, path, **headers)
        assert status == 403
        assert len(content) < 100


@pytest.mark.parametrize(
    "path",
    "/ /data /x/ /x/data // /{token} /{token}x/ /{half}/ /{token}// /{token}/data/ /{token}/data?x x".split(),
)
def test_without_the_token_there_is_no_page(server, path):
    path = path.format(token=server.token, half=server.token[:16])
    assert ask(server, path, whole=True)[0] in (400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "0/../secret.png",
        "0/samples/../../../secret.png",
        "0/samples/..%2f..%2f..%2fsecret.png",
        "0/samples/epoch-0001.png/../../../../secret.png",
        "0//etc/passwd",
        "//etc/passwd",
        "0/run.json",
        "0/samples/",
        "0/samples/epoch-0001.png%00",
        "0/samples/epoch-0001.PNG",
        "0/samples/epoch-9999.png",
        "3/samples/epoch-0001.png",
        "-1/samples/epoch-0001.png",
        "00/samples/epoch-0001.png",
        "%D9%A0/samples/epoch-0001.png",
        "0/samples/epoch-" + "1" * 60_000 + ".png",
        "page.js",
        "1/samples/epoch-0003.png",  # a link out of the folder
        "1/samples/epoch-0004.png",  # no picture
        "2/samples/epoch-0001.png",  # in a link to a folder outside
    ],
    ids=lambda path: path[:40],
)
def test_no_path_leads_to_anything_else(server, path):
    status, _, content = ask(server, path)
    assert status == 404
    assert len(content) < 100


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "X" * 1000])
def test_it_answers_nothing_but_get(server, method):
    assert ask(server, "data", method)[0] == 501


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 70_000), b"414"),
        (b"GET / HTTP/1.1\r\n%b\r\n" % (b"X: y\r\n" * 200), b"431"),
        (b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"y" * 70_000), b"431"),
        (b"\0" * 100 + b"\r\n\r\n", b"400"),
        (b"GET /\xe9/data HTTP/1.1\r\nHost: {host}\r\n\r\n", b"404"),
    ],
    ids=["a long line", "many headers", "a long header", "zeros", "letters"],
)
def test_a_request_that_is_too_large_or_none_is_refused(server, sent, code, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(sent.replace(b"{host}", server.host.encode()))
        assert code in connection.recv(1000)
    assert ask(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_one_that_stays_silent_keeps_no_other_waiting_and_is_dropped(server, monkeypatch, capfd):
    monkeypatch.setattr(module.Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as silent:
        silent.sendall(b"GET / HT")
        assert ask(server)[0] == 200
        assert silent.recv(100) == b""
    assert capfd.readouterr().err == ""


def test_what_is_no_run_is_refused_before_it_listens(tmp_path):
    with refused(tmp_path / "x", error=CheckpointError):
        Server([tmp_path / "x"])


@pytest.mark.slow
def test_ctrl_c_ends_it_with_one_line(tmp_path):
    command = [sys.executable, "-m", "tinygan", "report", str(make_run(tmp_path / "a")), "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=ENVIRONMENT)
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
