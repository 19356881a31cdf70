"""What client and server of the soak say to each other: one frame there, one answer back.

And how both are told what to do: by lines of words on standard input.
"""

import os
import socket
import struct
import sys

FRAME_SIZE = 64
_FRAME = struct.Struct("!QQ")
_PREFIX = struct.Struct("!4s?")
ANSWER_SIZE = _PREFIX.size + FRAME_SIZE


def write_frame(number, sequence):
    """The only right bytes of a connection's frame: both say which they are."""
    return _FRAME.pack(number, sequence) * (FRAME_SIZE // _FRAME.size)


def write_prefix(address, *, is_leaving):
    """What a backend puts before a frame to answer it."""
    return _PREFIX.pack(socket.inet_aton(address), is_leaving)


def read_answer(answer):
    """The backend's address, whether it asks the client to go, and the frame it was sent."""
    address, is_leaving = _PREFIX.unpack_from(answer)
    return socket.inet_ntoa(address), is_leaving, answer[_PREFIX.size :]


def read_command():
    """The words that have come by standard input, which is readable; none at its end."""
    # Not by sys.stdin: what it keeps in its buffer wakes nobody.
    return os.read(sys.stdin.fileno(), 65_536).decode().split()
