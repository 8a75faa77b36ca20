"""The page of a run that goes on, on this machine alone: python -m tinygan report RUN --serve

The server listens on the loopback address. It answers only requests that name it in their Host header and have the token of
its address, and none that a page of a different origin makes. It serves its page, the page's data, and pictures of the runs.
"""

import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tinygan.errors import DataError
from tinygan.report.content import PICTURE, facts, read_picture
from tinygan.report.page import as_json, page, require_runs

LOOPBACK = "127.0.0.1"
SECONDS = 10  # that a request may take to arrive
ADDRESS = re.compile(rf"/([\w-]{{1,100}})/(data|(\d)/(samples/{PICTURE.pattern}|neighbours\.png))?", re.ASCII)


class Server(ThreadingHTTPServer):
    """Serves the page of these runs at `address`, on a free port."""

    daemon_threads = True

    def __init__(self, folders: Sequence[Path]) -> None:
        require_runs(folders)
        self.folders, self.token = folders, secrets.token_urlsafe(24)
        super().__init__((LOOPBACK, 0), Handler)
        self.host = f"{LOOPBACK}:{self.server_port}"
        self.address = f"http://{self.host}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away, or is silent for too long, is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET, and nothing else."""

    server: Server
    timeout = SECONDS

    def do_GET(self) -> None:
        hosts, site = self.headers.get_all("Host", []), self.headers.get("Sec-Fetch-Site", "none")
        foreign = self.headers.get("Origin", f"http://{self.server.host}") != f"http://{self.server.host}"
        if hosts != [self.server.host] or foreign or site not in ("none", "same-origin"):
            return self._answer(403, "text/plain", b"This page is for its own address on this machine.\n")
        match = ADDRESS.fullmatch(self.path)
        if not match or not hmac.compare_digest(match[1], self.server.token):
            return self._answer(404, "text/plain", b"There is no such page. Open the address that the command printed.\n")
        if match[2] is None:
            return self._answer(200, "text/html", page(facts(self.server.folders, embedded=False), embedded=False))
        if match[2] == "data":
            return self._answer(200, "application/json", as_json(facts(self.server.folders, embedded=False)).encode())
        try:
            return self._answer(200, "image/png", read_picture(self.server.folders[int(match[3])], match[4]))
        except (OSError, DataError, IndexError):
            return self._answer(404, "text/plain", b"There is no such picture.\n")

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind != "image/png" else kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",  # the address has the token
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing: the terminal is for the address."""


def serve(folders: Sequence[Path]) -> None:
    """Serve the page of these runs, and print its address, until Ctrl-C. Raises CheckpointError, as require_runs."""
    with Server(folders) as server:
        print(f"{server.address}  shows the run while it goes on. Ctrl-C ends this", flush=True)
        server.serve_forever()
