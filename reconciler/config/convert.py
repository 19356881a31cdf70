"""From a tree that the schema has accepted to the model, every default filled in.

What the schema refused has been pruned from the tree. A backend that lacks a
part is left out and a service is marked, so that one mistake is not told as two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.config import codes
from reconciler.config.convert_health import HealthReader
from reconciler.config.draft import BackendDraft, Draft, ServiceDraft
from reconciler.config.fields import (
    get_bool,
    get_int,
    get_mapping,
    get_str,
    list_items,
    read_duration,
)
from reconciler.config.nodes import Mapping, Node, Place, Scalar, Sequence, diagnose
from reconciler.config.values import (
    format_address_port,
    parse_address,
    parse_address_port,
    parse_source,
)
from reconciler.config.yaml12 import MAX_PROBLEMS
from reconciler.diagnostics import Diagnostic, quote
from reconciler.model import (
    DEFAULT_NAME,
    DEFAULT_RING_SIZE,
    Affinity,
    Backend,
    BackendState,
    Config,
    FlowTracking,
    Forwarding,
    IPAddress,
    Limits,
    Metrics,
    Protocol,
    Reconcile,
    Safety,
    Service,
    Tunnel,
    XdpMode,
    derive_seed,
)

SHORT_FORM_SERVICE = "default"
DEFAULT_WEIGHT = 100
DEFAULT_DRAIN_TIMEOUT_S = 300.0
# TCP: as long as a keepalive waits (tcp_keepalive_time, tcp(7)). UDP: an established
# conversation's (nf_conntrack_udp_timeout_stream), longer than QUIC's usual 30 s.
DEFAULT_FLOW_IDLE_TIMEOUT_S = {Protocol.TCP: 7200.0, Protocol.UDP: 120.0}

_LEADING_ZERO = re.compile(r"(?:^|\.)0[0-9]")

_SERVICE_PARTS = frozenset(
    (
        *("name", "vip", "port", "protocol", "forwarding", "affinity", "ring_size"),
        *("drain_timeout", "flow_tracking", "flow_idle_timeout"),
    )
)


def convert(root: Mapping, path: str, sha256: str) -> tuple[Draft, list[Diagnostic]]:
    """Return what the tree means, and the values in it that can't be read."""
    converter = _Converter(root)
    return converter.convert(path, sha256), converter.problems


