"""Puts frames through a loaded program and sees what it makes of them: BPF_PROG_TEST_RUN.

For the tests of packets and the benchmark; the controller has no use for it. The call is of
libbpf 0.7, the kernel's live frames are of Linux 5.18.
"""

from __future__ import annotations

import ctypes as ct
from typing import Any

from reconciler.dataplane.libbpf import Libbpf
from reconciler.errors import Unavailable

_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES (include/uapi/linux/bpf.h)


class _XdpMd(ct.Structure):
    """struct xdp_md (include/uapi/linux/bpf.h)."""

    _fields_ = tuple(
        (name, ct.c_uint32)
        for name in (
            "data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex",
        )
    )  # fmt: skip


class _TestRunOpts(ct.Structure):
    """struct bpf_test_run_opts (tools/lib/bpf/bpf.h)."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    )


class ProgramRun:
    """Runs of one program on frames of one size.

    Args:
        libbpf: the door to the kernel.
        program_fd: the loaded program.
        size: bytes of a frame, and of what lies before it.
        before: bytes that lie before the frame in memory, a multiple of 4.
        ifindex: the interface where frames come in, of the namespace that the caller is in;
            0 for none.
        repeat: how often the program is run on each.
        live_batch: send what the program transmits or redirects on its way, so many frames
            at once; 0 to send nothing.
        room: bytes for what the program makes of a frame; 0 if nobody looks.

    Raises:
        Unavailable: libbpf is too old.
    """

    def __init__(
        self,
        libbpf: Libbpf,
        program_fd: int,
        size: int,
        *,
        before: int = 0,
        ifindex: int = 0,
        repeat: int = 1,
        live_batch: int = 0,
        room: int = 0,
    ) -> None:
        self._libbpf = libbpf
        self._program_fd = program_fd
        self._call: Any = getattr(libbpf.library, "bpf_prog_test_run_opts", None)
        if self._call is None:
            raise Unavailable("BCC's libbpf is too old: it runs no programs on frames")
        self._call.restype, self._call.argtypes = ct.c_int, [ct.c_int, ct.c_void_p]
        self._before = before
        self._room = ct.create_string_buffer(room)
        self._context = _XdpMd(data=before, data_end=size, ingress_ifindex=ifindex)
        self._options = _TestRunOpts(
            sz=ct.sizeof(_TestRunOpts),
            data_size_in=size,
            repeat=repeat,
            flags=_LIVE_FRAMES if live_batch else 0,
            batch_size=live_batch,
        )
        if ifindex or before:  # a program of another type than XDP has no such context
            self._options.ctx_in = ct.addressof(self._context)
            self._options.ctx_size_in = ct.sizeof(self._context)

    def run(self, data: bytes) -> int:
        """Run the program on a frame, behind what lies before it; return its action.

        Raises:
            KernelRefused: the frame is shorter than an Ethernet header, or the like.
        """
        return self.run_at(ct.cast(ct.c_char_p(data), ct.c_void_p).value or 0)

    def run_at(self, address: int) -> int:
        """The same on a frame that lies at this address."""
        options = self._options
        options.data_in = address
        if len(self._room):
            options.data_out = ct.addressof(self._room)
            options.data_size_out = len(self._room)
        self._libbpf.check(
            self._call(self._program_fd, ct.byref(options)), "the kernel does not run the frame"
        )
        return int(options.retval)

    @property
    def duration_ns(self) -> int:
        """What the last run took, the mean of its repetitions."""
        return int(self._options.duration)

    @property
    def frame(self) -> bytes:
        """What the last run made of the frame."""
        return self._room.raw[self._before : self._options.data_size_out]
