"""Serves metrics, the status page and one question: are you ready?

    /metrics   in the format that the client asks for
    /healthz   200 while packets are balanced, 503 else
    /          the status page

GET and HEAD only; a client has seconds, not minutes, and nobody can change anything.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NamedTuple

from reconciler import __version__
from reconciler.errors import XdplbError
from reconciler.log import log_event
from reconciler.metrics.exposition import render
from reconciler.metrics.families import list_families
from reconciler.metrics.lookout import Lookout
from reconciler.metrics.page import POLICY, render_page
from reconciler.metrics.recorder import Facts
from reconciler.model import IPAddress

_MOST_CLIENTS = 8
# Prometheus waits 10 s for a scrape by default.
_CLIENT_TIME_S = 15.0
_MOST_REQUEST_BYTES = 16_384
_SMALLEST_COMPRESSED = 1_024
# A scrape of 4,096 backends is 3.2 MB, and a twentieth of that at the fastest level.
_COMPRESSION = 1

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# How often the server looks whether it is to end.
_POLL_S = 0.1


class Answer(NamedTuple):
    """What a client gets."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Answers:
    """What is served of one instance."""

    def __init__(self, name: str, lookout: Lookout, list_facts: Callable[[], Facts]) -> None:
        self._name = name
        self._lookout = lookout
        self._list_facts = list_facts

    def answer(self, path: str, accept: str) -> Answer | None:
        """Return what is at a path; None if there is nothing."""
        find = {"/metrics": self._list_metrics, "/healthz": self._judge, "/": self._show}.get(path)
        if find is None:
            return None
        try:
            return find(accept)
        except XdplbError as error:
            log_event(logging.WARNING, metrics="unanswered", path=path, reason=str(error))
            return _say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _list_metrics(self, accept: str) -> Answer:
        survey, _ = self._lookout.look()
        families = list_families(survey, self._list_facts(), __version__)
        body, content_type = render(families, accept)
        return Answer(HTTPStatus.OK, content_type, body)

    def _judge(self, _accept: str) -> Answer:
        survey, _ = self._lookout.look()
        if survey is not None and survey.is_ready:
            return _say(HTTPStatus.OK, "ready")
        return _say(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")

    def _show(self, _accept: str) -> Answer:
        page = render_page(self._name, *self._lookout.look())
        return Answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())


def _say(status: HTTPStatus, words: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{words}\n".encode())


class MetricsServer(ThreadingHTTPServer):
    """Listens from when it is made, and answers from `start` to `close`.

    Raises:
        OSError: the place is taken, or not this machine's.
    """

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, address: IPAddress, port: int, answers: Answers) -> None:
        self.answers = answers
        self.address_family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._deadlines: dict[Any, float] = {}
        self._lock = threading.Lock()
        super().__init__((str(address), port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="metrics", daemon=True
        )

    def server_bind(self) -> None:
        """Bind, and ask no name server what this host is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def start(self) -> None:
        """Answer, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop to listen. Who is being answered gets the answer."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()

    # --- bounds ---

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread answer, or nobody: where too many ask at once."""
        if not self._places.acquire(blocking=False):
            self._refuse(request)
            return
        with self._lock:
            self._deadlines[request] = time.monotonic() + _CLIENT_TIME_S
        super().process_request(request, client_address)

    def _refuse(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.settimeout(0.0)
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._deadlines.pop(request, None)
            self._places.release()

    def service_actions(self) -> None:
        """Hang up on who takes too long, byte by byte or altogether; twice a second."""
        now = time.monotonic()
        with self._lock:
            overdue = [one for one, deadline in self._deadlines.items() if deadline < now]
        for request in overdue:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that has gone is no news; anything else is a fault of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log_event(logging.ERROR, metrics="failed", reason=repr(error))
        told = {"client": client_address[0], "message": traceback.format_exc()}
        log_event(logging.DEBUG, metrics="unanswered", **told)


class _BoundedReader:
    """Reads lines of a request, and no more than a request may have."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = _MOST_REQUEST_BYTES

    def readline(self, size: int) -> bytes:
        line = self._stream.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("request")
        return line

    def close(self) -> None:
        self._stream.close()


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _CLIENT_TIME_S
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _BoundedReader(self.rfile)

    def handle(self) -> None:
        try:
            super().handle()
        except LineTooLong:
            self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)

    def version_string(self) -> str:
        return "xdplb"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base's name)
        client = self.client_address[0]
        log_event(logging.DEBUG, metrics="asked", client=client, message=format % args)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        found = self.server.answers.answer(path, self.headers.get("Accept", ""))
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(found)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, answer: Answer) -> None:
        body = answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Vary", "Accept, Accept-Encoding")
        if len(body) >= _SMALLEST_COMPRESSED and _takes_gzip(self.headers.get("Accept-Encoding")):
            body = gzip.compress(body, _COMPRESSION)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815


def _takes_gzip(header: str | None) -> bool:
    parts = [part.replace(" ", "").partition(";") for part in (header or "").split(",")]
    return any(name == "gzip" and weight not in ("q=0", "q=0.0") for name, _, weight in parts)
