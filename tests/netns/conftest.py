"""xdplb on a laboratory's balancers, for one test at a time."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest

from reconciler.dataplane.kernel import KernelDataplane
from reconciler.lab import wait_until
from reconciler.lab.controller import Controller, find_program
from reconciler.lab.process import python_environment


class Xdplb:
    """The programs under test, the pins they make, and an end to all of it.

    Attributes:
        lab: the laboratory.
        balancer: where they run; its balancer, or the first of several, by default.
        config: the lb.yaml of this test, in a folder of its own.
    """

    def __init__(self, lab, balancer=None):
        self.lab = lab
        self.balancer = balancer or lab.balancer
        self.folder = Path(tempfile.mkdtemp(dir=lab.directory))
        self.config = self.folder / "lb.yaml"
        self._controllers = []
        self._dataplanes = []

    @property
    def root(self):
        """The balancer's pins, as this process reaches them."""
        return Path(f"/proc/{self.balancer.mounts_pid}/root/sys/fs/bpf/xdplb")

    @property
    def state(self):
        """The balancer's /run/xdplb, as this process reaches it."""
        return Path(f"/proc/{self.balancer.mounts_pid}/root/run/xdplb")

    def run(self, *words, stdin="", under=()):
        """Run `xdplb` to its end, whatever it ends with; `under` are words before it."""
        command = [*under, *find_program("xdplb"), *map(str, words)]
        return self.balancer.run(
            command, stdin=stdin, check=False, environment=python_environment()
        )

    def run_reconcile(self, *words):
        """Run `xdplb-reconcile` to its end, whatever it ends with."""
        command = [*find_program("xdplb-reconcile", "run"), *map(str, words)]
        return self.balancer.run(command, check=False, environment=python_environment())

    def popen(self, *words):
        """Start `xdplb`; the laboratory ends it."""
        command = [*find_program("xdplb"), *map(str, words)]
        return self.balancer.popen(command, environment=python_environment())

    def apply(self, text, *words):
        """Make one pass with this text as the file; the document it prints."""
        self.config.write_text(text, encoding="utf-8")
        return self.apply_file(self.config, *words)

    def apply_file(self, config, *words):
        done = self.run("run", "--once", "--json", "-c", config, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def plan(self, config=None):
        done = self.run("plan", "--json", "-c", config or self.config)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, text=None, config=None):
        """Start the controller and return when the kernel follows the file."""
        config = config or self.config
        if text is not None:
            config.write_text(text, encoding="utf-8")
        controller = Controller(self.lab, config)
        self._controllers.append(controller)
        controller.wait_in_sync()
        # The tables come first, then the verdict on them: who meddles waits for both.
        wait_until(lambda: self.account().get("pid") == controller.pid, "the first pass is over")
        return controller

    def dataplane(self, name="default"):
        """What is pinned now, to be read and to be meddled with."""
        dataplane = KernelDataplane(self.root / name)
        self._dataplanes.append(dataplane)
        return dataplane

    def tables(self, name="default"):
        """What the kernel holds now."""
        with contextlib.closing(KernelDataplane(self.root / name)) as dataplane:
            return dataplane.read()

    def account(self, name="default"):
        """What the controller says of itself; empty before it has said anything."""
        try:
            return json.loads((self.state / name / "status.json").read_text(encoding="utf-8"))
        except OSError:
            return {}

    def find_programs(self):
        """Interfaces of the balancer with an XDP program, by name: id and mode."""
        words = ["ip", "-details", "-json", "link", "show"]
        links = json.loads(self.balancer.run(words).stdout)
        return {each["ifname"]: each["xdp"] for each in links if "xdp" in each}

    def close(self):
        for controller in self._controllers:
            controller.stop()
        for dataplane in self._dataplanes:
            dataplane.close()
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            KernelDataplane(folder).pins.remove_contents()
            folder.rmdir()
        # The kernel takes programs off in its own time.
        wait_until(lambda: not self.find_programs(), "no program is on an interface")
        if self.root.is_dir():
            self.root.rmdir()
        for folder in self.state.iterdir():
            shutil.rmtree(folder)


@pytest.fixture
def xdplb(lab):
    programs = Xdplb(lab)
    try:
        yield programs
    finally:
        programs.close()
