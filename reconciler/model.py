"""What lb.yaml means: frozen values, with every default filled in.

Nothing here reads a file or a clock. `reconciler.config` makes these values and
`reconciler.desired` compiles them into tables.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

DEFAULT_NAME = "default"
DEFAULT_RING_SIZE = 65_537
DOWN_PERCENT = 100
_LOCALHOST = IPv4Address("127.0.0.1")


class Protocol(enum.IntEnum):
    """Transport protocol, as in the IP header (IANA protocol numbers)."""

    TCP = 6
    UDP = 17


class Forwarding(enum.IntEnum):
    """How a packet gets to its backend; the numbers are those of `bpf/abi.h`."""

    NAT = 1
    L2DSR = 2
    IPIP = 3
    GUE = 4


class Affinity(enum.IntEnum):
    """What of the client a slot is chosen by; the numbers are those of `bpf/abi.h`."""

    FLOW = 0
    CLIENT = 1


class BackendState(enum.IntEnum):
    """What the operator wants of a backend; the numbers are those of `bpf/abi.h`."""

    READY = 1
    DRAIN = 2
    MAINT = 3


class FlowTracking(enum.IntEnum):
    """When flows are remembered, so that they keep their backend while its slots move."""

    ON_CHANGE = 0
    ALWAYS = 1
    NEVER = 2


class HealthType(str, enum.Enum):
    """How a backend is asked whether it is up."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    UDP = "udp"
    DNS = "dns"
    NONE = "none"


