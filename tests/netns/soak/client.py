"""Many connections from one process: held ones that go on and on, and short ones at a rate.

    python -m tests.netns.soak.client 198.51.100.10 7 --held 10000 --interval-s 5 --rate 200

A held connection sends a frame each interval; when its backend asks it to go it ends, and
another takes its place. A short one sends one frame. Each answer has to bring back the very
frame, by the backend that answered before, within the timeout.

Standard output: a `Sample` for each connection, once its first answer has come or it has
failed, with the client's port for a number; and ten times a second a line of `Progress`.
Standard input: `renew` ends every held connection after its next answer and puts another in
its place; the end of the input ends the program, after the answers that are still out.
"""

import argparse
import errno
import select
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

from reconciler.lab.sample import Outcome, Sample, name_failure
from tests.netns.soak.frames import ANSWER_SIZE, read_answer, read_command, write_frame

_TICK_S = 0.005
_FLUSH_S = 0.1
# So that ten thousand SYNs don't come at once: a veth loses what is more than 256 behind.
_OPENED_PER_TURN = 5


class Progress(NamedTuple):
    """Held connections: how many have been answered and are open; their answers so far; how
    many were asked to go, and went."""

    established: int
    answers: int
    ended: int

    def format(self):
        return f"# {' '.join(map(str, self))}\n"


class Connection:
    """One connection: what it has sent last, and whether the answer is still out."""

    __slots__ = ("backend", "buffer", "is_ending", "is_held", "is_waiting", "number")
    __slots__ += ("port", "sequence", "socket", "start_s")

    def __init__(self, number, start_s, *, is_held):
        self.number, self.start_s, self.is_held = number, start_s, is_held
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.backend, self.buffer, self.sequence, self.port = None, b"", 0, 0
        self.is_waiting, self.is_ending = True, False


