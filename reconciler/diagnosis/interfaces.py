"""Whether the interfaces of lb.yaml can do what is asked of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from reconciler import advice
from reconciler.diagnosis import codes
from reconciler.diagnosis.case import Case
from reconciler.diagnosis.facts import ANYBODY, InterfaceState, Peer, Program, Unseen, Way
from reconciler.diagnosis.finding import Finding, Severity, name_some, report_ok, report_unseen
from reconciler.diagnostics import Diagnostic
from reconciler.model import Forwarding, XdpMode

# Drivers keep a frame for XDP within one page of 4096 bytes; mlx5 leaves the least of it.
_LARGEST_SINGLE_PAGE_MTU = 3498

_STRICT = 1  # rp_filter, Documentation/networking/ip-sysctl.rst

_FINE = {
    advice.FORWARDING_OFF: "forwards what arrives",
    advice.NO_REDIRECT: "takes redirected frames",
}


def judge_interfaces(case: Case) -> Iterator[Finding]:
    """Yield what there is to say about each interface that the file lists, in its order."""
    for name in case.config.interfaces:
        state = case.network.interfaces.get(name)
        if state is None:
            yield _report_missing(name, case)
        elif not state.device.is_up or not state.device.has_carrier:
            yield _report_idle(state)
        else:
            yield report_ok(codes.CARRIER, name, "is up")
            yield from _judge_one(state, case)


def _report_missing(name: str, case: Case) -> Finding:
    close = difflib.get_close_matches(name, case.network.devices, n=1)
    return Finding(
        codes.INTERFACE,
        Severity.ERROR,
        name,
        "there is no such interface: nothing of the file is applied",
        "ip -brief link",
        hint=f"did you mean {close[0]}?" if close else "",
    )


def _report_idle(state: InterfaceState) -> Finding:
    name = state.device.name
    if not state.device.is_up:
        command = f"ip link set dev {name} up"
        return Finding(
            codes.CARRIER, Severity.ERROR, name, "is down: nothing arrives there", command
        )
    return Finding(
        codes.CARRIER,
        Severity.ERROR,
        name,
        "has no carrier: nothing arrives there",
        f"ethtool {name}",
        hint="see to the cable, or to the other end",
    )


def _judge_one(state: InterfaceState, case: Case) -> Iterator[Finding]:
    mode = case.choose_mode(state)
    yield _judge_program(state, case)
    yield _judge_native(state, case)
    yield from _judge_advice(state, case, mode)
    if mode is XdpMode.NATIVE and not case.is_ours(state):
        yield _judge_size(state)
    yield from _judge_offloads(state)
    if state.device.kind == "veth":
        yield _judge_checksums(state)
    yield from _judge_reverse_path(state, case)


# --- programs ---


def _judge_program(state: InterfaceState, case: Case) -> Finding:
    device = state.device
    if not device.program:
        return report_ok(codes.OTHER_PROGRAM, device.name, "has no other XDP program")
    if case.is_ours(state):
        return report_ok(codes.OTHER_PROGRAM, device.name, f"runs {case.config.name}")
    if isinstance(case.programs, Unseen):
        reason = f"whose XDP program {device.program} is: {case.programs.reason}"
        return report_unseen(codes.OTHER_PROGRAM, device.name, Unseen(reason))
    program = case.programs.get(device.ifindex, Program(""))
    return Finding(
        codes.OTHER_PROGRAM,
        Severity.ERROR,
        device.name,
        f"has another XDP program, {program.name or 'without a name'} (id {device.program},"
        f" {device.program_mode.value}): an interface takes one",
        _take_off(state, program),
    )


def _take_off(state: InterfaceState, program: Program) -> str:
    if program.instance:
        return f"xdplb detach -n {program.instance}"
    if program.link:
        return f"bpftool link detach id {program.link}"
    where = "xdpgeneric" if state.device.program_mode is XdpMode.GENERIC else "xdp"
    return f"ip link set dev {state.device.name} {where} off"


def _judge_native(state: InterfaceState, case: Case) -> Finding:
    name, takes = state.device.name, state.device.takes_native
    if takes is None:
        reason = Unseen("whether the driver takes XDP: kernels before 6.3 don't say")
        return report_unseen(codes.NATIVE_XDP, name, reason)
    if takes or case.config.xdp_mode is not XdpMode.NATIVE:
        words = "takes" if takes else "need not take"
        driver = f"its driver, {state.driver}," if state.driver else "its driver"
        return report_ok(codes.NATIVE_XDP, name, f"{driver} {words} XDP programs")
    return Finding(
        codes.NATIVE_XDP,
        Severity.ERROR,
        name,
        "its driver takes no XDP program, and the file wants it there: nothing is attached",
        hint="write xdp_mode: auto",
    )


# --- what plan warns of too ---


def _judge_advice(state: InterfaceState, case: Case, mode: XdpMode) -> Iterator[Finding]:
    name = state.device.name
    runs = "runs" if case.is_ours(state) else "will run"
    fine = {**_FINE, advice.GENERIC_FALLBACK: f"{runs} XDP in {mode.value} mode"}
    for diagnostic in advice.advise_interface(name, state.facts, case.config, mode):
        fine.pop(diagnostic.code, None)
        yield _raise(diagnostic, state, case)
    for code, message in fine.items():
        yield report_ok(code, name, message)


def _raise(diagnostic: Diagnostic, state: InterfaceState, case: Case) -> Finding:
    """What is a warning where a file is planned can hinder it here, and the command be exact."""
    severity, command, hint = Severity.WARNING, "", diagnostic.hint
    if diagnostic.code == advice.FORWARDING_OFF:
        severity, command, hint = Severity.ERROR, diagnostic.hint, ""
    elif diagnostic.code == advice.NO_REDIRECT:
        senders = case.list_senders(state.device.name)
        if any(service.forwarding is not Forwarding.NAT for service in senders):
            severity = Severity.ERROR
        command = _at_peer(state.peer, "gro on")
        hint = "" if command else hint
    return Finding(
        diagnostic.code, severity, state.device.name, diagnostic.message, command, hint=hint
    )


def _at_peer(peer: Peer | Unseen | None, switch: str) -> str:
    """The command that switches an offload of a veth's other end, if that can be reached."""
    if not isinstance(peer, Peer):
        return ""
    return f"{peer.entry} ethtool -K {peer.name} {switch}".lstrip()


