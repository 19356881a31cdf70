"""Runs the program's own instructions one by one, to count what a packet costs.

Counts don't depend on time, on the machine or on the kernel: the instructions are those
that clang has made and libbpf has linked, on the maps' real contents. Only what an ordinary
packet meets is understood; anything else raises.
"""

from __future__ import annotations

import ctypes as ct
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from reconciler import abi
from reconciler.dataplane.kernel import PROGRAM
from reconciler.dataplane.libbpf import Libbpf

from .balancer import Balancer

_U32, _U64 = 2**32 - 1, 2**64 - 1
_HEADROOM = 256
_STACK = 512
_PER_CPU = (
    *("backend_nexthops", "client_nexthops", "client_ways", "ways"),
    *("backend_stats", "flow_events", "verdicts"),
)


class _Instruction(ct.Structure):
    """struct bpf_insn (include/uapi/linux/bpf.h)."""

    _fields_ = (
        ("code", ct.c_uint8),
        ("destination", ct.c_uint8, 4),
        ("source", ct.c_uint8, 4),
        ("offset", ct.c_int16),
        ("immediate", ct.c_int32),
    )


@dataclass
class Count:
    """What a packet cost: instructions, calls, and lookups by map."""

    action: int = 0
    frame: bytes = b""
    instructions: int = 0
    calls: int = 0
    lookups: Counter[str] = field(default_factory=Counter)
    helpers: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Program:
    """A loaded program's instructions, and its maps' names by the descriptor in them."""

    instructions: tuple[_Instruction, ...]
    maps: dict[int, str]
    fd: int


@contextmanager
def linked_program(balancer: Balancer, elf: bytes) -> Iterator[Program]:
    """The program of an ELF, on the balancer's maps, until the block ends."""
    libbpf = balancer.libbpf
    with balancer.dataplane.loaded_object(elf) as handle:
        names = {libbpf.map_fd(handle, name): name for name in abi.MAPS}
        yield Program(_read_instructions(libbpf, handle), names, libbpf.program_fd(handle, PROGRAM))


def _read_instructions(libbpf: Libbpf, handle: int) -> tuple[_Instruction, ...]:
    library = libbpf.library
    # libbpf 0.8 and newer.
    library.bpf_program__insns.restype = ct.POINTER(_Instruction)
    library.bpf_program__insns.argtypes = [ct.c_void_p]
    library.bpf_program__insn_cnt.restype = ct.c_size_t
    library.bpf_program__insn_cnt.argtypes = [ct.c_void_p]
    program = library.bpf_object__find_program_by_name(handle, PROGRAM.encode())
    count = library.bpf_program__insn_cnt(program)
    first = library.bpf_program__insns(program)
    return tuple(_Instruction.from_buffer_copy(first[number]) for number in range(count))


