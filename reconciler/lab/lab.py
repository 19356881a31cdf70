"""Build a laboratory, and take it away whatever happens."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from reconciler.lab import build, namespaces, process
from reconciler.lab.host import Host
from reconciler.lab.topology import CLIENT, ROUTER, SWITCH, Topology
from reconciler.lab.waiting import wait_until

_counter = itertools.count()


class Lab:
    """A laboratory, from `with` to the end of its block.

    Namespaces are called `xdplb-PID-N-HOST` after the process that made them.
    At the end every process in them is ended and they are deleted: after an
    exception, Ctrl-C and SIGTERM too. What a killed maker left is swept away by
    the next laboratory.

    Attributes:
        directory: a scratch directory that goes with the laboratory.
        client, balancer, balancers, router, switch, backends: its hosts.
    """

    def __init__(self, topology: Topology | None = None, *, keep: bool = False) -> None:
        """Describe a laboratory; nothing is made yet.

        Args:
            topology: its shape.
            keep: leave it up at the end, once it is complete. `sweep_kept` takes
                it away.
        """
        self.topology = topology or Topology()
        self.keep = keep
        self.tag = namespaces.make_tag(next(_counter), keep)
        self.directory = _directory_of(self.tag)
        self._hosts = {name: self._describe(name) for name in self.topology.hosts}
        self._signals = ExitStack()

    @property
    def client(self) -> Host:
        """Who asks."""
        return self._hosts[CLIENT]

    @property
    def balancers(self) -> list[Host]:
        """Where xdplb runs, each with mounts of its own."""
        return [self._hosts[name] for name in self.topology.balancer_names]

    @property
    def balancer(self) -> Host:
        """The balancer, or the first of several."""
        return self.balancers[0]

    @property
    def router(self) -> Host:
        """Who stands before several balancers.

        Raises:
            KeyError: there is but one.
        """
        return self._hosts[ROUTER]

    @property
    def switch(self) -> Host:
        """The bridge."""
        return self._hosts[SWITCH]

    @property
    def backends(self) -> list[Host]:
        """Who answers, in order."""
        return [self._hosts[name] for name in self.topology.backend_names]

    def host(self, name: str) -> Host:
        """Return a host by its short name.

        Raises:
            KeyError: there is none of that name.
        """
        return self._hosts[name]

    def __enter__(self) -> Lab:
        namespaces.require_root_and_tools()
        sweep_stale()
        self._signals.enter_context(process.termination_raised())
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.keep:
            self._signals.close()
        else:
            self.close()

    def close(self) -> None:
        """End everything that runs in the laboratory, then delete it. Safe to repeat."""
        with self._signals, process.undisturbed():
            process.end([each for host in self._hosts.values() for each in host.started])
            _remove(self.tag)

    def serve(
        self,
        backends: Iterable[Host] | None = None,
        *,
        http: int | None = 8080,
        echo: int | None = None,
        udp: int | None = None,
        addresses: Sequence[str] = (),
    ) -> list[subprocess.Popen[str]]:
        """Start a server on each backend and return when all of them listen.

        Every answer names the backend by its main address. See `reconciler.lab.server`.

        Args:
            backends: where; on all of them by default.
            http: TCP port of the web server.
            echo: TCP port of the line echo.
            udp: UDP port of the datagram echo.
            addresses: what to listen on; by default every address. A UDP server
                behind direct return must be given the VIP, for its answers
                leave from the address it is bound to.

        Returns:
            One process for each backend, in order.
        """
        ports = {"--http": http, "--echo": echo, "--udp": udp}
        options = [f"{name}={port}" for name, port in ports.items() if port is not None]
        every = ("0.0.0.0", "::") if self.topology.ipv6 else ("0.0.0.0",)
        options += [f"--address={address}" for address in addresses or every]
        program = [sys.executable, "-m", "reconciler.lab.server", *options]
        environment = process.python_environment()
        servers = [
            host.popen([*program, str(host.address)], environment=environment)
            for host in (self.backends if backends is None else backends)
        ]
        for server in servers:
            process.await_line(server, "ready")
        return servers

    def _describe(self, name: str) -> Host:
        places = self.topology.addresses.items()
        interfaces = tuple(each for (host, _), found in places if host == name for each in found)
        return Host(name, f"{self.tag}-{name}", interfaces)

    def _build(self) -> None:
        self.directory.mkdir(mode=0o700)
        namespaces.add_namespaces(host.namespace for host in self._hosts.values())
        build.connect(self.topology, self._hosts)
        for balancer in self.balancers:
            build.mount(balancer, self.directory)
        wait_until(lambda: build.is_up(self._hosts.values()), "every interface is up")


def sweep_stale() -> None:
    """Take away laboratories whose maker is dead; those left on purpose stay."""
    for tag in namespaces.list_tags(stale=True):
        _remove(tag)


def sweep_kept() -> list[str]:
    """Take away laboratories that were left on purpose, and return their tags."""
    tags = sorted(namespaces.list_tags(kept=True))
    for tag in tags:
        _remove(tag)
    return tags


def _directory_of(tag: str) -> Path:
    return Path(tempfile.gettempdir()) / tag


def _remove(tag: str) -> None:
    namespaces.delete_namespaces(tag)
    shutil.rmtree(_directory_of(tag), ignore_errors=True)
