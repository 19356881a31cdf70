"""Backends that die and come back: who gets connections meanwhile, and who never notices."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan
from reconciler.lab.namespaces import is_running
from reconciler.lab.process import await_line, end
from reconciler.lab.sample import Outcome
from reconciler.tables import unpack_slots

from .conftest import Xdplb

pytestmark = [pytest.mark.root, pytest.mark.alone]

VIP = "192.0.2.1"
INTERVAL_S, FALL = 0.5, 3
ANSWERS_PORT = 8081
HEAD = """
interface: [eth0, eth1]
port: 8080
drain_timeout: 1m
"""
NAMES = ("10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14")
BACKENDS = f"backends: [{', '.join(NAMES)}]\n"
SICK = NAMES[0]
TCP = "health: {type: tcp, interval: 500ms, timeout: 400ms, rise: 2, fall: 3}\n"
HTTP = "health: {type: http, interval: 500ms, timeout: 400ms, rise: 2, fall: 3}\n"
OWN_PORT = HTTP.replace("http,", f"http, port: {ANSWERS_PORT}, path: /health,")


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        yield made


@pytest.fixture
def servers(lab):
    started = lab.serve()
    yield started
    end(started)


# --- what can befall a backend ---


class Fault:
    """Something that befalls the first backend, and its end."""

    health = TCP

    def __init__(self, lab, servers, folder):
        self.lab, self.servers, self.folder = lab, servers, folder
        self.host = lab.backends[0]

    def begin(self):
        pass

    def strike(self):
        raise NotImplementedError

    def mend(self):
        raise NotImplementedError


class Killed(Fault):
    def strike(self):
        os.kill(self.servers[0].pid, signal.SIGKILL)
        self.servers[0].wait()

    def mend(self):
        self.servers[:1] = self.lab.serve([self.host])


class Frozen(Fault):
    """The kernel goes on taking its connections: only a question finds it out."""

    health = HTTP

    def strike(self):
        os.kill(self.servers[0].pid, signal.SIGSTOP)

    def mend(self):
        os.kill(self.servers[0].pid, signal.SIGCONT)


class Firewalled(Fault):
    table = "add table ip t; add chain ip t c {type filter hook input priority 0;};"

    def strike(self):
        self.host.run(["nft", self.table + " add rule ip t c tcp dport 8080 drop"])

    def mend(self):
        self.host.run(["nft", "delete table ip t"])


class Failing(Fault):
    """It answers, but not well, on the port where it is asked."""

    health = OWN_PORT

    def begin(self):
        self.verdict = self.folder / "status"
        self.verdict.write_text("200")
        for index, host in enumerate(self.lab.backends):
            answer = self.verdict if index == 0 else self.folder / "good"
            answer.write_text("200")
            program = [sys.executable, str(Path(__file__).with_name("health_answers.py"))]
            await_line(host.popen([*program, str(ANSWERS_PORT), str(answer)]), "ready")

    def strike(self):
        self.verdict.write_text("500")

    def mend(self):
        self.verdict.write_text("204")


def find_down(programs):
    """Addresses of the backends that the kernel's tables hold for down."""
    tables = programs.tables()
    return {
        str(tables.backends[number].address)
        for number, info in tables.backend_info.items()
        if info.is_down
    }


def count_slots_of(programs, address):
    tables = programs.tables()
    ids = [n for n, row in tables.backends.items() if str(row.address) == address]
    return int(np.isin(unpack_slots(tables.slots)[0], ids).sum())


def await_down(programs, *addresses):
    wait_until(lambda: find_down(programs) == set(addresses), f"down are {addresses}")


def choose_held(samples):
    return samples._where(samples.held)


def find_held_elsewhere(samples):
    """The held connections that another backend than the sick one serves, by number."""
    held = choose_held(samples)
    served = zip(held.connection.tolist(), held.backend.tolist(), strict=True)
    return {number for number, backend in served if backend not in (SICK, "-")}


def find_broken(samples, numbers):
    held = choose_held(samples)
    bad = held._where(held.outcome != Outcome.OK.value)
    return sorted(numbers & set(bad.connection.tolist()))


def await_more(drive, from_s):
    wait_until(lambda: len(drive.samples().new.between(from_s, np.inf)) > 100, "more load")
    return time.monotonic()


@pytest.fixture
def programs(lab):
    made = Xdplb(lab)
    yield made
    made.close()


