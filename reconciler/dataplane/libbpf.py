"""The few calls of libbpf that are used, through the handle that BCC holds open.

BCC links libbpf, so the functions are found in its library. libbpf 0.5 (Ubuntu
22.04) to 1.x; `bpf_object__open_mem` and the rest have kept their signatures.
"""

from __future__ import annotations

import ctypes as ct
import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.errors import NoPermission, Unavailable, XdplbError

BPF_ANY = 0
BPF_XDP = 37  # enum bpf_attach_type
_TYPE_XDP = 6  # enum bpf_link_type
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2

_INSTALL_BCC = "install python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora)"

_BATCH = 16_384  # entries read at once

_PRINTER = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)


class _LinkOpts(ct.Structure):
    _fields_ = (("sz", ct.c_size_t), ("flags", ct.c_uint32), ("pad", ct.c_uint32))


class _MapInfo(ct.Structure):
    """The head of struct bpf_map_info (include/uapi/linux/bpf.h)."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("map_flags", ct.c_uint32),
    )


class _ProgInfo(ct.Structure):
    """The head of struct bpf_prog_info; an older kernel leaves the end as it is."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_prog_len", ct.c_uint32),
        ("xlated_prog_len", ct.c_uint32),
        ("jited_prog_insns", ct.c_uint64),
        ("xlated_prog_insns", ct.c_uint64),
        ("load_time", ct.c_uint64),
        ("created_by_uid", ct.c_uint32),
        ("nr_map_ids", ct.c_uint32),
        ("map_ids", ct.c_uint64),
        ("name", ct.c_char * 16),
        ("unread", ct.c_uint8 * 112),
        ("run_time_ns", ct.c_uint64),
        ("run_cnt", ct.c_uint64),
        ("recursion_misses", ct.c_uint64),
        ("verified_insns", ct.c_uint32),
        ("attach_btf_obj_id", ct.c_uint32),
    )


