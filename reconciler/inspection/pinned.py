"""What is pinned, who holds it, and whose programs are on the interfaces."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from reconciler import netlink
from reconciler.dataplane.kernel import KernelDataplane
from reconciler.dataplane.libbpf import KernelRefused, Libbpf
from reconciler.dataplane.pins import list_instances
from reconciler.diagnosis.facts import FlowTable, InstanceState, Program, Reload
from reconciler.errors import XdplbError
from reconciler.instance import Instance
from reconciler.lock import find_holder
from reconciler.model import Config
from reconciler.privileges import require_privileges
from reconciler.status import read_status
from reconciler.tables import Endpoint, Tables


def look_at_instance(name: str, root: Path, config: Config | None) -> InstanceState:
    """Return what is pinned under a name.

    Raises:
        NoPermission: this process may not look.
    """
    instance = Instance(name, root)
    if not instance.exists():
        return InstanceState(name, last_reload=_read_reload(instance.state_name))
    changes, trouble = _plan(instance, config) if config else (0, None)
    return InstanceState(
        name,
        exists=True,
        pid=find_holder(instance.folder) or 0,
        last_reload=_read_reload(instance.state_name),
        changes=changes,
        trouble=trouble,
        packets={} if trouble else _count_packets(instance.dataplane),
    )


def _plan(instance: Instance, config: Config) -> tuple[int, tuple[str, str] | None]:
    try:
        return len(instance.propose(config).changes), None
    except XdplbError as error:
        return 0, (error.message, error.remedy)


def _read_reload(name: str) -> Reload | None:
    account = read_status(name)
    if account is None:
        return None
    last = account.last_attempt
    return Reload(last.result, max(time.time() - last.at, 0.0), last.message)


def _count_packets(dataplane: KernelDataplane) -> dict[Endpoint, tuple[int, int]]:
    tables: Tables = dataplane.read()
    counters = dataplane.read_counters("backend_stats")
    protocols = {row.id: endpoint.protocol for endpoint, row in tables.services.items()}
    return {
        Endpoint(row.address, row.port, protocols[row.service]): (
            int(counters[number]["packets"]),
            int(counters[number]["reply_packets"]),
        )
        for number, row in tables.backends.items()
        if row.service in protocols
    }


def look_at_flows(name: str, root: Path) -> FlowTable | None:
    """Return how full the flow table is; None where there is no instance.

    Raises:
        NoPermission: this process may not look.
    """
    require_privileges()
    with contextlib.closing(KernelDataplane(root / name)) as dataplane:
        return FlowTable(*dataplane.measure_flows()) if dataplane.exists() else None


def look_at_programs(root: Path, libbpf: Libbpf) -> dict[int, Program]:
    """Return the XDP programs of this network namespace by the ifindex they are on.

    Raises:
        NoPermission: this process may not look.
    """
    require_privileges()
    instances = {
        attachment.ifindex: name
        for name in list_instances(root)
        for attachment in KernelDataplane(root / name, libbpf).attachments.read().values()
    }
    links = libbpf.find_xdp_links()
    return {
        device.ifindex: Program(
            _name(device.program, libbpf),
            instances.get(device.ifindex, ""),
            links.get((device.program, device.ifindex), 0),
        )
        for device in netlink.read_devices().values()
        if device.program
    }


def _name(program: int, libbpf: Libbpf) -> str:
    try:
        return libbpf.name_program(program)
    except KernelRefused:
        return ""  # it went while it was looked at
