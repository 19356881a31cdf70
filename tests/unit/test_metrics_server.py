"""The server of metrics and page, asked by real sockets on this machine."""

from __future__ import annotations

import gzip
import http.client
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from reconciler.errors import XdplbError
from reconciler.lab import wait_until
from reconciler.metrics import server as module
from reconciler.metrics.lookout import Lookout
from reconciler.metrics.page import POLICY
from reconciler.metrics.recorder import Recorder
from reconciler.metrics.server import Answers, MetricsServer
from reconciler.survey import Survey

from ..surveys import make_survey, make_told_survey

HOST = "127.0.0.1"
TIMEOUT_S = 10


class Site:
    """A running server, whose survey a test sets."""

    def __init__(self, host: str = HOST) -> None:
        self.survey: Survey | None = make_told_survey()
        self.error: Exception | None = None
        # A fresh look each time: surveys here stand still.
        answers = Answers("default", Lookout(self.take), Recorder().list_facts)
        self.server = MetricsServer(ip_address(host), 0, answers)
        self.host, self.port = host, self.server.server_port
        self.server.start()

    def take(self) -> Survey | None:
        if self.error:
            raise self.error
        return self.survey and replace(self.survey, now_ns=0)

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def send(self, data: bytes) -> bytes:
        """Send bytes; return all that comes until the server hangs up."""
        with socket.create_connection((self.host, self.port), timeout=TIMEOUT_S) as client:
            client.sendall(data)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass  # it hung up with bytes of ours unread
    return b"".join(parts)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    try:
        yield made
    finally:
        made.server.close()


def test_metrics_in_both_formats(site: Site) -> None:
    response, body = site.ask("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'\nxdplb_backend_slots{backend="a",service="web"} 167\n' in body
    response, body = site.ask("/metrics?x=1", Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [("gzip", True), ("deflate, gzip;q=1.0", True), ("gzip;q=0", False), ("", False)],
)
def test_answers_are_packed_for_those_who_take_it(
    site: Site, accepted: str, is_packed: bool
) -> None:
    response, body = site.ask("/metrics", Accept_Encoding=accepted)
    assert (response.headers["Content-Encoding"] == "gzip") is is_packed
    assert b"xdplb_dataplane_up 1\n" in (gzip.decompress(body) if is_packed else body)


def test_the_page_and_its_headers(site: Site) -> None:
    response, body = site.ask("/")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert b"<!doctype html>" in body
    assert "Python" not in response.headers["Server"]


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
def test_a_head_has_what_the_answer_would_have_and_no_body(site: Site, path: str) -> None:
    response, body = site.ask(path, "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0


def test_ready_or_not(site: Site) -> None:
    assert (site.ask("/healthz")[0].status, site.ask("/healthz")[1]) == (200, b"ready\n")
    site.survey = replace(make_survey(), services=())
    assert (site.ask("/healthz")[0].status, site.ask("/healthz")[1]) == (503, b"not ready\n")
    site.survey = None
    assert site.ask("/healthz")[0].status == 503
    response, body = site.ask("/metrics")
    assert response.status == 200
    assert b"\nxdplb_dataplane_up 0\n" in body


@pytest.mark.parametrize("path", ["/nowhere", "/metrics/", "/../etc/passwd", "/%2e", "*"])
def test_there_is_nothing_else(site: Site, path: str) -> None:
    response, body = site.ask(path)
    assert (response.status, body) == (404, b"404 Not Found\n")
    assert response.headers["Content-Security-Policy"] == POLICY


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    response, _ = site.ask("/", method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "<script>"])
def test_what_is_no_method_of_ours_is_refused(site: Site, method: str) -> None:
    answer = site.send(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.split()[1] == b"501"
    assert b"text/html" not in answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 5_000 + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
    ],
    ids=["long-path", "long-header", "many-headers", "nonsense", "future"],
)
def test_requests_are_bounded(site: Site, request_: bytes, status: bytes) -> None:
    answer = site.send(request_)
    # Where bytes are left unread, the answer may be lost with the connection.
    assert answer == b"" or status in answer.split(b"\r\n")[0].split() or status in answer[:200]
    assert site.ask("/healthz")[0].status == 200


def test_what_can_not_be_read_is_an_error_with_its_reason(site: Site) -> None:
    site.error = XdplbError("the kernel does not let itself be read")
    response, body = site.ask("/metrics")
    assert (response.status, body) == (500, b"the kernel does not let itself be read\n")


def test_a_fault_of_ours_is_logged_and_ends_one_connection(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.error = RuntimeError("a bug")
    with caplog.at_level(logging.ERROR, "xdplb"):
        assert site.send(b"GET / HTTP/1.1\r\n\r\n") == b""
        wait_until(lambda: "a bug" in caplog.text, "the fault is logged")
    site.error = None
    assert site.ask("/")[0].status == 200


def test_who_says_nothing_is_hung_up_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLIENT_TIME_S", 0.2)
    with socket.create_connection((site.host, site.port), timeout=TIMEOUT_S) as slow:
        slow.sendall(b"GET / HT")
        assert read_all(slow) == b""


def test_more_than_a_few_at_once_are_sent_away_and_nobody_is_kept_out_for_long(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        for _ in range(module._MOST_CLIENTS):
            client = socket.create_connection((site.host, site.port), timeout=TIMEOUT_S)
            stack.enter_context(client).sendall(b"GET")
        wait_until(lambda: len(site.server._deadlines) == module._MOST_CLIENTS, "all are there")
        assert site.send(b"").startswith(b"HTTP/1.0 503 ")
    wait_until(lambda: not site.server._deadlines, "they are gone")
    assert site.ask("/healthz")[0].status == 200


def test_who_leaves_in_the_middle_is_no_news(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "xdplb"):
        for _ in range(3):
            client = socket.create_connection((site.host, site.port), timeout=TIMEOUT_S)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.close()
        wait_until(lambda: not site.server._deadlines, "they are answered")
    assert caplog.text == ""


def test_ipv6() -> None:
    made = Site("::1")
    try:
        assert made.ask("/healthz")[0].status == 200
    finally:
        made.server.close()


def test_a_closed_server_gives_its_place_back(site: Site) -> None:
    site.server.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((site.host, site.port), timeout=TIMEOUT_S)
    again = MetricsServer(ip_address(HOST), site.port, site.server.answers)
    again.server_close()


def test_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_args: Any) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", ask)
    made = Site()
    made.server.close()
