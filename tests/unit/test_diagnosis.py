"""`diagnosis`: from facts to findings, one fact at a time."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from reconciler.config import parse
from reconciler.diagnosis import choose_exit_code, codes, diagnose
from reconciler.diagnosis.facts import (
    ANYBODY,
    Answer,
    Bcc,
    Bpffs,
    Checkup,
    Device,
    FileTrouble,
    FlowTable,
    InstanceState,
    InterfaceState,
    MachineFacts,
    Network,
    Offloads,
    Peer,
    Program,
    Reach,
    Reload,
    Trial,
    Unseen,
    Way,
)
from reconciler.diagnosis.finding import Finding, Severity, name_some
from reconciler.diagnosis.machine import parse_release
from reconciler.environment import InterfaceFacts
from reconciler.errors import ExitCode
from reconciler.model import Protocol, XdpMode
from reconciler.tables import Endpoint

B1, B2 = ip_address("10.0.0.11"), ip_address("10.0.0.12")
FRONT, BACK = ip_address("192.0.2.1"), ip_address("10.0.0.1")

FILE = """
interface: [eth0, eth1]
vip: {vip}
port: 8080
forwarding: {forwarding}
backends: {backends}
"""


def configure(forwarding="nat", vip=FRONT, backends=(B1, B2), more=""):
    listed = "[" + ", ".join(f"'{backend}'" for backend in backends) + "]"
    text = FILE.format(forwarding=forwarding, vip=f"'{vip}'", backends=listed) + more
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return replace(config, path="lb.yaml")


def make_interface(name, ifindex, address, **more):
    device = Device(name, ifindex, addresses=(ip_interface(f"{address}/24"),))
    facts = InterfaceFacts(ifindex, (address,), transmits=True, redirects=True)
    return InterfaceState(device, facts, **more)


ETH0, ETH1 = make_interface("eth0", 2, FRONT), make_interface("eth1", 3, BACK)
NETWORK = Network(
    devices=("lo", "eth0", "eth1", "eth2"),
    interfaces={"eth0": ETH0, "eth1": ETH1},
    ways={FRONT: Way("lo", is_local=True), ANYBODY: Way("eth0", ip_address("192.0.2.254"))},
)
REACH = Reach(
    ways={B1: Way("eth1"), B2: Way("eth1")},
    neighbours={B1: True, B2: True},
    answers={(B1, 8080): Answer.OPENED, (B2, 8080): Answer.OPENED},
)
INSTANCE = InstanceState(
    "default",
    exists=True,
    pid=4711,
    last_reload=Reload("applied", 40.4),
    packets={Endpoint(address, 8080, Protocol.TCP): (9, 7) for address in (B1, B2)},
)
MACHINE = MachineFacts("6.18.1", repeat="xdplb doctor lb.yaml")
WELL = Checkup(
    MACHINE,
    Trial(),
    config=configure(),
    network=NETWORK,
    reach=REACH,
    instance=INSTANCE,
    flows=FlowTable(10, 1000),
)


def with_machine(**facts):
    return replace(WELL, machine=replace(MACHINE, **facts))


def with_eth1(device=None, facts=None, **more):
    state = replace(
        ETH1,
        device=replace(ETH1.device, **(device or {})),
        facts=replace(ETH1.facts, **(facts or {})),
        **more,
    )
    network = replace(NETWORK, interfaces={"eth0": ETH0, "eth1": state})
    return replace(WELL, network=network)


def with_reach(**facts):
    return replace(WELL, reach=replace(REACH, **facts))


def with_instance(**facts):
    return replace(WELL, instance=replace(INSTANCE, **facts))


def find_faults(checkup):
    """What is not well, as (severity, code, subject, command)."""
    return [
        (f.severity.value, f.code, f.subject, f.command)
        for f in diagnose(checkup)
        if f.severity is not Severity.OK
    ]


def find_one(checkup, code):
    (one,) = [f for f in diagnose(checkup) if f.code == code and f.severity is not Severity.OK]
    return one


def test_all_is_well():
    findings = diagnose(WELL)
    assert find_faults(WELL) == []
    assert choose_exit_code(findings) is ExitCode.OK
    assert len(findings) > 30


def test_without_a_file_only_the_machine_is_judged():
    bare = replace(WELL, config=None, network=Network(), reach=Reach())
    assert find_faults(bare) == []
    assert {f.subject for f in diagnose(bare)} == {"machine", "default"}


# --- the machine ---

ENVIRONMENT = "/opt/xdplb/pyvenv.cfg"
LACKS = Bcc("BCC is missing", distribution=("ubuntu", "debian"), python="/opt/xdplb/bin/python")


@pytest.mark.parametrize(
    ("facts", "severity", "code", "command"),
    [
        (
            {"missing_capabilities": ("CAP_BPF",)},
            "error",
            codes.PRIVILEGES,
            "sudo xdplb doctor lb.yaml",
        ),
        ({"bcc": LACKS}, "error", codes.BCC, "apt-get install python3-bpfcc"),
        (
            {"bcc": replace(LACKS, distribution=("fedora",))},
            "error",
            codes.BCC,
            "dnf install python3-bcc",
        ),
        ({"bcc": replace(LACKS, distribution=("nixos",))}, "error", codes.BCC, ""),
        (
            {"bcc": replace(LACKS, is_another=True)},
            "error",
            codes.BCC,
            "/opt/xdplb/bin/python -m pip uninstall --yes bcc",
        ),
        (
            {"bcc": replace(LACKS, closed_environment=ENVIRONMENT)},
            "error",
            codes.BCC,
            rf"sed -i 's/\(include-system-site-packages = \)false/\1true/' {ENVIRONMENT}",
        ),
        ({"release": "5.14.21"}, "warning", codes.KERNEL, ""),
        ({"is_jit_on": False}, "warning", codes.JIT, "sysctl -w net.core.bpf_jit_enable=1"),
        (
            {"bpffs": Bpffs(is_mounted=False)},
            "note",
            codes.BPFFS,
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        (
            {"bpffs": Bpffs(is_read_only=True)},
            "error",
            codes.BPFFS,
            "mount -o remount,rw /sys/fs/bpf",
        ),
        (
            {"bpffs": Bpffs(is_mounted=False, mounts_last=False, namespace="lb")},
            "warning",
            codes.LASTING_PINS,
            "nsenter --net=/run/netns/lb bash",
        ),
    ],
)
def test_the_machine(facts, severity, code, command):
    assert find_faults(with_machine(**facts)) == [(severity, code, "machine", command)]


@pytest.mark.parametrize(
    ("vip", "more", "is_told"),
    [
        ("9.9.9.9", "", True),
        ("2620:fe::fe", "", True),
        ("9.9.9.9", "hash_seed: 7\n", False),
        (FRONT, "", False),
    ],
)
def test_a_seed_that_others_can_compute(vip, more, is_told):
    backends = (ip_address("2001:db8::1"),) if ":" in str(vip) else (B1, B2)
    checkup = replace(WELL, config=configure(vip=vip, backends=backends, more=more))
    found = [f for f in diagnose(checkup) if f.code == codes.KNOWN_SEED]
    assert [f.severity.value for f in found] == (["note"] if is_told else [])


def test_locked_memory_counts_on_old_kernels_only():
    assert find_faults(with_machine(memlock_bytes=65_536)) == []
    old = find_faults(with_machine(release="5.10.0-33", memlock_bytes=65_536))
    assert [(code, command) for _, code, _, command in old] == [
        (codes.KERNEL, ""),
        (codes.MEMLOCK, "ulimit -l unlimited"),
    ]
    assert [code for _, code, *_ in find_faults(with_machine(release="5.10.0-33"))] == [
        codes.KERNEL
    ]


@pytest.mark.parametrize(
    ("release", "expected"), [("6.18.44-fc", (6, 18)), ("5.4", (5, 4)), ("odd", (0, 0))]
)
def test_releases(release, expected):
    assert parse_release(release) == expected


def test_a_kernel_that_refuses_the_program():
    refused = replace(WELL, trial=Trial("unknown func bpf_ktime_get_coarse_ns#160", "newer"))
    found = find_one(refused, codes.PROGRAM)
    assert (found.severity, found.hint) == (Severity.ERROR, "newer")
    assert "unknown func" in found.message


@pytest.mark.parametrize(
    ("trial", "severity"),
    [
        (Trial(is_compiled=True), Severity.OK),
        (Trial(is_compiled=False), Severity.WARNING),
        (Unseen("it takes BCC"), Severity.NOTE),
    ],
)
def test_the_program_says_whether_it_is_compiled_where_the_sysctl_is_hidden(trial, severity):
    checkup = replace(with_machine(is_jit_on=Unseen("hidden")), trial=trial)
    (found,) = [f for f in diagnose(checkup) if f.code == codes.JIT]
    assert found.severity is severity


# --- interfaces ---


@pytest.mark.parametrize(
    ("checkup", "severity", "code", "command"),
    [
        (
            with_eth1({"is_up": False, "has_carrier": False}),
            "error",
            codes.CARRIER,
            "ip link set dev eth1 up",
        ),
        (with_eth1({"has_carrier": False}), "error", codes.CARRIER, "ethtool eth1"),
        (
            with_eth1(facts={"forwards": frozenset((6,))}),
            "error",
            "XLB501",
            "sysctl -w net.ipv4.conf.eth1.forwarding=1",
        ),
        (with_eth1({"takes_native": False}), "warning", "XLB502", ""),
        (with_eth1({"takes_native": None}), "note", codes.NATIVE_XDP, ""),
        (with_eth1(facts={"redirects": False}), "warning", "XLB503", ""),
        (
            with_eth1({"mtu": 9000}),
            "warning",
            codes.JUMBO_FRAMES,
            "ip link set dev eth1 mtu 3498",
        ),
        (
            with_eth1(offloads=Offloads(lro=True)),
            "warning",
            codes.MERGED_SEGMENTS,
            "ethtool -K eth1 lro off",
        ),
        (
            with_eth1(offloads=Offloads(rxvlan=True), vlans=("eth1.5",)),
            "warning",
            codes.STRIPPED_TAGS,
            "ethtool -K eth1 rxvlan off",
        ),
    ],
)
def test_an_interface(checkup, severity, code, command):
    assert find_faults(checkup) == [(severity, code, "eth1", command)]


def test_tags_that_nobody_uses_may_be_taken_off():
    assert find_faults(with_eth1(offloads=Offloads(rxvlan=True))) == []


def test_an_interface_that_is_not_there():
    missing = replace(WELL, network=replace(NETWORK, interfaces={"eth0": ETH0}))
    found = find_one(missing, codes.INTERFACE)
    assert (found.severity, found.subject, found.hint[:13]) == (
        Severity.ERROR,
        "eth1",
        "did you mean ",
    )
    assert choose_exit_code(diagnose(missing)) is ExitCode.UNAVAILABLE


def test_native_mode_that_the_driver_does_not_know():
    config = configure(more="xdp_mode: native\n")
    checkup = replace(with_eth1({"takes_native": False}), config=config)
    assert [fault[:3] for fault in find_faults(checkup)] == [("error", codes.NATIVE_XDP, "eth1")]


RUNNING = {"program": 41, "program_mode": XdpMode.GENERIC}


@pytest.mark.parametrize(
    ("program", "mode", "command"),
    [
        (Program("pass", instance="edge"), XdpMode.NATIVE, "xdplb detach -n edge"),
        (Program("pass", link=7), XdpMode.NATIVE, "bpftool link detach id 7"),
        (Program("pass"), XdpMode.NATIVE, "ip link set dev eth1 xdp off"),
        (Program("pass"), XdpMode.GENERIC, "ip link set dev eth1 xdpgeneric off"),
    ],
)
def test_another_program(program, mode, command):
    checkup = with_eth1({"program": 41, "program_mode": mode})
    found = find_one(replace(checkup, programs={3: program}), codes.OTHER_PROGRAM)
    assert (found.severity, found.command) == (Severity.ERROR, command)
    assert "pass (id 41, " in found.message


def test_our_own_program_says_how_it_runs():
    ours = replace(with_eth1(RUNNING), programs={3: Program("xdplb", instance="default")})
    assert [fault[:3] for fault in find_faults(ours)] == [("warning", "XLB502", "eth1")]


def test_a_program_that_may_not_be_looked_at():
    checkup = replace(with_eth1(RUNNING), programs=Unseen("this needs CAP_BPF"))
    assert "program 41 is: this needs" in find_one(checkup, codes.OTHER_PROGRAM).message


@pytest.mark.parametrize(
    ("peer", "severity", "command"),
    [
        (Peer("veth1", "", Offloads()), Severity.OK, ""),
        (Peer("veth1", "", Offloads(tx_checksum=True)), "warning", "ethtool -K veth1 tx off"),
        (
            Peer("eth0", "ip netns exec c", Offloads(tx_checksum=True)),
            "warning",
            "ip netns exec c ethtool -K eth0 tx off",
        ),
        (Unseen("it is far"), "note", ""),
    ],
)
def test_checksums_of_a_veth(peer, severity, command):
    checkup = with_eth1({"kind": "veth"}, peer=peer)
    (found,) = [f for f in diagnose(checkup) if f.code == codes.HALF_DONE_CHECKSUMS]
    assert (found.severity, found.command) == (severity, command)


@pytest.mark.parametrize(("forwarding", "severity"), [("nat", "warning"), ("l2dsr", "error")])
def test_frames_that_are_not_taken(forwarding, severity):
    peer = Peer("veth1", "nsenter --target 9 --net", Offloads())
    checkup = with_eth1({"kind": "veth"}, {"redirects": False}, peer=peer)
    found = find_one(replace(checkup, config=configure(forwarding)), "XLB503")
    assert (found.severity, found.command) == (
        severity,
        "nsenter --target 9 --net ethtool -K veth1 gro on",
    )


@pytest.mark.parametrize(
    ("reverse_path", "back", "is_wrong"),
    [(1, "eth1", True), (1, "eth0", False), (2, "eth1", False), (0, "eth1", False), (1, "", False)],
)
def test_the_reverse_path_filter(reverse_path, back, is_wrong):
    ways = {**NETWORK.ways, ANYBODY: Way(back)}
    interfaces = {"eth0": replace(ETH0, reverse_path=reverse_path), "eth1": ETH1}
    checkup = replace(WELL, network=replace(NETWORK, ways=ways, interfaces=interfaces))
    command = "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
    expected = [("warning", codes.REVERSE_PATH, "eth0", command)] if is_wrong else []
    assert find_faults(checkup) == expected


# --- VIPs ---


def test_a_vip_that_nobody_answers_for():
    checkup = replace(WELL, config=configure(vip="192.0.2.9"))
    assert find_faults(checkup) == [
        ("warning", codes.VIP_HERE, "default", "ip address add 192.0.2.9 dev eth0")
    ]
    checkup = replace(WELL, config=configure(vip="198.51.100.1"))
    found = find_one(checkup, codes.VIP_HERE)
    assert (found.severity, found.host) == (Severity.NOTE, "the router")


def test_own_addresses():
    config = replace(WELL.config, services=(replace(WELL.config.services[0], vip=None),))
    assert find_faults(replace(WELL, config=config)) == []
    several = replace(ETH0, facts=replace(ETH0.facts, addresses=(FRONT, ip_address("192.0.2.2"))))
    none = replace(ETH0, facts=replace(ETH0.facts, addresses=()))
    for state, expected in ((several, ("warning", "XLB504")), (none, ("error", codes.VIP_HERE))):
        network = replace(NETWORK, interfaces={"eth0": state, "eth1": ETH1})
        checkup = replace(WELL, config=config, network=network)
        assert [fault[:2] for fault in find_faults(checkup)] == [expected]


@pytest.mark.parametrize(
    ("address", "port", "is_shadowed"),
    [
        ("192.0.2.1", 8080, True),
        ("0.0.0.0", 8080, True),
        ("::", 8080, True),
        ("0.0.0.0", 22, False),
        ("127.0.0.1", 8080, False),
    ],
)
def test_a_program_that_listens_there_too(address, port, is_shadowed):
    sockets = frozenset((Endpoint(ip_address(address), port, Protocol.TCP),))
    checkup = replace(WELL, network=replace(NETWORK, sockets=sockets))
    command = "ss -ltnp 'sport = :8080'"
    expected = [("note", codes.SHADOWED_SOCKET, "default", command)] if is_shadowed else []
    assert find_faults(checkup) == expected


def test_a_backend_of_this_machine_listens_there_on_purpose():
    sockets = frozenset((Endpoint(ip_address("::"), 8080, Protocol.TCP),))
    ways = {**REACH.ways, B2: Way("lo", is_local=True)}
    checkup = replace(with_reach(ways=ways), network=replace(NETWORK, sockets=sockets))
    assert [fault[1] for fault in find_faults(checkup)] == [codes.OWN_BACKEND]


# --- ways ---

ROUTER = ip_address("10.0.0.254")
FAR = ip_address("10.9.0.11")


@pytest.mark.parametrize(
    ("address", "is_refused", "command"),
    [
        (B2, False, "ip route replace 10.0.0.0/24 dev eth1"),
        (B2, True, "ip route replace 10.0.0.12 dev eth1"),
        (FAR, False, "ip route replace 10.9.0.11 via GATEWAY"),
    ],
)
def test_no_route(address, is_refused, command):
    ways = {B1: Way("eth1"), address: Way(refusal="Network is unreachable", is_refused=is_refused)}
    checkup = replace(with_reach(ways=ways), config=configure(backends=(B1, address)))
    found = find_one(checkup, codes.NO_ROUTE)
    assert (found.severity, found.command) == (Severity.ERROR, command)
    assert str(address) in found.message


def test_who_is_out_of_reach_is_not_also_silent():
    answers = {(B1, 8080): Answer.OPENED, (B2, 8080): Answer.SILENT}
    checkup = with_reach(neighbours={B1: True, B2: False}, answers=answers)
    assert [fault[1] for fault in find_faults(checkup)] == [codes.NEIGHBOUR]


def test_neighbours():
    (fault,) = find_faults(with_reach(neighbours={B1: True, B2: False}))
    assert fault == ("warning", codes.NEIGHBOUR, "default", "ping -c 1 -I eth1 10.0.0.12")
    ways = {B1: Way("eth1", ROUTER), B2: Way("eth1", ROUTER)}
    found = find_one(with_reach(ways=ways, neighbours={B1: False, B2: False}), codes.NEIGHBOUR)
    assert found.command == "ping -c 1 -I eth1 10.0.0.254"
    found = find_one(with_reach(neighbours={B1: True}), codes.NEIGHBOUR)
    assert found.severity is Severity.NOTE


def test_an_egress_that_is_not_listed():
    found = find_one(with_reach(ways={B1: Way("eth1"), B2: Way("eth2")}), codes.UNLISTED_EGRESS)
    assert (found.severity, found.hint) == (
        Severity.ERROR,
        "write interface: [eth0, eth1, eth2]",
    )


def test_a_router_before_an_l2dsr_backend():
    checkup = with_reach(ways={B1: Way("eth1"), B2: Way("eth1", ROUTER)})
    assert find_faults(checkup) == []
    found = find_one(replace(checkup, config=configure("l2dsr")), codes.BEHIND_ROUTER)
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("forwarding", "severity"), [("nat", "warning"), ("l2dsr", "warning"), ("gue", "error")]
)
def test_a_backend_of_this_machine(forwarding, severity):
    checkup = with_reach(ways={B1: Way("eth1"), B2: Way("lo", is_local=True)})
    found = find_one(replace(checkup, config=configure(forwarding)), codes.OWN_BACKEND)
    assert found.severity == severity


# --- tunnels ---

V6 = ip_address("2001:db8:1::11")
V6_VIP = ip_address("2001:db8::1")


@pytest.mark.parametrize(
    ("forwarding", "backend", "overhead"),
    [("ipip", B1, 20), ("gue", B1, 28), ("ipip", V6, 40), ("gue", V6, 48)],
)
def test_an_outer_header_must_fit(forwarding, backend, overhead):
    def make(mtu, route_mtu=0):
        facts = {"addresses": (BACK, ip_address("2001:db8:1::1"))}
        checkup = with_eth1({"mtu": mtu}, facts)
        reach = replace(
            REACH, ways={backend: Way("eth1", mtu=route_mtu)}, neighbours={backend: True}
        )
        config = configure(forwarding, backends=(backend,))
        faults = find_faults(replace(checkup, reach=reach, config=config))
        return [fault for fault in faults if fault[1] == codes.TUNNEL_MTU]

    assert make(1500 + overhead) == []
    command = f"ip link set dev eth1 mtu {1500 + overhead}"
    assert make(1499 + overhead) == [("warning", codes.TUNNEL_MTU, "default", command)]
    command = f"ip route replace {backend} dev eth1 mtu {1500 + overhead}"
    assert make(9000, 1400) == [("warning", codes.TUNNEL_MTU, "default", command)]


def test_no_ipv6_sender_goes_below_1280():
    reach = replace(REACH, ways={B1: Way("eth1", ROUTER, 1299)}, neighbours={B1: True})
    config = configure("ipip", vip=V6_VIP, backends=(B1,))
    found = find_one(replace(WELL, reach=reach, config=config), codes.TUNNEL_MTU)
    assert (found.severity, found.command) == (
        Severity.ERROR,
        "ip route replace 10.0.0.11 via 10.0.0.254 dev eth1 mtu 1520",
    )


def test_the_outer_source():
    checkup = replace(with_eth1(facts={"addresses": ()}), config=configure("gue"))
    assert find_one(checkup, codes.TUNNEL_SOURCE).severity is Severity.ERROR
    named = replace(checkup, config=configure("gue", more="tunnel_source: 10.0.0.1\n"))
    assert codes.TUNNEL_SOURCE not in [fault[1] for fault in find_faults(named)]


# --- backends ---


@pytest.mark.parametrize(
    ("answer", "forwarding", "severity"),
    [
        (Answer.OPENED, "nat", Severity.OK),
        (Answer.REFUSED, "nat", Severity.WARNING),
        (Answer.REFUSED, "l2dsr", Severity.NOTE),
        (Answer.SILENT, "nat", Severity.WARNING),
        (Answer.SILENT, "l2dsr", Severity.WARNING),
        (Answer.UNREACHABLE, "nat", Severity.WARNING),
        (Answer.BARRED, "nat", Severity.WARNING),
        (Answer.NOT_ASKED, "nat", Severity.NOTE),
    ],
)
def test_answers(answer, forwarding, severity):
    checkup = with_reach(answers={(B1, 8080): Answer.OPENED, (B2, 8080): answer})
    checkup = replace(checkup, config=configure(forwarding))
    found = [f for f in diagnose(checkup) if f.code == codes.BACKEND_ANSWER]
    assert found[-1].severity is severity
    assert "10.0.0.12" in found[-1].message
    assert codes.SERVICE_OUT not in [f.code for f in diagnose(checkup)]


@pytest.mark.parametrize(
    ("reach", "forwarding", "is_out"),
    [
        ({"neighbours": {B1: False, B2: False}}, "nat", True),
        ({"neighbours": {B1: False, B2: True}}, "nat", False),
        ({"ways": {B1: Way(refusal="x"), B2: Way(refusal="x")}}, "nat", True),
        ({"answers": {(B1, 8080): Answer.REFUSED, (B2, 8080): Answer.SILENT}}, "nat", True),
        ({"answers": {(B1, 8080): Answer.REFUSED, (B2, 8080): Answer.SILENT}}, "l2dsr", False),
        ({"answers": {}}, "nat", False),
    ],
)
def test_a_service_without_backends_is_an_error(reach, forwarding, is_out):
    checkup = replace(with_reach(**reach), config=configure(forwarding))
    assert (codes.SERVICE_OUT in [f.code for f in diagnose(checkup)]) is is_out


def test_who_is_in_maintenance_is_left_alone():
    config = parse(
        b"interface: [eth0, eth1]\nvip: 192.0.2.1\nport: 8080\n"
        b"backends: [10.0.0.11, {address: 10.0.0.12, state: maint}]\n",
        "lb.yaml",
    ).config
    checkup = with_reach(neighbours={B1: True, B2: False}, answers={(B1, 8080): Answer.OPENED})
    assert find_faults(replace(checkup, config=config)) == []


@pytest.mark.parametrize(
    ("packets", "severity"),
    [((9, 7), Severity.OK), ((99, 0), Severity.NOTE), ((100, 0), Severity.WARNING)],
)
def test_the_way_back(packets, severity):
    seen = {Endpoint(address, 8080, Protocol.TCP): packets for address in (B1, B2)}
    (found,) = [f for f in diagnose(with_instance(packets=seen)) if f.code == codes.WAY_BACK]
    assert found.severity is severity
    if severity is not Severity.OK:
        assert (found.host, found.hint) == ("10.0.0.11", "it must say via 10.0.0.1")


@pytest.mark.parametrize("forwarding", ["l2dsr", "ipip", "gue"])
def test_direct_return_is_for_the_backends_to_see(forwarding):
    found = find_one(replace(WELL, config=configure(forwarding)), codes.WAY_BACK)
    assert (found.severity, found.host) == (Severity.NOTE, "each backend")
    assert found.command == "ip -brief address show to 192.0.2.1"


# --- the instance ---


@pytest.mark.parametrize(
    ("checkup", "severity", "code", "command"),
    [
        (with_instance(pid=0), "warning", codes.CONTROLLER, "xdplb-reconcile -c lb.yaml"),
        (
            with_instance(last_reload=Reload("rejected", 12.6, "line 3")),
            "warning",
            codes.LAST_RELOAD,
            "xdplb plan lb.yaml",
        ),
        (with_instance(changes=2), "warning", codes.DIFFERENCE, "kill -HUP 4711"),
        (
            with_instance(trouble=("maps are of another size", "detach")),
            "error",
            codes.DIFFERENCE,
            "xdplb plan lb.yaml",
        ),
        (
            replace(WELL, flows=FlowTable(900, 1000)),
            "warning",
            codes.FLOW_TABLE,
            "xdplb detach -n default",
        ),
        (replace(WELL, warnings=2), "note", codes.CONFIG_FILE, "xdplb validate lb.yaml"),
    ],
)
def test_the_instance(checkup, severity, code, command):
    assert [(f[0], f[1], f[3]) for f in find_faults(checkup)] == [(severity, code, command)]


def test_an_instance_that_is_not_there_yet():
    checkup = replace(WELL, instance=InstanceState("default"), flows=None)
    faults = find_faults(checkup)
    assert ("note", codes.CONTROLLER, "default", "xdplb-reconcile -c lb.yaml") in faults
    assert {severity for severity, *_ in faults} == {"note"}


def test_without_a_controller_one_pass_mends_drift():
    faults = find_faults(with_instance(pid=0, changes=1))
    assert faults[-1][3] == "xdplb run --once -c lb.yaml"


def test_the_last_reload_is_dated():
    found = find_one(
        with_instance(last_reload=Reload("rejected", 12.6, "line 3")), codes.LAST_RELOAD
    )
    assert found.message == (
        "the last reload, 13 s ago, was REJECTED (line 3): the state before it goes on"
    )


def test_what_hinders_a_plan_is_said_once():
    network = replace(NETWORK, interfaces={"eth0": ETH0})
    checkup = replace(with_instance(trouble=("no interface eth1", "")), network=network)
    assert [fault[1] for fault in find_faults(checkup)] == [codes.INTERFACE]


def test_a_file_that_is_not_valid():
    trouble = FileTrouble("lb.yaml", "lb.yaml is not valid: 2 errors")
    checkup = replace(WELL, config=None, file=trouble)
    assert find_faults(checkup) == [("error", codes.CONFIG_FILE, "file", "xdplb validate lb.yaml")]
    assert choose_exit_code(diagnose(checkup)) is ExitCode.CONFIG


def test_what_could_not_be_looked_at_is_a_note():
    why = Unseen("it took longer than 4 s")
    blind = Checkup(why, why, WELL.config, 0, None, why, why, why, why, why)
    faults = find_faults(blind)
    assert {severity for severity, *_ in faults} == {"note"}
    assert choose_exit_code(diagnose(blind)) is ExitCode.OK
    for field in ("trial", "network", "reach", "instance", "flows"):
        messages = [f.message for f in diagnose(replace(WELL, **{field: why}))]
        assert f"not looked at: {why.reason}" in messages


# --- exit codes, and how it is said ---

WRONG = Finding("XLB520", Severity.ERROR, "eth0", "")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], ExitCode.OK),
        ([replace(WRONG, severity=Severity.WARNING)], ExitCode.OK),
        ([WRONG], ExitCode.UNAVAILABLE),
        ([replace(WRONG, code=codes.PRIVILEGES)], ExitCode.NOPERM),
        ([replace(WRONG, code=codes.CONFIG_FILE)], ExitCode.CONFIG),
        ([WRONG, replace(WRONG, code=codes.PRIVILEGES)], ExitCode.UNAVAILABLE),
    ],
)
def test_exit_codes(found, expected):
    assert choose_exit_code(found) is expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_names(names, said):
    assert name_some(names) == said


def test_many_backends_without_a_route_are_one_finding():
    far = [ip_address(f"10.9.{number}.1") for number in range(200)]
    ways = {address: Way(refusal="Network is unreachable") for address in far}
    checkup = replace(with_reach(ways=ways), config=configure(backends=far))
    assert "and 197 more" in find_one(checkup, codes.NO_ROUTE).message


def test_a_path_is_quoted_for_the_shell():
    checkup = replace(WELL, warnings=1, config=replace(WELL.config, path="my lb.yaml"))
    assert find_one(checkup, codes.CONFIG_FILE).command == "xdplb validate 'my lb.yaml'"