class Client:
    """Every connection, one loop.

    Intervals and timeouts are the same for all, so who has to be looked at next stands first
    in its queue.
    """

    def __init__(self, options):
        self.options = options
        self.server = (options.address, options.port)
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self.connections = {}  # by descriptor
        self.resting = deque()  # (when to send, connection)
        self.deadlines = deque()  # (when it is over, connection, sequence)
        self.numbers = self.short = self.held = self.established = self.answers = self.ended = 0
        self.is_over = False

    def run(self):
        start_s = flushed_s = time.monotonic()
        while not self.is_over or self.connections:
            for descriptor, _ in self.epoll.poll(_TICK_S):
                self.attend(descriptor)
            now_s = time.monotonic()
            self.open_due(now_s - start_s)
            self.send_due(now_s)
            self.fail_overdue(now_s)
            if now_s - flushed_s > _FLUSH_S:
                flushed_s = now_s
                self.flush()
        self.flush()

    def flush(self):
        sys.stdout.write(Progress(self.established, self.answers, self.ended).format())
        sys.stdout.flush()

    def attend(self, descriptor):
        connection = self.connections.get(descriptor)
        if connection:
            self.receive(connection) if connection.sequence else self.greet(connection)
        elif descriptor == sys.stdin.fileno():
            self.obey(read_command())

    def obey(self, words):
        for connection in self.connections.values():
            connection.is_ending = True
        if not words:
            self.is_over = True
            self.epoll.unregister(sys.stdin.fileno())
            for connection in list(self.connections.values()):
                if not connection.is_waiting:
                    self.end(connection)

    # --- what is due ---

    def open_due(self, elapsed_s):
        if self.is_over:
            return
        for _ in range(min(self.options.held - self.held, _OPENED_PER_TURN)):
            self.held += 1
            self.open(is_held=True)
        for _ in range(int(elapsed_s * self.options.rate) - self.short):
            self.short += 1
            self.open(is_held=False)

    def send_due(self, now_s):
        while self.resting and self.resting[0][0] <= now_s:
            _, connection = self.resting.popleft()
            if self.is_open(connection):
                self.ask(connection)

    def fail_overdue(self, now_s):
        while self.deadlines and self.deadlines[0][0] <= now_s:
            _, connection, sequence = self.deadlines.popleft()
            is_overdue = connection.is_waiting and connection.sequence == sequence
            if is_overdue and self.is_open(connection):
                self.fail(connection, Outcome.TIMEOUT)

    def is_open(self, connection):
        return self.connections.get(connection.socket.fileno()) is connection

    # --- one connection ---

    def open(self, *, is_held):
        connection = Connection(self.numbers, time.monotonic(), is_held=is_held)
        self.numbers += 1
        self.connections[connection.socket.fileno()] = connection
        self.epoll.register(connection.socket.fileno(), select.EPOLLOUT)
        self.expect(connection)
        number = connection.socket.connect_ex(self.server)
        connection.port = connection.socket.getsockname()[1]
        if number not in (0, errno.EINPROGRESS):
            self.fail(connection, name_failure(number, Outcome.NOT_SENT))

    def greet(self, connection):
        number = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.fail(connection, name_failure(number, Outcome.RESET))
        else:
            self.epoll.modify(connection.socket.fileno(), select.EPOLLIN)
            self.ask(connection)

    def ask(self, connection):
        connection.sequence += 1
        try:
            connection.socket.send(write_frame(connection.number, connection.sequence))
        except OSError as error:
            self.fail(connection, name_failure(error.errno, Outcome.RESET))
        else:
            self.expect(connection)

    def expect(self, connection):
        connection.is_waiting = True
        deadline_s = time.monotonic() + self.options.timeout_s
        self.deadlines.append((deadline_s, connection, connection.sequence))

    def receive(self, connection):
        try:
            data = connection.socket.recv(2 * ANSWER_SIZE)
        except OSError as error:
            self.fail(connection, name_failure(error.errno, Outcome.RESET))
            return
        connection.buffer += data
        if not data:
            self.fail(connection, Outcome.CLOSED)
        elif not connection.is_waiting or len(connection.buffer) > ANSWER_SIZE:
            self.fail(connection, Outcome.BAD_ANSWER)
        elif len(connection.buffer) == ANSWER_SIZE:
            self.take(connection)

    def take(self, connection):
        backend, is_leaving, frame = read_answer(connection.buffer)
        is_same = connection.backend in (None, backend)
        if not is_same or frame != write_frame(connection.number, connection.sequence):
            self.fail(connection, Outcome.BAD_ANSWER)
            return
        self.answers += connection.is_held
        connection.buffer, connection.is_waiting = b"", False
        if connection.backend is None:
            connection.backend = backend
            self.established += connection.is_held
            self.tell(connection, Outcome.OK)
        if is_leaving or connection.is_ending or not connection.is_held:
            self.end(connection)
        else:
            self.resting.append((time.monotonic() + self.options.interval_s, connection))

    def fail(self, connection, outcome):
        self.tell(connection, outcome)
        self.close(connection)

    def end(self, connection):
        self.ended += connection.is_held
        self.close(connection)

    def close(self, connection):
        if connection.is_held:
            self.held -= 1
            self.established -= connection.backend is not None
        del self.connections[connection.socket.fileno()]
        connection.socket.close()

    def tell(self, connection, outcome):
        duration_s = time.monotonic() - connection.start_s
        backend = connection.backend or "-"
        port, is_held, start_s = connection.port, connection.is_held, connection.start_s
        sample = Sample(port, is_held, start_s, duration_s, outcome, backend)
        sys.stdout.write(sample.format())


def main():
    parser = argparse.ArgumentParser(description="the soak's connections")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--held", type=int, required=True)
    for name in ("interval-s", "timeout-s", "rate"):
        parser.add_argument(f"--{name}", type=float, required=True)
    Client(parser.parse_args()).run()


if __name__ == "__main__":
    main()