class XdpMode(str, enum.Enum):
    """Where the program runs: in the driver, in the stack, or the first that works."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a file. Lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Health:
    """How the backends of a service are checked. `type` is never `none`: that is no `Health`.

    Times are in seconds. `rise` and `fall` count checks in a row. `port` is None for the
    backend's own. With `via_vip` the VIP is asked, by the service's forwarding. The rest is
    what one type or another asks:

    - http, https: `method` and `path`; `host` is the Host header, empty for the address
      that is asked. The answer passes if its status is in one of the ranges of `status`,
      ends included, and its body holds `body`.
    - https: `tls_name` is asked for (SNI) and, with `tls_verify`, proved by the
      certificate; empty for the address. `ca_file` has the authorities, empty for the
      system's.
    - udp: `send` is what is sent; an answer passes if it holds `expect`.
    - dns: `query` and `query_type` are the question; an answer passes if its code is one
      of `rcodes`. Names of types and codes are those of RFC 1035 and its followers.
    """

    type: HealthType = HealthType.TCP
    interval_s: float = 2.0
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3
    port: int | None = None
    via_vip: bool = False
    method: str = "GET"
    path: str = "/"
    host: str = ""
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    body: str = ""
    tls_name: str = ""
    tls_verify: bool = False
    ca_file: str = ""
    send: bytes = b""
    expect: bytes = b""
    query: str = ""
    query_type: str = "A"
    rcodes: tuple[str, ...] = ("NOERROR",)


@dataclass(frozen=True, slots=True)
class Backend:
    """One server of a service. `name` is what the ring is built from.

    `health_address` and `health_port` are where it is checked, if not where it serves.
    `withheld_percent` is how much of its weight its health withholds, which no file says:
    0 for one that is up, 100 (`DOWN_PERCENT`) for one that is down, and between them while
    one that came up again starts slowly.
    """

    name: str
    address: IPAddress
    port: int
    weight: int = 100
    state: BackendState = BackendState.READY
    health_address: IPAddress | None = None
    health_port: int | None = None
    withheld_percent: int = 0
    source: Source | None = field(default=None, compare=False)

    @property
    def is_down(self) -> bool:
        """Whether it gets nothing: its checks have failed."""
        return self.withheld_percent == DOWN_PERCENT


@dataclass(frozen=True, slots=True)
class Service:
    """A VIP, port and protocol, and the policy for what arrives there.

    `vip` is None when the service listens on the first interface's own
    addresses of the backends' family. `backends` are sorted by name: the order in the file
    means nothing. `drain_timeout_s` is how long a moved slot remembers and a
    removed backend keeps its old flows, in seconds; `flow_idle_timeout_s` is how long
    a remembered flow may be silent before it is taken for ended. `health` is None where
    nothing is checked; `slow_start_s` is how long a backend that has come up takes to get
    its whole share.
    """

    name: str
    vip: IPAddress | None
    port: int
    protocol: Protocol
    forwarding: Forwarding
    affinity: Affinity
    ring_size: int
    drain_timeout_s: float
    backends: tuple[Backend, ...]
    flow_tracking: FlowTracking = FlowTracking.ON_CHANGE
    flow_idle_timeout_s: float = 7200.0
    health: Health | None = None
    slow_start_s: float = 0.0
    source: Source | None = field(default=None, compare=False)
    _meaning: bytes = field(default=b"", init=False, repr=False, compare=False)

    def shift(self, lines: int) -> Service:
        """Return the same service, so many lines further down in its file."""
        if not lines:
            return self
        backends = tuple(
            replace(backend, source=_shift(backend.source, lines)) for backend in self.backends
        )
        shifted = replace(self, source=_shift(self.source, lines), backends=backends)
        object.__setattr__(shifted, "_meaning", self._meaning)
        return shifted

    def digest_meaning(self) -> bytes:
        """Return a digest of what it asks of the tables; it is made once."""
        if not self._meaning:
            asked = replace(
                self,
                source=None,
                health=None,
                slow_start_s=0.0,
                backends=tuple(
                    replace(backend, source=None, health_address=None, health_port=None)
                    for backend in self.backends
                ),
            )
            object.__setattr__(self, "_meaning", hashlib.sha256(repr(asked).encode()).digest())
        return self._meaning


def _shift(source: Source | None, lines: int) -> Source | None:
    return source and replace(source, line=source.line + lines)


@dataclass(frozen=True, slots=True)
class Safety:
    """What the guard refuses, and what health checks may not do.

    While fewer than `min_up_percent` of a service's backends are up, all of them stay in
    the ring. For the others see `reconciler.guard`.
    """

    max_remove_percent: int = 30
    min_backends: int = 1
    min_up_percent: int = 50


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The controller's own timing, in seconds, and whether drift is mended."""

    resync_s: float = 30.0
    debounce_s: float = 0.5
    heal: bool = True


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where metrics and the status page are served; nowhere if `address` is None.

    `is_named` says that the file names the place, so that it matters when it is taken.
    """

    address: IPAddress | None = _LOCALHOST
    port: int = 9464
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Tunnel:
    """How ipip and gue make their outer header.

    A source is None for the egress interface's own address; the host bits of a
    network are filled by the flow's hash, so that receivers spread the load.
    """

    source_ipv4: IPv4Network | None = None
    source_ipv6: IPv6Network | None = None
    gue_port: int = 6080
    gue_checksum: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Map capacities, in entries."""

    services: int = 64
    backends: int = 4096
    ring_slots: int = 4_194_304
    flows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, valid lb.yaml.

    `services` are sorted by name. `answers_echo` says who answers a ping of a VIP:
    the data plane, or the machine's own stack. `sha256` is the hex digest of the file's
    bytes; it and the path take no part in equality, so that two files that mean
    the same are equal.
    """

    name: str
    interfaces: tuple[str, ...]
    xdp_mode: XdpMode
    hash_seed: int
    services: tuple[Service, ...]
    safety: Safety = Safety()
    reconcile: Reconcile = Reconcile()
    limits: Limits = Limits()
    tunnel: Tunnel = Tunnel()
    metrics: Metrics = Metrics()
    answers_echo: bool = True
    path: str = field(default="", compare=False)
    sha256: str = field(default="", compare=False)


def digest_meaning(config: Config) -> str:
    """Return the SHA-256, in hex, of what a configuration asks of the tables.

    Layout, comments and order take no part in it, nor what only concerns the
    controller: health, slow start, safety, reconcile, metrics, limits.
    """
    asked = (
        config.interfaces,
        config.xdp_mode,
        config.hash_seed,
        config.tunnel,
        config.answers_echo,
        [service.digest_meaning() for service in config.services],
    )
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def derive_seed(name: str) -> int:
    """The 64-bit hash seed of an instance that names none: BLAKE2b of its name.

    Balancers that share a name therefore agree on every flow. It is no secret:
    a fleet that fears chosen collisions sets `hash_seed` itself.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"xdplb-seed").digest()
    return int.from_bytes(digest, "little")