class _Converter:
    def __init__(self, root: Mapping) -> None:
        self.root = root
        self.defaults = get_mapping(root, "defaults")
        self.problems: list[Diagnostic] = []
        self.health = HealthReader(get_mapping(self.defaults, "health"), self.problems)

    def convert(self, path: str, sha256: str) -> Draft:
        services = tuple(self._convert_services())
        name = get_str(self.root, "name", DEFAULT_NAME)
        config = Config(
            name=name,
            interfaces=tuple(str(item.value) for item in list_interfaces(self.root)),
            xdp_mode=XdpMode(get_str(self.root, "xdp_mode", "auto")),
            hash_seed=get_int(self.root, "hash_seed", derive_seed(name)),
            services=tuple(
                sorted((s.service for s in services if s.is_whole), key=lambda s: s.name)
            ),
            safety=_convert_safety(get_mapping(self.root, "safety")),
            reconcile=self._convert_reconcile(get_mapping(self.root, "reconcile")),
            limits=_convert_limits(get_mapping(self.root, "limits")),
            tunnel=self._convert_tunnel(),
            metrics=self._convert_metrics(get_mapping(self.root, "metrics")),
            answers_echo=get_str(self.root, "icmp_echo", "answer") == "answer",
            path=path,
            sha256=sha256,
        )
        return Draft(config, services, self.root)

    def _convert_tunnel(self) -> Tunnel:
        base = Tunnel()
        sources = {}
        for item in list_items(self.root, "tunnel_source"):
            try:
                network = parse_source(str(item.value))
            except ValueError as error:
                self.problems.append(diagnose(codes.NOT_AN_ADDRESS, item.place, str(error)))
                continue
            if f"source_ipv{network.version}" in sources:
                message = f"a second IPv{network.version} source"
                self.problems.append(
                    diagnose(codes.NOT_AN_ADDRESS, item.place, message, "one a family is enough")
                )
            sources[f"source_ipv{network.version}"] = network
        return Tunnel(
            **sources,  # type: ignore[arg-type]  # each name has its family
            gue_port=get_int(self.root, "gue_port", base.gue_port),
            gue_checksum=get_bool(self.root, "gue_checksum", base.gue_checksum),
        )

    def _convert_metrics(self, node: Mapping) -> Metrics:
        text = get_str(node, "listen", "")
        if "listen" not in node.entries or "listen" in node.pruned:
            return Metrics()
        if text == "off":
            return Metrics(address=None, is_named=True)
        try:
            address, port = parse_address_port(text)
        except ValueError:
            address, port = None, None
        if address is None or port is None:  # of IPv6 without brackets, the port is a part
            message = f"{quote(text)} is not an address and a port"
            hint = _hint_at_address(text) or "write for example 127.0.0.1:9464 or '[::1]:9464'"
            place = node.place_of("listen")
            self.problems.append(diagnose(codes.NOT_AN_ADDRESS, place, message, hint))
            return Metrics()
        return Metrics(address, port, is_named=True)

    def _convert_reconcile(self, node: Mapping) -> Reconcile:
        base = Reconcile()
        return Reconcile(
            resync_s=self._read_duration(node, "resync", base.resync_s),
            debounce_s=self._read_duration(node, "debounce", base.debounce_s),
            heal=get_bool(node, "heal", base.heal),
        )

    def _convert_services(self) -> Iterator[ServiceDraft]:
        self.drain_timeout_s = self._read_duration(
            self.defaults, "drain_timeout", DEFAULT_DRAIN_TIMEOUT_S
        )
        for node, default_name in list_services(self.root):
            yield self._convert_service(node, default_name)

    def _convert_service(self, node: Mapping, default_name: str) -> ServiceDraft:
        name = get_str(node, "name", "") if node is not self.root else default_name
        port = get_int(node, "port", 0)
        backends = tuple(self._convert_backends(node, port))
        has_vip, vip = self._read_vip(node)
        protocol = Protocol[get_str(node, "protocol", "tcp").upper()]
        forwarding = self._read_forwarding(node)
        is_whole = bool(name and port and has_vip and not self._lacks_parts(node))
        service = Service(
            name=name,
            vip=vip,
            port=port,
            protocol=protocol,
            forwarding=forwarding,
            affinity=Affinity[get_str(node, "affinity", "flow").upper()],
            ring_size=get_int(node, "ring_size", DEFAULT_RING_SIZE),
            drain_timeout_s=self._read_duration(node, "drain_timeout", self.drain_timeout_s),
            flow_tracking=FlowTracking[get_str(node, "flow_tracking", "on_change").upper()],
            flow_idle_timeout_s=self._read_duration(
                node, "flow_idle_timeout", DEFAULT_FLOW_IDLE_TIMEOUT_S[protocol]
            ),
            backends=tuple(sorted((b.backend for b in backends), key=lambda b: b.name)),
            health=self.health.read(
                get_mapping(node, "health"),
                protocol,
                has_passage=vip is not None and forwarding is not Forwarding.NAT,
            ),
            slow_start_s=self._read_duration(node, "slow_start", 0.0),
            source=node.place.source,
        )
        return ServiceDraft(service, node, backends, is_whole)

    def _lacks_parts(self, node: Mapping) -> bool:
        inherits_nothing = "forwarding" in self.root.pruned and "forwarding" not in node.entries
        # In the short form `name` is the instance's.
        parts = _SERVICE_PARTS - {"name"} if node is self.root else _SERVICE_PARTS
        return inherits_nothing or not parts.isdisjoint(node.pruned)

    def _read_forwarding(self, node: Mapping) -> Forwarding:
        inherited = get_str(self.root, "forwarding", "nat")
        return Forwarding[get_str(node, "forwarding", inherited).upper()]

    def _read_vip(self, node: Mapping) -> tuple[bool, IPAddress | None]:
        """Return whether the VIP can be read, and the VIP."""
        text = get_str(node, "vip", "")
        if "vip" not in node.entries:
            return True, None
        try:
            return True, parse_address(text)
        except ValueError:
            hint = _hint_at_address(text) or "write for example 192.0.2.10"
            self._refuse_address(node.place_of("vip"), text, hint)
            return False, None

    def _convert_backends(self, node: Mapping, service_port: int) -> Iterator[BackendDraft]:
        listed = node.get("backends")
        for item in listed.items if isinstance(listed, Sequence) else ():
            if len(self.problems) > MAX_PROBLEMS:
                return
            if backend := self._convert_backend(item, service_port):
                yield BackendDraft(backend, item)

    def _convert_backend(self, node: Node, service_port: int) -> Backend | None:
        address, port = self._read_address(node)
        fields = node if isinstance(node, Mapping) else Mapping(node.place)
        if address is None or fields.pruned:
            return None
        port = port or service_port
        weight = get_int(fields, "weight", get_int(self.defaults, "weight", DEFAULT_WEIGHT))
        state = BackendState[get_str(fields, "state", "ready").upper()]
        health = get_mapping(fields, "health")
        return Backend(
            name=get_str(fields, "name", format_address_port(address, port)),
            address=address,
            port=port,
            weight=weight,
            state=BackendState.DRAIN if weight == 0 and state is BackendState.READY else state,
            health_address=self._read_health_address(health),
            health_port=get_int(health, "port", 0) or None,
            source=node.place.source,
        )

    def _read_health_address(self, node: Mapping) -> IPAddress | None:
        if "address" not in node.entries:
            return None
        text = get_str(node, "address", "")
        try:
            return parse_address(text)
        except ValueError:
            hint = _hint_at_address(text) or "write for example 10.1.0.11"
            self._refuse_address(node.place_of("address"), text, hint)
            return None

    def _read_duration(self, node: Mapping, key: str, default_s: float) -> float:
        return read_duration(node, key, default_s, self.problems)

    def _read_address(self, node: Node) -> tuple[IPAddress | None, int | None]:
        """Return address and port; the address is None when there is none to be read."""
        if not isinstance(node, Mapping):
            return self._parse_address_port(node)
        text = get_str(node, "address", "")
        if "address" not in node.entries:
            return None, None
        try:
            return parse_address(text), get_int(node, "port", 0) or None
        except ValueError:
            hint = _hint_at_port(text) or _hint_at_address(text) or "write for example 10.0.0.11"
            self._refuse_address(node.place_of("address"), text, hint)
            return None, None

    def _parse_address_port(self, node: Node) -> tuple[IPAddress | None, int | None]:
        text = str(node.value) if isinstance(node, Scalar) else ""
        try:
            return parse_address_port(text)
        except ValueError:
            hint = _hint_at_address(text) or "write for example 10.0.0.11 or 10.0.0.11:9000"
            self._refuse_address(node.place, text, hint)
            return None, None

    def _refuse_address(self, place: Place, text: str, hint: str) -> None:
        message = f"{quote(text)} is not an IP address"
        self.problems.append(diagnose(codes.NOT_AN_ADDRESS, place, message, hint))


