"""Keeps the controller's memory to what it works with: it runs beside what it balances to.

Nothing depends on any of this but a figure. A C library without these calls, or a
process without the compiler, is left as it is.
"""

from __future__ import annotations

import ctypes as ct
import re
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # malloc.h
_MADV_DONTNEED = 4  # bits/mman-linux.h
# A pass allocates arrays of up to 256 MiB, a few of them, and no other block of this size.
_LARGE = 1 << 20

_COMPILER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-xp .*/lib(?:LLVM|clang)", re.MULTILINE)


def return_large_blocks() -> None:
    """Have large blocks given back when they are freed.

    glibc keeps them once it has seen a few (mallopt(3), dynamic mmap threshold): after one
    pass with 4 million slots that is 50 MB.
    """
    mallopt = getattr(ct.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def release_compiler() -> None:
    """Give back the pages of BCC's compiler, which is loaded with it and never runs here.

    They are its code, 45 MB, and are read from the file again should anybody call it.
    """
    libc = ct.CDLL(None)
    for match in _COMPILER.finditer(Path("/proc/self/maps").read_text(encoding="utf-8")):
        start, end = (int(address, 16) for address in match.groups())
        libc.madvise(ct.c_void_p(start), ct.c_size_t(end - start), _MADV_DONTNEED)


def return_freed() -> None:
    """Give back what a large piece of work has left free between what is kept (malloc_trim(3))."""
    malloc_trim = getattr(ct.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)
