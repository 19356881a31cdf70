"""Every way of forwarding, in every mix of families: who answers, and what arrives."""

import errno
import hashlib
import json
import os
import platform
import select
import shutil
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.abi import Verdict
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan

from .conftest import Xdplb

pytestmark = pytest.mark.root

VIPS = {4: "198.51.100.10", 6: "2001:db8:f::10"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
WEB, ECHO, BULK, MARKED, SILENT = 8080, 5353, 7000, 7001, 7002
BLOCK = os.urandom(10_000_000)
DECAPSULATOR = Path(__file__).with_name("decap.bpf.c")


class Mix(NamedTuple):
    """One way of forwarding. `outer` is the backends' family, `inner` the VIP's."""

    mode: str
    inner: int
    outer: int
    xdp_mode: str = "native"

    @property
    def is_direct_return(self):
        return self.mode != "nat"

    @property
    def vip(self):
        return VIPS[self.inner]

    @property
    def overhead(self):
        """Bytes that a tunnel adds."""
        headers = {"ipip": 0, "gue": 8}
        return headers[self.mode] + {4: 20, 6: 40}[self.outer] if self.mode in headers else 0

    def address_of(self, backend):
        """Where the balancer sends to."""
        return str(backend.address if self.outer == 4 else backend.address6)

    def served_by(self, backend):
        """What a backend's server is bound to."""
        return self.vip if self.is_direct_return else self.address_of(backend)

    def __str__(self):
        generic = "-generic" if self.xdp_mode == "generic" else ""
        return f"{self.mode}-{self.inner}in{self.outer}{generic}"


SAME_FAMILY = [Mix(mode, each, each) for mode in ("nat", "l2dsr") for each in (4, 6)]
TUNNELS = [
    Mix(mode, inner, outer) for mode in ("ipip", "gue") for inner in (4, 6) for outer in (4, 6)
]
GENERIC = [
    Mix("nat", 6, 6, "generic"),
    Mix("l2dsr", 4, 4, "generic"),
    Mix("ipip", 4, 6, "generic"),
    Mix("gue", 6, 4, "generic"),
]
ONE_EACH = [Mix("nat", 4, 4), Mix("l2dsr", 6, 6), *GENERIC[2:]]
EVERY = SAME_FAMILY + TUNNELS + GENERIC


class Balanced:
    """xdplb on a laboratory's balancer, with the services of this file."""

    def __init__(self, lab, mix):
        self.lab, self.mix = lab, mix
        self.xdplb = Xdplb(lab)

    def apply(self):
        """Make the balancer forward, and return when every backend was reached."""
        every = [self.mix.address_of(each) for each in self.lab.backends]
        services = [
            {"name": "web", "port": WEB, "backends": every},
            {"name": "echo", "port": ECHO, "protocol": "udp", "backends": every},
            {"name": "bulk", "port": BULK, "backends": every[:1]},
            {"name": "marked", "port": MARKED, "protocol": "udp", "backends": every[:1]},
            {"name": "silent", "port": SILENT, "protocol": "udp", "backends": every},
        ]
        document = {
            "version": 1,
            "interface": list(self.lab.topology.balancer_interfaces),
            "xdp_mode": self.mix.xdp_mode,
            "forwarding": self.mix.mode,
            "services": [{**each, "vip": self.mix.vip} for each in services],
        }
        self.xdplb.apply(json.dumps(document))  # JSON is YAML
        reached = set()

        def is_reached():
            # A direct-return packet is dropped until its backend's MAC is known.
            try:
                reached.add(fetch(self.lab.client, self.mix.vip, WEB, timeout_s=0.2).backend)
            except OSError:
                return False
            return len(reached) == len(self.lab.backends)

        wait_until(is_reached, "every backend answers")

    def detach(self):
        done = self.xdplb.run("detach")
        assert done.returncode == 0, done.stderr

    def count_verdicts(self):
        """How many packets met which fate so far, by its name."""
        counts = self.xdplb.dataplane().read_counters("verdicts").tolist()
        return Counter({each.name.lower(): counts[each] for each in Verdict})

    def count_received_bytes(self):
        """What came in by all the balancer's interfaces so far."""
        words = ["ip", "-statistics", "-json", "link", "show"]
        links = json.loads(self.lab.balancer.run(words).stdout)
        return sum(each["stats64"]["rx"]["bytes"] for each in links if each["ifname"] != "lo")


@contextmanager
def balanced_lab(mix, lab):
    balanced = Balanced(lab, mix)
    try:
        balanced.apply()
        yield balanced
    finally:
        balanced.xdplb.close()


def compile_decapsulator(folder):
    compiled = folder / "decap.bpf.o"
    multiarch = f"-I/usr/include/{platform.machine()}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", "-Wall", "-Werror", multiarch]
    command = ["clang", *options, "-c", DECAPSULATOR, "-o", compiled]
    subprocess.run(command, check=True, timeout=60)
    return compiled


