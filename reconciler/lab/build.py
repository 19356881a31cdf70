"""Turn namespaces into machines: kernel settings, wires, a bridge, addresses, mounts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.lab import process
from reconciler.lab.host import Host
from reconciler.lab.namespaces import run_tool
from reconciler.lab.topology import SWITCH, Port, Topology

# The balancer's own mounts: pins and state live as long as the laboratory, and never on the
# machine. A directory that the machine lacks is made in an overlay instead of on its disk; an
# overlay hides what is mounted below it, and the names of network namespaces are still needed.
_MOUNTS = """
set -e
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
own() {
    if [ ! -d "$1/xdplb" ]; then
        mount -t tmpfs tmpfs "$SCRATCH"
        mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/below"
        mount --rbind "$1" "$SCRATCH/below"
        mount -t overlay overlay \
            -o "lowerdir=$1,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$1"
        mkdir "$1/xdplb"
        [ ! -d "$1/netns" ] || mount --rbind "$SCRATCH/below/netns" "$1/netns"
        umount -l "$SCRATCH"
    fi
    mount -t tmpfs tmpfs "$1/xdplb"
}
own /run
own /var/lib
echo ready
exec sleep infinity
"""


def connect(topology: Topology, hosts: Mapping[str, Host]) -> None:
    """Give empty namespaces their settings, interfaces, addresses and routes.

    Args:
        topology: the shape.
        hosts: a host for each of its names.
    """
    for host in hosts.values():
        _set_kernel(host, topology.ipv6, forwards=host.name in topology.forwarding_names)
    _lay_wires(topology, hosts)
    _build_switch(topology, hosts[SWITCH])
    for name in topology.hosts:
        _configure(topology, hosts[name])


def mount(host: Host, scratch: Path) -> None:
    """Give a host mounts of its own, which live as long as a process that is started here.

    Args:
        host: gets a fresh sysfs, a BPF file system and empty state directories.
        scratch: an empty directory, for the time of this call.
    """
    unshare = ["unshare", "--mount", "--propagation=slave", "sh", "-c", _MOUNTS]
    holder = host.popen(unshare, environment={**os.environ, "SCRATCH": str(scratch)})
    process.await_line(holder, "ready")
    host.mounts_pid = holder.pid


def is_up(hosts: Iterable[Host]) -> bool:
    """Whether frames pass on every interface."""
    return all(_all_carry(host.namespace) for host in hosts)


def _set_kernel(host: Host, ipv6: bool, *, forwards: bool) -> None:
    for scope in ("all", "default"):
        host.sysctl(f"ipv6/conf/{scope}/disable_ipv6", int(not ipv6))
        host.sysctl(f"ipv6/conf/{scope}/accept_dad", 0)
        host.sysctl(f"ipv6/conf/{scope}/accept_ra", 0)
        host.sysctl(f"ipv6/conf/{scope}/forwarding", int(forwards))
        # IPv4 settings are inherited from the machine: say what is meant.
        host.sysctl(f"ipv4/conf/{scope}/rp_filter", 0)
        # With one arm, plain routing leaves by the interface it came from.
        host.sysctl(f"ipv4/conf/{scope}/send_redirects", 0)
    host.sysctl("ipv4/ip_forward", int(forwards))
    # A load of short connections closes first: many ports in TIME_WAIT.
    host.sysctl("ipv4/ip_local_port_range", "1024 65535")
    host.sysctl("ipv4/tcp_tw_reuse", 1)


def _lay_wires(topology: Topology, hosts: Mapping[str, Host]) -> None:
    common = f"mtu {topology.mtu} address"
    batches: dict[str, list[str]] = {}
    for wire in topology.wires:
        one, other = wire.one, wire.other
        batches.setdefault(other.host, []).append(
            f"link add {other.interface} {common} {other.mac} type veth peer"
            f" name {one.interface} {common} {one.mac} netns {hosts[one.host].namespace}"
        )
    for name, lines in batches.items():
        _configure_network(hosts[name], lines)
    for wire in topology.wires:
        # A redirected frame loses the mark of a checksum that is still to be filled in.
        _set_offload(hosts, wire.one, "tx", "off")
        _set_offload(hosts, wire.other, "tx", "off")
    for port in topology.xdp_receivers:
        # A veth takes XDP frames only if its own end has NAPI, which GRO switches on.
        _set_offload(hosts, port, "gro", "on")


def _build_switch(topology: Topology, switch: Host) -> None:
    ports = [end for wire in topology.wires for end in (wire.one, wire.other)]
    options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    lines = [f"link add br0 mtu {topology.mtu} {options}", "link set br0 up"]
    lines += [f"link set {end.interface} master br0 up" for end in ports if end.host == SWITCH]
    _configure_network(switch, lines)


def _configure(topology: Topology, host: Host) -> None:
    lines = ["link set lo up"]
    for (name, interface), addresses in topology.addresses.items():
        if name == host.name:
            lines.append(f"link set {interface} up")
            lines += [f"addr add {address} dev {interface}" for address in addresses]
    for gateway in topology.gateways.get(host.name, ()):
        lines.append(f"route add default via {gateway.ip}")
    _configure_network(host, lines)


def _set_offload(hosts: Mapping[str, Host], port: Port, feature: str, state: str) -> None:
    run_tool([*hosts[port.host].entry, "ethtool", "-K", port.interface, feature, state])


def _configure_network(host: Host, lines: Iterable[str]) -> None:
    run_tool(["ip", "-n", host.namespace, "-batch", "-"], "".join(f"{line}\n" for line in lines))


def _all_carry(namespace: str) -> bool:
    interfaces = json.loads(run_tool(["ip", "-n", namespace, "-details", "-json", "link", "show"]))
    return all(_carries(each) for each in interfaces if each["ifname"] != "lo")


def _carries(interface: dict[str, Any]) -> bool:
    """Whether frames pass. The kernel may take a second longer to call the state "UP"."""
    port = interface.get("linkinfo", {}).get("info_slave_data", {})
    return (
        "LOWER_UP" in interface["flags"]
        and interface["qdisc"] != "noop"
        and port.get("state", "forwarding") == "forwarding"
    )