def list_services(root: Mapping) -> Iterator[tuple[Mapping, str]]:
    """Yield each service's mapping and its name if it has none.

    In the short form that is the root itself.
    """
    listed = root.get("services")
    if isinstance(listed, Sequence):
        yield from ((item, "") for item in listed.items if isinstance(item, Mapping))
    elif "port" in root.entries or "backends" in root.entries:
        yield root, SHORT_FORM_SERVICE


def list_interfaces(root: Mapping) -> list[Scalar]:
    """Return the interfaces that are named, as one or as a list."""
    return list_items(root, "interface")


def _hint_at_port(text: str) -> str:
    try:
        _, port = parse_address_port(text)
    except ValueError:
        return ""
    return f"put the port into its own key: port: {port}"


def _hint_at_address(text: str) -> str:
    if "%" in text:
        return "an address with a zone can't be used"
    if "/" in text:
        return "write the address without its prefix length"
    if _LEADING_ZERO.search(text):
        return "write it without leading zeros: some programs take them for octal"
    if any(c.isalpha() for c in text) and ":" not in text.rpartition(":")[0]:
        return "host names are not resolved; write the address"
    return ""


def _convert_safety(node: Mapping) -> Safety:
    base = Safety()
    return Safety(
        max_remove_percent=get_int(node, "max_remove_percent", base.max_remove_percent),
        min_backends=get_int(node, "min_backends", base.min_backends),
        min_up_percent=get_int(node, "min_up_percent", base.min_up_percent),
    )


def _convert_limits(node: Mapping) -> Limits:
    base = Limits()
    return Limits(
        services=get_int(node, "services", base.services),
        backends=get_int(node, "backends", base.backends),
        ring_slots=get_int(node, "ring_slots", base.ring_slots),
        flows=get_int(node, "flows", base.flows),
    )
