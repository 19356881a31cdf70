"""Real clients, real servers: what arrives, where, and from whom."""

import hashlib
import os
import select
import socket
import struct
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager

import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import ask_datagram, fetch, fetch_again
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan
from reconciler.lab.process import await_line, python_environment

pytestmark = [pytest.mark.root, pytest.mark.alone]

VIP = "192.0.2.1"  # the balancer's own address in front
SHORT = "interface: [eth0, eth1]\nport: 8080\nbackends: [10.0.0.11, 10.0.0.12, 10.0.0.13]\n"
EVEN = {"10.0.0.11": 100, "10.0.0.12": 100, "10.0.0.13": 100}
UNEVEN = {"10.0.0.11": 100, "10.0.0.12": 50, "10.0.0.13": 250}


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve(http=8080, echo=9000, udp=5353)
        # Ports below are for the tests to choose.
        made.client.sysctl("ipv4/ip_local_port_range", "32768 65535")
        yield made


@pytest.fixture(scope="module")
def one_arm():
    with Lab(Topology(arms=1)) as made:
        made.serve()
        yield made


def write_backends(weights):
    lines = [f"  - {{address: {each}, weight: {weight}}}" for each, weight in weights.items()]
    return "\n".join(["backends:", *lines]) + "\n"


def connect(host, address, port, *, source_port=0):
    connection = host.socket()
    connection.settimeout(3)
    connection.bind(("", source_port))
    connection.connect((address, port))
    return connection


def listen(host, port):
    listener = host.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(20)
    listener.bind(("", port))
    listener.listen()
    return listener


def ask_from(lab, port, address=VIP, service_port=8080):
    """One request from a given port; who answered, and whom it saw."""
    with connect(lab.client, address, service_port, source_port=port) as connection:
        answer = fetch_again(connection)
    assert answer.client == f"{lab.client.address} {port}"
    return answer.backend


def assert_shares(counts, weights):
    """Within 3 points of the weights' shares."""
    asked, total = sum(counts.values()), sum(weights.values())
    expected = {each: weight / total for each, weight in weights.items()}
    measured = {each: counts[each] / asked for each in weights}
    assert set(counts) == set(weights)
    assert measured == pytest.approx(expected, abs=0.03)


# Source ports are given, so that the shares are the same in every run.
@pytest.mark.parametrize(("weights", "first_port"), [(EVEN, 20_000), (UNEVEN, 23_000)])
def test_connections_are_answered_by_weight(lab, xdplb, weights, first_port):
    xdplb.apply("interface: [eth0, eth1]\nport: 8080\n" + write_backends(weights))
    counts = Counter(ask_from(lab, port) for port in range(first_port, first_port + 2_000))
    assert_shares(counts, weights)


@pytest.mark.parametrize("weights", [EVEN, UNEVEN])
def test_datagrams_are_answered_by_weight(lab, xdplb, weights):
    udp = "interface: [eth0, eth1]\nport: 5353\nprotocol: udp\n"
    xdplb.apply(udp + write_backends(weights))
    counts = Counter()
    for first_port in range(20_000, 22_000, 100):
        counts += exchange_datagrams(lab, range(first_port, first_port + 100), rounds=10)
    assert counts.total() == 20_000
    assert_shares(counts, weights)


def exchange_datagrams(lab, ports, rounds):
    """A datagram from each port, `rounds` times; who answered how often.

    The next round goes out when all of the last one came back, or not at all.
    """
    sockets = [lab.client.socket(kind=socket.SOCK_DGRAM) for _ in ports]
    homes = {}
    counts = Counter()
    try:
        for each, port in zip(sockets, ports, strict=True):
            each.bind(("", port))
            each.connect((VIP, 5353))
        for number in range(rounds):
            for each in sockets:
                each.send(b"%d" % number)
            waiting = set(sockets)
            while waiting:
                ready, _, _ = select.select(waiting, [], [], 3)
                assert ready, f"{len(waiting)} datagrams of round {number} were not answered"
                for each in ready:
                    backend, _, echo = each.recv(2048).partition(b" ")
                    assert echo == b"%d" % number
                    assert homes.setdefault(each, backend) == backend  # a flow has one home
                    counts[backend.decode()] += 1
                waiting -= set(ready)
    finally:
        for each in sockets:
            each.close()
    return counts


def test_a_load_of_connections_at_once(lab, xdplb):
    xdplb.apply(SHORT)
    with Drive(lab.client, LoadPlan(VIP, 8080, rate=1500, count=2000, held=16)) as drive:
        samples = drive.wait(timeout_s=30)
    assert samples.failures == {}
    assert set(samples.new.count()) == set(EVEN)


