"""What each kind of check makes of real servers on this machine, the bad ones too."""

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import struct
import threading
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

import pytest
import trustme

from reconciler.health.ask import find_result, prepare_asks
from reconciler.health.checks import Check
from reconciler.health.dns import encode_query, encode_question, read_rcode
from reconciler.health.failure import CheckImpossible, describe_error, shorten
from reconciler.health.vip import VipAsker
from reconciler.health.wire import MAX_BYTES
from reconciler.model import Health, HealthType, Protocol

from .fake_time import run

# Long enough for any answer, short enough to wait for one that never comes.
PATIENT_S, SHORT_S = 20.0, 0.2


def ask(address, port, health, *, timeout_s=PATIENT_S, protocol=Protocol.TCP):
    check = Check(ip_address(address), port, protocol, health, "")
    ((_, question),) = prepare_asks([(("web", "a"), check)], VipAsker()).items()
    result = asyncio.run(find_result(question, timeout_s))
    assert result.duration_s >= 0
    return result


def http(**fields):
    return Health(type=HealthType.HTTP, **fields)


@contextlib.contextmanager
def listen(address="127.0.0.1", backlog=16):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen(backlog)
        yield listener


@contextlib.contextmanager
def serve(handle, address="127.0.0.1"):
    """A server whose connections are each given to `handle`; yields its port."""
    with listen(address) as listener:
        ends = threading.Event()

        def accept():
            while not ends.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    if not ends.is_set():
                        connection.settimeout(PATIENT_S)
                        handle(connection, ends)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ends.set()
            with socket.create_connection(listener.getsockname()[:2]):
                thread.join()


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(4096)):
        data += more
    return data


def answer(*parts):
    """A handler that reads a request, and sends these parts."""

    def handle(connection, _ends):
        read_request(connection)
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)

    return handle


def answer_status(status):
    return answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)


def repeat(first, part):
    """A handler that sends a part again and again until the other side has gone."""

    def handle(connection, ends):
        read_request(connection)
        connection.sendall(first)
        while not ends.is_set():
            connection.sendall(part)

    return handle


# tcp


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_tcp_passes_where_somebody_listens(address):
    with listen(address) as listener:
        result = ask(address, listener.getsockname()[1], Health())
    assert (result.is_ok, result.detail) == (True, "connected")


def test_the_server_behind_a_tcp_check_is_not_bothered():
    with listen() as listener:
        address = listener.getsockname()
        assert ask(*address, Health()).is_ok
        assert select.select([listener], [], [], 0)[0] == []
        socket.create_connection(address).close()
        assert select.select([listener], [], [], PATIENT_S)[0] == [listener]


def test_tcp_fails_where_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        result = ask(*sock.getsockname(), Health())
    assert (result.is_ok, result.detail) == (False, "connection refused")


def test_tcp_gives_up_on_silence():
    with listen(backlog=0) as listener, contextlib.ExitStack() as stack:
        address = listener.getsockname()
        # A full queue: the kernel drops further SYNs.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        result = ask(*address, Health(), timeout_s=SHORT_S)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.2s")


# http


@pytest.mark.parametrize(
    ("status", "ranges", "is_ok"),
    [
        (200, ((200, 399),), True),
        (399, ((200, 399),), True),
        (400, ((200, 399),), False),
        (500, ((200, 399),), False),
        (500, ((204, 204), (500, 500)), True),
        (200, ((204, 204), (500, 500)), False),
    ],
)
def test_http_goes_by_the_status(status, ranges, is_ok):
    with serve(answer_status(status)) as port:
        result = ask("127.0.0.1", port, http(status=ranges))
    assert (result.is_ok, result.detail) == (is_ok, f"HTTP {status}")


@pytest.mark.parametrize(
    ("fields", "line", "host"),
    [
        ({}, "GET / HTTP/1.1", "127.0.0.1:{port}"),
        ({"path": "/up?deep=1", "method": "HEAD"}, "HEAD /up?deep=1 HTTP/1.1", "127.0.0.1:{port}"),
        ({"host": "www.example.com"}, "GET / HTTP/1.1", "www.example.com"),
    ],
)
def test_what_http_asks(fields, line, host):
    heard = []

    def handle(connection, _ends):
        heard.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with serve(handle) as port:
        assert ask("127.0.0.1", port, http(**fields)).is_ok
    headers = heard[0].decode().split("\r\n")
    assert headers[0] == line
    assert {f"Host: {host.format(port=port)}", "Connection: close"} <= set(headers)
    assert headers[-2:] == ["", ""]


