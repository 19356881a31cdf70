"""What the checks of a service must be in themselves."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.config import codes
from reconciler.config.check_addresses import describe_unusable
from reconciler.config.convert_health import TYPES_OF_FIELDS, choose_type
from reconciler.config.draft import Draft, ServiceDraft
from reconciler.config.fields import get_mapping, is_in_range
from reconciler.config.nodes import Mapping, diagnose
from reconciler.diagnostics import Diagnostic, quote
from reconciler.model import Forwarding, Health, HealthType, Protocol

# What a check can't do without.
_NEEDED = {HealthType.UDP: "send", HealthType.DNS: "query"}


def check_default_health(draft: Draft) -> Iterator[Diagnostic]:
    """Yield fields of `defaults.health` that its type of check does not have."""
    node = get_mapping(get_mapping(draft.root, "defaults"), "health")
    if "type" not in node.pruned:
        yield from _check_fields(node, choose_type(node, node, Protocol.TCP))


def check_health(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield what is wrong with how a service is checked, its type first."""
    node = get_mapping(draft.node, "health")
    if "type" in node.pruned:
        return
    health = draft.service.health
    if draft.service.protocol is Protocol.UDP and not health and "type" not in node.entries:
        yield from _check_silence(node)
        return
    yield from _check_fields(node, health.type if health else HealthType.NONE)
    if health:
        yield from _check_needs(health, node)
        yield from _check_times(health, node)
        if health.via_vip:
            yield from _check_passage(draft, health, node)


def _check_silence(node: Mapping) -> Iterator[Diagnostic]:
    """Yield that a udp service has a `health` which says nothing of what to ask."""
    if node.entries:
        message = "the health check of a udp service needs 'type'"
        hint = "type: udp with what to 'send', or dns with a 'query'"
        yield diagnose(codes.HEALTH_INCOMPLETE, node.place, message, hint)


def _check_fields(node: Mapping, kind: HealthType) -> Iterator[Diagnostic]:
    for key in node.entries:
        types = TYPES_OF_FIELDS.get(key, {kind})
        if kind not in types:
            names = [one.value for one in HealthType if one in types]
            owners = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            message = f"{quote(key)} is of {owners}, but this check is {kind.value}"
            hint = f"write type: {names[0]}, or take {quote(key)} away"
            yield diagnose(codes.HEALTH_FIELD, node.keys[key], message, hint)


def _check_needs(health: Health, node: Mapping) -> Iterator[Diagnostic]:
    needed = _NEEDED.get(health.type)
    # One that could not be read is told already.
    is_told = bool(node.pruned) or needed in node.entries
    if needed and not getattr(health, needed) and not is_told:
        message = f"a {health.type.value} check needs {quote(needed)}"
        yield diagnose(codes.HEALTH_INCOMPLETE, node.place, message)
    if health.body and health.method == "HEAD":
        message = "an answer to HEAD has no body to look into"
        yield diagnose(codes.HEALTH_FIELD, node.place, message, "take 'body' or 'method' away")


def _check_times(health: Health, node: Mapping) -> Iterator[Diagnostic]:
    times = {"timeout": health.timeout_s, "interval": health.interval_s}
    if not all(is_in_range(key, time_s) for key, time_s in times.items()):
        return  # told already, and no value fits beside one that may not be
    if health.timeout_s > health.interval_s:
        key = "timeout" if "timeout" in node.entries else "interval"
        message = (
            f"a check that may take {health.timeout_s:g}s does not fit into an interval "
            f"of {health.interval_s:g}s"
        )
        hint = f"set a timeout of {health.interval_s:g}s or less"
        yield diagnose(codes.HEALTH_TIMEOUT, node.place_of(key), message, hint)


def _check_passage(draft: ServiceDraft, health: Health, node: Mapping) -> Iterator[Diagnostic]:
    """Yield why the backends of a service can't be asked by its VIP."""
    service = draft.service
    place = node.place_of("via")
    if service.forwarding is Forwarding.NAT:
        message = "with 'nat' no backend holds the VIP, so none can be asked for it"
        yield diagnose(codes.HEALTH_VIA, place, message, "take 'via' away")
    elif service.vip is None:
        message = "this machine's own addresses are the VIPs, and it has none to ask from"
        yield diagnose(codes.HEALTH_VIA, place, message, "take 'via' away, or give it a 'vip'")
    elif health.type is HealthType.DNS and service.protocol is Protocol.TCP:
        message = "dns can't be asked over TCP by the VIP"
        yield diagnose(codes.HEALTH_VIA, place, message, "type: tcp, or take 'via' away")
    for item in draft.backends:
        if item.backend.health_address:
            message = "this backend has an address to be checked at, but its VIP is checked"
            hint = "take 'address' away, or write via: backend"
            yield diagnose(codes.HEALTH_VIA, item.place_of("health"), message, hint)


def check_health_addresses(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield addresses at which no backend can be checked."""
    for item in draft.backends:
        address = item.backend.health_address
        if address and (kind := describe_unusable(address)):
            node = item.node if isinstance(item.node, Mapping) else Mapping(item.node.place)
            place = get_mapping(node, "health").place_of("address")
            message = f"{address} can't be checked: it is {kind}"
            yield diagnose(codes.UNUSABLE_ADDRESS, place, message)
