"""The client and the servers of the soak as its test handles them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from reconciler.lab import process
from reconciler.lab.sample import Outcome, parse_sample
from reconciler.lab.samples import Samples

from .client import Progress

SYN_TIMEOUT_S = 1.0  # TCP_TIMEOUT_INIT (include/net/tcp.h)


class Program:
    """A module of this folder as a process, from its making to the end of its `with` block."""

    def __init__(self, entry, module, *words):
        command = [*entry, sys.executable, "-m", f"tests.netns.soak.{module}", *map(str, words)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = process.start(command, env=process.python_environment(), **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        process.end([self.process])
        self.process.stdout.close()

    def tell(self, *words):
        """Give it a command, in one write, from any thread."""
        os.write(self.process.stdin.fileno(), f"{' '.join(words)}\n".encode())

    @property
    def peak_mb(self):
        """The most memory it has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024


class Servers(Program):
    """The servers of a laboratory's backends."""

    def __init__(self, lab, port):
        places = [f"{each.namespace}={each.address}" for each in lab.backends]
        super().__init__((), "server", port, *places)
        process.await_line(self.process, "ready")


class Crowd(Program):
    """The client's connections.

    Attributes:
        progress: how far they were a tenth of a second ago.
        short: how many short connections were made.
        failed: samples of connections that failed or broke, but for those `reset_again`.
        reset_again: that were reset in a handshake of which a segment had been lost. Its
            slot had moved before the second SYN, so two backends answered.
    """

    def __init__(self, host, place, **options):
        self.held = options["held"]
        self.progress = Progress(0, 0, 0)
        self.short = 0
        self.failed, self.reset_again = [], []
        self._samples = []
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        super().__init__(host.entry, "client", *place, *words)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __exit__(self, *_):
        super().__exit__()
        self._reader.join()

    @property
    def is_complete(self):
        """Whether every held connection is open and has been answered."""
        return self.progress.established == self.held

    def renew(self):
        """Let every held connection end after its next answer; others take their places."""
        self.tell("renew")

    def finish(self):
        """End all connections after their answers; what became of every one there was."""
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self._reader.join()
        return Samples.collect(self._samples)

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("#"):
                self.progress = Progress(*map(int, line.split()[1:]))
                continue
            sample = parse_sample(line)
            self._samples.append(sample)
            self.short += not sample.held
            if has_been_reset_again(sample):
                self.reset_again.append(sample)
            elif sample.outcome is not Outcome.OK:
                self.failed.append(sample)


def has_been_reset_again(sample):
    is_handshake = sample.backend == "-" and sample.duration_s > SYN_TIMEOUT_S
    return is_handshake and sample.outcome is Outcome.RESET
