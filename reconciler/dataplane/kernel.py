"""The data plane in the kernel: read it, write it, one operation at a time."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler import abi, codec, memory
from reconciler.assets import find_asset
from reconciler.dataplane.attachments import Attachments
from reconciler.dataplane.bpffs import require_writable
from reconciler.dataplane.capacities import list_capacities
from reconciler.dataplane.libbpf import (
    Libbpf,
)
from reconciler.dataplane.pins import Pins, remove_folder
from reconciler.directory import Directory
from reconciler.errors import Unavailable
from reconciler.model import Limits
from reconciler.plan import Drop, Operation, Put, Store
from reconciler.rows import Rows
from reconciler.tables import SlotWords, Tables

PROGRAM = "xdplb"
_ENDPOINT_TABLES = ("services", "nat_replies")
_INDEX_TABLES = ("settings", "interfaces", "service_info", "backend_info", "backends", "meta")
_HASHES = ("interfaces",)


def read_program() -> tuple[bytes, str]:
    """Return the compiled data plane that ships with this controller, and its SHA-256.

    Raises:
        Unavailable: it was not built.
    """
    try:
        elf = find_asset("xdplb.bpf.o").read_bytes()
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error
    return elf, hashlib.sha256(elf).hexdigest()


class KernelDataplane:
    """The pinned maps, program and links of one instance.

    Reading needs nothing but the pins; `create` makes them.
    """

    def __init__(self, folder: Path, libbpf: Libbpf | None = None) -> None:
        self.pins = Pins(folder)
        self.libbpf = libbpf or Libbpf()
        self.attachments = Attachments(self.pins, self.libbpf)
        self._fds: dict[str, int] = {}
        self._slots: SlotWords | None = None
        self._directory: Directory | None = None
        self._rows = {
            name: Rows(codec.VALUES[name].decode_cells)
            for name in _INDEX_TABLES
            if name not in _HASHES
        }

    def exists(self) -> bool:
        """Whether the maps are pinned."""
        return self.pins.maps.is_dir()

    def close(self) -> None:
        """Give back every descriptor. What is pinned goes on."""
        self._slots = self._directory = None
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    # --- making ---

    def create(self, limits: Limits) -> None:
        """Create and pin the maps with the file's capacities, if they are not there.

        Raises:
            Unavailable: maps are there, of another size or another ABI.
        """
        if not self.exists():
            self._create_maps(limits)
        self.check_maps(limits)

    def _create_maps(self, limits: Limits) -> None:
        capacities = list_capacities(limits)
        remove_folder(self.pins.maps_in_making)
        self.pins.maps_in_making.mkdir(mode=0o700)
        with self.libbpf.opened_object(read_program()[0]) as handle:
            for name, entries in capacities.items():
                self.libbpf.size_map(handle, name, entries)
            self.libbpf.load_object(handle)
            for name in abi.MAPS:
                fd = self.libbpf.map_fd(handle, name)
                self.libbpf.pin(fd, str(self.pins.maps_in_making / name))
            self._pin_program(handle)
        self.pins.maps_in_making.rename(self.pins.maps)

    def _pin_program(self, handle: int) -> None:
        _, sha256 = read_program()
        path = self.pins.program(sha256)
        path.unlink(missing_ok=True)  # of maps that were never finished
        self.libbpf.pin(self.libbpf.program_fd(handle, PROGRAM), str(path))

    def check_maps(self, limits: Limits) -> None:
        """See that the pinned maps are of this ABI and of these capacities.

        Raises:
            Unavailable: they are not.
        """
        capacities = list_capacities(limits)
        remedy = "take the instance down first (xdplb detach): its connections end with it"
        for name, (key, value) in abi.MAPS.items():
            if not Path(self.pins.map(name)).exists():
                raise Unavailable(f"no map {name}: pinned by another ABI version", remedy=remedy)
            key_size, value_size, entries = self.libbpf.map_info(self._fd(name))
            if (key_size, value_size) != (key.itemsize, value.itemsize):
                raise Unavailable(f"the pinned map {name} is of another ABI version", remedy=remedy)
            wanted = capacities.get(name, entries)
            if entries != wanted:
                raise Unavailable(
                    f"the pinned map {name} holds {entries} entries, limits in lb.yaml ask for"
                    f" {wanted}",
                    remedy=remedy,
                )
        version = self._read_abi_version()
        if version not in (0, abi.ABI_VERSION):
            raise Unavailable(
                f"the pinned maps are of ABI version {version}, this controller's is"
                f" {abi.ABI_VERSION}",
                remedy=remedy,
            )

    def _read_abi_version(self) -> int:
        _, data = self.libbpf.read_all(self._fd("settings"))
        return int(np.frombuffer(data, abi.SETTINGS)["abi_version"][0])

    def _fd(self, name: str) -> int:
        if name not in self._fds:
            self._fds[name] = self.libbpf.get(self.pins.map(name))
        return self._fds[name]

    # --- reading ---

    def read(self) -> Tables:
        """Return what the kernel holds.

        The slots are a copy: what is observed stays as it was seen.
        """
        tables: dict[str, Any] = {name: self._read_indexes(name) for name in _INDEX_TABLES}
        tables.update({name: self.directory.read(name) for name in _ENDPOINT_TABLES})
        return Tables(**tables, attachments=self.attachments.read(), slots=self.slots.copy())

    @property
    def slots(self) -> SlotWords:
        """The live slots, mapped: reading them is a load, writing one is a store."""
        if self._slots is None:
            self._slots = self._map_memory("slots").view(np.uint32)
        return self._slots

    @property
    def directory(self) -> Directory:
        """Where `services` and `nat_replies` lie, mapped likewise."""
        if self._directory is None:
            self._directory = Directory(
                self._map_memory("directory"), self._map_memory("endpoints")
            )
        return self._directory

    def _map_memory(self, name: str) -> NDArray[Any]:
        fd = self._fd(name)
        _, _, entries = self.libbpf.map_info(fd)
        dtype = abi.MAPS[name][1]
        memory = mmap.mmap(fd, -(-entries * dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE)
        return np.frombuffer(memory, dtype, count=entries)

    def _read_indexes(self, name: str) -> dict[int, Any]:
        keys, values = self.libbpf.read_all(self._fd(name))
        row = codec.VALUES[name]
        if name in _HASHES:
            indexes = np.frombuffer(keys, abi.INDEX).tolist()
            return dict(zip(indexes, row.decode_many(values), strict=True))
        # An array's rows come in the order of their indexes.
        cells = np.frombuffer(values, np.uint8).reshape(-1, row.dtype.itemsize)
        return self._rows[name].read(cells)

    def read_counters(self, name: str) -> Any:
        """Return a per-CPU array summed over the CPUs: a structured or plain numpy array."""
        dtype = abi.MAPS[name][1]
        cpus = self.libbpf.count_cpus()
        _, data = self.libbpf.read_all(self._fd(name), dtype.itemsize * cpus)
        columns = dtype.itemsize // abi.COUNTER.itemsize
        cells = np.frombuffer(data, abi.COUNTER).reshape(-1, cpus, columns).sum(axis=1)
        return np.ascontiguousarray(cells).view(dtype).reshape(-1)

    # --- the memory of flows ---

    def read_memory(self) -> Iterator[memory.Part]:
        """Yield where flows live, part by part.

        Strays come first: one that is remembered meanwhile is seen twice, not never.
        """
        for name in ("strays", "flows"):
            for _, values in self.libbpf.read_batches(self._fd(name)):
                yield memory.Part(np.frombuffer(values, abi.FLOW), name == "strays")

    def read_capacity(self, name: str) -> int:
        """Return for how many entries a map has room."""
        return self.libbpf.map_info(self._fd(name))[2]

    def measure_flows(self) -> tuple[int, int]:
        """Return how many entries `flows` has, and for how many it has room."""
        key_size, _, capacity = self.libbpf.map_info(self._fd("flows"))
        batches = self.libbpf.read_batches(self._fd("flows"))
        return sum(len(keys) // key_size for keys, _ in batches), capacity

    def count_flows(self, tables: Tables, now_ns: int) -> NDArray[np.int64]:
        """Return how many open flows are remembered on each backend, by id, shape (65536,)."""
        return memory.Judge(tables, now_ns).count_open(self.read_memory())

    def forget_flows(self, tables: Tables, now_ns: int) -> int:
        """Take what need not be remembered out of the tables; return how many flows that were."""
        judge = memory.Judge(tables, now_ns)
        for name in ("strays", "pending"):
            for keys, flows in self._read_parts(name):
                self._forget(name, keys[judge.find_unasked(flows)])
        return sum(
            self._forget_part(judge, keys, flows) for keys, flows in self._read_parts("flows")
        )

    def _read_parts(self, name: str) -> Iterator[tuple[Any, memory.Flows]]:
        for keys, values in self.libbpf.read_batches(self._fd(name)):
            yield np.frombuffer(keys, abi.FLOW_KEY), np.frombuffer(values, abi.FLOW)

    def _forget_part(self, judge: memory.Judge, keys: Any, flows: memory.Flows) -> int:
        unasked = judge.find_unasked(flows)
        ended = judge.find_needless(flows) & ~unasked
        return self._forget("flows", keys[unasked]) + self._forget_ended(keys[ended], flows[ended])

    def _forget(self, name: str, keys: Any) -> int:
        if keys.size:
            self.libbpf.delete_many(self._fd(name), keys.tobytes(), f"cannot forget {name}")
        return int(keys.size)

    def _forget_ended(self, keys: Any, flows: memory.Flows) -> int:
        """Forget them, but for those whose client has used the port again since they were read.

        Such a connection lives where new ones go. Forgotten, it would be taken for one that is
        older than the slot's move, and break.
        """
        fd, doing = self._fd("flows"), "cannot forget flows"
        return self.libbpf.delete_unchanged(fd, keys.tobytes(), flows.tobytes(), doing)

    # --- writing ---

    def write(self, operation: Operation) -> None:
        """Carry out one operation.

        Raises:
            KernelRefused: the kernel did not; nothing of this operation happened.
        """
        if isinstance(operation, Store):
            # Indexed assignment copies item by item, and an aligned 32-bit store is
            # atomic; a slice would be a memcpy, which promises nothing.
            self.slots[operation.indexes] = operation.words
        elif operation.table == "attachments":
            self._write_attachment(operation)
        elif operation.table in _ENDPOINT_TABLES:
            self._write_endpoint(operation)
        elif isinstance(operation, Put):
            key, value = self._encode_key(operation), self._encode_row(operation)
            self.libbpf.update(self._fd(operation.table), key, value, f"cannot write {operation}")
        else:
            self._drop(operation)

    def _write_endpoint(self, operation: Put | Drop) -> None:
        if isinstance(operation, Put):
            self.directory.put(operation.table, operation.key, operation.row)
        else:
            self.directory.drop(operation.table, operation.key)

    def _encode_key(self, operation: Put | Drop) -> bytes:
        return np.array(operation.key, abi.INDEX).tobytes()

    def _encode_row(self, operation: Put) -> bytes:
        return codec.VALUES[operation.table].encode(operation.row)

    def _drop(self, operation: Drop) -> None:
        key = self._encode_key(operation)
        doing = f"cannot drop {operation}"
        if operation.table in _HASHES:
            self.libbpf.delete(self._fd(operation.table), key, doing)
            return
        size = codec.VALUES[operation.table].dtype.itemsize
        self.libbpf.update(self._fd(operation.table), key, bytes(size), doing)
        if operation.table == "backends":  # its next holder starts from nothing
            zero = bytes(abi.BACKEND_STATS.itemsize * self.libbpf.count_cpus())
            self.libbpf.update(self._fd("backend_stats"), key, zero, doing)
            self.libbpf.update(self._fd("direct_seen"), key, bytes(4), doing)

    # --- the program ---

    def _write_attachment(self, operation: Put | Drop) -> None:
        if isinstance(operation, Drop):
            self.attachments.drop(operation.key)
            return
        with self._loaded_program(operation.row.program_sha256) as program_fd:
            self.attachments.put(operation.key, operation.row, program_fd)

    def remove(self) -> None:
        """Take the program off every interface and remove every pin.

        Raises:
            Unavailable: the pins can't be removed; the program is on every interface still.
        """
        self.close()
        if self.pins.folder.is_dir():
            require_writable(self.pins.folder)
        self.attachments.drop_all()
        self.pins.remove_contents()

    @contextmanager
    def _loaded_program(self, sha256: str) -> Iterator[int]:
        path = self.pins.program(sha256)
        if not path.exists():
            with self.loaded_object(read_program()[0]) as handle:
                self._pin_program(handle)
        with self.libbpf.opened_pin(path) as fd:
            yield fd

    @contextmanager
    def loaded_object(self, elf: bytes) -> Iterator[int]:
        """The programs of an ELF, verified, on the maps that are there: libbpf's handle of them.

        Raises:
            Unavailable: it lacks a map.
            KernelRefused: the verifier refuses it.
        """
        with self.libbpf.opened_object(elf) as handle:
            for name in abi.MAPS:
                self.libbpf.reuse_map(handle, name, self._fd(name))
            self.libbpf.load_object(handle)
            yield handle

    def forget_old_programs(self) -> None:
        """Remove the pins of programs that no link uses any more."""
        used = {attachment.program_sha256 for attachment in self.attachments.read().values()}
        for sha256, path in list(self.pins.find_programs()):
            if sha256 not in used:
                path.unlink()
