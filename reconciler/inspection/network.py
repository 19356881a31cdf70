"""Interfaces of a configuration, as the kernel tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler import netlink
from reconciler.diagnosis.facts import (
    ANYBODY,
    Device,
    InterfaceState,
    Network,
)
from reconciler.environment import InterfaceFacts
from reconciler.ethtool import read_driver, read_offloads
from reconciler.inspection.peers import find_peer
from reconciler.inspection.sockets import find_sockets
from reconciler.model import Config

_CONF = Path("/proc/sys/net/ipv4/conf")


def look_at_network(config: Config) -> Network:
    """Return this machine's own side of the network, as far as a file is about it."""
    devices = netlink.read_devices()
    vips = {service.vip for service in config.services if service.vip}
    return Network(
        devices=tuple(devices),
        interfaces=_look_at_interfaces(config.interfaces, devices),
        ways=netlink.find_ways(vips | {ANYBODY}),
        sockets=find_sockets(),
    )


def _look_at_interfaces(
    names: Iterable[str], devices: Mapping[str, Device]
) -> dict[str, InterfaceState]:
    listed = [name for name in names if name in devices]
    facts = netlink.read_environment(listed, {}, "").interfaces
    return {name: _look_at_interface(devices[name], facts[name], devices) for name in listed}


def _look_at_interface(
    device: Device, facts: InterfaceFacts, devices: Mapping[str, Device]
) -> InterfaceState:
    return InterfaceState(
        device,
        facts,
        driver=read_driver(device.name),
        offloads=read_offloads(device.name),
        reverse_path=max(_read_reverse_path("all"), _read_reverse_path(device.name)),
        peer=find_peer(device, devices) if device.kind == "veth" else None,
        vlans=tuple(
            each.name
            for each in devices.values()
            if each.kind == "vlan" and (each.lower, each.lower_namespace) == (device.ifindex, None)
        ),
    )


def _read_reverse_path(name: str) -> int:
    return int((_CONF / name / "rp_filter").read_text(encoding="ascii"))
