"""Two balancers of one VIP in a laboratory, and the router before them."""

import json
from contextlib import closing, suppress

from reconciler.dataplane.kernel import KernelDataplane
from reconciler.lab import wait_until
from reconciler.lab.ask import fetch

from .conftest import Xdplb
from .test_modes import WEB, prepare_backends


class Pair:
    """Two balancers of one VIP, and the routes that lead to them and back."""

    def __init__(self, lab, mix):
        self.lab, self.mix = lab, mix
        self.balancers = [Xdplb(lab, host) for host in lab.balancers]

    def close(self):
        for each in self.balancers:
            self.set_link(each, "up")
            each.close()

    @property
    def client(self):
        return self.choose_family(self.lab.client)

    # --- files ---

    def apply(self, backends, **more):
        """Give both one file, with the first `backends` backends."""
        for each in self.balancers:
            self.apply_to(each, backends, **more)

    def apply_to(self, balancer, backends, **more):
        every = [self.mix.address_of(each) for each in self.lab.backends[:backends]]
        service = {"name": "web", "vip": self.mix.vip, "port": WEB, "backends": every, **more}
        document = {"version": 1, "interface": "eth0", "forwarding": self.mix.mode}
        balancer.apply(json.dumps({**document, "services": [service]}))  # JSON is YAML

    def begin(self, backends):
        """Give both one file, and return when every backend was reached through each."""
        self.apply(backends)
        for each in self.balancers:
            self.announce(each)
            self.wait_until_reached(backends)
        self.announce(*self.balancers)

    def wait_until_reached(self, backends):
        reached = set()

        def is_reached():
            # A direct-return packet is dropped until its backend's MAC is known.
            with suppress(OSError):
                reached.add(fetch(self.lab.client, self.mix.vip, WEB, timeout_s=0.2).backend)
            return len(reached) == backends

        wait_until(is_reached, "every backend answers")

    # --- routes ---

    def announce(self, *balancers):
        """Have the router send the VIP's packets to these; with nat backends theirs too."""
        hops = [word for each in balancers for word in ("nexthop", "via", self.address_of(each))]
        replace = ["ip", f"-{self.mix.inner}", "route", "replace"]
        self.lab.router.run([*replace, self.mix.vip, *hops])
        router = next(a for a in self.lab.topology.gateways["b1"] if a.version == self.mix.inner)
        back = ["via", str(router.ip)] if self.mix.is_direct_return else hops
        for backend in self.lab.backends:
            backend.run([*replace, "default", *back])

    def address_of(self, balancer):
        return str(self.choose_family(balancer.balancer))

    def choose_family(self, host):
        """A host's address of the VIP's family."""
        return host.address if self.mix.inner == 4 else host.address6

    def find_ways(self, ports):
        """By the client's port, the balancer that the router sends it to.

        For IPv4: asked about IPv6, the kernel hashes otherwise than when it forwards.
        """
        question = f"route get {self.mix.vip} from {self.client} iif eth0 ipproto tcp dport {WEB}"
        batch = "".join(f"{question} sport {port}\n" for port in ports)
        lines = self.lab.router.run(["ip", "-json", "-batch", "-"], stdin=batch).stdout
        routes = [route for line in lines.splitlines() if line for route in json.loads(line)]
        owners = {self.address_of(each): each for each in self.balancers}
        return {port: owners[r["gateway"]] for port, r in zip(ports, routes, strict=True)}

    # --- loss and return ---

    def cut(self, balancer):
        """A balancer is gone, and then the routers notice."""
        self.set_link(balancer, "down")
        self.announce(*(each for each in self.balancers if each is not balancer))

    def mend(self, balancer):
        """A balancer is back, and after a pass of its controller the routers are told."""
        self.set_link(balancer, "up")
        balancer.apply_file(balancer.config)
        self.announce(*self.balancers)

    def count_new_flows(self, balancer):
        with closing(KernelDataplane(balancer.root / "default")) as dataplane:
            return int(dataplane.read_counters("backend_stats")["new_flows"].sum())

    def set_link(self, balancer, state):
        wire = f"to-{balancer.balancer.name}"
        self.lab.switch.run(["ip", "link", "set", wire, state])


def prepare_pair_lab(lab):
    """Get a laboratory ready for pairs: backends, the router's hash, the balancers' wires."""
    prepare_backends(lab)
    for host in (lab.router, *lab.backends):
        hash_ports(host)
    for wire in lab.topology.wires:
        if wire.one.host in lab.topology.balancer_names:
            keep_from_others(lab.switch, wire)


def hash_ports(host):
    """Have a host choose next hops by addresses, protocol and ports.

    That is policy 1, but it takes a hash which the sender's socket left on the packet: on
    one machine it is still there, over a wire it is not. Policy 3 looks at the fields only.
    """
    for family in ("ipv4", "ipv6"):
        host.sysctl(f"{family}/fib_multipath_hash_fields", 0x37)
        host.sysctl(f"{family}/fib_multipath_hash_policy", 3)


def keep_from_others(switch, wire):
    """Have a balancer's frames lost with it. Flooded, they'd reach the other one: a network
    card leaves out what is for another address, a veth takes it and XDP sees it.
    """
    place = ["dev", wire.other.interface, "master", "static"]
    switch.run(["bridge", "fdb", "replace", wire.one.mac, *place])
