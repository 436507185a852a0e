"""Serves the page to browsers on this machine, and to nobody else; no file is read from the disk.

`GET /` is the page, `GET /run` says what the run can do, and `POST /sample` answers with a line of
JSON for each frame while it is sampled.
"""

import http.server
import importlib.resources
import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from absl import logging

from flowvid.errors import ConfigError, UserError
from flowvid.playing.requests import Answer, Player

ADDRESS = "127.0.0.1"
_LONGEST_REQUEST = 10_000  # bytes
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(http.server.ThreadingHTTPServer):
    """A server of the page of one run, which samples one request at a time."""

    daemon_threads = True  # a browser that keeps a connection open does not keep the process

    def __init__(self, player: Player, port: int) -> None:
        """Opens the port; 0 opens any free one.

        Raises:
            ConfigError: if the port cannot be opened.
        """
        self.player = player
        self.sampling = threading.Lock()
        self.stopping = threading.Event()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise ConfigError(f"--port={port}: {error.strerror}; use another --port.") from error

    @property
    def address(self) -> str:
        """What one types into a browser."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def stop(self, patience: float = 5.0) -> bool:
        """Closes the port, and lets a request that is being sampled end at its next frame.

        Args:
            patience: how long to wait for that, in seconds.

        Returns:
            whether it has ended; what is being compiled cannot be stopped.
        """
        self.stopping.set()
        self.server_close()
        return self.sampling.acquire(timeout=patience)

    def hosts(self) -> set[str]:
        """Returns how a browser on this machine may name the server."""
        names = {ADDRESS, "localhost"}
        return {f"{name}:{self.server_port}" for name in names} | (
            names if self.server_port == 80 else set()
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # seconds for a browser to send, or to take, anything

    def do_GET(self) -> None:
        if not self._is_from_here():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", _page())
        elif self.path == "/run":
            self._send_json(HTTPStatus.OK, self.server.player.description())
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page.")

    def do_POST(self) -> None:
        if not self._is_from_here():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/sample":
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page.")
        elif self.headers.get("Content-Type") != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is application/json.")
        elif not length.isdecimal() or int(length) > _LONGEST_REQUEST:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a request says its length, of {_LONGEST_REQUEST} bytes at most.",
            )
        else:
            self._sample(self.rfile.read(int(length)))

    def _is_from_here(self) -> bool:
        """Refuses what another site sends through the browser, by its own name or for this one."""
        hosts, origin = self.server.hosts(), self.headers.get("Origin")
        origins = {None, *(f"http://{host}" for host in hosts)}
        if self.headers.get("Host") in hosts and origin in origins:
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"this page is {self.server.address} alone.")
        return False

    def _sample(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
        except ValueError:  # of the text or of its encoding
            self._refuse(HTTPStatus.BAD_REQUEST, "a request is a JSON object.")
            return
        try:
            answers = self.server.player.answers(asked)
        except (UserError, OSError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        try:
            self._begin(HTTPStatus.OK, "application/x-ndjson")
            self._stream(answers)
        except OSError:  # the browser has gone
            pass

    def _stream(self, answers: Iterator[Answer]) -> None:
        """Sends a line for each answer, once no other request is being sampled."""
        lock = self.server.sampling
        if not lock.acquire(blocking=False):
            self._send_line({"waiting": True})
            lock.acquire()
        try:
            for answer in answers:
                if self.server.stopping.is_set():
                    return
                self._send_line(answer)
        except OSError:
            raise
        except Exception as error:
            logging.exception("Sampling failed.")
            self._send_line({"error": " ".join(f"sampling failed: {error}".split())})
        finally:
            lock.release()

    def _send_line(self, answer: Answer) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send_json(status, {"error": reason})

    def _send_json(self, status: HTTPStatus, content: Answer) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._begin(status, kind, {"Content-Length": str(len(content))})
        self.wfile.write(content)

    def _begin(self, status: HTTPStatus, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Prints nothing: the page says what happens."""


def _page() -> bytes:
    return importlib.resources.files("flowvid.playing").joinpath("template.html").read_bytes()
