"""The servers of all backends in one process: every frame comes back behind the backend's name.

    python -m tests.netns.soak.server PORT NAMESPACE=ADDRESS...

`leave ADDRESS` on standard input: from then on that backend's answers ask their clients to
go, as servers do that shut down. Prints `ready` when everything listens; ends with its input.
"""

import argparse
import select
import socket
import sys

from reconciler.lab.namespaces import entered
from tests.netns.soak.frames import FRAME_SIZE, read_command, write_prefix

_BACKLOG = 4096
_CHUNK_BYTES = 65_536


class Backend:
    """Where one backend listens, and what it puts before each answer."""

    def __init__(self, namespace, address, port):
        self.address = address
        self.prefix = write_prefix(address, is_leaving=False)
        with entered(namespace):
            self.listener = socket.create_server(("", port), backlog=_BACKLOG)
        self.listener.setblocking(False)

    def leave(self):
        self.prefix = write_prefix(self.address, is_leaving=True)


class Connection:
    """One client of one backend; `rest` is the beginning of a frame."""

    __slots__ = ("backend", "rest", "socket")

    def __init__(self, accepted, backend):
        self.socket, self.backend, self.rest = accepted, backend, b""

    def answer(self):
        """Answer every whole frame that has come; False when the client has gone."""
        try:
            data = self.socket.recv(_CHUNK_BYTES)
        except ConnectionError:
            return False
        if not data:
            return False
        data = self.rest + data
        whole = len(data) - len(data) % FRAME_SIZE
        for start in range(0, whole, FRAME_SIZE):
            self.socket.send(self.backend.prefix + data[start : start + FRAME_SIZE])
        self.rest = data[whole:]
        return True


class Servers:
    """Every listener, every connection, one loop."""

    def __init__(self, backends):
        self.backends = {backend.listener.fileno(): backend for backend in backends}
        self.connections = {}
        self.epoll = select.epoll()
        for descriptor in (sys.stdin.fileno(), *self.backends):
            self.epoll.register(descriptor, select.EPOLLIN)

    def run(self):
        while True:
            for descriptor, _ in self.epoll.poll():
                if descriptor in self.connections:
                    self.answer(descriptor)
                elif descriptor in self.backends:
                    self.accept(self.backends[descriptor])
                elif not (words := read_command()):
                    return
                else:
                    self.obey(words)

    def obey(self, words):
        """Carry out `leave ADDRESS`, once or several times."""
        for backend in self.backends.values():
            if backend.address in words:
                backend.leave()

    def accept(self, backend):
        while True:
            try:
                accepted, _ = backend.listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            self.connections[accepted.fileno()] = Connection(accepted, backend)
            self.epoll.register(accepted.fileno(), select.EPOLLIN)

    def answer(self, descriptor):
        if not self.connections[descriptor].answer():
            self.connections.pop(descriptor).socket.close()


def main():
    parser = argparse.ArgumentParser(description="the servers of the soak's backends")
    parser.add_argument("port", type=int)
    parser.add_argument("places", nargs="+", metavar="NAMESPACE=ADDRESS")
    options = parser.parse_args()
    places = [place.split("=") for place in options.places]
    servers = Servers([Backend(*place, options.port) for place in places])
    print("ready", flush=True)
    servers.run()


if __name__ == "__main__":
    main()