def prepare_backends(lab):
    """Give every backend the VIPs, a decapsulator, and servers for all ways of forwarding.

    What a VIP sends goes straight to the client where they share a link; all else goes
    to its gateway.
    """
    compiled = compile_decapsulator(lab.directory)
    # ip mounts a BPF file system where it finds none; in mounts of its own it leaves none.
    load = f"unshare --mount ip link set eth0 xdpgeneric obj {compiled} sec xdp"
    for backend in lab.backends:
        script = [load]
        for family, front in ((4, "192.0.2.0/24"), (6, "2001:db8:2::/64")):
            script.append(f"ip addr add {VIPS[family]} dev lo")
            if lab.topology.arms == 1 and not lab.topology.has_router:
                script.append(f"ip -{family} rule add from {VIPS[family]} lookup 100")
                script.append(f"ip -{family} route add {front} dev eth0 table 100")
        backend.run(["sh", "-ec", "\n".join(script)])
        # Nobody on the link shall hear of the VIP from a backend.
        backend.sysctl("ipv4/conf/eth0/arp_announce", 2)
        own = (str(backend.address), str(backend.address6))
        lab.serve([backend], http=WEB, udp=ECHO, addresses=[*own, *VIPS.values()])
    # Whom ping sockets are for.
    lab.client.sysctl("ipv4/ping_group_range", "0 0")


@pytest.fixture(scope="module")
def lab(require):
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=1, ipv6=True)) as made:
        prepare_backends(made)
        yield made


@pytest.fixture(scope="module", params=EVERY, ids=str)
def balanced(lab, request):
    with balanced_lab(request.param, lab) as made:
        yield made


def open_client(balanced, kind=socket.SOCK_STREAM, protocol=0, port=0, timeout_s=5):
    """A client's socket to the VIP."""
    client = balanced.lab.client.socket(FAMILIES[balanced.mix.inner], kind, protocol)
    client.settimeout(timeout_s)
    client.connect((balanced.mix.vip, port))
    return client


def open_server(balanced, port, kind=socket.SOCK_STREAM):
    """A server's socket on the first backend."""
    backend = balanced.lab.backends[0]
    server = backend.socket(FAMILIES[balanced.mix.inner], kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.settimeout(20)
    server.bind((balanced.mix.served_by(backend), port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    return server


def name_backends(balanced):
    return {str(each.address) for each in balanced.lab.backends}


# --- who answers, and whom they see ---


def test_every_connection_is_answered_and_every_backend_answers(balanced):
    # The load fails an answer that does not name its own address and port.
    plan = LoadPlan(balanced.mix.vip, WEB, rate=1000, count=200, held=8)
    with Drive(balanced.lab.client, plan) as drive:
        samples = drive.wait(timeout_s=20)
    assert samples.failures == {}
    assert sum(samples.new.count().values()) == 200
    assert set(samples.new.count()) == name_backends(balanced)


def test_every_datagram_is_answered_and_every_backend_answers(balanced):
    homes = {}
    with ExitStack() as stack:
        open_datagrams = [
            stack.enter_context(open_client(balanced, socket.SOCK_DGRAM, port=ECHO))
            for _ in range(50)
        ]
        for number in range(10):
            for each in open_datagrams:
                each.send(b"%d" % number)
            waiting = set(open_datagrams)
            while waiting:
                ready, _, _ = select.select(waiting, [], [], 3)
                assert ready, f"{len(waiting)} datagrams of round {number} were not answered"
                for each in ready:
                    backend, _, echo = each.recv(2048).partition(b" ")
                    assert echo == b"%d" % number
                    assert homes.setdefault(each, backend) == backend  # a flow has one home
                waiting -= set(ready)
    assert {each.decode() for each in homes.values()} == name_backends(balanced)


def test_replies_pass_the_balancer_only_with_nat(balanced):
    verdicts, received = balanced.count_verdicts(), balanced.count_received_bytes()
    for _ in range(2):
        path = "/bytes/10000000"
        assert len(fetch(balanced.lab.client, balanced.mix.vip, WEB, path).body) == 10_000_000
    received = balanced.count_received_bytes() - received
    verdicts = balanced.count_verdicts() - verdicts
    replies = sum(count for name, count in verdicts.items() if name.startswith("reply_"))
    if balanced.mix.is_direct_return:
        assert replies == 0
        assert received < 2_000_000  # acknowledgements
    else:
        assert replies > 10_000
        assert received > 20_000_000


# --- what arrives ---


def receive(connection, size):
    """The digest of so many bytes, or of all up to the end if `size` is None."""
    digest, left = hashlib.sha256(), size
    while left is None or left > 0:
        chunk = connection.recv(1 << 20 if left is None else min(left, 1 << 20))
        if not chunk:
            break
        digest.update(chunk)
        left = None if left is None else left - len(chunk)
    return digest.digest()


def serve_blocks(listener, blocks):
    """Take all that one client sends, say what it was, and send as many blocks."""
    with closing(listener.accept()[0]) as connection:
        connection.settimeout(20)
        connection.sendall(receive(connection, None))
        for _ in range(blocks):
            connection.sendall(BLOCK)


def digest_blocks(blocks):
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    return digest.digest()


def test_100_mb_arrive_unharmed_both_ways(balanced):
    blocks = 10
    expected = digest_blocks(blocks)
    with closing(open_server(balanced, BULK)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve_blocks, listener, blocks)
        with closing(open_client(balanced, port=BULK, timeout_s=20)) as connection:
            for _ in range(blocks):
                connection.sendall(BLOCK)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(32, socket.MSG_WAITALL) == expected
            assert receive(connection, blocks * len(BLOCK)) == expected
        served.result(20)


def test_dscp_and_ecn_arrive_and_tunnels_show_them(balanced):
    marks = {4: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS)}
    marks[6] = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS)
    level, mark, report = marks[balanced.mix.inner]
    with (
        closing(open_server(balanced, MARKED, socket.SOCK_DGRAM)) as server,
        closing(open_client(balanced, socket.SOCK_DGRAM, port=MARKED)) as client,
        closing(open_tap(balanced)) as tap,
    ):
        server.setsockopt(level, report, 1)
        for traffic_class in (0x00, 0x01, 0x02, 0x03, 0xB8, 0xBA):  # EF, and the ECN bits
            client.setsockopt(level, mark, traffic_class)
            payload = f"marked {traffic_class}".encode()
            client.send(payload)
            got, (control,), _, source = server.recvmsg(2048, 64)
            assert got == payload
            assert source[:2] == client.getsockname()[:2]
            assert control[:2] == (level, mark)
            assert control[2][0] == traffic_class
            assert receive_outer(balanced, tap, payload) == traffic_class


def open_tap(balanced):
    """What the switch sends to the first backend, as the balancer made it."""
    every_protocol = 0x0300  # htons(ETH_P_ALL)
    with balanced.lab.switch.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, every_protocol)
    tap.settimeout(5)
    tap.bind((f"to-{balanced.lab.backends[0].name}", socket.ntohs(every_protocol)))
    return tap


