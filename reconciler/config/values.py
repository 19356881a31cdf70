"""Reads the small texts inside values: durations, addresses, address and port."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from reconciler.model import IPAddress

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_ADDRESS_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:]+)):(?P<port>[0-9]{1,5})")

_BACKSLASH = re.compile(r"\\(?:x(?P<hex>[0-9A-Fa-f]{2})|(?P<letter>[rnt\\])|.?)", re.DOTALL)
_ESCAPED = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}


def parse_duration(text: str) -> float:
    """Return the seconds that `500ms`, `2s`, `5m` or `1h` stand for.

    Raises:
        ValueError: it is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration")
    return float(match[1]) * _UNIT_S[match[2]]


def parse_address(text: str) -> IPAddress:
    """Return an IPv4 or IPv6 address.

    Raises:
        ValueError: it is not an address, or one with a zone such as `fe80::1%eth0`.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    return ip_address(text)


def parse_address_port(text: str) -> tuple[IPAddress, int | None]:
    """Return the address of a backend, and its port or None.

    It is written `10.0.0.11`, `10.0.0.11:9000`, `2001:db8::1` or `[2001:db8::1]:53`.

    Raises:
        ValueError: it is none of these.
    """
    match = _ADDRESS_PORT.fullmatch(text)
    if not match:
        return parse_address(text), None
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise ValueError("a port is from 1 to 65535")
    address = parse_address(match["v6"] or match["v4"])
    if (address.version == 6) != bool(match["v6"]):
        raise ValueError("brackets are for IPv6 addresses")
    return address, port


def parse_source(text: str) -> IPv4Network | IPv6Network:
    """Return the source of tunnels: an address, or a network whose hosts stand for flows.

    Raises:
        ValueError: it is neither; or a network that is too wide for 32 bits of hash.
    """
    network = ip_network(text)
    if network.max_prefixlen - network.prefixlen > 32:
        raise ValueError(f"{text}: at most 32 bits can vary; write /{network.max_prefixlen - 32}")
    return network


def format_address_port(address: IPAddress, port: int) -> str:
    """Return `10.0.0.11:9000` or `[2001:db8::1]:53`: the name of a backend that has none."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def parse_status(text: str) -> tuple[int, int]:
    """Return the first and the last status of `204` or `200-399`.

    Raises:
        ValueError: the last comes before the first.
    """
    first, _, last = text.partition("-")
    if last and last < first:
        raise ValueError(f"{text} holds no status: write {last}-{first}")
    return int(first), int(last or first)


def parse_escapes(text: str) -> bytes:
    r"""Return the bytes of a text in UTF-8, where `\xff`, `\r`, `\n`, `\t` and `\\` stand for one.

    Raises:
        ValueError: a backslash stands before something else.
    """
    parts = []
    end = 0
    for match in _BACKSLASH.finditer(text):
        byte = match["hex"]
        if byte is None and match["letter"] is None:
            raise ValueError(rf"{match[0]!r} is no escape: there are \xHH, \r, \n, \t and \\")
        parts.append(text[end : match.start()].encode())
        parts.append(bytes.fromhex(byte) if byte else _ESCAPED[match["letter"]])
        end = match.end()
    return b"".join((*parts, text[end:].encode()))
