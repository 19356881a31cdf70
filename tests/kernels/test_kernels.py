"""Other kernels take the program: their verifiers differ in what they accept.

Each kernel is booted under emulation, with one program that loads the data plane. Needs
kernels in the folder XDPLB_KERNELS (`tests/kernels/fetch-kernels FOLDER`), QEMU and cpio.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compilers import compile_program, list_compilers

HERE = Path(__file__).parent
EMULATOR = "qemu-system-x86_64"
TIMEOUT_S = 300
XDP_PASS = 2
_COMMAND = (
    *(EMULATOR, "-m", "1024", "-cpu", "max", "-nographic", "-no-reboot", "-nic", "none"),
    *("-append", "console=ttyS0 panic=-1 quiet"),
)


def list_kernels() -> list[Path]:
    folder = os.environ.get("XDPLB_KERNELS")
    return sorted(Path(folder).glob("vmlinuz-*")) if folder else []


@pytest.fixture
def needs(require):
    """What this machine must have."""
    require(platform.machine() == "x86_64", "the kernels are for x86_64")
    for program in (EMULATOR, "cpio"):
        require(shutil.which(program), f"{program} is missing")
    require(list_kernels(), "there are no kernels in XDPLB_KERNELS")


def make_machine(folder: Path) -> tuple[Path, list[str]]:
    """An initramfs with the loader and an object of each compiler; the objects' names."""
    root = folder / "root"
    root.mkdir()
    static = ["-static", "-O1", str(HERE / "init.c"), "-o", str(root / "init")]
    subprocess.run(["clang", *static, "-lbpf", "-lelf", "-lz"], check=True)
    names = [f"{compiler}.o" for compiler in list_compilers()]
    for compiler, name in zip(list_compilers(), names, strict=True):
        compile_program(compiler, root / name)
    files = "\n".join(["init", *names])
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"],
        input=files.encode(),
        cwd=root,
        capture_output=True,
        check=True,
    )
    image = folder / "initramfs"
    image.write_bytes(packed.stdout)
    return image, names


def test_other_kernels_take_what_every_compiler_makes(needs, tmp_path, capsys):
    image, names = make_machine(tmp_path)
    for kernel in list_kernels():
        command = [*_COMMAND, "-kernel", str(kernel), "-initrd", str(image)]
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
        said = done.stdout.decode(errors="replace")
        with capsys.disabled():
            print(f"\n{kernel.name}: {said.count(': loaded')} of {len(names)} objects loaded")
        for name in names:
            assert f"/{name}: loaded, returns {XDP_PASS}:" in said, said
