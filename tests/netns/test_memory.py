"""Real connections and what is remembered of them: under floods, and when all is over."""

import json
import shutil
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from reconciler import abi
from reconciler.abi import FlowEvent
from reconciler.dataplane.capacities import list_capacities
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch, fetch_again
from reconciler.lab.process import await_line, python_environment
from reconciler.memory import needs_memory
from reconciler.model import Limits
from reconciler.plan import Put

from .test_modes import FAMILIES, WEB, Mix, prepare_backends

pytestmark = [pytest.mark.root, pytest.mark.alone]

FLOOD = Path(__file__).with_name("flood.py")
LIMITS = Limits(services=64, backends=4096, ring_slots=150_000, flows=4096)
MIXES = [Mix("nat", 4, 4), Mix("l2dsr", 4, 4), Mix("ipip", 4, 4), Mix("gue", 6, 6)]
HELD = 100


@pytest.fixture(scope="module")
def lab(require):
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=1, ipv6=True, backends=4)) as made:
        prepare_backends(made)
        yield made


class Service:
    """One service of the laboratory, with a controller that looks every second."""

    def __init__(self, lab, xdplb, mix):
        self.lab, self.xdplb, self.mix = lab, xdplb, mix

    def write(self, backends, **more):
        every = [self.mix.address_of(each) for each in self.lab.backends[:backends]]
        document = {
            "version": 1,
            "interface": "eth0",
            "forwarding": self.mix.mode,
            "limits": {"ring_slots": LIMITS.ring_slots, "flows": LIMITS.flows},
            "reconcile": {"resync": "1s"},
            "services": [
                {"name": "web", "vip": self.mix.vip, "port": WEB, "backends": every, **more},
                {"name": "dns", "vip": self.mix.vip, "port": WEB, "protocol": "udp"}
                | {"backends": every, **more},
            ],
        }
        return json.dumps(document)

    def start(self, backends, **more):
        """Start the controller, and return when every backend was reached."""
        self.xdplb.start(self.write(backends, **more))
        reached = set()

        def is_reached():
            with suppress(OSError):  # the backends' MACs are not known yet
                reached.add(fetch(self.lab.client, self.mix.vip, WEB, timeout_s=0.2).backend)
            return len(reached) == backends

        wait_until(is_reached, "every backend answers")

    def edit(self, backends, **more):
        """Change the file, and return when the kernel follows it."""
        before = self.xdplb.tables().generation
        self.xdplb.config.write_text(self.write(backends, **more), encoding="utf-8")
        wait_until(lambda: self.xdplb.tables().generation > before, "the edit is live")

    @contextmanager
    def held(self, count=HELD):
        """Connections, each with the backend that it is on."""
        with ExitStack() as stack:
            connections = []
            for _ in range(count):
                one = stack.enter_context(self.lab.client.socket(FAMILIES[self.mix.inner]))
                one.settimeout(5)
                one.connect((self.mix.vip, WEB))
                connections.append((one, fetch_again(one).backend))
            yield connections

    def end_window(self):
        """Let the window of every service be over."""
        dataplane = self.xdplb.dataplane()
        for number, info in dataplane.read().service_info.items():
            if info.window_end_ns:
                dataplane.write(Put("service_info", number, info._replace(window_end_ns=1)))

    def wait_until_settled(self):
        wait_until(lambda: not needs_memory(self.xdplb.tables()), "every slot is settled", 30)

    def count_events(self):
        counts = self.xdplb.dataplane().read_counters("flow_events").tolist()
        return {event.name: counts[event] for event in FlowEvent}

    def count_packets(self):
        return int(self.xdplb.dataplane().read_counters("verdicts").sum())

    def measure_tables(self):
        dataplane = self.xdplb.dataplane()
        names = ("flows", "pending", "strays")
        size = abi.FLOW_KEY.itemsize
        return {
            name: len(dataplane.libbpf.read_all(dataplane._fd(name))[0]) // size for name in names
        }