def receive_outer(balanced, tap, payload):
    """The traffic class of the outermost header around a payload, which has the right form."""
    packet = tap.recv(2048)
    while not packet.endswith(payload):
        packet = tap.recv(2048)
    mix = balanced.mix
    assert packet[0] >> 4 == mix.outer
    inner_size = {4: 20, 6: 40}[mix.inner] + 8 + len(payload)
    assert len(packet) == mix.overhead + inner_size
    protocol = packet[{4: 9, 6: 6}[mix.outer]]
    inner_protocol = {4: socket.IPPROTO_IPIP, 6: socket.IPPROTO_IPV6}[mix.inner]
    assert protocol == (inner_protocol if mix.mode == "ipip" else socket.IPPROTO_UDP)
    return packet[1] if mix.outer == 4 else int.from_bytes(packet[:2], "big") >> 4 & 0xFF


# --- ICMP ---


def test_a_ping_to_the_vip_is_answered(balanced):
    protocol, request = {
        4: (socket.IPPROTO_ICMP, 8),
        6: (socket.IPPROTO_ICMPV6, 128),
    }[balanced.mix.inner]
    before = balanced.count_verdicts()
    with closing(open_client(balanced, socket.SOCK_DGRAM, protocol)) as pinger:
        for sequence, size in enumerate((0, 1, 56, 1400)):
            payload = os.urandom(size)
            # The kernel puts in the checksum and its own identifier.
            pinger.send(bytes((request, 0, 0, 0, 0, 0, 0, sequence)) + payload)
            answer = pinger.recv(2048)
            assert answer[0] == {4: 0, 6: 129}[balanced.mix.inner]
            assert answer[6:] == bytes((0, sequence)) + payload
    counted = balanced.count_verdicts() - before
    assert counted["echo_transmit"] + counted["echo_redirect"] == 4


def test_a_port_where_nobody_listens_is_refused(balanced):
    with closing(open_client(balanced, socket.SOCK_DGRAM, port=SILENT)) as client:
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError) as caught:
            client.recv(2048)
    assert caught.value.errno == errno.ECONNREFUSED


# --- the end ---


@pytest.mark.parametrize("balanced", ONE_EACH, ids=str, indirect=True)
def test_detaching_leaves_nothing(balanced):
    modes = {"native": 1, "generic": 2}  # XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
    programs = balanced.xdplb.find_programs()
    assert {name: each["mode"] for name, each in programs.items()} == {
        "eth0": modes[balanced.mix.xdp_mode]
    }
    balanced.detach()
    try:
        assert balanced.xdplb.find_programs() == {}
        assert not balanced.xdplb.root.exists() or list(balanced.xdplb.root.iterdir()) == []
        assert balanced.xdplb.account() == {}
        with pytest.raises(OSError, match=r".+"):
            fetch(balanced.lab.client, balanced.mix.vip, WEB, timeout_s=0.2)
    finally:
        balanced.apply()
