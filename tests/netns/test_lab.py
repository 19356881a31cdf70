"""The laboratory itself, with plain kernel routing instead of a balancer."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from reconciler.errors import XdplbError
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab import lab as lab_module
from reconciler.lab.ask import ask_datagram, fetch, fetch_again
from reconciler.lab.controller import find_program
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan
from reconciler.lab.namespaces import DIRECTORY, is_running
from reconciler.lab.process import python_environment

pytestmark = [pytest.mark.root, pytest.mark.alone]


def leftovers(tag):
    names = os.listdir(DIRECTORY) if DIRECTORY.is_dir() else []
    return [name for name in names if name.startswith(tag)] + list(
        Path(tempfile.gettempdir()).glob(f"{tag}*")
    )


@pytest.fixture(scope="module", params=[1, 2], ids=["one-arm", "two-arms"])
def lab(request):
    with Lab(Topology(arms=request.param, ipv6=True)) as made:
        made.serve(http=8080, echo=9000, udp=5353)
        yield made


def test_a_client_reaches_every_backend_through_the_balancer(lab):
    for backend in lab.backends:
        answer = fetch(lab.client, backend.address)
        assert answer.backend == str(backend.address)
        assert answer.client.split()[0] == str(lab.client.address)
        assert answer.body.decode().startswith(f"{backend.address} {lab.client.address} ")


def test_ipv6_too(lab):
    answer = fetch(lab.client, lab.backends[1].address6)
    assert answer.backend == str(lab.backends[1].address)
    assert answer.client.split()[0] == str(lab.client.address6)


def test_large_answers_and_many_requests_on_one_connection(lab):
    with lab.client.socket() as connection:
        connection.settimeout(3)
        connection.connect((str(lab.backends[0].address), 8080))
        sizes = [len(fetch_again(connection, f"/bytes/{size}").body) for size in (0, 1, 1_000_000)]
    assert sizes == [0, 1, 1_000_000]


def test_lines_and_datagrams_come_back_with_a_name(lab):
    backend = lab.backends[2]
    with lab.client.socket() as connection:
        connection.settimeout(3)
        connection.connect((str(backend.address), 9000))
        stream = connection.makefile("rwb")
        for line in (b"one\n", b"two\n"):
            stream.write(line)
            stream.flush()
            assert stream.readline() == b"10.0.0.13 " + line
    assert ask_datagram(lab.client, backend.address, 5353, b"x") == ("10.0.0.13", b"x")
    assert ask_datagram(lab.client, backend.address6, 5353, b"y") == ("10.0.0.13", b"y")


def test_the_way_leads_through_the_balancer(lab):
    lab.balancer.sysctl("ipv4/ip_forward", 0)
    try:
        with pytest.raises(OSError, match=r".+"):
            fetch(lab.client, lab.backends[0].address, timeout_s=0.2)
    finally:
        lab.balancer.sysctl("ipv4/ip_forward", 1)
    assert fetch(lab.client, lab.backends[0].address).backend == "10.0.0.11"


def test_offloads_are_as_xdp_needs_them(lab):
    for wire in lab.topology.wires:
        for end in (wire.one, wire.other):
            words = lab.host(end.host).run(["ethtool", "-k", end.interface]).stdout
            assert "tx-checksumming: off" in words
            if end in lab.topology.xdp_receivers:
                assert "generic-receive-offload: on" in words


def test_the_balancer_has_mounts_of_its_own(lab):
    script = (
        "ls /sys/class/net; touch /run/xdplb/a /var/lib/xdplb/b; stat -f -c %T /sys/fs/bpf;"
        " readlink /proc/self/ns/mnt"
    )
    lines = lab.balancer.run(["sh", "-c", script]).stdout.split()
    assert lines[:-2] == [*lab.topology.balancer_interfaces, "lo"]
    assert lines[-2] == "bpf_fs"
    assert lines[-1] != os.readlink("/proc/self/ns/mnt")
    assert not Path("/run/xdplb/a").exists()
    assert not Path("/var/lib/xdplb/b").exists()
    # They stay between commands.
    lab.balancer.run(["test", "-e", "/run/xdplb/a"])


def test_the_balancer_sees_the_names_of_network_namespaces(lab):
    switch = lab.host("switch").namespace
    look = ["nsenter", f"--net=/run/netns/{switch}", "ls", "/sys/class/net"]
    assert lab.balancer.run(look).returncode == 0
    assert switch in lab.balancer.run(["ip", "netns", "list-id"]).stdout


def test_only_the_entering_thread_is_inside(lab):
    home = os.readlink("/proc/thread-self/ns/net")
    seen = []
    with lab.client.entered():
        inside = os.readlink("/proc/thread-self/ns/net")
        thread = threading.Thread(target=lambda: seen.append(socket.if_nameindex()))
        thread.start()
        thread.join()
        assert {name for _, name in socket.if_nameindex()} == {"lo", "eth0"}
    assert inside != home
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_the_load_counts_what_it_does(lab):
    plan = LoadPlan(str(lab.backends[0].address), 8080, rate=1000, count=500, held=8)
    with Drive(lab.client, plan) as drive:
        samples = drive.wait(timeout_s=20)
    assert samples.failures == {}
    assert samples.new.count() == {"10.0.0.11": 500}
    assert len(set(samples.connection[samples.held].tolist())) == 8


@pytest.mark.parametrize(
    ("address", "port", "failures"),
    [("10.0.0.11", 8081, {"refused": 20}), ("192.0.2.77", 8080, {"timeout": 20})],
)
def test_the_load_names_failures(lab, address, port, failures):
    plan = LoadPlan(address, port, rate=1000, count=20, timeout_s=0.3)
    with Drive(lab.client, plan) as drive:
        assert drive.wait(timeout_s=20).failures == failures


def test_a_load_that_is_stopped_finishes_what_it_began(lab):
    with Drive(lab.client, LoadPlan("10.0.0.12", 8080, rate=500, held=4)) as drive:
        wait_until(lambda: len(drive.samples()) > 50, "fifty answers")
        samples = drive.stop()
    assert samples.failures == {}
    assert not drive.is_running


def test_a_server_that_dies_breaks_the_connections_it_held():
    with Lab(Topology(backends=1)) as lab:
        (server,) = lab.serve()
        with Drive(lab.client, LoadPlan("10.0.0.11", 8080, rate=0, held=4)) as drive:
            wait_until(lambda: len(drive.samples()) >= 8, "every connection was answered twice")
            server.kill()
            wait_until(lambda: len(drive.samples().failures) > 0, "the connections break")
            samples = drive.stop()
    assert sum(samples.failures.values()) == 4
    assert set(samples.failures) <= {"reset", "closed"}


def test_nothing_is_left_behind():
    with Lab() as lab:
        lab.serve()
        processes = [each.pid for host in (*lab.backends, lab.balancer) for each in host.started]
        # Someone whom nobody told the laboratory of.
        stray = subprocess.Popen([*lab.client.entry, "sleep", "60"])
        wait_until(lambda: os.readlink(f"/proc/{stray.pid}/exe").endswith("sleep"), "it sleeps")
    assert stray.wait(5) == -signal.SIGKILL
    assert len(processes) == 4
    assert not any(map(is_running, processes))
    assert leftovers(lab.tag) == []
    lab.close()  # a second time


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exception_takes_it_away(error):
    lab = Lab()

    def use():
        with lab:
            lab.serve()
            raise error

    with pytest.raises(error):
        use()
    assert leftovers(lab.tag) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, XdplbError("no")])
def test_so_does_an_exception_while_it_is_built(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(lab_module.build, "mount", fail)
    lab = Lab(keep=True)
    with pytest.raises(type(error) if isinstance(error, Exception) else error), lab:
        pass
    assert leftovers(lab.tag) == []


MAKER = """
from reconciler.lab import Lab
import time
with Lab() as lab:
    lab.serve()
    print(lab.tag, flush=True)
    time.sleep(60)