@pytest.fixture
def service(lab, xdplb, request):
    return Service(lab, xdplb, request.param)


def assert_unbroken(connections):
    for connection, home in connections:
        assert fetch_again(connection).backend == home


@contextmanager
def flooding(service, *kinds):
    """Strangers send all they can to the service while the block runs."""
    words = [sys.executable, str(FLOOD), service.mix.vip, str(WEB), *kinds]
    program = service.lab.client.popen(words, environment=python_environment())
    await_line(program, "ready")
    sent = []
    try:
        yield sent
    finally:
        program.terminate()
        sent.append(int(program.stdout.readline()))
        program.wait()


def edit_in_a_flood(service, backends, connections):
    """Change the file, and have the connections remembered: two packets of each do it.

    The flood is one that pushes no connection's first packet out of the strays, and takes
    no room in `flows`; in others this would depend on who is faster.
    """
    with flooding(service, "syns", "errors"):
        service.edit(backends)
        for _ in range(2):
            assert_unbroken(connections)


def end_window_in_a_flood(service, connections):
    # However slow the machine is: the flood goes on until it is one.
    enough = service.count_packets() + 11 * LIMITS.flows
    wait_until(lambda: service.count_packets() > enough, "a flood has come", 60)
    assert_unbroken(connections)
    filled = service.measure_tables()
    service.end_window()
    assert_unbroken(connections)
    capacities = list_capacities(LIMITS)
    for name, entries in (*filled.items(), *service.measure_tables().items()):
        assert entries <= capacities[name], name


@pytest.mark.parametrize("service", MIXES[:3], ids=str, indirect=True)
def test_connections_stay_through_an_edit_and_a_flood(service):
    service.start(3)
    with service.held() as connections:
        edit_in_a_flood(service, 4, connections)
        with flooding(service, "syns", "segments", "datagrams", "errors"):
            end_window_in_a_flood(service, connections)
        assert service.count_events()["REFUSED"] == 0
        edit_in_a_flood(service, 3, connections)
        with flooding(service) as sent:
            wait_until(lambda: service.count_events()["REFUSED"] > 0, "the table is full", 30)
            end_window_in_a_flood(service, connections)
    assert sent[0] > 10 * LIMITS.flows
    events = service.count_events()
    assert events["PENDING"] > 0 < events["STRAY"]
    assert "warning: the flow table had no room" in service.xdplb.run("status").stdout


@pytest.mark.parametrize("service", MIXES, ids=str, indirect=True)
def test_when_all_is_over_no_flow_is_looked_up(service):
    policy = {"drain_timeout": "1m", "flow_idle_timeout": "1s"}
    service.start(2, **policy)
    assert service.count_events()["ASKED"] == 0
    with service.held() as connections:
        service.edit(4, **policy)
        for _ in range(2):
            assert_unbroken(connections)
        assert service.count_events()["REMEMBERED"] > 0
        service.end_window()
        assert_unbroken(connections)
    service.wait_until_settled()
    nothing = {"flows": 0, "pending": 0, "strays": 0}
    wait_until(lambda: service.measure_tables() == nothing, "nothing is remembered")
    before = service.count_events()
    with service.held() as connections:
        assert_unbroken(connections)
    assert service.count_events() == before


@pytest.mark.parametrize("service", MIXES[:1], ids=str, indirect=True)
def test_strays_of_a_flood_hold_slots_for_a_window_and_no_longer(service):
    """Each is heard of once, in the window; idle flows would count for two hours."""
    service.start(3, drain_timeout="2s")
    with flooding(service, "segments", "datagrams", "errors"):
        service.edit(4, drain_timeout="2s")
        wait_until(lambda: service.count_events()["STRAY"] > 1000, "there are strays")
    service.wait_until_settled()
    assert service.count_events()["REMEMBERED"] == 0
