"""The layout of the maps: `bpf/abi.h` in numpy dtypes.

`abi.h` is the truth. A contract test compares names, offsets, sizes and enum
values with the compiled program's BTF, in both directions.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

ABI_VERSION = 4
NAME_SIZE = 64
VIP_FILTER_WORDS = 32
VIP_FILTER_BITS = 64 * VIP_FILTER_WORDS

# Network byte order is spelled out; everything else is the host's.
_ADDRESS = "V16"
_PORT = ">u2"

ENDPOINT = np.dtype(
    [("address", _ADDRESS), ("port", _PORT), ("protocol", "u1"), ("zero", "u1")], align=True
)
SERVICE = np.dtype(
    [
        ("ring_offset", "u4"),
        ("ring_size", "u4"),
        ("id", "u2"),
        ("forwarding", "u1"),
        ("affinity", "u1"),
        ("flags", "u4"),
    ],
    align=True,
)
SLOT = np.dtype([("backend", "u2"), ("previous", "u2")], align=True)
SLOT_PAIR = np.dtype([("slots", SLOT, (2,))])
BACKEND = np.dtype(
    [
        ("address", _ADDRESS),
        ("port", _PORT),
        ("service", "u2"),
        ("forwarding", "u1"),
        ("state", "u1"),
        ("zero", "u2"),
        ("born", "u4"),
    ],
    align=True,
)
REPLY = np.dtype(
    [("vip", _ADDRESS), ("vip_port", _PORT), ("backend", "u2"), ("flags", "u2"), ("zero", "u2")],
    align=True,
)
ENTRY = np.dtype(
    [("endpoint", ENDPOINT), ("parts", "u4"), ("service", SERVICE), ("reply", REPLY)], align=True
)
GROUP_PLACES = 8
GROUP = np.dtype([("tags", "u1", (GROUP_PLACES,)), ("rows", "u4", (GROUP_PLACES,))])
FLOW_KEY = np.dtype(
    [
        ("client", _ADDRESS),
        ("server", _ADDRESS),
        ("client_port", _PORT),
        ("server_port", _PORT),
        ("protocol", "u1"),
        ("zero", "V3"),
    ]
)
FLOW = np.dtype(
    [
        ("last_seen_ns", "u8"),
        ("slot", "u4"),
        ("born", "u4"),
        ("sequence", "u4"),
        ("backend", "u2"),
        ("vip_port", _PORT),
        ("vip", _ADDRESS),
        ("kind", "u1"),
        ("closing", "u1"),
        ("answered", "u1"),
        ("zero", "V5"),
    ],
    align=True,
)
INTERFACE = np.dtype([("flags", "u4"), ("ipv4", _ADDRESS), ("ipv6", _ADDRESS)], align=True)
SETTINGS = np.dtype(
    [
        ("abi_version", "u4"),
        ("ticks_per_second", "u4"),
        ("hash_seed", "u8"),
        ("tunnel_source_ipv4", _ADDRESS),
        ("tunnel_source_ipv6", _ADDRESS),
        ("tunnel_hosts_ipv4", "u4"),
        ("tunnel_hosts_ipv6", "u4"),
        ("gue_port", _PORT),
        ("gue_checksum", "u2"),
        ("passes_echo", "u4"),
        ("directory_shift", "u4"),
        ("has_replies", "u4"),
        ("vip_filter", "u8", (VIP_FILTER_WORDS,)),
    ],
    align=True,
)
META = np.dtype(
    [
        ("generation", "u8"),
        ("config_sha256", "V32"),
        ("meaning_sha256", "V32"),
        ("program_sha256", "V32"),
    ],
    align=True,
)
SERVICE_INFO = np.dtype(
    [
        ("name", f"S{NAME_SIZE}"),
        ("window_end_ns", "u8"),
        ("drain_timeout_ms", "u4"),
        ("flow_idle_timeout_ms", "u4"),
        ("own_addresses", "u1"),
        ("flow_tracking", "u1"),
        ("zero", "V6"),
    ],
    align=True,
)
BACKEND_INFO = np.dtype(
    [
        ("name", f"S{NAME_SIZE}"),
        ("leaves_ns", "u8"),
        ("weight", "u4"),
        ("withheld_percent", "u4"),
    ],
    align=True,
)
NEXTHOP = np.dtype(
    [
        ("expires", "u8"),
        ("address", _ADDRESS),
        ("ifindex", "u4"),
        ("mtu", "u4"),
        ("destination_mac", "V6"),
        ("source_mac", "V6"),
        ("action", "u1"),
        ("flags", "u1"),
        ("is_gateway", "u1"),
        ("tunnel_family", "u1"),
        ("tunnel_source", _ADDRESS),
    ],
    align=True,
)
SET_PLACES = 6
CLIENT_SET = np.dtype(
    [
        ("clients", ">u4", (SET_PLACES,)),
        ("until", "u4", (SET_PLACES,)),
        ("ways", "u2", (SET_PLACES,)),
        ("zero", "u2", (2,)),
    ],
    align=True,
)
BACKEND_STATS = np.dtype(
    [
        ("packets", "u8"),
        ("bytes", "u8"),
        ("new_flows", "u8"),
        ("reply_packets", "u8"),
        ("reply_bytes", "u8"),
    ]
)
INDEX = np.dtype("u4")
COUNTER = np.dtype("u8")

STRUCTS: dict[str, np.dtype[np.void]] = {
    "endpoint": ENDPOINT,
    "service": SERVICE,
    "slot": SLOT,
    "slot_pair": SLOT_PAIR,
    "backend": BACKEND,
    "reply": REPLY,
    "entry": ENTRY,
    "group": GROUP,
    "flow_key": FLOW_KEY,
    "flow": FLOW,
    "interface": INTERFACE,
    "settings": SETTINGS,
    "meta": META,
    "service_info": SERVICE_INFO,
    "backend_info": BACKEND_INFO,
    "nexthop": NEXTHOP,
    "client_set": CLIENT_SET,
    "backend_stats": BACKEND_STATS,
}

MAPS: dict[str, tuple[np.dtype[Any], np.dtype[Any]]] = {
    "settings": (INDEX, SETTINGS),
    "meta": (INDEX, META),
    "directory": (INDEX, GROUP),
    "endpoints": (INDEX, ENTRY),
    "slots": (INDEX, SLOT_PAIR),
    "backends": (INDEX, BACKEND),
    "interfaces": (INDEX, INTERFACE),
    "service_info": (INDEX, SERVICE_INFO),
    "backend_info": (INDEX, BACKEND_INFO),
    "flows": (FLOW_KEY, FLOW),
    "origins": (FLOW_KEY, FLOW),
    "pending": (FLOW_KEY, FLOW),
    "strays": (FLOW_KEY, FLOW),
    "direct_seen": (INDEX, INDEX),
    "backend_nexthops": (INDEX, NEXTHOP),
    "client_nexthops": (INDEX, NEXTHOP),
    "client_ways": (INDEX, CLIENT_SET),
    "ways": (INDEX, NEXTHOP),
    "backend_stats": (INDEX, BACKEND_STATS),
    "flow_events": (INDEX, COUNTER),
    "verdicts": (INDEX, COUNTER),
}


class ServiceFlag(enum.IntFlag):
    """Mirror of `enum service_flag`."""

    SHARED = 1
    TRACKED = 2


class EntryPart(enum.IntFlag):
    """Mirror of `enum entry_part`."""

    SERVICE = 1
    REPLY = 2


class ReplyFlag(enum.IntFlag):
    """Mirror of `enum reply_flag`."""

    SHARED = 1


class InterfaceFlag(enum.IntFlag):
    """Mirror of `enum interface_flag`."""

    TRANSMITS = 1
    REDIRECTS = 2


class FlowKind(enum.IntEnum):
    """Mirror of `enum flow_kind`."""

    BACKEND = 1
    DIRECT = 2
    VIP = 3


class FlowEvent(enum.IntEnum):
    """Mirror of `enum flow_event`: what happened to the memory of flows."""

    ASKED = 0
    PENDING = 1
    STRAY = 2
    REMEMBERED = 3
    REFUSED = 4


class Verdict(enum.IntEnum):
    """Mirror of `enum verdict`: the fate of a packet."""

    PASS_OTHER = 0
    PASS_DIRECT = 1
    PASS_TTL = 2
    FORWARD_TRANSMIT = 3
    FORWARD_REDIRECT = 4
    FORWARD_STACK = 5
    FORWARD_LOCAL = 6
    REPLY_TRANSMIT = 7
    REPLY_REDIRECT = 8
    REPLY_STACK = 9
    REPLY_LOCAL = 10
    DROP_MALFORMED = 11
    DROP_FRAGMENT = 12
    DROP_IP_OPTIONS = 13
    DROP_BAD_SOURCE = 14
    DROP_NO_BACKEND = 15
    DROP_NO_ROUTE = 16
    ECHO_TRANSMIT = 17
    ECHO_REDIRECT = 18
    DROP_NO_NEXTHOP = 19
    DROP_NO_ROOM = 20
    TOO_BIG_TRANSMIT = 21
    TOO_BIG_REDIRECT = 22
