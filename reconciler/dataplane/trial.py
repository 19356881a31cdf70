"""See whether the kernel takes the data plane, and leave nothing behind."""

from __future__ import annotations

from reconciler.dataplane.capacities import list_capacities
from reconciler.dataplane.kernel import PROGRAM, read_program
from reconciler.dataplane.libbpf import KernelRefused, Libbpf
from reconciler.diagnosis.facts import Trial
from reconciler.errors import Unavailable
from reconciler.model import Limits

# Of each map: the verifier does not care, and memory is not wasted.
_ENTRIES = 64


def try_program(libbpf: Libbpf) -> Trial:
    """Load the data plane with small maps, attach it nowhere, and drop it.

    Raises:
        NoPermission: capabilities are missing.
    """
    try:
        elf, _ = read_program()
        with libbpf.opened_object(elf) as handle:
            return _try_object(libbpf, handle)
    except (Unavailable, KernelRefused) as error:
        return Trial(error.message, error.remedy)


def _try_object(libbpf: Libbpf, handle: int) -> Trial:
    for name in list_capacities(Limits()):
        libbpf.size_map(handle, name, _ENTRIES)
    try:
        libbpf.load_object(handle)
    except KernelRefused as error:
        first, *_, last = [*error.message.splitlines(), ""]
        why = f"{first} ({last.strip()})" if last.strip() else first
        return Trial(why, "install a kernel of 5.15 or newer with CONFIG_BPF_SYSCALL")
    return Trial(is_compiled=libbpf.is_compiled(libbpf.program_fd(handle, PROGRAM)))