class _Memory:
    """Regions that lie 4 GiB apart: arithmetic in 32 bits stays in one."""

    def __init__(self) -> None:
        self._regions: list[bytearray] = [bytearray()]

    def add(self, content: bytes) -> int:
        """Give bytes an address."""
        self._regions.append(bytearray(content))
        return (len(self._regions) - 1) << 32

    def load(self, address: int, size: int) -> int:
        """Read a number, as it lies on this machine."""
        region, offset = self._regions[address >> 32], address & _U32
        assert offset + size <= len(region), "a load beyond its region"
        return int.from_bytes(region[offset : offset + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Write one."""
        region, offset = self._regions[address >> 32], address & _U32
        assert offset + size <= len(region), "a store beyond its region"
        region[offset : offset + size] = (value & (2 ** (8 * size) - 1)).to_bytes(size, "little")

    def read(self, address: int, size: int) -> bytes:
        """Read bytes."""
        region, offset = self._regions[address >> 32], address & _U32
        return bytes(region[offset : offset + size])


_ALU: dict[int, Callable[[int, int], int]] = {
    0x0: operator.add,
    0x1: operator.sub,
    0x2: operator.mul,
    0x3: lambda a, b: a // b if b else 0,
    0x4: operator.or_,
    0x5: operator.and_,
    0x6: operator.lshift,
    0x7: operator.rshift,
    0x9: lambda a, b: a % b if b else a,
    0xA: operator.xor,
    0xB: lambda _a, b: b,
}
_JUMPS: dict[int, Callable[[int, int], bool]] = {
    0x1: operator.eq,
    0x2: operator.gt,
    0x3: operator.ge,
    0x4: lambda a, b: bool(a & b),
    0x5: operator.ne,
    0xA: operator.lt,
    0xB: operator.le,
}
_SIGNED_JUMPS = {0x6: operator.gt, 0x7: operator.ge, 0xC: operator.lt, 0xD: operator.le}
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
# enum bpf_func_id (include/uapi/linux/bpf.h)
LOOKUP, REDIRECT, ADJUST_HEAD, JIFFIES = 1, 23, 44, 118


def _sign(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _read_ticks(balancer: Balancer, cpu: int) -> int:
    """A tick at which what the CPU has remembered last has not expired yet."""
    libbpf, expires = balancer.libbpf, 0
    for name in ("backend_nexthops", "client_nexthops"):
        cpus = libbpf.count_cpus()
        _, values = libbpf.read_all(balancer.fd(name), abi.NEXTHOP.itemsize * cpus)
        rows = np.frombuffer(values, abi.NEXTHOP).reshape(-1, cpus)
        expires = max(expires, int(rows["expires"][:, cpu].max()))
    return max(expires - 1, 0)


class Interpreter:
    """One packet's journey."""

    def __init__(self, balancer: Balancer, program: Program, cpu: int) -> None:
        self._balancer, self._program, self._cpu = balancer, program, cpu
        self._memory = _Memory()
        self._ticks = _read_ticks(balancer, cpu)
        self._values: dict[tuple[str, bytes], int] = {}
        self._registers = [0] * 11
        self._frames: list[tuple[int, list[int]]] = []

    def run(self, frame: bytes, ifindex: int) -> Count:
        """Run a frame that came in by an interface.

        Raises:
            NotImplementedError: it does what no ordinary packet does.
        """
        self._count = Count()
        self._packet = self._memory.add(bytes(_HEADROOM) + frame)
        self._data, self._end = self._packet + _HEADROOM, self._packet + _HEADROOM + len(frame)
        self._ifindex = ifindex
        self._context = self._memory.add(bytes(24))
        self._registers[1] = self._context
        self._registers[10] = self._memory.add(bytes(_STACK)) + _STACK
        position: int | None = 0
        while position is not None:
            position = self._step(position)
        self._count.action = self._registers[0] & _U32
        self._count.frame = self._memory.read(self._data, self._end - self._data)
        return self._count

    def _step(self, position: int) -> int | None:
        instruction = self._program.instructions[position]
        self._count.instructions += 1
        kind = instruction.code & 7
        if kind == 0:
            return self._load_constant(instruction, position)
        if kind in (4, 7):
            self._compute(instruction, 64 if kind == 7 else 32)
        elif kind in (5, 6):
            return self._jump(instruction, position)
        else:
            self._access(instruction, kind)
        return position + 1

    def _load_constant(self, instruction: _Instruction, position: int) -> int:
        low, high = (self._program.instructions[position + n].immediate & _U32 for n in (0, 1))
        # BPF_PSEUDO_MAP_FD: the descriptor itself stands for the map.
        assert instruction.code == 0x18
        assert instruction.source in (0, 1)
        self._registers[instruction.destination] = high << 32 | low
        return position + 2

    def _operand(self, instruction: _Instruction, mask: int) -> int:
        if instruction.code & 8:
            return self._registers[instruction.source] & mask
        return instruction.immediate & mask

    def _compute(self, instruction: _Instruction, bits: int) -> None:
        mask = _U64 if bits == 64 else _U32
        operation = instruction.code >> 4
        before = self._registers[instruction.destination] & mask
        if operation == 0xD:  # BPF_END: to the network's order, or cut
            size = instruction.immediate // 8
            raw = (self._registers[instruction.destination] & (2 ** (8 * size) - 1)).to_bytes(
                size, "little"
            )
            result = int.from_bytes(raw, "big" if instruction.code & 8 else "little")
            mask = _U64
        elif operation == 0x8:
            result = -before
        elif operation == 0xC:
            result = _sign(before, bits) >> (self._operand(instruction, mask) & (bits - 1))
        else:
            other = self._operand(instruction, mask)
            if operation in (0x6, 0x7):
                other &= bits - 1
            result = _ALU[operation](before, other)
        self._registers[instruction.destination] = result & mask

    def _jump(self, instruction: _Instruction, position: int) -> int | None:
        operation = instruction.code >> 4
        if operation == 0x8:
            return self._call(instruction, position)
        if operation == 0x9:
            return self._leave()
        if operation == 0x0:
            return position + 1 + instruction.offset
        bits = 64 if instruction.code & 7 == 5 else 32
        mask = _U64 if bits == 64 else _U32
        a = self._registers[instruction.destination] & mask
        b = self._operand(instruction, mask)
        if operation in _SIGNED_JUMPS:
            is_taken = _SIGNED_JUMPS[operation](_sign(a, bits), _sign(b, bits))
        else:
            is_taken = _JUMPS[operation](a, b)
        return position + 1 + (instruction.offset if is_taken else 0)

    def _access(self, instruction: _Instruction, kind: int) -> None:
        assert instruction.code & 0xE0 == 0x60, "an atomic access"
        size = _SIZES[instruction.code & 0x18]
        if kind == 1:
            address = self._registers[instruction.source] + instruction.offset
            self._registers[instruction.destination] = self._load(address & _U64, size)
            return
        address = (self._registers[instruction.destination] + instruction.offset) & _U64
        value = instruction.immediate if kind == 2 else self._registers[instruction.source]
        self._memory.store(address, size, value)

    def _load(self, address: int, size: int) -> int:
        if address >> 32 != self._context >> 32:
            return self._memory.load(address, size)
        # struct xdp_md: the kernel makes pointers of the first three.
        fields = {0: self._data, 4: self._end, 8: self._data, 12: self._ifindex}
        return fields[address & _U32]

    def _call(self, instruction: _Instruction, position: int) -> int:
        if instruction.source == 0:
            self._count.helpers[instruction.immediate] += 1
            self._registers[0] = self._help(instruction.immediate)
            return position + 1
        self._count.calls += 1
        self._frames.append((position + 1, self._registers[6:]))
        self._registers[10] = self._memory.add(bytes(_STACK)) + _STACK
        return position + 1 + instruction.immediate

    def _leave(self) -> int | None:
        if not self._frames:
            return None
        position, self._registers[6:] = self._frames.pop()
        return position

    def _help(self, number: int) -> int:
        if number == LOOKUP:
            return self._look_up(self._program.maps[self._registers[1]], self._registers[2])
        if number == REDIRECT:
            return 4
        if number == JIFFIES:
            return self._ticks
        if number == ADJUST_HEAD:
            self._data += _sign(self._registers[2] & _U32, 32)
            return 0
        raise NotImplementedError(f"helper {number}")

    def _look_up(self, name: str, place: int) -> int:
        self._count.lookups[name] += 1
        key_type, value_type = abi.MAPS[name]
        key = self._memory.read(place, key_type.itemsize)
        if (name, key) not in self._values:
            value = self._read_value(name, key, value_type.itemsize)
            self._values[name, key] = self._memory.add(value) if value else 0
        return self._values[name, key]

    def _read_value(self, name: str, key: bytes, size: int) -> bytes:
        libbpf, fd = self._balancer.libbpf, self._balancer.fd(name)
        stride = -(-size // 8) * 8
        room = ct.create_string_buffer(stride * libbpf.count_cpus())
        if libbpf.library.bpf_map_lookup_elem(fd, key, room) < 0:
            return b""
        start = self._cpu * stride if name in _PER_CPU else 0
        return room.raw[start : start + size]