def test_http_over_ipv6_names_the_host_in_brackets():
    heard = []

    def handle(connection, _ends):
        heard.append(read_request(connection))
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    with serve(handle, "::1") as port:
        assert ask("::1", port, http()).is_ok
    assert f"Host: [::1]:{port}\r\n" in heard[0].decode()


def test_interim_answers_come_before_the_real_one():
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with serve(answer(interim, interim, b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert ask("127.0.0.1", port, http()).detail == "HTTP 200"


@pytest.mark.parametrize(
    ("parts", "is_ok"),
    [
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"it is rea", b"dy now"), True),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n",), True),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready",), True),
        ((b"HTTP/1.1 200 OK\r\nX: ready\r\n\r\nno",), False),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_531 + b"ready"), True),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_532 + b"ready"), False),
    ],
)
def test_http_looks_for_a_text_in_the_body(parts, is_ok):
    with serve(answer(*parts)) as port:
        result = ask("127.0.0.1", port, http(body="ready"))
    why = "" if is_ok else ", and its body does not hold what it should"
    assert (result.is_ok, result.detail) == (is_ok, f"HTTP 200{why}")


def test_http_gives_up_on_a_server_that_never_answers():
    with listen() as listener:
        result = ask(*listener.getsockname(), http(), timeout_s=SHORT_S)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.2s")


def test_http_gives_up_on_a_slow_drip():
    def handle(connection, ends):
        read_request(connection)
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000:
            connection.sendall(bytes((byte,)))
            ends.wait(0.01)

    with serve(handle) as port:
        result = ask("127.0.0.1", port, http(), timeout_s=SHORT_S)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.2s")


def test_http_hears_a_reset():
    def handle(connection, _ends):
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serve(handle) as port:
        result = ask("127.0.0.1", port, http())
    assert (result.is_ok, result.detail) == (False, "connection reset")


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ((), "closed without an answer"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), "not HTTP: "),
        ((b"HTTP/1.1 2000 OK\r\n\r\n",), "not HTTP: "),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",), "not HTTP: "),
        ((bytes(range(256)) * 8 + b"\r\n\r\n",), "not HTTP: "),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",), "not HTTP: "),
    ],
)
def test_http_takes_nothing_else_for_an_answer(parts, detail):
    with serve(answer(*parts)) as port:
        result = ask("127.0.0.1", port, http())
    assert not result.is_ok
    assert result.detail.startswith(detail)
    assert result.detail.isprintable()
    assert len(result.detail) <= 120


@pytest.mark.parametrize(
    ("first", "part", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n" * 1000, "not HTTP: "),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "an answer without end"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000, "HTTP 200, and its body does not"),
    ],
)
def test_an_answer_without_end_costs_no_more_than_its_share(first, part, detail):
    with serve(repeat(first, part)) as port:
        result = ask("127.0.0.1", port, http(body="ready"))
    assert not result.is_ok
    assert result.detail.startswith(detail)


def test_a_body_without_end_does_not_matter_where_nobody_looks():
    with serve(repeat(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * MAX_BYTES)) as port:
        assert ask("127.0.0.1", port, http()).detail == "HTTP 200"


# https


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@contextlib.contextmanager
def serve_tls(certificate, handle, names=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if names is not None:
        context.sni_callback = lambda _sock, name, _context: names.append(name)

    def shake_hands(connection, ends):
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, True) as tls:
            handle(tls, ends)

    with serve(shake_hands) as port:
        yield port


OK = answer_status(200)


def ask_https(port, **fields):
    return ask("127.0.0.1", port, Health(type=HealthType.HTTPS, **fields))


def test_https_proves_the_name_that_it_asks_for(authority, ca_file):
    names = []
    with serve_tls(authority.issue_cert("www.example.com"), OK, names) as port:
        trusted = {"tls_verify": True, "ca_file": ca_file}
        assert ask_https(port, tls_name="www.example.com", **trusted).detail == "HTTP 200"
        other = ask_https(port, tls_name="other.example.com", **trusted)
        address = ask_https(port, **trusted)
    assert names == ["www.example.com", "other.example.com", None]
    assert not other.is_ok
    assert other.detail.startswith("TLS: Hostname mismatch")
    assert address.detail.startswith("TLS: IP address mismatch")


def test_https_without_a_name_proves_the_address(authority, ca_file):
    with serve_tls(authority.issue_cert("127.0.0.1"), OK) as port:
        assert ask_https(port, tls_verify=True, ca_file=ca_file).is_ok


