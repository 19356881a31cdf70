"""What is exported from a kernel plans no change to it."""

import json

import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.plan import Put

pytestmark = pytest.mark.root

FULL = """\
name: edge
interface: [eth1, eth0]
xdp_mode: {mode}
hash_seed: 0xfeed
tunnel_source: [10.200.0.0/16, "2001:db8:ff::/96"]
gue_port: 6081
gue_checksum: false
icmp_echo: pass
limits: {{services: 9, backends: 99, ring_slots: 9001, flows: 65536}}
safety: {{max_remove_percent: 100}}
services:
  - {{name: own, port: 8080, ring_size: 251, backends: [10.0.0.11, 10.0.0.12]}}
  - name: web
    vip: 192.0.2.7
    port: 443
    affinity: client
    ring_size: 509
    drain_timeout: 10m
    flow_tracking: always
    flow_idle_timeout: 90s
    backends:
      - {{name: web-1, address: 10.0.0.11, port: 8443, weight: 7}}
      - {{name: web-2, address: 10.0.0.12, state: drain}}
      - {{name: web-3, address: 10.0.0.13, weight: 0}}
      - {{name: web-4, address: 10.0.0.14, state: maint}}
  - name: dns
    vip: "2001:db8::53"
    port: 53
    protocol: udp
    forwarding: gue
    ring_size: 251
    backends: ["2001:db8:1::11", 10.0.0.12]
"""


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        yield made


def export(xdplb, *words):
    done = xdplb.run("export", "-n", "edge", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
def test_an_export_plans_no_change_and_writes_nothing(xdplb, mode):
    xdplb.apply(FULL.format(mode=mode))
    before = xdplb.tables("edge")
    text = export(xdplb)
    assert "may not be" not in text
    assert (f"xdp_mode: {mode}\n" in text) == (mode != "auto")
    plan = xdplb.run("plan", "-", "--detailed-exitcode", stdin=text)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    document = xdplb.apply(text)
    assert (document["in_sync"], document["writes"]) == (True, 0)
    assert xdplb.tables("edge") == before
    assert export(xdplb) == text


def test_the_tables_come_back_after_a_detach(xdplb):
    xdplb.apply(FULL.format(mode="auto"))
    before, text = xdplb.tables("edge"), export(xdplb)
    assert xdplb.run("detach", "-n", "edge").returncode == 0
    xdplb.apply(text)
    after = xdplb.tables("edge")
    for name in ("settings", "interfaces", "service_info", "backend_info", "services"):
        assert after.rows(name) == before.rows(name)
    assert (after.slots == before.slots).all()


def test_a_backend_that_left_is_a_comment(xdplb):
    text = FULL.format(mode="auto")
    xdplb.apply(text)
    fewer = text.replace("[10.0.0.11, 10.0.0.12]}\n  - name: web", "[10.0.0.11]}\n  - name: web")
    assert fewer != text
    xdplb.apply(fewer)
    shown = export(xdplb)
    assert "# left the file, stays for its flows: 10.0.0.12:8080\n" in shown
    assert xdplb.run("plan", "-", "--detailed-exitcode", stdin=shown).returncode == 0


def test_what_somebody_wrote_to_the_maps_is_exported_as_it_is(xdplb):
    xdplb.apply(FULL.format(mode="auto"))
    tables, dataplane = xdplb.tables("edge"), xdplb.dataplane("edge")
    settings = tables.settings[0]._replace(hash_seed=5)
    dataplane.write(Put("settings", 0, settings))
    text = export(xdplb)
    assert "hash_seed: 0x5\n" in text
    assert "# This may not be what the file said" in text
    assert xdplb.run("plan", "-", "--detailed-exitcode", stdin=text).returncode == 0


def test_an_export_beside_the_controller(xdplb):
    xdplb.start("interface: [eth0, eth1]\nport: 80\nbackends: [10.0.0.11]\n")
    text = xdplb.run("export").stdout
    xdplb.config.write_text(text, encoding="utf-8")
    wait_until(lambda: xdplb.account()["last_attempt"]["result"] == "in_sync", "the file is taken")


def test_another_place_for_the_pins(xdplb):
    place = "/sys/fs/bpf/elsewhere"
    xdplb.apply(FULL.format(mode="auto"), "--pin-dir", place)
    try:
        text = export(xdplb, "--pin-dir", place)
        for command in (["plan", "--json", "-"], ["run", "--once", "--json", "-c", "-"]):
            done = xdplb.run(*command, "--pin-dir", place, stdin=text)
            assert json.loads(done.stdout)["in_sync"], command
        words = ["lookup", "192.0.2.2:1", "web", "--live", "-n", "edge", "--pin-dir", place]
        assert "-> web-1" in xdplb.run(*words).stdout
        assert xdplb.run("export", "-n", "edge").returncode == 69
    finally:
        assert xdplb.run("detach", "-n", "edge", "--pin-dir", place).returncode == 0


def test_there_is_nothing_to_export(xdplb):
    done = xdplb.run("export")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("xdplb: there is no instance default under ")