def test_datagrams_of_every_size(lab, xdplb):
    xdplb.apply(SHORT.replace("8080", "5353") + "protocol: udp\n")
    for size in (0, 1, 2, 18, 19, 512, 1400):
        payload = os.urandom(size)
        assert ask_datagram(lab.client, VIP, 5353, payload)[1] == payload


# --- what is not for a service ---


def test_a_backends_own_address_goes_on_working(lab, xdplb):
    own = str(lab.backends[0].address)
    text = "interface: [eth0, eth1]\nport: 8080\nbackends: [10.0.0.11]\n"
    with closing(connect(lab.client, own, 8080)) as before:
        assert fetch_again(before).backend == own
        xdplb.apply(text)
        assert fetch_again(before).backend == own
        with (
            closing(connect(lab.client, VIP, 8080)) as through,
            closing(connect(lab.client, own, 8080)) as direct,
        ):
            for _ in range(50):
                for connection in (before, through, direct):
                    peer = " ".join(map(str, connection.getsockname()))
                    answer = fetch_again(connection)
                    assert (answer.backend, answer.client) == (own, peer)
                for address in (VIP, own):
                    assert fetch(lab.client, address).backend == own
        assert xdplb.run("detach").returncode == 0
        assert fetch_again(before).backend == own
    assert fetch(lab.client, own).backend == own


@pytest.mark.xfail(
    strict=True, raises=TimeoutError, reason="nothing tells such a reply from a service's"
)
def test_a_backend_that_speaks_first_on_an_older_direct_connection(lab, xdplb):
    """The balancer meets the connection in the middle, and by its reply."""
    with (
        closing(listen(lab.backends[0], 7001)) as listener,
        closing(connect(lab.client, "10.0.0.11", 7001)) as client,
        closing(listener.accept()[0]) as server,
    ):
        server.settimeout(3)
        xdplb.apply("interface: [eth0, eth1]\nport: 7000\nbackends: ['10.0.0.11:7001']\n")
        server.sendall(b"news")
        assert client.recv(100) == b"news"
        client.sendall(b"thanks")
        assert server.recv(100) == b"thanks"


def test_direct_datagrams_keep_their_source(lab, xdplb):
    xdplb.apply(SHORT.replace("8080", "5353") + "protocol: udp\n")
    for _ in range(20):
        for backend in lab.backends:
            assert ask_datagram(lab.client, backend.address, 5353)[0] == str(backend.address)
        assert ask_datagram(lab.client, VIP, 5353)[0] in EVEN


def test_the_balancers_own_connections_to_a_backend_work(lab, xdplb):
    xdplb.apply(SHORT)
    for backend in lab.backends:
        answer = fetch(lab.balancer, backend.address)
        assert (answer.backend, answer.client.split()[0]) == (str(backend.address), "10.0.0.1")


def test_what_is_no_service_is_untouched(lab, xdplb):
    xdplb.apply(SHORT)
    lab.serve([lab.balancer], http=8081, echo=9001, udp=5354)
    assert fetch(lab.client, VIP, 8081).client.split()[0] == "192.0.2.2"
    assert ask_datagram(lab.client, VIP, 5354, b"x") == (VIP, b"x")
    with closing(connect(lab.client, VIP, 9001)) as connection:
        connection.sendall(b"line\n")
        assert connection.recv(100) == b"192.0.2.1 line\n"
    with pytest.raises(ConnectionRefusedError):
        connect(lab.client, VIP, 8082)
    # The fourth backend is in no service, and the others' other ports are in none.
    assert fetch(lab.client, "10.0.0.14").backend == "10.0.0.14"
    with closing(connect(lab.client, "10.0.0.11", 9000)) as connection:
        connection.sendall(b"line\n")
        assert connection.recv(100) == b"10.0.0.11 line\n"


def test_pings_are_answered_by_whom_they_are_for(lab, xdplb):
    xdplb.apply(SHORT)
    for address in (VIP, "10.0.0.11", "10.0.0.14"):
        for size in (0, 1, 56, 1472):
            assert ping(lab.client, address, os.urandom(size))


def ping(host, address, payload):
    """Whether the very bytes come back from the very address."""
    head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 7)
    checksum = internet_checksum(head + payload)
    echo = struct.pack("!BBHHH", 8, 0, checksum, os.getpid() & 0xFFFF, 7) + payload
    with host.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_ICMP) as raw:
        raw.settimeout(3)
        raw.sendto(echo, (address, 0))
        while True:
            packet, (source, _) = raw.recvfrom(65_535)
            answer = packet[20:]
            if answer[0] == 0 and answer[4:8] == echo[4:8]:
                return (source, answer[8:]) == (address, payload)