"""


def make_elsewhere():
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER],
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    )
    return maker, maker.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_it_away(number):
    maker, tag = make_elsewhere()
    assert len(leftovers(tag)) > 0
    maker.send_signal(number)
    assert maker.wait(10) != 0
    assert leftovers(tag) == []


def test_what_a_killed_maker_left_is_swept_away_by_the_next():
    maker, tag = make_elsewhere()
    maker.kill()
    maker.wait()
    assert len(leftovers(tag)) > 0
    with Lab(Topology(backends=1)):
        assert leftovers(tag) == []


def test_a_kept_one_stays_until_it_is_swept():
    with Lab(keep=True) as lab:
        lab.serve()
    try:
        lab_module.sweep_stale()
        assert fetch(lab.client, lab.backends[0].address).backend == "10.0.0.11"
        assert lab.tag in lab_module.sweep_kept()
        assert leftovers(lab.tag) == []
    finally:
        lab.close()


def test_the_machines_own_network_is_untouched():
    def look():
        words = (["link"], ["addr"], ["route"], ["-6", "route"], ["neigh"])
        return [subprocess.check_output(["ip", *each]) for each in words]

    before = look()
    with Lab(Topology(ipv6=True)):
        assert look() == before
    assert look() == before


@pytest.mark.parametrize("arms", ["1", "2"])
def test_the_demo_loses_nothing_and_leaves_a_picture(arms, tmp_path):
    pytest.importorskip("matplotlib")
    command = [*find_program("xdplb"), "demo", "--duration", "4", "--arms", arms, "--out", "x.svg"]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failures: 0\n" in done.stdout
    assert "connections held through all edits: 32, broken: 0," in done.stdout
    assert "weight 50 for 10.0.0.13" in (tmp_path / "x.svg").read_text()