@pytest.mark.parametrize("fault", [Killed, Frozen, Firewalled, Failing])
def test_a_backend_that_dies_gets_nothing_new_and_comes_back(
    lab, servers, programs, tmp_path, fault
):
    befalls = fault(lab, servers, tmp_path)
    befalls.begin()
    programs.start(HEAD + BACKENDS + befalls.health)
    with Drive(lab.client, LoadPlan(VIP, 8080, rate=150, held=24, timeout_s=2.0)) as drive:
        wait_until(lambda: len(drive.samples().new) > 150, "the load runs")
        others = find_held_elsewhere(drive.samples())
        struck_s = time.monotonic()
        befalls.strike()
        await_down(programs, SICK)
        down_s = time.monotonic()
        assert count_slots_of(programs, SICK) == 0
        mended_s = await_more(drive, down_s)
        befalls.mend()
        await_down(programs)
        await_more(drive, time.monotonic())
        samples = drive.stop()
    meanwhile = samples.new.between(down_s, mended_s)
    assert meanwhile.failures == {}
    assert SICK not in meanwhile.count()
    assert SICK in samples.new.between(mended_s, np.inf).count()
    assert samples.new.between(mended_s, np.inf).failures == {}
    # Whoever lives elsewhere has noticed nothing.
    assert len(others) > 10
    assert find_broken(samples, others) == []
    print(f"{fault.__name__}: down after {down_s - struck_s:.2f} s of {FALL * INTERVAL_S:g} s")


def test_flows_that_were_remembered_on_it_are_released(lab, servers, programs):
    """Once it is back, nothing leads old ports to it: it serves none of what it served."""
    programs.start(HEAD + BACKENDS + TCP + "flow_tracking: always\n")
    with Drive(lab.client, LoadPlan(VIP, 8080, rate=0, held=40, timeout_s=2.0)) as drive:
        wait_until(lambda: len(drive.samples()) > 80, "the load runs")
    before = programs.dataplane().read()
    (number,) = [n for n, row in before.backends.items() if str(row.address) == SICK]
    os.kill(servers[0].pid, signal.SIGKILL)
    servers[0].wait()
    await_down(programs, SICK)
    after = programs.dataplane().read()
    assert after.backends[number].born > before.backends[number].born
    same = [n for n in before.backends if n != number]
    assert [before.backends[n] for n in same] == [after.backends[n] for n in same]
    servers[:1] = lab.serve([lab.backends[0]])
    await_down(programs)
    assert programs.dataplane().read().backends[number] == after.backends[number]


def test_half_down_is_a_panic_and_all_stay(lab, servers, programs):
    controller = programs.start(HEAD + BACKENDS + TCP + "safety: {min_up_percent: 75}\n")
    for server in servers[:2]:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    wait_until(lambda: "panic=on" in controller.log.read_text(), "it says so")
    document = json.loads(programs.run("status", "--json").stdout)
    assert document["services"][0]["panic"]
    assert {c["type"]: c["reason"] for c in document["conditions"]}["BackendsHealthy"] == "Panic"
    assert find_down(programs) == set()
    assert count_slots_of(programs, SICK) > 0
    servers[:2] = lab.serve(lab.backends[:2])
    wait_until(lambda: "panic=off" in controller.log.read_text(), "it is over")


def test_all_down_follows_the_policy(lab, servers, programs):
    """`min_up_percent: 0` asks for an end of traffic where nobody is up, and gets it."""
    controller = programs.start(HEAD + BACKENDS + TCP + "safety: {min_up_percent: 0}\n")
    for server in servers:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    await_down(programs, *NAMES)
    assert not unpack_slots(programs.tables().slots)[0].any()
    assert is_running(controller.pid)
    servers[:] = lab.serve()
    await_down(programs)
    assert fetch(lab.client, VIP).backend in NAMES


def test_health_outlives_the_controller(lab, servers, programs):
    """The next one starts from what was known, and writes nothing before it has news."""
    text = HEAD + BACKENDS + TCP
    controller = programs.start(text)
    os.kill(servers[0].pid, signal.SIGKILL)
    servers[0].wait()
    await_down(programs, SICK)
    assert programs.plan()["in_sync"]  # who is not the controller knows it too
    os.kill(controller.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(controller.pid), "it is dead")
    assert programs.plan()["in_sync"]
    before = programs.tables()
    assert programs.apply(text)["writes"] == 0
    programs.start(text)
    assert programs.tables() == before


def test_one_pass_checks_first_if_it_is_asked_to(lab, servers, programs):
    os.kill(servers[0].pid, signal.SIGKILL)
    servers[0].wait()
    programs.apply(HEAD + BACKENDS + TCP)
    assert find_down(programs) == set()
    programs.apply(HEAD + BACKENDS + TCP, "--probe")
    assert find_down(programs) == {SICK}


def test_a_backend_that_is_back_starts_slowly(lab, servers, programs):
    programs.start(HEAD + BACKENDS + TCP + "slow_start: 4s\n")
    whole = count_slots_of(programs, SICK)
    os.kill(servers[0].pid, signal.SIGKILL)
    servers[0].wait()
    await_down(programs, SICK)
    servers[:1] = lab.serve([lab.backends[0]])
    seen = set()

    def is_whole():
        seen.add(count_slots_of(programs, SICK))
        return whole in seen

    wait_until(is_whole, "it has its whole share", 20)
    parts = sorted(seen - {0, whole})
    assert len(parts) >= 5  # of nine steps
    assert parts[0] < whole / 5