def internet_checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# --- shapes of the file ---

LONG = """
version: 1
interface: [eth0, eth1]
services:
  - name: web
    vip: 198.51.100.10
    port: 80
    backends: ["10.0.0.11:8080", "10.0.0.12:8080"]
  - name: dns
    vip: 198.51.100.53
    port: 53
    protocol: udp
    backends: ["10.0.0.12:5353", "10.0.0.13:5353"]
"""


def test_two_services_with_vips_and_ports_of_their_own(lab, xdplb):
    xdplb.apply(LONG)
    web = Counter(ask_from(lab, port, "198.51.100.10", 80) for port in range(26_000, 26_100))
    assert set(web) == {"10.0.0.11", "10.0.0.12"}
    dns = Counter(ask_datagram(lab.client, "198.51.100.53", 53, b"q") for _ in range(100))
    assert set(dns) == {("10.0.0.12", b"q"), ("10.0.0.13", b"q")}


def test_a_shared_backend_answers_for_both_its_services(lab, xdplb):
    backends = 'backends: ["10.0.0.11:8080", "10.0.0.12:8080"]'
    xdplb.apply(
        f"""
version: 1
interface: [eth0, eth1]
services:
  - {{name: one, vip: 198.51.100.1, port: 80, {backends}}}
  - {{name: two, vip: 198.51.100.2, port: 81, {backends}}}
"""
    )
    with (
        closing(connect(lab.client, "198.51.100.1", 80)) as one,
        closing(connect(lab.client, "198.51.100.2", 81)) as two,
        closing(connect(lab.client, "10.0.0.11", 8080)) as direct,
    ):
        homes = [fetch_again(each).backend for each in (one, two, direct)]
        for number in range(50):
            assert [fetch_again(each).backend for each in (one, two, direct)] == homes
            assert ask_from(lab, 27_000 + number, "198.51.100.1", 80) in EVEN
            assert ask_from(lab, 28_000 + number, "198.51.100.2", 81) in EVEN
    plans = [LoadPlan(f"198.51.100.{n}", 79 + n, rate=300, count=300, held=8) for n in (1, 2)]
    with Drive(lab.client, plans[0]) as first, Drive(lab.client, plans[1]) as second:
        assert [first.wait(20).failures, second.wait(20).failures] == [{}, {}]


def test_a_client_keeps_its_backend_with_client_affinity(lab, xdplb):
    xdplb.apply(SHORT + "affinity: client\n")
    assert len({ask_from(lab, port) for port in range(29_000, 29_200)}) == 1


def test_the_client_picks_by_port_without_it(lab, xdplb):
    xdplb.apply(SHORT)
    assert {ask_from(lab, port) for port in range(29_200, 29_400)} == set(EVEN)


def test_generic_mode(lab, xdplb):
    xdplb.apply(SHORT + "xdp_mode: generic\n")
    assert {each["mode"] for each in xdplb.find_programs().values()} == {2}
    with Drive(lab.client, LoadPlan(VIP, 8080, rate=500, count=500, held=8)) as drive:
        samples = drive.wait(timeout_s=20)
    assert samples.failures == {}
    assert set(samples.count()) == set(EVEN)
    with closing(connect(lab.client, VIP, 8080)) as connection:
        assert len(fetch_again(connection, "/bytes/3000000").body) == 3_000_000


def test_native_mode_is_the_first_choice(lab, xdplb):
    xdplb.apply(SHORT)
    assert {name: each["mode"] for name, each in xdplb.find_programs().items()} == {
        "eth0": 1,
        "eth1": 1,
    }


@contextmanager
def running_servers(host, names):
    """Web servers of a host by (address, port), each with a name."""
    for (address, port), name in names.items():
        words = [name, f"--http={port}", f"--address={address}"]
        server = host.popen(
            [sys.executable, "-m", "reconciler.lab.server", *words],
            environment=python_environment(),
        )
        await_line(server, "ready")
    yield


