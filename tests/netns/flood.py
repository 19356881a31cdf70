"""A program that floods a VIP in the name of strangers, until it is told to end.

    python flood.py VIP PORT [KIND...]

The kinds are `syns`, `segments` (out of nowhere), `pairs` (of segments that fit each
other), `datagrams` and `errors` (ICMP, about the service's flows): all of them in turn,
unless some are named. Says `ready` when the first are out, and how many they were when
it ends.
"""

import contextlib
import random
import signal
import socket
import struct
import sys

_STRANGERS = 0xC612_0000  # 198.18.0.0/15 (RFC 2544): no route leads back to them
_ROUND = 500


def sum_words(data):
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Flood:
    """Packets for one VIP and port."""

    def __init__(self, vip, port):
        self.vip, self.port = socket.inet_aton(vip), port
        self.chance = random.Random(1)

    def stranger(self):
        address = _STRANGERS | self.chance.randrange(1, 1 << 17)
        return struct.pack("!I", address), self.chance.randrange(1, 1 << 16)

    def header(self, source, protocol, size):
        # The kernel fills in the checksum.
        return struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + size, 0, 0, 64, protocol, 0, source, self.vip
        )

    def segment(self, stranger, sequence, flags):
        source, port = stranger
        numbers = (port, self.port, sequence % 2**32, 1, 5 << 12 | flags, 65_535)
        tcp = struct.pack("!HHIIHHHH", *numbers, 0, 0)
        pseudo = source + self.vip + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
        checksum = fold(sum_words(pseudo + tcp))
        tcp = struct.pack("!HHIIHHHH", *numbers, checksum, 0)
        return self.header(source, socket.IPPROTO_TCP, len(tcp)) + tcp

    def syns(self):
        for _ in range(_ROUND):
            yield self.segment(self.stranger(), self.chance.getrandbits(32), 0x02)

    def segments(self):
        for _ in range(_ROUND):
            yield self.segment(self.stranger(), self.chance.getrandbits(32), 0x10)

    def pairs(self):
        for _ in range(_ROUND):
            stranger, sequence = self.stranger(), self.chance.getrandbits(32)
            yield self.segment(stranger, sequence, 0x10)
            yield self.segment(stranger, sequence + 1, 0x10)

    def datagrams(self):
        for _ in range(_ROUND):
            source, port = self.stranger()
            udp = struct.pack("!HHHH", port, self.port, 8, 0)
            yield self.header(source, socket.IPPROTO_UDP, len(udp)) + udp

    def errors(self):
        for _ in range(_ROUND):
            client, port = self.stranger()
            quoted = struct.pack("!BBHIBBH", 0x45, 0, 40, 0, 64, 6, 0) + self.vip + client
            quoted += struct.pack("!HHI", self.port, port, 1)
            message = struct.pack("!BBHI", 3, 1, 0, 0) + quoted
            message = message[:2] + struct.pack("!H", fold(sum_words(message))) + message[4:]
            yield self.header(client, socket.IPPROTO_ICMP, len(message)) + message


KINDS = ("syns", "segments", "pairs", "datagrams", "errors")


def main(vip, port, *kinds):
    flood = Flood(vip, int(port))
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
        sent = send_round(flood, kinds, out)
        print("ready", flush=True)
        while not ending:
            sent += send_round(flood, kinds, out)
    print(sent, flush=True)


def send_round(flood, kinds, out):
    """How many packets left."""
    sent = 0
    for kind in kinds or KINDS:
        for packet in getattr(flood, kind)():
            with contextlib.suppress(OSError):  # the queue is full
                out.sendto(packet, (socket.inet_ntoa(flood.vip), 0))
                sent += 1
    return sent


if __name__ == "__main__":
    main(*sys.argv[1:])
