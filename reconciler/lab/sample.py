"""What became of one request of a load, and the line that tells it."""

from __future__ import annotations

import enum
import errno
from typing import NamedTuple


class Outcome(str, enum.Enum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"  # the peer ended the connection before it had answered
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BAD_ANSWER = "bad_answer"  # nonsense, another backend than before, or another client's
    NOT_SENT = "not_sent"  # the load's own fault: no port or no descriptor left


class Sample(NamedTuple):
    """One request.

    `connection` counts connections from 0; `start_s` is the time of the request
    on the monotonic clock and `duration_s` how long its answer took, the
    handshake included for a short connection. `backend` is "-" without an answer.
    """

    connection: int
    held: bool
    start_s: float
    duration_s: float
    outcome: Outcome
    backend: str

    def format(self) -> str:
        """One line, to be read by `parse_sample`."""
        times = f"{self.start_s:.6f} {self.duration_s:.6f}"
        return f"{self.connection} {self.held:d} {times} {self.outcome.value} {self.backend}\n"


def parse_sample(line: str) -> Sample:
    """Read a line of `Sample.format`.

    Raises:
        ValueError: it is none.
    """
    connection, held, start_s, duration_s, outcome, backend = line.split()
    number, is_held = int(connection), held == "1"
    return Sample(number, is_held, float(start_s), float(duration_s), Outcome(outcome), backend)


_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
}


def name_failure(number: int | None, otherwise: Outcome) -> Outcome:
    """What an error number of the socket calls means for a request."""
    return _OUTCOMES.get(number or 0, otherwise)
