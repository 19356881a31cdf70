"""What about the machine will disappoint who runs this file on it: warnings XLB5xx.

Nothing here stops an apply. Each warning names the command that mends it.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.diagnostics import Diagnostic
from reconciler.environment import Environment, InterfaceFacts, find_own_vips
from reconciler.model import Config, Service, XdpMode
from reconciler.tables import Tables

FORWARDING_OFF = "XLB501"
GENERIC_FALLBACK = "XLB502"
NO_REDIRECT = "XLB503"
SEVERAL_VIPS = "XLB504"
LEFT_INTERFACE = "XLB505"

# IPv6 has no forwarding of one interface alone that hosts would take part in: RFC 4861
# routers send no router solicitations, so the whole machine becomes one.
_SYSCTLS = {4: "net.ipv4.conf.{}.forwarding", 6: "net.ipv6.conf.all.forwarding"}


def find_advice(
    config: Config, environment: Environment, observed: Tables
) -> tuple[Diagnostic, ...]:
    """Return the warnings about this file on this machine, in a stable order."""
    return tuple(_find_advice(config, environment, observed))


def _find_advice(
    config: Config, environment: Environment, observed: Tables
) -> Iterator[Diagnostic]:
    for name, facts in environment.interfaces.items():
        live = observed.attachments.get(name)
        mode = live.mode if live else config.xdp_mode
        yield from advise_interface(name, facts, config, mode)
    for name in sorted({*observed.attachments} - {*config.interfaces}):
        yield _warn(
            LEFT_INTERFACE,
            f"the program leaves {name}: packets for services that come in there are not balanced"
            " any more, and replies in nat that come back there keep the backend's address",
            "list it in 'interface' for as long as clients or backends lie behind it",
        )
    first = config.interfaces[0]
    if first in environment.interfaces:
        for service in config.services:
            yield from advise_own_addresses(service, config, environment.interfaces[first])


def advise_interface(
    name: str, facts: InterfaceFacts, config: Config, mode: XdpMode
) -> Iterator[Diagnostic]:
    """Yield the warnings about one interface, where the program runs in `mode`."""
    for version in sorted(_list_families(config) - facts.forwards):
        if not facts.is_loopback:
            yield _warn(
                FORWARDING_OFF,
                f"IPv{version} forwarding is off on {name}: what arrives there reaches no backend",
                f"sysctl -w {_SYSCTLS[version].format(name.replace('.', '/'))}=1",
            )
    if mode is XdpMode.GENERIC and config.xdp_mode is XdpMode.AUTO and not facts.is_loopback:
        yield _warn(
            GENERIC_FALLBACK,
            f"the driver of {name} took no XDP program: it runs in the stack, at a fraction"
            " of the speed",
            "say xdp_mode: native to see the driver's reason",
        )
    if mode is XdpMode.NATIVE and not facts.redirects:
        yield _warn(
            NO_REDIRECT,
            f"{name} takes no redirected frames: in nat the stack forwards them, slower; other"
            " modes drop them",
            f"on a veth, switch GRO on at its peer: ethtool -K PEER gro on; else see if the"
            f" driver of {name} has ndo_xdp_xmit",
        )


def advise_own_addresses(
    service: Service, config: Config, facts: InterfaceFacts
) -> Iterator[Diagnostic]:
    """Yield the warning about a service without `vip`; `facts` are the first interface's."""
    if service.vip is not None:
        return
    count = len(find_own_vips(service, config, facts))
    if count > 1:
        yield Diagnostic(
            SEVERAL_VIPS,
            "warning",
            f"service {service.name} listens on {count} addresses of"
            f" {config.interfaces[0]}: every flow is remembered, to answer from the right one",
            service.source,
            "name the one that clients use: vip: ADDRESS",
        )


def _list_families(config: Config) -> frozenset[int]:
    return frozenset(b.address.version for s in config.services for b in s.backends)


def _warn(code: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code, "warning", message, hint=hint)
