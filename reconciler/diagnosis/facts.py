"""What the doctor knows, as values. `reconciler.inspection` gathers them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import TypeAlias

from reconciler.environment import InterfaceFacts
from reconciler.model import Config, IPAddress, XdpMode
from reconciler.tables import Endpoint

IPInterface: TypeAlias = IPv4Interface | IPv6Interface

# Nobody's address (RFC 5737): the way to it is the way to clients at large.
ANYBODY = IPv4Address("203.0.113.1")


@dataclass(frozen=True, slots=True)
class Unseen:
    """In place of a fact that could not be learnt: why not."""

    reason: str


# --- the machine ---


@dataclass(frozen=True, slots=True)
class Bcc:
    """Whether BCC can be used.

    Attributes:
        problem: why it can't; empty if it can.
        is_another: there is a package called bcc, and it is not BCC.
        closed_environment: pyvenv.cfg of a virtual environment that hides the
            system's packages, BCC among them; empty if nothing hides them.
        distribution: ID and ID_LIKE of os-release(5).
        python: the interpreter that was asked.
    """

    problem: str = ""
    is_another: bool = False
    closed_environment: str = ""
    distribution: tuple[str, ...] = ()
    python: str = "python3"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of loading the data plane without attaching it.

    Attributes:
        refusal: the kernel's words, or why there is nothing to load; empty if it loads.
        remedy: what to do about it.
        is_compiled: the kernel made machine code of it; else it is interpreted.
    """

    refusal: str = ""
    remedy: str = ""
    is_compiled: bool = True


@dataclass(frozen=True, slots=True)
class Bpffs:
    """The BPF file system at `place`.

    Attributes:
        place: where it should be.
        is_mounted: it is there.
        is_read_only: nothing can be pinned in it, and no pin removed.
        mounts_last: what is mounted now outlives this command.
        namespace: the name of this network namespace, if it has one.
    """

    place: str = "/sys/fs/bpf"
    is_mounted: bool = True
    is_read_only: bool = False
    mounts_last: bool = True
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What is the same whatever lb.yaml says.

    Attributes:
        release: as `uname -r` prints it.
        missing_capabilities: names of those that this process lacks.
        memlock_bytes: the limit of locked memory; None for unlimited.
        is_jit_on: what the sysctl says.
        repeat: the command line of the doctor itself.
    """

    release: str
    missing_capabilities: tuple[str, ...] = ()
    bcc: Bcc = Bcc()
    bpffs: Bpffs = Bpffs()
    memlock_bytes: int | None = None
    is_jit_on: bool | Unseen = True
    repeat: str = "xdplb doctor"


# --- interfaces ---


@dataclass(frozen=True, slots=True)
class Offloads:
    """Which work an interface takes off the stack, as `ethtool -k` calls it.

    `lro`: it merges segments. `rxvlan`: it takes VLAN tags off. `tx_checksum`: packets
    of local sockets reach it with their checksums half done.
    """

    lro: bool = False
    rxvlan: bool = False
    tx_checksum: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Who is around: neighbours by address (ifindex and MAC), own addresses by interface."""

    neighbours: Mapping[IPAddress, tuple[int, bytes]]
    addresses: Mapping[str, tuple[IPAddress, ...]]


@dataclass(frozen=True, slots=True)
class Device:
    """A network device, as rtnetlink describes it.

    Attributes:
        kind: `veth`, `vlan`...; empty for hardware.
        addresses: its own, with the lengths of their networks.
        takes_native: whether its driver takes an XDP program; None if the kernel
            does not say (before 6.3).
        lower: ifindex of what it stands on, or of a veth's other end.
        lower_namespace: the kernel's number of the namespace of `lower`; None for this one.
        program: id of the XDP program on it, 0 for none; `program_mode`: where it runs.
    """

    name: str
    ifindex: int
    kind: str = ""
    is_up: bool = True
    has_carrier: bool = True
    mtu: int = 1500
    addresses: tuple[IPInterface, ...] = ()
    takes_native: bool | None = True
    lower: int = 0
    lower_namespace: int | None = None
    program: int = 0
    program_mode: XdpMode = XdpMode.NATIVE


