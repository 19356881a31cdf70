"""The unit under a real systemd, which is PID 1 of namespaces that the test makes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.dataplane.kernel import KernelDataplane
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.namespaces import DIRECTORY
from reconciler.lab.process import start
from reconciler.privileges import NEEDED, NEEDED_BY_FEATURES

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("systemd.sh")
SYSTEMD = Path("/lib/systemd/systemd")
TWO = (
    "interface: eth0\nlimits: {ring_slots: 70000, flows: 65536}\nport: 8080\n"
    "backends: [10.0.0.11, 10.0.0.12]\n"
    "health: {type: none}\n"  # nobody serves there
)
ONE = TWO.replace(", 10.0.0.12", "")


def find_cgroup():
    """This process's own place in cgroup2, if it is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup2"]
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    own = [line.removeprefix("0::/") for line in groups if line.startswith("0::/")]
    return found[0] / own[0] if found and own else None


@contextlib.contextmanager
def made_cgroup(parent):
    """A group of cgroup2 that goes when everything in it has ended."""
    made = parent / f"xdplb-test-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        events = made / "cgroup.events"
        wait_until(lambda: "populated 0" in events.read_text(), "everything has ended")
        for folder, _, _ in os.walk(made, topdown=False):
            Path(folder).rmdir()


class Machine:
    """A machine that systemd runs."""

    def __init__(self, lab, scratch, cgroup):
        self.lab = lab
        words = [BOOT, scratch, ROOT, sys.prefix, cgroup, TWO]
        namespace = ["nsenter", f"--net={DIRECTORY / lab.balancer.namespace}", "--"]
        self.process = start([*namespace, *map(str, words)], stdin=subprocess.DEVNULL)

    @property
    def pid(self):
        """PID 1 of the machine, as the test sees it: the child of unshare."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    @property
    def root(self):
        return Path(f"/proc/{self.pid}/root")

    def is_running(self):
        assert self.process.poll() is None, "it ended"
        try:
            return (self.root / "run/systemd/private").exists()
        except (OSError, IndexError):
            return False

    def systemctl(self, *words, check=True):
        command = ["nsenter", f"--target={self.pid}", "--all", "systemctl", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 or not check, done.stderr + self.read_log()
        return done

    def show(self, key):
        return self.systemctl("show", "xdplb.service", "--value", "-p", key).stdout.strip()

    def read_log(self):
        with contextlib.suppress(OSError):
            return (self.root / "run/log").read_text()
        return ""

    def await_active(self):
        wait_until(self.is_running, "systemd runs")

        def is_active():
            state = self.show("ActiveState")
            assert state != "failed", self.read_log()
            return state == "active"

        wait_until(is_active, "the service is active")

    def stop(self):
        """End it at once; with its bpffs go the pins, and the program with them."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not self.has_program(), "no program is on the interface")

    def has_program(self):
        words = ["ip", "-json", "link", "show", "eth0"]
        return "xdp" in json.loads(self.lab.balancer.run(words).stdout)[0]

    def write(self, text):
        (self.root / "etc/xdplb/lb.yaml").write_text(text, encoding="utf-8")

    def tables(self):
        folder = self.root / "sys/fs/bpf/xdplb/default"
        with contextlib.closing(KernelDataplane(folder)) as dataplane:
            return dataplane.read()


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=1, backends=2)) as made:
        yield made


@pytest.fixture
def machine(require, lab, tmp_path):
    require(SYSTEMD.exists(), "systemd is missing")
    own = find_cgroup()
    require(own and os.access(own, os.W_OK), "there is no cgroup2 to make a group in")
    with made_cgroup(own) as cgroup:
        made = Machine(lab, tmp_path, cgroup)
        try:
            made.await_active()
            yield made
        finally:
            made.stop()


def test_it_is_ready_after_its_first_pass(machine):
    assert machine.tables().generation == 1
    assert machine.show("StatusText") == "generation 1, 1 service, 2 backends: applied"
    assert machine.show("NotifyAccess") == "main"
    assert machine.show("WatchdogTimestampMonotonic") != "0"


def test_it_has_no_more_power_than_it_needs(machine):
    status = Path(f"/proc/{machine.pid}/root/proc/{machine.show('MainPID')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    allowed = sum(1 << bit for bit in {**NEEDED, **NEEDED_BY_FEATURES}.values())
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == allowed
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_a_reload_returns_when_the_file_is_taken(machine):
    machine.write(ONE)
    machine.systemctl("reload", "xdplb.service")
    tables = machine.tables()
    assert (tables.generation, machine.show("ActiveState")) == (2, "active")
    assert [info.name for info in tables.backend_info.values() if not info.leaves_ns] == [
        "10.0.0.11:8080"
    ]
    assert machine.show("StatusText").startswith("generation 2, 1 service, 1 backend:")


@pytest.mark.parametrize("text", [TWO.replace("port", "prot"), "", TWO + "name: other\n"])
def test_a_reload_of_a_file_that_is_no_good_fails_and_nothing_else(machine, text):
    before = machine.tables()
    machine.write(text)
    done = machine.systemctl("reload", "xdplb.service", check=False)
    assert done.returncode != 0
    assert machine.tables() == before
    assert machine.show("ActiveState") == "active"
    assert ", REJECTED is a newer file: " in machine.show("StatusText")
    machine.write(TWO)
    machine.systemctl("reload", "xdplb.service")
    assert machine.tables() == before


def test_it_follows_its_file_without_being_told(machine):
    machine.write(ONE)
    wait_until(lambda: machine.tables().generation == 2, "the edit is applied")
    wait_until(lambda: machine.show("ActiveState") == "active", "it is active again")


def test_a_stop_leaves_the_data_plane(machine):
    before = machine.tables()
    machine.systemctl("stop", "xdplb.service")
    assert machine.show("Result") == "success"
    assert machine.tables() == before
    assert machine.has_program()
    account = machine.root / "run/xdplb/default/status.json"
    assert json.loads(account.read_text())["last_good"]["result"] == "applied"
    machine.systemctl("start", "xdplb.service")
    assert machine.tables() == before


def test_one_that_is_killed_comes_back_and_writes_nothing(machine):
    before, pid = machine.tables(), machine.show("MainPID")
    machine.systemctl("kill", "--signal=KILL", "xdplb.service")
    wait_until(lambda: machine.show("MainPID") not in (pid, "0"), "another one starts")
    machine.await_active()
    assert machine.tables() == before


def test_the_rest_of_the_machine_is_out_of_reach(machine):
    """What the unit takes away, looked at from where the controller stands."""
    words = [
        *("nsenter", f"--target={machine.pid}", "--all", "nsenter", "--mount"),
        f"--target={machine.show('MainPID')}",
    ]

    def can_write(path):
        probe = ["sh", "-c", f"touch {path}/probe && rm {path}/probe"]
        return not subprocess.run([*words, *probe], check=False, capture_output=True).returncode

    writable = {"/var/tmp", "/run/xdplb", "/var/lib/xdplb"}  # the first is its own
    places = {"/etc", "/usr", "/etc/xdplb", "/opt/xdplb", "/home", *writable}
    assert {path for path in places if can_write(path)} == writable
    made = subprocess.run([*words, "mkdir", "/sys/fs/bpf/probe"], check=False)
    assert made.returncode == 0
    assert (machine.root / "sys/fs/bpf/probe").is_dir()
