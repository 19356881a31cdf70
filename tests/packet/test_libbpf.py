"""The controller's door to libbpf."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root


def test_one_user_of_libbpf_may_leave_before_another():
    """libbpf has one printer per process: it must not go with whoever set it last."""
    program = (
        "import gc\n"
        "from reconciler.dataplane.libbpf import KernelRefused, Libbpf\n"
        "first, last = Libbpf(), Libbpf()\n"
        "del last\n"
        "gc.collect()\n"
        "try:\n"
        "    with first.opened_object(b'no ELF'):\n"
        "        pass\n"
        "except KernelRefused as refused:\n"
        "    print(refused.message)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.returncode
    assert "libbpf" in done.stdout  # what it printed is in the error
