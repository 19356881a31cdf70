"""Whether backends answer, and whether their replies come back the right way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reconciler.diagnosis import codes
from reconciler.diagnosis.case import Case, list_serving, name_backends
from reconciler.diagnosis.facts import Answer, Unseen
from reconciler.diagnosis.finding import Finding, Severity, report_ok
from reconciler.model import Backend, Forwarding, Protocol, Service
from reconciler.tables import Endpoint

# Packets that a backend must have had before its silence means something.
_ENOUGH_PACKETS = 100


def judge_backends(case: Case) -> Iterator[Finding]:
    """Yield what there is to say about each service's backends."""
    for service in case.config.services:
        if service.protocol is Protocol.TCP:
            yield from _judge_answers(service, case)
        else:
            yield _report_unasked(service)
        yield from _judge_service(service, case)
        if service.forwarding is Forwarding.NAT:
            yield from _judge_replies(service, case)
        else:
            yield _report_direct_return(service)


# --- do they answer? ---


def _judge_answers(service: Service, case: Case) -> Iterator[Finding]:
    groups: dict[Answer, list[Backend]] = defaultdict(list)
    for backend in list_serving(service):
        if not case.is_out_of_reach(backend):  # another finding says why
            groups[case.find_answer(backend)].append(backend)
    for answer, backends in groups.items():
        yield _report_answer(service, answer, backends, case.reach.timeout_s)


def _report_answer(
    service: Service, answer: Answer, backends: list[Backend], timeout_s: float
) -> Finding:
    names, first = name_backends(backends), backends[0]
    if answer is Answer.OPENED:
        return report_ok(codes.BACKEND_ANSWER, service.name, f"connected to {names}")
    severity, host = Severity.WARNING, ""
    command = f"nc -vz -w 3 {first.address} {first.port}"
    match answer:
        case Answer.REFUSED:
            message = f"{names} refused a connection to port {first.port}: nothing listens there"
            command, host = f"ss -ltn 'sport = :{first.port}'", str(first.address)
            if service.forwarding is not Forwarding.NAT:
                severity, message = Severity.NOTE, f"{message}, unless on the VIP alone"
        case Answer.SILENT:
            message = f"{names} did not answer within {timeout_s:g} s: down, or behind a firewall"
        case Answer.UNREACHABLE:
            message = f"{names} could not be reached: nobody on the way leads there"
        case Answer.BARRED:
            message = f"this machine may not connect to {names}: its own firewall forbids it"
            command = "nft list ruleset"
        case _:
            severity, message = Severity.NOTE, f"{names} was not asked: the time was over"
    return Finding(codes.BACKEND_ANSWER, severity, service.name, message, command, host)


def _report_unasked(service: Service) -> Finding:
    backend = service.backends[0]
    return Finding(
        codes.BACKEND_ANSWER,
        Severity.NOTE,
        service.name,
        "its backends were not asked: an answer over UDP depends on the question",
        f"ss -lun 'sport = :{backend.port}'",
        str(backend.address),
    )


def _judge_service(service: Service, case: Case) -> Iterator[Finding]:
    serving = list_serving(service)
    if serving and all(_is_out(backend, service, case) for backend in serving):
        yield Finding(
            codes.SERVICE_OUT,
            Severity.ERROR,
            service.name,
            f"none of {len(serving)} backends can be reached: every client waits in vain",
        )


def _is_out(backend: Backend, service: Service, case: Case) -> bool:
    if case.find_way(backend).is_local:
        return False
    if case.is_out_of_reach(backend):
        return True
    answer = case.find_answer(backend)
    if answer is Answer.REFUSED:  # with direct return it may listen on the VIP alone
        return service.forwarding is Forwarding.NAT
    return answer in (Answer.SILENT, Answer.UNREACHABLE)


# --- do replies come back? ---


def _judge_replies(service: Service, case: Case) -> Iterator[Finding]:
    packets = {} if isinstance(case.instance, Unseen) else case.instance.packets
    silent: list[Backend] = []
    unproven: list[Backend] = []
    for backend in list_serving(service):
        endpoint = Endpoint(backend.address, backend.port, service.protocol)
        forwarded, replies = packets.get(endpoint, (0, 0))
        if not replies:
            (silent if forwarded >= _ENOUGH_PACKETS else unproven).append(backend)
    if silent:
        yield Finding(
            codes.WAY_BACK,
            Severity.WARNING,
            service.name,
            f"packets went to {name_backends(silent)}, and no reply came back through here",
            *_look_from(silent[0], case),
        )
    if unproven:
        yield Finding(
            codes.WAY_BACK,
            Severity.NOTE,
            service.name,
            f"replies of {name_backends(unproven)} must come back through here, and none has yet",
            *_look_from(unproven[0], case),
        )
    if not silent and not unproven:
        yield report_ok(codes.WAY_BACK, service.name, "replies come back through here")


def _look_from(backend: Backend, case: Case) -> tuple[str, str, str]:
    """The command, the host and the hint that show a backend's way back."""
    found = case.find_own_network(backend.address)
    through = f"via {found[1].ip}" if found else "a way through this machine"
    return "ip route get CLIENT", str(backend.address), f"it must say {through}"


def _report_direct_return(service: Service) -> Finding:
    device = "" if service.forwarding is Forwarding.L2DSR else ", and a tunnel device"
    return Finding(
        codes.WAY_BACK,
        Severity.NOTE,
        service.name,
        f"replies go past this machine ({service.forwarding.name.lower()}): each backend must have"
        f" the VIP{device}",
        f"ip -brief address show to {service.vip or 'VIP'}",
        "each backend",
    )
