"""An instance on a laboratory's balancer, driven from inside the test's own process."""

import json
from pathlib import Path

import pytest

from reconciler.config import parse
from reconciler.instance import Instance
from reconciler.lab import Lab, Topology, wait_until


class Machine:
    """The balancer of a laboratory, where the calling thread is; faults can be put in.

    Attributes:
        lab: the laboratory, with web servers on every backend.
    """

    def __init__(self, lab):
        self.lab = lab
        self.root = Path(f"/proc/{lab.balancer.mounts_pid}/root/sys/fs/bpf/xdplb")
        self._instances = []

    def instance(self):
        """A controller that has just been started."""
        instance = Instance("default", self.root)
        self._instances.append(instance)
        return instance

    def parse(self, text):
        parsed = parse(text.encode(), "lb.yaml")
        assert parsed.config is not None, [each.message for each in parsed.diagnostics]
        return parsed.config

    def apply(self, text):
        """A whole pass, which nothing disturbs."""
        instance = self.instance()
        with instance.held():
            return instance.reconcile(self.parse(text), allow_large_change=True)

    def read(self):
        """What the kernel holds."""
        return self.instance().dataplane.read()

    def close(self):
        for instance in self._instances:
            instance.dataplane.close()
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            Instance(folder.name, self.root).dataplane.pins.remove_contents()
            folder.rmdir()
        # The kernel takes programs off in its own time.
        wait_until(lambda: not self.find_programs(), "no program is on an interface")

    def find_programs(self):
        """Ids of the XDP programs on the balancer's interfaces, by interface."""
        words = ["ip", "-details", "-json", "link", "show"]
        links = json.loads(self.lab.balancer.run(words).stdout)
        return {each["ifname"]: each["xdp"]["prog"]["id"] for each in links if "xdp" in each}


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve()
        yield made


@pytest.fixture
def machine(lab):
    with lab.balancer.entered():
        made = Machine(lab)
        try:
            yield made
        finally:
            made.close()
