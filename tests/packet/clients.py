"""Clients of a service, and what is remembered of their flows."""

from __future__ import annotations

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import CLIENT_PORT, to_service

TCP, UDP = Protocol.TCP, Protocol.UDP
START = 0xFFFF_FF00  # sequence numbers that wrap soon


class Client:
    """Sends packets for a VIP, and says which backend each goes to."""

    def __init__(self, balancer, vip=services.TRIO, *, port=CLIENT_PORT, address=network.CLIENT):
        self.balancer = balancer
        self.vip = vip
        self.port = port
        self.address = address
        self.names = balancer.backend_names

    def send(self, flags="A", seq=START + 1, payload=b"hello"):
        """A segment; `seq` may run over."""
        fields = {"flags": flags, "seq": seq % 2**32, "payload": payload}
        return self._run(TCP, **fields)

    def send_datagram(self):
        return self._run(UDP)

    def syn(self, seq=START):
        return self.send("S", seq, b"")

    def open(self, seq=START):
        """SYN and ACK; both go to one backend."""
        chosen = self.syn(seq)
        assert self.send(seq=seq + 1) == chosen
        return chosen

    def _run(self, protocol, **fields):
        client = {"client": self.address, "client_port": self.port}
        outcome = self.balancer.send(to_service(protocol, self.vip, **client, **fields))
        assert outcome.verdict is Verdict.FORWARD_REDIRECT
        return self.names[outcome.destination, protocol]

    def flow(self, protocol=TCP, name="flows"):
        """What is remembered of this flow."""
        me, vip = map(self.balancer.locate, (self.address, self.vip))
        return self.balancer.find_flow((me, self.port), (vip, services.VIP_PORT), protocol, name)

    def go_on(self):
        """Two segments of a connection that is older; they go to one backend."""
        chosen = self.send()
        assert self.send(seq=START + 6) == chosen
        return chosen


def count(balancer, name="flows"):
    """How many entries a table has."""
    return len(balancer.read_flows(name)[0])
