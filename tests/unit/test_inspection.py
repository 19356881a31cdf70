"""`inspection`: deadlines, sockets, questions to backends on this machine's loopback."""

import socket
import sys
import threading
from ipaddress import ip_address

import pytest

from reconciler.diagnosis.facts import Answer, Unseen
from reconciler.errors import Unavailable
from reconciler.inspection.deadline import look_at_all
from reconciler.inspection.questions import ask_backends
from reconciler.inspection.sockets import find_sockets, parse_address
from reconciler.model import Protocol
from reconciler.tables import Endpoint

HERE = ip_address("127.0.0.1")


def test_a_look_that_hangs_holds_up_nothing():
    never = threading.Event()
    found = look_at_all({"well": lambda: 1, "hangs": never.wait}, deadline_s=0.05)
    assert found == {"well": 1, "hangs": Unseen("it took longer than 0.05 s")}
    never.set()


def test_a_look_that_fails_is_a_fact():
    def refuse():
        raise Unavailable("no BCC", remedy="install it")

    def fail():
        raise PermissionError(13, "Permission denied")

    found = look_at_all({"refuses": refuse, "fails": fail}, deadline_s=5)
    assert found == {"refuses": Unseen("no BCC"), "fails": Unseen("[Errno 13] Permission denied")}


def test_a_mistake_of_ours_is_no_fact():
    with pytest.raises(ZeroDivisionError):
        look_at_all({"wrong": lambda: 1 // 0}, deadline_s=5)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_answers(listening):
    port = listening.getsockname()[1]
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        closed = unheard.getsockname()[1]
        answers = ask_backends({(HERE, port), (HERE, closed)}, timeout_s=5, deadline_s=5)
    assert answers == {(HERE, port): Answer.OPENED, (HERE, closed): Answer.REFUSED}
    assert ask_backends([], timeout_s=5, deadline_s=5) == {}


def test_silence():
    """A queue of one that is full takes no further connection."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        place = busy.getsockname()
        with socket.create_connection(place):
            answers = ask_backends([(HERE, place[1])], timeout_s=0.05, deadline_s=5)
    assert answers == {(HERE, place[1]): Answer.SILENT}


def test_who_is_not_asked_in_time_is_not_in_the_answer(listening):
    place = (HERE, listening.getsockname()[1])
    assert ask_backends([place], timeout_s=5, deadline_s=0) == {}


def test_sockets(listening):
    port = listening.getsockname()[1]
    assert Endpoint(HERE, port, Protocol.TCP) in find_sockets()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        assert Endpoint(HERE, datagrams.getsockname()[1], Protocol.UDP) in find_sockets()


@pytest.mark.parametrize(
    ("packed", "address"),
    [
        (["7f000001"], "127.0.0.1"),
        (["20010db8", "00000000", "00000000", "00000001"], "2001:db8::1"),
        (["00000000", "00000000", "0000ffff", "c0000201"], "192.0.2.1"),
    ],
)
def test_addresses_of_proc(packed, address):
    digits = "".join(f"{int.from_bytes(bytes.fromhex(word), sys.byteorder):08X}" for word in packed)
    assert parse_address(digits) == ip_address(address)
