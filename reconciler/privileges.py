"""Which capabilities this process lacks for the kernel's side of the work."""

from __future__ import annotations

from pathlib import Path

from reconciler.errors import NoPermission

# capability.h; CAP_SYS_ADMIN stands in for the two that Linux 5.8 split from it.
_SYS_ADMIN = 21
NEEDED = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
# What a feature needs, and nothing else: health checks by the VIP send packets they made.
NEEDED_BY_FEATURES = {"CAP_NET_RAW": 13}
_PART_OF_SYS_ADMIN = ("CAP_PERFMON", "CAP_BPF")


def list_missing(effective: int) -> list[str]:
    """Return the capabilities that a set (CapEff of proc(5), as a number) lacks."""
    covered = _PART_OF_SYS_ADMIN if effective >> _SYS_ADMIN & 1 else ()
    return [
        name for name, bit in NEEDED.items() if not effective >> bit & 1 and name not in covered
    ]


def find_missing() -> list[str]:
    """Return the capabilities that this process lacks."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return list_missing(int(line.split()[1], 16))


def require_privileges() -> None:
    """See that this process may look into the kernel.

    Raises:
        NoPermission: it may not; the message names what is missing.
    """
    missing = find_missing()
    if missing:
        raise NoPermission(
            f"this needs {', '.join(missing)}",
            remedy="run it as root, or give it these capabilities",
        )
