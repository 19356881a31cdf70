"""All services' parts, and what the machine is like, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from reconciler import abi
from reconciler.desired.given import Given
from reconciler.desired.identity import Identities, identify
from reconciler.desired.last_pass import LastPass, Part, Rest, digest_slots
from reconciler.desired.service import Draft, choose_replies, is_shared, make_rows
from reconciler.directory import count_entries, count_groups
from reconciler.environment import Environment
from reconciler.memory import Occupancy
from reconciler.model import Config, Service, XdpMode
from reconciler.tables import (
    Attachment,
    Endpoint,
    InterfaceRow,
    ReplyRow,
    Settings,
    SlotWords,
    Tables,
)


def compile_tables(
    config: Config,
    environment: Environment,
    observed: Tables,
    *,
    now_ns: int,
    last_pass: LastPass | None = None,
    occupancy: Occupancy | None = None,
) -> Tables:
    """Return the tables that `config` asks for, with the observed `meta`.

    Args:
        config: what the file says.
        environment: what the machine is like.
        observed: what the kernel holds; its slots have shape (limits.ring_slots,).
        now_ns: CLOCK_MONOTONIC.
        last_pass: what it made; give the same one every time to make it once.
        occupancy: where remembered flows live; None if nobody has looked, and then
            no pinned slot settles and no removed backend leaves before its time.

    Raises:
        Unavailable: an interface is missing or has no address for a VIP, or ids
            or slots have run out.
    """
    given = Given(config, environment, observed, now_ns, occupancy)
    identities = identify(given)
    parts, slots = _make_parts(given, identities, last_pass or LastPass())
    whole = _merge(part.draft for part in parts)
    replies, sharing = _join_replies(parts, whole)
    return Tables(
        settings={0: _make_settings(given, whole, has_replies=bool(replies))},
        interfaces=_make_interfaces(environment),
        service_info=whole.service_info,
        backend_info=whole.backend_info,
        backends=whole.backends,
        nat_replies=replies,
        services={
            endpoint: row._replace(is_shared=True) if row.id in sharing else row
            for endpoint, row in whole.services.items()
        },
        attachments=_make_attachments(given),
        meta=observed.meta,
        slots=slots,
    )


def _make_parts(
    given: Given, identities: Identities, last_pass: LastPass
) -> tuple[list[Part], SlotWords]:
    observed = given.observed.slots
    slots = np.zeros_like(observed)
    rest = Rest(last_pass, given, identities)
    parts = []
    for service in given.config.services:
        extent = identities.extents[service.name]
        if part := rest.find_part(service):
            slots[extent] = observed[extent]
        else:
            part, slots[extent] = _make_part(service, given, identities, last_pass)
        parts.append(part)
    last_pass.end_pass({part.service.name: part for part in parts if rest.is_at_rest(part)}, given)
    if np.array_equal(slots, observed):
        slots = observed  # held once, and compared by a glance
    return parts, slots


def _make_part(
    service: Service, given: Given, identities: Identities, last_pass: LastPass
) -> tuple[Part, SlotWords]:
    draft, words = make_rows(service, given, identities, last_pass.build)
    return Part(service, draft, choose_replies(draft), digest_slots(words)), words


def _merge(drafts: Iterable[Draft]) -> Draft:
    """Return the tables of all services together, but for their replies."""
    whole = Draft()
    for draft in drafts:
        whole.service_info |= draft.service_info
        whole.backend_info |= draft.backend_info
        whole.backends |= draft.backends
        whole.services |= draft.services
    return whole


def _join_replies(parts: list[Part], whole: Draft) -> tuple[Mapping[Endpoint, ReplyRow], set[int]]:
    """Return the replies of all services, and the ids of those that share a backend.

    Where services share a backend, its replies must find their VIP.
    """
    replies: dict[Endpoint, ReplyRow] = {}
    for part in parts:
        replies |= part.replies
    if len(replies) < sum(len(part.replies) for part in parts):
        for part in parts:
            for backend, claims in part.draft.replies.items():
                whole.replies[backend] += claims
        replies = choose_replies(whole)
        sharing = [claims for claims in whole.replies.values() if is_shared(claims)]
        numbers = {number for claims in sharing for number, _, _ in claims}
    else:
        numbers = {row.backend for row in replies.values() if row.is_shared}
    return replies, {whole.backends[number].service for number in numbers}


def _make_settings(given: Given, whole: Draft, *, has_replies: bool) -> Settings:
    config = given.config
    vip_filter = 0
    for endpoint in whole.services:
        vip_filter |= 1 << (int(endpoint.address) % abi.VIP_FILTER_BITS)
    return Settings(
        given.environment.ticks_per_second,
        config.hash_seed,
        config.tunnel,
        config.answers_echo,
        vip_filter,
        abi.GROUP_PLACES * count_groups(count_entries(config.limits)),
        has_replies=has_replies,
    )


def _make_interfaces(environment: Environment) -> dict[int, InterfaceRow]:
    return {
        facts.ifindex: InterfaceRow(facts.transmits, facts.redirects, facts.ipv4, facts.ipv6)
        for facts in environment.interfaces.values()
    }


def _make_attachments(given: Given) -> dict[str, Attachment]:
    """On every interface that is there; one that is gone stays as it is."""
    environment = given.environment
    return {
        name: Attachment(
            facts.ifindex, _choose_mode(given, name, facts.ifindex), environment.program_sha256
        )
        if (facts := environment.interfaces.get(name))
        else given.observed.attachments[name]
        for name in given.config.interfaces
    }


def _choose_mode(given: Given, name: str, ifindex: int) -> XdpMode:
    """`auto` stays with what worked."""
    wanted = given.config.xdp_mode
    live = given.observed.attachments.get(name)
    is_settled = wanted is XdpMode.AUTO and live is not None and live.ifindex == ifindex
    return live.mode if live and is_settled else wanted
