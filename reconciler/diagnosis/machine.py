"""What the data plane needs of any machine: privileges, BCC, the kernel, a place for pins."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.diagnosis import codes
from reconciler.diagnosis.facts import Bcc, Bpffs, Checkup, MachineFacts, Trial, Unseen
from reconciler.diagnosis.finding import Finding, Severity, report_ok, report_unseen

MACHINE = "machine"
OLDEST_KERNEL = (5, 15)
_KERNEL_THAT_COUNTS_BY_CGROUP = (5, 11)  # since then BPF memory is no locked memory

# By ID or ID_LIKE of os-release(5).
_INSTALL_BCC = {
    "debian": "apt-get install python3-bpfcc",
    "fedora": "dnf install python3-bcc",
    "suse": "zypper install python3-bcc",
    "arch": "pacman -S python-bcc",
}


def judge_machine(checkup: Checkup) -> Iterator[Finding]:
    """Yield what there is to say about the machine itself."""
    machine, trial = checkup.machine, checkup.trial
    if isinstance(machine, Unseen):
        yield report_unseen(codes.KERNEL, MACHINE, machine)
        return
    yield _judge_privileges(machine)
    yield _judge_bcc(machine.bcc)
    yield _judge_kernel(machine.release)
    yield _judge_trial(trial)
    yield _judge_jit(machine.is_jit_on, trial)
    yield _judge_bpffs(machine.bpffs)
    yield from _judge_memlock(machine)


def parse_release(release: str) -> tuple[int, int]:
    """Return a kernel's major and minor number; zeros if it has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _judge_privileges(machine: MachineFacts) -> Finding:
    if not machine.missing_capabilities:
        return report_ok(codes.PRIVILEGES, MACHINE, "no capability is missing")
    names = ", ".join(machine.missing_capabilities)
    return Finding(
        codes.PRIVILEGES,
        Severity.ERROR,
        MACHINE,
        f"this user lacks {names}: the data plane can be neither read nor written",
        f"sudo {machine.repeat}",
    )


def _judge_bcc(bcc: Bcc) -> Finding:
    if not bcc.problem:
        return report_ok(codes.BCC, MACHINE, "BCC is there, and the right one")
    return Finding(codes.BCC, Severity.ERROR, MACHINE, bcc.problem, *_mend_bcc(bcc))


def _mend_bcc(bcc: Bcc) -> tuple[str, str, str]:
    """The command, no host, and the hint."""
    if bcc.is_another:
        return f"{bcc.python} -m pip uninstall --yes bcc", "", ""
    if bcc.closed_environment:
        pattern = r"s/\(include-system-site-packages = \)false/\1true/"
        hint = "or make it anew: /usr/bin/python3 -m venv --system-site-packages"
        return f"sed -i '{pattern}' {bcc.closed_environment}", "", hint
    for name in bcc.distribution:
        if name in _INSTALL_BCC:
            return _INSTALL_BCC[name], "", ""
    return "", "", "install BCC's Python package from the distribution, not from PyPI"


def _judge_kernel(release: str) -> Finding:
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if parse_release(release) >= OLDEST_KERNEL:
        return report_ok(codes.KERNEL, MACHINE, f"Linux {release}")
    return Finding(
        codes.KERNEL,
        Severity.WARNING,
        MACHINE,
        f"Linux {release}: {oldest} is the oldest that is aimed at",
        hint="install a newer kernel",
    )


def _judge_trial(trial: Trial | Unseen) -> Finding:
    if isinstance(trial, Unseen):
        return report_unseen(codes.PROGRAM, MACHINE, trial)
    if trial.refusal:
        return Finding(
            codes.PROGRAM,
            Severity.ERROR,
            MACHINE,
            f"the data plane can't be loaded: {trial.refusal}",
            hint=trial.remedy,
        )
    return report_ok(codes.PROGRAM, MACHINE, "the kernel takes the data plane")


def _judge_jit(is_on: bool | Unseen, trial: Trial | Unseen) -> Finding:
    if isinstance(is_on, Unseen):  # the sysctl is not to be seen in other network namespaces
        if isinstance(trial, Unseen):
            return report_unseen(codes.JIT, MACHINE, is_on)
        is_on = trial.is_compiled
    if is_on:
        return report_ok(codes.JIT, MACHINE, "programs are compiled (JIT)")
    return Finding(
        codes.JIT,
        Severity.WARNING,
        MACHINE,
        "the JIT compiler is off: the data plane is interpreted, several times slower",
        "sysctl -w net.core.bpf_jit_enable=1",
    )


def _judge_bpffs(bpffs: Bpffs) -> Finding:
    if bpffs.is_read_only:
        return Finding(
            codes.BPFFS,
            Severity.ERROR,
            MACHINE,
            f"the BPF file system at {bpffs.place} is mounted read-only: nothing can be pinned"
            " there, and no pin removed",
            f"mount -o remount,rw {bpffs.place}",
        )
    if bpffs.is_mounted:
        return report_ok(codes.BPFFS, MACHINE, f"a BPF file system is at {bpffs.place}")
    if not bpffs.mounts_last:
        return Finding(
            codes.LASTING_PINS,
            Severity.WARNING,
            MACHINE,
            "this command has mounts of its own, as under ip netns exec: what is pinned here ends"
            " with it",
            f"nsenter --net=/run/netns/{bpffs.namespace} bash" if bpffs.namespace else "",
            hint="enter the namespace with nsenter --net, and run xdplb there",
        )
    return Finding(
        codes.BPFFS,
        Severity.NOTE,
        MACHINE,
        f"no BPF file system is at {bpffs.place}: the controller mounts one",
        f"mount -t bpf bpf {bpffs.place}",
    )


def _judge_memlock(machine: MachineFacts) -> Iterator[Finding]:
    if parse_release(machine.release) >= _KERNEL_THAT_COUNTS_BY_CGROUP:
        return
    if machine.memlock_bytes is None:
        yield report_ok(codes.MEMLOCK, MACHINE, "locked memory is not limited")
        return
    yield Finding(
        codes.MEMLOCK,
        Severity.WARNING,
        MACHINE,
        f"locked memory is limited to {machine.memlock_bytes} bytes: Linux {machine.release}"
        " counts maps among it",
        "ulimit -l unlimited",
        hint="in a systemd unit: LimitMEMLOCK=infinity",
    )
