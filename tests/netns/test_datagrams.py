"""Conversations over UDP through an edit, with each `flow_tracking`, as docs/configuration.md says.

A conversation is a socket that goes on asking, as QUIC does; a question is a socket that asks
once, as DNS does. Where each has to arrive is computed from the kernel's tables.
"""

from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from itertools import count
from socket import SOCK_DGRAM

import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.plan import Put
from reconciler.steering import find_choices
from reconciler.tables import ring_extents, unpack_slots

pytestmark = [pytest.mark.root, pytest.mark.alone]

VIP, PORT = "192.0.2.1", 5353
_PORTS = count(20_000)
CONVERSATIONS = 80
QUESTIONS = 60
TEXT = """\
interface: [eth0, eth1]
limits: {{ring_slots: 70000, flows: 65536}}
reconcile: {{resync: 1s}}
port: 5353
protocol: udp
flow_tracking: {}
backends: [10.0.0.11, 10.0.0.12, 10.0.0.13]
"""


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve(udp=PORT)
        yield made


class Conversation:
    """A socket of the client's, and where it lives.

    Attributes:
        home: the backend that answered last when `settle` was called.
    """

    def __init__(self, lab, stack):
        self.socket = stack.enter_context(lab.client.socket(kind=SOCK_DGRAM))
        self.socket.settimeout(3)
        # One that was used before may be remembered.
        self.socket.bind(("", next(_PORTS)))
        self.socket.connect((VIP, PORT))
        self.address, self.port = self.socket.getsockname()
        self.home = ""

    def ask(self):
        """Send a datagram; the backend that answered it."""
        self.socket.send(b"?")
        return self.socket.recv(100).partition(b" ")[0].decode()

    def settle(self):
        """Speak, and go on after the answer: from then on one may be remembered."""
        self.home = self.ask()
        assert self.ask() == self.home

    def choose(self, tables):
        """What a new flow of this socket gets by the tables."""
        (choice,) = find_choices(tables, ip_address(self.address), self.port)
        return choice


class Service:
    """A UDP service of three backends, which a controller follows."""

    def __init__(self, lab, xdplb, tracking):
        self.lab, self.xdplb = lab, xdplb
        self.text = TEXT.format(tracking)
        xdplb.start(self.text)
        with self.talking() as sockets:  # the backends' MACs are not known before
            for each in sockets:
                wait_until(lambda one=each: is_answered(one), "every backend answers")

    def add_backend(self):
        """Edit the file, and return the tables when the kernel follows it."""
        before = self.xdplb.tables().generation
        text = self.text.replace("10.0.0.13]", "10.0.0.13, 10.0.0.14]")
        self.xdplb.config.write_text(text, encoding="utf-8")
        wait_until(lambda: self.xdplb.tables().generation > before, "the edit is live")
        return self.xdplb.tables()

    def end_window(self):
        """Let the window be over, and return the tables when no slot is moved any more."""
        dataplane = self.xdplb.dataplane()
        ((number, info),) = dataplane.read().service_info.items()
        assert info.window_end_ns
        dataplane.write(Put("service_info", number, info._replace(window_end_ns=1)))
        wait_until(lambda: not count_moved(self.xdplb.tables()), "no slot is moved any more", 10)
        return self.xdplb.tables()

    @contextmanager
    def talking(self, number=CONVERSATIONS):
        with ExitStack() as stack:
            yield [Conversation(self.lab, stack) for _ in range(number)]

    def ask_once(self, tables):
        """Ask questions from sockets that nobody knows: (choice, who answered) of each."""
        with self.talking(QUESTIONS) as sockets:
            return [(each.choose(tables), each.ask()) for each in sockets]


def is_answered(conversation):
    try:
        return bool(conversation.ask())
    except OSError:
        return False


def count_moved(tables):
    moved = 0
    for extent in ring_extents(tables).values():
        backend, previous = unpack_slots(tables.slots[extent])
        moved += int(((previous != 0) & (previous != backend)).sum())
    return moved


def list_moved(conversations, tables):
    """Those whose slot leads new flows elsewhere than where they live."""
    return [each for each in conversations if str(each.choose(tables).address) != each.home]


@pytest.fixture
def service(lab, xdplb, request):
    return Service(lab, xdplb, request.param)


def assert_at_home(conversations):
    for _ in range(3):
        assert [each.ask() for each in conversations] == [each.home for each in conversations]


@pytest.mark.parametrize("service", ["on_change"], indirect=True)
def test_who_goes_on_speaking_stays_and_others_follow_after_the_window(service):
    with service.talking() as conversations:
        for each in conversations:
            each.settle()
        tables = service.add_backend()
        moved = list_moved(conversations, tables)
        silent = moved[::2]
        speaking = [each for each in conversations if each not in silent]
        assert len(moved) > len(silent) > 0
        assert_at_home(speaking)
        # Whether a datagram is the first of its flow can't be told: the slot stays for now.
        for choice, answered in service.ask_once(tables):
            assert answered == (choice.previous or choice.backend).removesuffix(f":{PORT}")
        tables = service.end_window()
        assert_at_home(speaking)
        for each in silent:
            assert each.ask() == str(each.choose(tables).address)
        for choice, answered in service.ask_once(tables):
            assert answered == str(choice.address)
        assert_at_home(speaking)


@pytest.mark.parametrize("service", ["always"], indirect=True)
def test_what_is_always_remembered_stays_and_new_flows_move_at_once(service):
    with service.talking() as conversations:
        for each in conversations:
            each.settle()
        tables = service.add_backend()
        assert list_moved(conversations, tables)
        assert_at_home(conversations)
        answers = service.ask_once(tables)
        assert [answered for _, answered in answers] == [str(c.address) for c, _ in answers]
        assert "10.0.0.14" in dict(map(reversed, answers))
        assert_at_home(conversations)
        assert count_moved(tables) == 0  # there is no window to wait for


@pytest.mark.parametrize("service", ["never"], indirect=True)
def test_what_is_never_remembered_moves_at_once_with_its_slot(service):
    with service.talking() as conversations:
        for each in conversations:
            each.settle()
        tables = service.add_backend()
        assert list_moved(conversations, tables)
        for each in conversations:
            assert each.ask() == str(each.choose(tables).address)
        for choice, answered in service.ask_once(tables):
            assert answered == str(choice.address)
        assert service.xdplb.dataplane().measure_flows()[0] == 0
        assert count_moved(tables) == 0