class _LinkInfo(ct.Structure):
    """The head of struct bpf_link_info, of an XDP link."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("prog_id", ct.c_uint32),
        ("pad", ct.c_uint32),
        ("ifindex", ct.c_uint32),
    )


class KernelRefused(XdplbError):
    """A BPF system call failed; `errno` says how."""

    def __init__(self, doing: str, number: int, log: str = "") -> None:
        super().__init__(f"{doing}: {os.strerror(number)}" + (f"\n{log}" if log else ""))
        self.errno = number


def _declare(library: Any) -> Any:
    integer, unsigned, pointer = ct.c_int, ct.c_uint32, ct.c_void_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "bpf_object__open_mem": (pointer, [pointer, ct.c_size_t, pointer]),
        "bpf_object__load": (integer, [pointer]),
        "bpf_object__close": (None, [pointer]),
        "bpf_object__find_map_by_name": (pointer, [pointer, ct.c_char_p]),
        "bpf_object__find_program_by_name": (pointer, [pointer, ct.c_char_p]),
        "bpf_program__fd": (integer, [pointer]),
        "bpf_map__fd": (integer, [pointer]),
        "bpf_map__set_max_entries": (integer, [pointer, unsigned]),
        "bpf_map__reuse_fd": (integer, [pointer, integer]),
        "bpf_obj_pin": (integer, [integer, ct.c_char_p]),
        "bpf_obj_get": (integer, [ct.c_char_p]),
        "bpf_obj_get_info_by_fd": (integer, [integer, pointer, ct.POINTER(unsigned)]),
        "bpf_map_update_elem": (integer, [integer, pointer, pointer, ct.c_uint64]),
        "bpf_map_delete_elem": (integer, [integer, pointer]),
        "bpf_map_lookup_elem": (integer, [integer, pointer, pointer]),
        "bpf_map_lookup_batch": (
            integer,
            [integer, pointer, pointer, pointer, pointer, ct.POINTER(unsigned), pointer],
        ),
        "bpf_map_delete_batch": (integer, [integer, pointer, ct.POINTER(unsigned), pointer]),
        "bpf_prog_get_fd_by_id": (integer, [unsigned]),
        "bpf_link_get_next_id": (integer, [unsigned, ct.POINTER(unsigned)]),
        "bpf_link_get_fd_by_id": (integer, [unsigned]),
        "bpf_link_create": (integer, [integer, integer, integer, pointer]),
        "bpf_link_detach": (integer, [integer]),
        "bpf_link_update": (integer, [integer, integer, pointer]),
        "libbpf_num_possible_cpus": (integer, []),
        "libbpf_set_print": (pointer, [_PRINTER]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name, None)
        if function is None:
            raise Unavailable(f"BCC's libbpf is too old: it has no {name}", remedy=_INSTALL_BCC)
        function.restype, function.argtypes = result, arguments
    return library


class Libbpf:
    """libbpf with Python's manners: failures raise, what libbpf prints is kept for them.

    Raises:
        Unavailable: BCC is missing, or is the other package of that name.
    """

    def __init__(self) -> None:
        self.library, self._said, _ = _open_library()

    def check(self, result: int, doing: str) -> int:
        """Return a call's result.

        Raises:
            NoPermission: the kernel wants more capabilities.
            KernelRefused: it failed otherwise.
        """
        if result >= 0:
            return result
        number = ct.get_errno() or -result
        log = "".join(self._said)[-4000:].strip()
        self._said.clear()
        if number == errno.EPERM:
            raise NoPermission(
                f"{doing}: {os.strerror(number)}",
                remedy="run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            )
        raise KernelRefused(doing, number, log)

    # --- objects ---

    @contextmanager
    def opened_object(self, elf: bytes) -> Iterator[int]:
        """A handle on an ELF that is not loaded yet; it and all it owns end with the block."""
        buffer = ct.create_string_buffer(elf, len(elf))
        handle = self.library.bpf_object__open_mem(buffer, len(elf), None)
        if not handle:
            self.check(-1, "cannot read the compiled data plane")
        try:
            yield int(handle)
        finally:
            self.library.bpf_object__close(handle)

    def _find_map(self, handle: int, name: str) -> int:
        found = self.library.bpf_object__find_map_by_name(handle, name.encode())
        if not found:
            raise Unavailable(f"the compiled data plane has no map {name}")
        return int(found)

    def size_map(self, handle: int, name: str, entries: int) -> None:
        """Say how many entries a map of an object shall have when it is loaded."""
        found = self._find_map(handle, name)
        result = self.library.bpf_map__set_max_entries(found, entries)
        self.check(result, f"cannot size map {name}")

    def reuse_map(self, handle: int, name: str, fd: int) -> None:
        """Have an object loaded with a map that is there."""
        result = self.library.bpf_map__reuse_fd(self._find_map(handle, name), fd)
        self.check(result, f"cannot use the pinned map {name}")

    def load_object(self, handle: int) -> None:
        """Create the maps and have the program verified."""
        self.check(self.library.bpf_object__load(handle), "the kernel refuses the data plane")

    def map_fd(self, handle: int, name: str) -> int:
        """Return the descriptor of a loaded map; the object keeps owning it."""
        fd: int = self.library.bpf_map__fd(self._find_map(handle, name))
        return fd

    def program_fd(self, handle: int, name: str) -> int:
        """Return the descriptor of a loaded program; the object keeps owning it."""
        program = self.library.bpf_object__find_program_by_name(handle, name.encode())
        return self.check(self.library.bpf_program__fd(program), f"no program {name}")

    # --- pins and links ---

    def pin(self, fd: int, path: str) -> None:
        """Give what `fd` is a name in a bpffs."""
        self.check(self.library.bpf_obj_pin(fd, path.encode()), f"cannot pin {path}")

    def get(self, path: str) -> int:
        """Return a new descriptor of what is pinned at `path`."""
        return self.check(self.library.bpf_obj_get(path.encode()), f"cannot open {path}")

    @contextmanager
    def opened_pin(self, path: Path) -> Iterator[int]:
        """A descriptor of what is pinned there, until the block ends."""
        fd = self.get(str(path))
        try:
            yield fd
        finally:
            os.close(fd)

    def map_info(self, fd: int) -> tuple[int, int, int]:
        """Return a map's key size, value size and capacity."""
        info = self._info(fd, _MapInfo())
        return info.key_size, info.value_size, info.max_entries

    def program_info(self, fd: int) -> Any:
        """Return what the kernel says of a loaded program, a struct bpf_prog_info."""
        return self._info(fd, _ProgInfo())

    def program_id(self, fd: int) -> int:
        """Return a program's id."""
        return int(self.program_info(fd).id)

    def is_compiled(self, fd: int) -> bool:
        """Whether the kernel made machine code of a program."""
        return bool(self.program_info(fd).jited_prog_len)

    def name_program(self, number: int) -> str:
        """Return what the author of the program with this id called it, as far as it is kept.

        Raises:
            KernelRefused: it is gone.
        """
        fd = self.check(self.library.bpf_prog_get_fd_by_id(number), f"cannot open program {number}")
        try:
            name: bytes = self.program_info(fd).name
        finally:
            os.close(fd)
        return name.decode(errors="replace")

    def find_xdp_links(self) -> dict[tuple[int, int], int]:
        """Return the ids of all XDP links, of every namespace, by program id and ifindex."""
        links = {}
        number = ct.c_uint32(0)
        while self.library.bpf_link_get_next_id(number, ct.byref(number)) == 0:
            fd = self.library.bpf_link_get_fd_by_id(number)
            if fd < 0:
                continue  # it went while it was looked at
            try:
                info = self._info(fd, _LinkInfo())
            finally:
                os.close(fd)
            if info.type == _TYPE_XDP:
                links[info.prog_id, info.ifindex] = int(info.id)
        return links

    def link_info(self, fd: int) -> tuple[int, int]:
        """Return an XDP link's program id and ifindex; ifindex 0 when its interface is gone."""
        info = self._info(fd, _LinkInfo())
        return info.prog_id, info.ifindex

    def _info(self, fd: int, info: Any) -> Any:
        size = ct.c_uint32(ct.sizeof(info))
        result = self.library.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size))
        self.check(result, "cannot ask the kernel about an object")
        return info

    def create_link(self, program_fd: int, ifindex: int, flags: int) -> int:
        """Attach a program to an interface; return the link's descriptor."""
        opts = _LinkOpts(ct.sizeof(_LinkOpts), flags, 0)
        result = self.library.bpf_link_create(program_fd, ifindex, BPF_XDP, ct.byref(opts))
        return self.check(result, f"cannot attach to interface {ifindex}")

    def update_link(self, link_fd: int, program_fd: int) -> None:
        """Replace the program of a link; no packet goes without one."""
        result = self.library.bpf_link_update(link_fd, program_fd, None)
        self.check(result, "cannot replace the program")

    def detach_link(self, link_fd: int) -> None:
        """Take a link's program off its interface, before this returns.

        To drop the last pin is not enough: the kernel then detaches some time later,
        and until it has, the interface takes no program in another mode.
        """
        self.check(self.library.bpf_link_detach(link_fd), "cannot detach")

    # --- maps ---

    def update(self, fd: int, key: bytes, value: bytes, doing: str) -> None:
        """Write one element."""
        self.check(self.library.bpf_map_update_elem(fd, key, value, BPF_ANY), doing)

    def delete(self, fd: int, key: bytes, doing: str) -> None:
        """Delete one element of a hash."""
        self.check(self.library.bpf_map_delete_elem(fd, key), doing)

    def look_up(self, fd: int, key: bytes, size: int) -> bytes:
        """Return one element's value, `size` bytes as the kernel hands it out."""
        value = ct.create_string_buffer(size)
        self.check(self.library.bpf_map_lookup_elem(fd, key, value), "cannot read an element")
        return value.raw

    def read_all(self, fd: int, value_size: int | None = None) -> tuple[bytes, bytes]:
        """Return all keys and all values of a map, each one behind the other.

        `value_size` is the size of a value as the kernel hands it out, where that is
        more than one CPU's.
        """
        batches = list(self.read_batches(fd, value_size))
        return b"".join(keys for keys, _ in batches), b"".join(values for _, values in batches)

    def read_batches(self, fd: int, value_size: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yield the same in parts; what was read may be deleted meanwhile."""
        key_size, one_value, capacity = self.map_info(fd)
        value_size = value_size or one_value
        # A hash is read by whole buckets: a batch must have room for the fullest.
        room = min(capacity, _BATCH)
        keys = ct.create_string_buffer(key_size * room)
        values = ct.create_string_buffer(value_size * room)
        cursor = ct.create_string_buffer(max(key_size, 8))
        start, is_end = None, False
        while not is_end:
            count = ct.c_uint32(room)
            result = self.library.bpf_map_lookup_batch(
                fd, start, cursor, keys, values, ct.byref(count), None
            )
            is_end = result < 0 and ct.get_errno() == errno.ENOENT
            if result < 0 and not is_end:
                self.check(result, "cannot read a map")
            found = count.value
            yield ct.string_at(keys, found * key_size), ct.string_at(values, found * value_size)
            start = cursor

    def delete_many(self, fd: int, keys: bytes, doing: str) -> None:
        """Delete the elements of a hash whose keys lie one behind the other; some may be gone."""
        key_size, _, _ = self.map_info(fd)
        buffer = ct.create_string_buffer(keys, len(keys))
        left = len(keys) // key_size
        while left:
            count = ct.c_uint32(left)
            start = ct.addressof(buffer) + len(keys) - left * key_size
            result = self.library.bpf_map_delete_batch(fd, start, ct.byref(count), None)
            if result < 0 and ct.get_errno() != errno.ENOENT:
                self.check(result, doing)
            # It stops at a key that is gone, behind those that it has deleted.
            left -= count.value + (1 if result < 0 else 0)

    def delete_unchanged(self, fd: int, keys: bytes, values: bytes, doing: str) -> int:
        """Delete the elements of a hash that still have these values; return how many had.

        Each is looked at right before it is deleted: what is written to it in the microsecond
        between is lost.
        """
        key_size, value_size, _ = self.map_info(fd)
        found, count = ct.create_string_buffer(value_size), 0
        for number in range(len(keys) // key_size):
            key = keys[number * key_size : (number + 1) * key_size]
            value = values[number * value_size : (number + 1) * value_size]
            is_there = self.library.bpf_map_lookup_elem(fd, key, found) == 0
            if is_there and found.raw == value:
                self.delete(fd, key, doing)
                count += 1
        return count

    def count_cpus(self) -> int:
        """Return how many values a per-CPU map has per key."""
        result = self.library.libbpf_num_possible_cpus()
        return self.check(result, "cannot count the CPUs")


@functools.cache
def _open_library() -> tuple[Any, list[str], Any]:
    """Return the library, the list that what it prints is added to, and its printer.

    libbpf has one printer per process and may call it at any time: whoever comes
    second must not replace it, and who leaves must not take it along.
    """
    library = _declare(_find_library())
    format_message = _find_formatter()
    said: list[str] = []

    def listen(level: int, template: bytes, arguments: int) -> int:
        if level == 0:  # LIBBPF_WARN: errors, and the verifier's log
            buffer = ct.create_string_buffer(16384)
            format_message(buffer, len(buffer), template, arguments)
            said.append(buffer.value.decode(errors="replace"))
        return 0

    printer = _PRINTER(listen)
    library.libbpf_set_print(printer)
    return library, said, printer


def _find_library() -> Any:
    try:
        import bcc  # noqa: PLC0415  (70 MB: only for who needs the kernel)
    except ImportError as error:
        raise Unavailable(f"BCC is missing ({error})", remedy=_INSTALL_BCC) from error
    if not hasattr(bcc, "BPF"):
        raise Unavailable(
            f"{bcc.__file__} is not the BPF Compiler Collection but another package called bcc",
            remedy=f"uninstall it (pip uninstall bcc) and {_INSTALL_BCC}",
        )
    return bcc.libbcc.lib


def _find_formatter() -> Callable[..., int]:
    formatter = ct.CDLL(None).vsnprintf
    formatter.argtypes = [ct.c_char_p, ct.c_size_t, ct.c_char_p, ct.c_void_p]
    formatter.restype = ct.c_int
    result: Callable[..., int] = formatter
    return result
