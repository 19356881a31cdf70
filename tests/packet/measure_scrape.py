"""What a scrape of the largest usual instance takes: 64 services with 64 backends each.

    sudo .venv/bin/python -m tests.packet.measure_scrape [RING_SIZE] [FLOWS]

Prints the figures of docs/metrics.md, of real pinned maps: the survey, its text, and all of
it by HTTP, in milliseconds of the clock and, where it runs here, of CPU. RING_SIZE is 65537
if not given; FLOWS, how many flows are remembered meanwhile, is none.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import numpy as np

from reconciler import abi
from reconciler.config import parse
from reconciler.dataplane.kernel import KernelDataplane
from reconciler.desired import compile_tables
from reconciler.environment import imagine_environment
from reconciler.lab.namespaces import make_tag, own_bpffs
from reconciler.metrics.exposition import render
from reconciler.metrics.families import list_families
from reconciler.metrics.recorder import Recorder
from reconciler.metrics.service import MetricsService
from reconciler.model import Config, Metrics
from reconciler.plan import diff
from reconciler.surveyor import Surveyor

SERVICES = BACKENDS = 64
ROUNDS = 9
PORT = 19_464
NOWHERE = Path("/nowhere")
# Before another survey is taken.
REST_S = 0.3


def make_config(ring_size: int) -> Config:
    """The file of 4,096 backends."""
    document = {
        "version": 1,
        "interface": "eth0",
        "limits": {"ring_slots": SERVICES * ring_size},
        "services": [
            {
                "name": f"service-{s}",
                "vip": f"192.0.2.{s + 1}",
                "port": 443,
                "ring_size": ring_size,
                "backends": [
                    {"name": f"service-{s}-backend-{b}", "address": f"10.{s}.0.{b + 1}"}
                    for b in range(BACKENDS)
                ],
            }
            for s in range(SERVICES)
        ],
    }
    config = parse(json.dumps(document).encode(), "lb.yaml").config
    assert config is not None
    return replace(config, metrics=Metrics(ip_address("127.0.0.1"), PORT))


def fill(folder: Path, config: Config, flows: int) -> None:
    """Make the maps and write them; nothing is attached."""
    folder.mkdir()
    dataplane = KernelDataplane(folder)
    dataplane.create(config.limits)
    observed = dataplane.read()
    desired = compile_tables(
        config, imagine_environment(config), observed, now_ns=time.monotonic_ns()
    )
    for operation in diff(desired, observed):
        if getattr(operation, "table", "") != "attachments":
            dataplane.write(operation)
    remember(dataplane, flows)
    dataplane.close()


def remember(dataplane: KernelDataplane, count: int) -> None:
    """Have flows live on backends, one slot each."""
    keys, flows = np.zeros(count, abi.FLOW_KEY), np.zeros(count, abi.FLOW)
    client = np.arange(count, dtype=">u4").view("u1").reshape(count, 4)
    keys["client"] = np.pad(client, ((0, 0), (12, 0))).copy().view("V16").reshape(count)
    keys["protocol"] = 6
    flows["last_seen_ns"] = time.monotonic_ns()
    flows["slot"] = np.arange(count) % len(dataplane.slots)
    flows["backend"] = 1 + np.arange(count) % (SERVICES * BACKENDS)
    flows["born"], flows["kind"] = 1, abi.FlowKind.BACKEND
    fd = dataplane._fd("flows")
    for key, flow in zip(keys, flows, strict=True):
        dataplane.libbpf.update(fd, key.tobytes(), flow.tobytes(), "cannot remember a flow")


def measure(what: str, run: Callable[[], object]) -> None:
    """Run it several times; print medians."""
    clocks, cpus = [], []
    for _ in range(ROUNDS):
        time.sleep(REST_S)
        clock, cpu = time.perf_counter(), time.process_time()
        run()
        clocks.append(time.perf_counter() - clock)
        cpus.append(time.process_time() - cpu)
    print(
        f"{what:<34} {1e3 * statistics.median(clocks):6.0f} ms"
        f" (worst {1e3 * max(clocks):.0f}), CPU {1e3 * statistics.median(cpus):.0f} ms"
    )


def scrape(path: str) -> bytes:
    """Ask as Prometheus does."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", headers={"Accept-Encoding": "gzip"}
    )
    with urllib.request.urlopen(asked, timeout=30) as response:
        body: bytes = response.read()
        return body


def main() -> None:
    """Print every figure."""
    ring_size = int(sys.argv[1]) if len(sys.argv) > 1 else 65_537
    flows = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    config, recorder = make_config(ring_size), Recorder()
    with own_bpffs(make_tag(2000, kept=False)) as root:
        fill(root / "default", config, flows)
        surveyor = Surveyor("default", root, state_root=NOWHERE)
        survey = surveyor.take()
        assert survey is not None
        families = list(list_families(survey, recorder.list_facts(), "1.0"))
        body, _ = render(families, "")
        print(f"{len(body.splitlines()):,} lines, {len(body):,} bytes")
        measure("survey", surveyor.take)
        measure("its text", lambda: render(list_families(survey, recorder.list_facts(), "1.0"), ""))
        service = MetricsService("default", root, recorder, state_root=NOWHERE)
        service.follow(config)
        try:
            measure("scrape by HTTP", lambda: scrape("/metrics"))
            measure("status page by HTTP", lambda: scrape("/"))
        finally:
            service.close()
            KernelDataplane(root / "default").pins.remove_contents()
            (root / "default").rmdir()


if __name__ == "__main__":
    main()