def test_https_refuses_an_authority_nobody_knows(ca_file):
    with serve_tls(trustme.CA().issue_cert("127.0.0.1"), OK) as port:
        result = ask_https(port, tls_verify=True, ca_file=ca_file)
        by_the_system = ask_https(port, tls_verify=True)
        unproved = ask_https(port)
    assert result.detail == "TLS: unable to get local issuer certificate"
    assert not result.is_ok
    assert not by_the_system.is_ok
    assert unproved.is_ok


def test_https_refuses_a_certificate_whose_time_is_over(authority, ca_file):
    over = datetime.now(timezone.utc) - timedelta(days=1)
    with serve_tls(authority.issue_cert("127.0.0.1", not_after=over), OK) as port:
        result = ask_https(port, tls_verify=True, ca_file=ca_file)
        unproved = ask_https(port)
    assert (result.is_ok, result.detail) == (False, "TLS: certificate has expired")
    assert unproved.is_ok


def test_https_finds_a_text_in_a_body_of_many_records(authority):
    parts = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 4000] * 10, b"ready"]
    with serve_tls(authority.issue_cert("127.0.0.1"), answer(*parts)) as port:
        assert ask_https(port, body="ready").is_ok
        assert not ask_https(port, body="steady").is_ok


def test_https_takes_plain_http_for_no_answer():
    def refuse(connection, _ends):
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serve(refuse) as port:
        result = ask_https(port)
    assert not result.is_ok
    assert result.detail.startswith("TLS: ")


def test_https_does_not_wait_for_a_handshake_for_ever():
    with listen() as listener:
        health = Health(type=HealthType.HTTPS)
        result = ask(*listener.getsockname(), health, timeout_s=SHORT_S)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.2s")


def test_https_says_which_ca_file_is_not_there(tmp_path):
    missing = str(tmp_path / "ca.pem")
    result = ask_https(1, tls_verify=True, ca_file=missing)
    assert result.detail == f"ca_file {missing}: No such file or directory"


# udp and dns