@dataclass(frozen=True, slots=True)
class Peer:
    """A veth's other end. `entry` are the words that, before a command, run it there."""

    name: str
    entry: str
    offloads: Offloads


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """An interface that lb.yaml lists.

    Attributes:
        facts: what plans depend on too.
        driver: its name; empty where there is none, or the driver does not tell.
        reverse_path: the rp_filter that counts, of this interface's and the one for all.
        peer: a veth's other end; None for other kinds.
        vlans: names of VLAN devices that stand on it.
    """

    device: Device
    facts: InterfaceFacts
    driver: str = ""
    offloads: Offloads = Offloads()
    reverse_path: int = 0
    peer: Peer | Unseen | None = None
    vlans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """An XDP program on an interface.

    Attributes:
        name: what its author called it, as far as the kernel keeps it.
        instance: of xdplb, that pinned it; empty if it is nobody's that we know.
        link: of the BPF link that holds it there, 0 if none does.
    """

    name: str
    instance: str = ""
    link: int = 0


# --- ways to backends ---


@dataclass(frozen=True, slots=True)
class Way:
    """How the kernel leads to an address.

    Attributes:
        interface: by which a packet leaves; empty if there is no way.
        gateway: the router it goes to; None if the address is on that link itself.
        mtu: what the route says, 0 if it says nothing.
        is_local: the address is this machine's own.
        refusal: why there is no way, in the kernel's words.
        is_refused: there is a route, and it refuses: blackhole, unreachable, prohibit.
    """

    interface: str = ""
    gateway: IPAddress | None = None
    mtu: int = 0
    is_local: bool = False
    refusal: str = ""
    is_refused: bool = False


class Answer(enum.Enum):
    """What came of a TCP connection to a backend."""

    OPENED = "opened"
    REFUSED = "refused"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    BARRED = "barred"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Network:
    """This machine's own side of the network, as far as lb.yaml is about it.

    Attributes:
        devices: the names of all interfaces.
        interfaces: those that lb.yaml lists and that are there, by name.
        ways: to VIPs and to `ANYBODY`, by address.
        sockets: what programs of this machine listen on.
    """

    devices: tuple[str, ...] = ()
    interfaces: Mapping[str, InterfaceState] = field(default_factory=dict)
    ways: Mapping[IPAddress, Way] = field(default_factory=dict)
    sockets: frozenset[Endpoint] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """How backends are reached.

    Attributes:
        ways: by address.
        neighbours: whether the next hop to an address has a MAC; an address is missing
            whose next hop nobody has asked for.
        answers: by address and port, as far as there was time to ask.
        timeout_s: how long a backend was waited for.
    """

    ways: Mapping[IPAddress, Way] = field(default_factory=dict)
    neighbours: Mapping[IPAddress, bool] = field(default_factory=dict)
    answers: Mapping[tuple[IPAddress, int], Answer] = field(default_factory=dict)
    timeout_s: float = 1.0


# --- the instance ---


@dataclass(frozen=True, slots=True)
class FileTrouble:
    """A configuration that is not valid."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Reload:
    """The controller's last look at the file, `age_s` seconds ago."""

    result: str
    age_s: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What is pinned, and who holds it.

    Attributes:
        exists: it has been applied and not been detached.
        pid: of the controller; 0 if none runs.
        changes: how many changes a plan would have.
        trouble: why no plan can be made, and what to do about it.
        packets: to and from each backend since it came, as (forwarded, replies).
    """

    name: str
    exists: bool = False
    pid: int = 0
    last_reload: Reload | None = None
    changes: int = 0
    trouble: tuple[str, str] | None = None
    packets: Mapping[Endpoint, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FlowTable:
    """How many flows are remembered, and how many there is room for."""

    used: int
    size: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """All of it.

    Attributes:
        config: lb.yaml; None where there is none, or none that is valid.
        warnings: how many `validate` has about it.
        programs: XDP programs of this network namespace, by ifindex.
        flows: what the flow table holds; None where there is no instance.
    """

    machine: MachineFacts | Unseen
    trial: Trial | Unseen
    config: Config | None = None
    warnings: int = 0
    file: FileTrouble | None = None
    network: Network | Unseen = Network()
    reach: Reach | Unseen = Reach()
    programs: Mapping[int, Program] | Unseen = field(default_factory=dict)
    instance: InstanceState | Unseen = InstanceState("default")
    flows: FlowTable | Unseen | None = None
