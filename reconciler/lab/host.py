"""One machine of a laboratory: run programs, open sockets, set kernel settings in it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO, Any

from reconciler.lab import process
from reconciler.lab.namespaces import DIRECTORY, entered
from reconciler.lab.topology import IPInterface


@dataclass
class Host:
    """A network namespace that plays a machine.

    Attributes:
        name: short name in the topology, such as `client` or `b1`.
        namespace: name of the network namespace.
        interfaces: the addresses it was given, the first being its main one.
        mounts_pid: a process whose mount namespace belongs to this host alone;
            None if the host shares the machine's mounts.
        started: every process that `popen` started; the laboratory ends them.
    """

    name: str
    namespace: str
    interfaces: tuple[IPInterface, ...] = ()
    mounts_pid: int | None = None
    started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    @property
    def address(self) -> IPv4Address:
        """Its main IPv4 address; the one in front, for the balancer."""
        return next(ip for each in self.interfaces if isinstance(ip := each.ip, IPv4Address))

    @property
    def address6(self) -> IPv6Address:
        """Its main IPv6 address.

        Raises:
            StopIteration: the topology has none.
        """
        return next(ip for each in self.interfaces if isinstance(ip := each.ip, IPv6Address))

    @property
    def entry(self) -> tuple[str, ...]:
        """The words that, before a command, run it in here."""
        if self.mounts_pid is None:
            return ("nsenter", f"--net={DIRECTORY / self.namespace}", "--")
        return ("nsenter", f"--target={self.mounts_pid}", "--mount", "--net", "--wd=.", "--")

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and return what it printed.

        Raises:
            subprocess.CalledProcessError: it failed and `check` is set.
            subprocess.TimeoutExpired: it was still running after `timeout_s` seconds.
        """
        return subprocess.run(
            [*self.entry, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
            env=environment,
        )

    def popen(
        self,
        command: Sequence[str],
        *,
        stdout: int | IO[str] | None = subprocess.PIPE,
        stderr: int | IO[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program that runs until it ends or the laboratory does."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
        started = process.start([*self.entry, *command], env=environment, **options)
        self.started.append(started)
        return started

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread's network calls happen in here."""
        with entered(self.namespace):
            yield

    def socket(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_STREAM,
        protocol: int = 0,
    ) -> socket.socket:
        """Open a socket that belongs to this host, whoever uses it."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def sysctl(self, name: str, value: int | str) -> None:
        """Set a network setting, named by its path below /proc/sys/net with slashes.

        Raises:
            OSError: the kernel has no such setting or refuses the value.
        """
        with self.entered():
            (Path("/proc/sys/net") / name).write_text(str(value), encoding="ascii")
