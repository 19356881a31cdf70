"""What was measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Return what a reader has to know to compare figures."""
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    model = re.search(r"model name\s*:\s*(.*)", info)
    virtual = " hypervisor" in info
    jit = Path("/proc/sys/net/core/bpf_jit_enable").read_text(encoding="ascii").strip()
    harden = Path("/proc/sys/net/core/bpf_jit_harden").read_text(encoding="ascii").strip()
    return {
        "processor": f"{os.cpu_count()} {'virtual ' if virtual else ''}CPUs,"
        f" {model[1].strip() if model else platform.machine()}",
        "caches": _describe_caches(),
        "kernel": platform.release().split("-")[0],
        "bpf_jit": f"enabled {jit}, hardened {harden}",
        "return thunks, spectre": _read_vulnerability("spectre_v2"),
        "clang": _first_line(["clang", "--version"]),
        "haproxy": _first_line(["haproxy", "-v"]),
        "nginx": _first_line(["nginx", "-v"]),
    }


def _describe_caches() -> str:
    sizes = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size, kind = (
            (index / name).read_text(encoding="ascii").strip() for name in ("level", "size", "type")
        )
        if kind != "Instruction":
            sizes.append(f"L{level} {size}")
    return ", ".join(sizes) or "unknown"


def _read_vulnerability(name: str) -> str:
    path = Path("/sys/devices/system/cpu/vulnerabilities") / name
    return path.read_text(encoding="ascii").strip() if path.exists() else "unknown"


def _first_line(command: list[str]) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ((done.stdout or done.stderr).splitlines() or [""])[0].strip()
