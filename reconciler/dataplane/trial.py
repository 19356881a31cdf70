"""See whether the kernel takes the data plane, and leave nothing behind."""

from __future__ import annotations

from reconciler.dataplane.kernel import PROGRAM, list_capacities, read_program
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
        handle = libbpf.open_object(elf)
    except (Unavailable, KernelRefused) as error:
        return Trial(error.message, error.remedy)
    try:
        for name in list_capacities(Limits()):
            found = libbpf.find_map(handle, name)
            libbpf.check(
                libbpf.library.bpf_map__set_max_entries(found, _ENTRIES), f"cannot size map {name}"
            )
        libbpf.load_object(handle)
        return Trial(is_compiled=libbpf.is_compiled(libbpf.program_fd(handle, PROGRAM)))
    except KernelRefused as error:
        first, *_, last = [*error.message.splitlines(), ""]
        why = f"{first} ({last.strip()})" if last.strip() else first
        return Trial(why, "install a kernel of 5.15 or newer with CONFIG_BPF_SYSCALL")
    finally:
        libbpf.library.bpf_object__close(handle)
