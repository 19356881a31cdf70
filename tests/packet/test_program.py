"""What the verifier says of the program."""

from __future__ import annotations

import ctypes as ct
import importlib.util
import time
from pathlib import Path

import pytest

from reconciler import abi
from reconciler.dataplane.kernel import PROGRAM

pytestmark = pytest.mark.root

# The verifier stops at a million instructions, and kernels differ in how many they
# walk. Measured on Linux 6.18: 92,000 with clang 14, 193,000 with clang 22, which unrolls
# and inlines more of the directory. Raise it knowingly.
MOST_VERIFIED_INSTRUCTIONS = 220_000


class ProgInfo(ct.Structure):
    """struct bpf_prog_info (include/uapi/linux/bpf.h), as far as it is read here."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_prog_len", ct.c_uint32),
        ("xlated_prog_len", ct.c_uint32),
        ("unread", ct.c_uint8 * 192),
        ("verified_insns", ct.c_uint32),
        ("attach_btf_obj_id", ct.c_uint32),
    )


def list_compilers():
    """The default clang, and every other that is installed under its version."""
    versioned = sorted(Path("/usr/bin").glob("clang-[0-9]*"), key=lambda path: path.name)
    return ["clang", *(path.name for path in versioned if path.name[6:].isdigit())]


def load_compiler():
    """`bpf/build_hook.py`, which is no package's part."""
    path = Path(__file__).parents[2] / "bpf" / "build_hook.py"
    spec = importlib.util.spec_from_file_location("build_hook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compile_object


@pytest.mark.parametrize("clang", list_compilers())
def test_verified_instructions(balancer, capsys, tmp_path, clang):
    libbpf = balancer.libbpf
    elf = load_compiler()(clang, tmp_path / "xdplb.bpf.o").read_bytes()
    handle = libbpf.open_object(elf)
    try:
        for name in abi.MAPS:
            found = libbpf.find_map(handle, name)
            libbpf.check(libbpf.library.bpf_map__reuse_fd(found, balancer.fd(name)), name)
        start_s = time.perf_counter()
        libbpf.load_object(handle)
        load_s = time.perf_counter() - start_s
        info = ProgInfo()
        size = ct.c_uint32(ct.sizeof(info))
        fd = libbpf.program_fd(handle, PROGRAM)
        result = libbpf.library.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size))
        libbpf.check(result, "cannot ask about the program")
    finally:
        libbpf.library.bpf_object__close(handle)
    with capsys.disabled():
        print(
            f"\n{clang}: {info.verified_insns} instructions verified,"
            f" {info.xlated_prog_len // 8} long, loaded in {1000 * load_s:.0f} ms"
        )
    assert 0 < info.verified_insns <= MOST_VERIFIED_INSTRUCTIONS