# --- sizes and offloads ---


def _judge_size(state: InterfaceState) -> Finding:
    name, mtu = state.device.name, state.device.mtu
    if mtu <= _LARGEST_SINGLE_PAGE_MTU:
        return report_ok(codes.JUMBO_FRAMES, name, f"has an MTU of {mtu}")
    return Finding(
        codes.JUMBO_FRAMES,
        Severity.WARNING,
        name,
        f"has an MTU of {mtu}: drivers take XDP programs up to about {_LARGEST_SINGLE_PAGE_MTU}",
        f"ip link set dev {name} mtu {_LARGEST_SINGLE_PAGE_MTU}",
        hint="or write xdp_mode: generic",
    )


def _judge_offloads(state: InterfaceState) -> Iterator[Finding]:
    name = state.device.name
    if state.offloads.lro:
        yield Finding(
            codes.MERGED_SEGMENTS,
            Severity.WARNING,
            name,
            "merges segments (LRO): XDP gets packets that no client sent, or is refused",
            f"ethtool -K {name} lro off",
        )
    else:
        yield report_ok(codes.MERGED_SEGMENTS, name, "merges no segments (LRO)")
    if state.offloads.rxvlan and state.vlans:
        yield Finding(
            codes.STRIPPED_TAGS,
            Severity.WARNING,
            name,
            f"takes VLAN tags off, and carries {name_some(state.vlans)}: XDP takes their packets"
            " for untagged ones",
            f"ethtool -K {name} rxvlan off",
        )
    else:
        yield report_ok(codes.STRIPPED_TAGS, name, "hides no VLAN tags")


def _judge_checksums(state: InterfaceState) -> Finding:
    name, peer = state.device.name, state.peer
    if isinstance(peer, Peer) and peer.offloads.tx_checksum:
        return Finding(
            codes.HALF_DONE_CHECKSUMS,
            Severity.WARNING,
            name,
            f"the other end of this veth, {peer.name}, offloads checksums: packets of local sockets"
            " come in with half done ones, and rewriting spoils them",
            _at_peer(peer, "tx off"),
        )
    if isinstance(peer, Peer):
        return report_ok(codes.HALF_DONE_CHECKSUMS, name, "gets whole checksums")
    reason = peer.reason if peer else "it was not found"
    return Finding(
        codes.HALF_DONE_CHECKSUMS,
        Severity.NOTE,
        name,
        f"the other end of this veth was not looked at ({reason}): if it offloads checksums,"
        " rewriting spoils them",
        hint="there, tx-checksumming of ethtool -k must be off",
    )


# --- the stack's filter ---


def _judge_reverse_path(state: InterfaceState, case: Case) -> Iterator[Finding]:
    name = state.device.name
    is_stack_used = any(s.forwarding is Forwarding.NAT for s in case.config.services)
    if state.facts.is_loopback or not is_stack_used:
        return
    back = case.network.ways.get(ANYBODY, Way()).interface
    is_asymmetric = back not in ("", name) and not case.list_senders(name)
    if state.reverse_path != _STRICT or not is_asymmetric:
        yield report_ok(codes.REVERSE_PATH, name, "rp_filter is in nobody's way")
        return
    yield Finding(
        codes.REVERSE_PATH,
        Severity.WARNING,
        name,
        f"rp_filter is strict, and the way back to clients is {back}: what takes the stack here is"
        " dropped",
        f"sysctl -w net.ipv4.conf.{name.replace('.', '/')}.rp_filter=2",
    )
