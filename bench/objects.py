"""The benchmark's own programs: compiled when they are needed, loaded while they are used."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.dataplane.libbpf import Libbpf
from reconciler.errors import XdplbError

ROOT = Path(__file__).parents[1]
_FLAGS: list[str] = runpy.run_path(str(ROOT / "bpf" / "build_hook.py"))["FLAGS"]


def compile_program(name: str) -> bytes:
    """Compile `programs/NAME.bpf.c` with the data plane's own flags and return the ELF.

    Raises:
        XdplbError: there is no clang, or it refused.
    """
    source = ROOT / "bench" / "programs" / f"{name}.bpf.c"
    clang = os.environ.get("CLANG") or shutil.which("clang") or "clang"
    multiarch = f"-I/usr/include/{platform.machine()}-linux-gnu"
    with tempfile.TemporaryDirectory(prefix="xdplb-bench-") as folder:
        target = Path(folder) / f"{name}.bpf.o"
        command = [clang, *_FLAGS, multiarch, "-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise XdplbError(f"{source.name}: {done.stderr.strip()}")
        return target.read_bytes()


class Loaded:
    """Programs of one object, and its maps."""

    def __init__(self, libbpf: Libbpf, handle: int) -> None:
        self.libbpf = libbpf
        self._handle = handle

    def program(self, name: str) -> int:
        """The descriptor of a program."""
        return self.libbpf.program_fd(self._handle, name)

    def map(self, name: str) -> int:
        """The descriptor of a map."""
        return self.libbpf.map_fd(self._handle, name)

    def write(self, name: str, value: bytes, key: int = 0) -> None:
        """Write an element of an array."""
        self.libbpf.update(self.map(name), key.to_bytes(4, "little"), value, f"cannot write {name}")

    def read(self, name: str, size: int, key: int = 0) -> bytes:
        """Read an element of an array, `size` bytes as the kernel hands them out."""
        return self.libbpf.look_up(self.map(name), key.to_bytes(4, "little"), size)


@contextmanager
def loaded(libbpf: Libbpf, elf: bytes) -> Iterator[Loaded]:
    """The programs of an ELF, until the block ends."""
    with libbpf.opened_object(elf) as handle:
        libbpf.load_object(handle)
        yield Loaded(libbpf, handle)