def test_the_loopback_interface(lab, xdplb):
    # A client gets the VIP's own address here, and with its port it would speak to itself.
    lab.balancer.sysctl("ipv4/ip_local_reserved_ports", "8080")
    with running_servers(
        lab.balancer, {("127.0.0.1", 8091): "a", ("127.0.0.2", 8092): "b", ("127.0.0.3", 8093): "c"}
    ):
        xdplb.apply(
            "interface: lo\nport: 8080\n"
            'backends: ["127.0.0.1:8091", "127.0.0.2:8092", "127.0.0.3:8093"]\n'
        )
        with Drive(lab.balancer, LoadPlan("127.0.0.1", 8080, rate=500, count=500, held=8)) as drive:
            samples = drive.wait(timeout_s=20)
        assert samples.failures == {}
        assert set(samples.count()) == {"a", "b", "c"}
        assert fetch(lab.balancer, "127.0.0.2", 8092).backend == "b"
        with closing(connect(lab.balancer, "127.0.0.1", 8080)) as connection:
            assert len(fetch_again(connection, "/bytes/3000000").body) == 3_000_000


# --- the wire ---


@contextmanager
def peers_that_transfer(host, port, sent):
    """A server that sends some bytes and then takes as many; what it got, in the end."""
    got = []
    listener = listen(host, port)

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(sent)
            got.append(receive(connection, len(sent)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield got
    finally:
        thread.join(30)
        listener.close()


def receive(connection, size):
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(1 << 20)
        assert chunk, f"closed after {len(data)} bytes"
        data += chunk
    return bytes(data)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_large_transfers_arrive_unharmed_both_ways(lab, xdplb, mode):
    xdplb.apply(
        f"interface: [eth0, eth1]\nport: 7000\nxdp_mode: {mode}\nbackends: ['10.0.0.11:7001']\n"
    )
    sent = os.urandom(20_000_000)
    with (
        peers_that_transfer(lab.backends[0], 7001, sent) as got,
        closing(connect(lab.client, VIP, 7000)) as connection,
    ):
        connection.settimeout(20)
        received = receive(connection, len(sent))
        connection.sendall(received)
        assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
        assert connection.recv(1) == b""
    assert got == [sent]


def test_a_datagram_for_an_unknown_neighbour_is_not_lost(lab, xdplb):
    xdplb.apply("interface: [eth0, eth1]\nport: 5353\nprotocol: udp\nbackends: [10.0.0.11]\n")
    dataplane = xdplb.dataplane()
    answered = Counter()

    def has_met_no_neighbour():
        lab.balancer.run(["ip", "neigh", "flush", "dev", "eth1"])
        answered[ask_datagram(lab.client, VIP, 5353, b"first")] += 1
        forwarded_by_stack = 5
        return dataplane.read_counters("verdicts")[forwarded_by_stack] >= 3

    # A next hop is remembered for half a second.
    wait_until(has_met_no_neighbour, "three datagrams meet no neighbour")
    assert set(answered) == {("10.0.0.11", b"first")}


def test_a_backend_that_changes_its_mac_is_followed(lab, xdplb):
    backend = lab.backends[0]
    xdplb.apply("interface: [eth0, eth1]\nport: 8080\nbackends: [10.0.0.11]\n")
    old = next(w.one.mac for w in lab.topology.wires if w.one.host == backend.name)

    def answers():
        try:
            return fetch(lab.client, VIP, timeout_s=0.1).backend == "10.0.0.11"
        except OSError:
            return False

    assert answers()
    try:
        for mac in ("02:00:00:00:00:99", old):
            backend.run(["ip", "link", "set", "eth0", "address", mac])
            lab.balancer.run(["ip", "neigh", "flush", "dev", "eth1"])
            wait_until(answers, f"frames go to {mac}", timeout_s=2.0)
    finally:
        backend.run(["ip", "link", "set", "eth0", "address", old])


class TestOneArm:
    """Client, balancer and backends on one wire; replies leave as requests came."""

    @pytest.fixture
    def lab(self, one_arm):
        return one_arm

    @pytest.mark.parametrize("mode", ["native", "generic"])
    def test_it_balances(self, lab, xdplb, mode):
        text = SHORT.replace("[eth0, eth1]", "eth0") + f"xdp_mode: {mode}\n"
        xdplb.apply(text)
        with Drive(lab.client, LoadPlan(VIP, 8080, rate=1000, count=1000, held=8)) as drive:
            samples = drive.wait(timeout_s=20)
        assert samples.failures == {}
        assert set(samples.new.count()) == set(EVEN)

    def test_direct_connections_work_beside_it(self, lab, xdplb):
        xdplb.apply(SHORT.replace("[eth0, eth1]", "eth0"))
        for _ in range(20):
            for address in (VIP, "10.0.0.11", "10.0.0.12"):
                answer = fetch(lab.client, address)
                assert answer.client.split()[0] == "192.0.2.2"
                assert address in (VIP, answer.backend)