@contextlib.contextmanager
def serve_udp(reply):
    """A server that sends back what `reply` makes of a datagram; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve_until_empty():
            while (received := sock.recvfrom(4096))[0]:
                for datagram in reply(received[0]):
                    sock.sendto(datagram, received[1])

        thread = threading.Thread(target=serve_until_empty)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def ask_udp(port, timeout_s=PATIENT_S, **fields):
    health = Health(type=HealthType.UDP, **fields)
    return ask("127.0.0.1", port, health, timeout_s=timeout_s, protocol=Protocol.UDP)


def test_udp_goes_by_the_answer():
    with serve_udp(lambda data: [b"<" + data + b">"]) as port:
        assert ask_udp(port, send=b"ping\0").detail == "answered with 7 bytes"
        assert ask_udp(port, send=b"ping", expect=b"ping>").is_ok
        result = ask_udp(port, send=b"ping", expect=b"pong")
    assert (result.is_ok, result.detail) == (
        False,
        "an answer of 6 bytes, but not the one expected",
    )


def test_udp_hears_that_nobody_is_there():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    result = ask_udp(port, send=b"ping")
    assert (result.is_ok, result.detail) == (False, "connection refused")


def test_udp_takes_silence_for_a_failure():
    with serve_udp(lambda _data: []) as port:
        result = ask_udp(port, send=b"ping", timeout_s=SHORT_S)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.2s")


def make_answer(query, rcode, *, number=None):
    number = query[:2] if number is None else number
    return number + struct.pack("!H", 0x8180 | rcode) + query[4:]


def ask_dns(port, protocol=Protocol.UDP, timeout_s=PATIENT_S, **fields):
    health = Health(type=HealthType.DNS, query="www.example.com", **fields)
    return ask("127.0.0.1", port, health, timeout_s=timeout_s, protocol=protocol)


@pytest.mark.parametrize(
    ("rcode", "rcodes", "detail", "is_ok"),
    [
        (0, ("NOERROR",), "DNS NOERROR", True),
        (3, ("NOERROR",), "DNS NXDOMAIN", False),
        (3, ("NOERROR", "NXDOMAIN"), "DNS NXDOMAIN", True),
        (2, ("NOERROR",), "DNS SERVFAIL", False),
        (9, ("NOERROR",), "DNS RCODE9", False),
    ],
)
def test_dns_goes_by_the_code(rcode, rcodes, detail, is_ok):
    with serve_udp(lambda query: [make_answer(query, rcode)]) as port:
        result = ask_dns(port, rcodes=rcodes)
    assert (result.is_ok, result.detail) == (is_ok, detail)


def test_dns_asks_what_the_file_says():
    heard = []

    def reply(query):
        heard.append(query)
        return [make_answer(query, 0)]

    with serve_udp(reply) as port:
        assert ask_dns(port, query_type="AAAA").is_ok
    assert heard[0][2:] == bytes.fromhex(
        "0100 0001 0000 0000 0000 03 777777 07 6578616d706c65 03 636f6d 00 001c 0001"
    )


def test_the_root_is_a_name_too():
    assert encode_question(".", "NS") == bytes.fromhex("00 0002 0001")
    assert encode_question("a.b.", "A") == encode_question("a.b", "A")


def test_dns_waits_for_the_answer_to_its_own_question():
    def reply(query):
        other = bytes((query[0] ^ 1, query[1]))
        return [make_answer(query, 2, number=other), b"", query, make_answer(query, 0)]

    with serve_udp(reply) as port:
        assert ask_dns(port).detail == "DNS NOERROR"


def test_dns_drowns_in_no_flood_of_others_answers():
    with serve_udp(lambda query: [query] * 200) as port:
        assert ask_dns(port, timeout_s=SHORT_S).detail == "timeout after 0.2s"


def test_an_answer_to_another_question_is_not_ours():
    query = encode_query(Health(query="www.example.com"))
    number, question = query[:2], query[12:]
    header = number + struct.pack("!5H", 0x8180, 1, 0, 0, 0)
    assert read_rcode(header + question, query) == 0
    assert read_rcode(header + question.upper(), query) == 0
    assert read_rcode(header + encode_question("other.example", "A"), query) is None
    assert read_rcode(bytes((number[0] ^ 1,)) + header[1:] + question, query) is None
    assert read_rcode(header[:11], query) is None
    assert read_rcode(query, query) is None
    assert read_rcode(number + struct.pack("!5H", 0x8185, 0, 0, 0, 0), query) == 5


def answer_dns_over_tcp(*, cut):
    def handle(connection, _ends):
        query = connection.recv(4096)[2:]
        reply = make_answer(query, 0)
        whole = struct.pack("!H", len(reply)) + reply
        connection.sendall(whole[:cut])
        connection.sendall(whole[cut:] if cut > 1 else b"")
        connection.shutdown(socket.SHUT_WR)

    return handle


@pytest.mark.parametrize(("cut", "detail"), [(9, "DNS NOERROR"), (1, "closed without an answer")])
def test_dns_of_a_tcp_service_goes_over_tcp(cut, detail):
    with serve(answer_dns_over_tcp(cut=cut)) as port:
        assert ask_dns(port, Protocol.TCP).detail == detail


# what went wrong


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.ENETUNREACH, "network unreachable"),
        (errno.ENOPROTOOPT, "protocol not available"),
    ],
)
def test_errors_are_short_words(number, words):
    assert describe_error(OSError(number, "x")) == words


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
def test_what_this_machine_lacks_is_no_fault_of_a_backend(number):
    with pytest.raises(CheckImpossible):
        describe_error(OSError(number, "x"))


def test_what_others_say_is_cut_to_a_line():
    assert shorten("a\nb\x1b[31m") == "a?b?[31m"
    assert len(shorten("a" * 1000)) == 120


def test_a_check_that_is_called_off_is_no_failure():
    async def call_off():
        with listen() as listener:
            check = Check(
                ip_address("127.0.0.1"), listener.getsockname()[1], Protocol.TCP, http(), ""
            )
            ((_, question),) = prepare_asks([(("web", "a"), check)], VipAsker()).items()
            task = asyncio.ensure_future(find_result(question, PATIENT_S))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(call_off())


# a process that is busy


def ask_while_busy(busy_s, answer_after_s=None, timeout_s=0.5):
    """Ask, while the process does something else from 0.1 s on."""

    async def find(loop):
        answered = loop.create_future()
        loop.call_later(0.1, lambda: setattr(loop, "now", loop.now + busy_s))
        if answer_after_s is not None:
            loop.call_later(answer_after_s, answered.set_result, "HTTP 200")

        async def question():
            return await answered

        return await find_result(question, timeout_s)

    return run(find)


def test_time_in_which_this_process_was_busy_is_not_the_backends():
    assert ask_while_busy(0.0, answer_after_s=0.6).detail == "timeout after 0.5s"
    assert ask_while_busy(3.0, answer_after_s=3.2).detail == "HTTP 200"


def test_but_it_is_given_once_and_no_longer_than_the_timeout():
    result = ask_while_busy(3600.0)
    assert (result.is_ok, result.detail) == (False, "timeout after 0.5s")
    assert result.duration_s == pytest.approx(3600.1 + 0.5, abs=0.01)
    assert ask_while_busy(0.0).duration_s == pytest.approx(0.5, abs=0.01)
