"""The program on interfaces: a pinned BPF link each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from reconciler.dataplane.libbpf import (
    XDP_FLAGS_DRV_MODE,
    XDP_FLAGS_SKB_MODE,
    KernelRefused,
    Libbpf,
)
from reconciler.dataplane.pins import Pins
from reconciler.errors import Unavailable
from reconciler.model import XdpMode
from reconciler.tables import Attachment

_FLAGS = {XdpMode.NATIVE: XDP_FLAGS_DRV_MODE, XdpMode.GENERIC: XDP_FLAGS_SKB_MODE}
_TAKEN = (errno.EBUSY, errno.EEXIST)  # in the same mode, in the other one


class Attachments:
    """Where the program of one instance is attached."""

    def __init__(self, pins: Pins, libbpf: Libbpf) -> None:
        self._pins = pins
        self._libbpf = libbpf

    def read(self) -> dict[str, Attachment]:
        """Return our program on the interfaces, by interface name.

        One whose interface is gone has ifindex 0.
        """
        programs = {}
        for sha256, path in self._pins.find_programs():
            with self._libbpf.opened_pin(path) as fd:
                programs[self._libbpf.program_id(fd)] = sha256
        attachments = {}
        for interface, mode, path in self._pins.find_links():
            with self._libbpf.opened_pin(path) as fd:
                program_id, ifindex = self._libbpf.link_info(fd)
            attachments[interface] = Attachment(ifindex, mode, programs.get(program_id, ""))
        return attachments

    def put(self, interface: str, desired: Attachment, program_fd: int) -> None:
        """Have this program on an interface; where one of ours is, no packet goes without.

        Raises:
            Unavailable: the interface takes none, or has somebody else's.
        """
        link = self._find_link(interface)
        if link and self._replace_program(link, desired, program_fd):
            return
        self.drop(interface)
        self._attach(interface, desired, program_fd)

    def drop(self, interface: str) -> None:
        """Take our program off an interface."""
        for name, _, path in list(self._pins.find_links()):
            if name == interface:
                with self._libbpf.opened_pin(path) as fd:
                    self._libbpf.detach_link(fd)
                path.unlink()

    def drop_all(self) -> None:
        """Take it off every interface."""
        for interface, _, _ in list(self._pins.find_links()):
            self.drop(interface)

    def _find_link(self, interface: str) -> tuple[XdpMode, Path] | None:
        for name, mode, path in self._pins.find_links():
            if name == interface:
                return mode, path
        return None

    def _replace_program(
        self, link: tuple[XdpMode, Path], desired: Attachment, program_fd: int
    ) -> bool:
        """Put the program into the live link; False where the link is of no use any more."""
        mode, path = link
        if desired.mode not in (mode, XdpMode.AUTO):
            return False
        with self._libbpf.opened_pin(path) as fd:
            _, ifindex = self._libbpf.link_info(fd)
            if ifindex != desired.ifindex:
                return False
            self._libbpf.update_link(fd, program_fd)
        return True

    def _attach(self, interface: str, desired: Attachment, program_fd: int) -> None:
        modes = [desired.mode]
        if desired.mode is XdpMode.AUTO:
            modes = [XdpMode.NATIVE, XdpMode.GENERIC]
        for mode in modes:
            try:
                fd = self._libbpf.create_link(program_fd, desired.ifindex, _FLAGS[mode])
            except KernelRefused as error:
                if mode is modes[-1] or error.errno == errno.EBUSY:
                    raise _explain_attach(interface, mode, error) from error
                continue
            try:
                self._libbpf.pin(fd, str(self._pins.link(mode, interface)))
            finally:
                os.close(fd)
            return


def _explain_attach(interface: str, mode: XdpMode, error: KernelRefused) -> Unavailable:
    if error.errno in _TAKEN:
        return Unavailable(
            f"interface {interface} already has an XDP program",
            remedy=f"see which with: bpftool net show dev {interface}",
        )
    return Unavailable(
        f"interface {interface} takes no XDP program in {mode.value} mode: {error.message}",
        remedy="use xdp_mode: auto or generic" if mode is XdpMode.NATIVE else "",
    )
