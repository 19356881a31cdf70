"""`advice`: what about the machine will disappoint."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from reconciler.advice import find_advice
from reconciler.config import parse
from reconciler.environment import Environment, InterfaceFacts
from reconciler.model import XdpMode
from reconciler.tables import Attachment, Tables

CONFIG = parse(b"interface: eth0\nport: 80\nbackends: [10.0.0.1, 10.0.0.2]\n", "lb.yaml").config
FINE = InterfaceFacts(2, (ip_address("192.0.2.1"),), transmits=True, redirects=True)
OTHER = ip_address("192.0.2.2")


def codes(facts, mode=XdpMode.NATIVE, config=CONFIG):
    observed = Tables(attachments={"eth0": Attachment(2, mode, "")})
    return [one.code for one in find_advice(config, Environment({"eth0": facts}), observed)]


@pytest.mark.parametrize(
    ("facts", "mode", "expected"),
    [
        (FINE, XdpMode.NATIVE, []),
        (replace(FINE, forwards=frozenset((6,))), XdpMode.NATIVE, ["XLB501"]),
        (replace(FINE, forwards=frozenset((4,))), XdpMode.NATIVE, []),
        (FINE, XdpMode.GENERIC, ["XLB502"]),
        (replace(FINE, redirects=False), XdpMode.NATIVE, ["XLB503"]),
        (replace(FINE, addresses=(*FINE.addresses, OTHER)), XdpMode.NATIVE, ["XLB504"]),
        (replace(FINE, forwards=frozenset(), is_loopback=True), XdpMode.GENERIC, []),
    ],
)
def test_advice(facts, mode, expected):
    assert codes(facts, mode) == expected


def test_generic_mode_that_was_asked_for_is_no_surprise():
    asked = replace(CONFIG, xdp_mode=XdpMode.GENERIC)
    assert codes(FINE, XdpMode.GENERIC, asked) == []


def test_an_interface_that_the_program_leaves_is_told():
    attachments = {name: Attachment(2, XdpMode.NATIVE, "") for name in ("eth0", "eth1")}
    found = find_advice(CONFIG, Environment({"eth0": FINE}), Tables(attachments=attachments))
    assert [one.code for one in found] == ["XLB505"]
    assert "leaves eth1" in found[0].message


def test_each_warning_names_the_command_that_mends_it():
    facts = replace(FINE, forwards=frozenset())
    (one,) = find_advice(CONFIG, Environment({"eth0.5": facts, "eth0": FINE}), Tables())
    assert one.hint == "sysctl -w net.ipv4.conf.eth0/5.forwarding=1"


def test_an_address_that_another_service_names_is_none_of_several():
    text = (
        "interface: eth0\nservices:\n  - {name: a, port: 80, backends: [10.0.0.1]}\n"
        "  - {name: b, vip: 192.0.2.2, port: 80, backends: [10.0.0.2]}\n"
    )
    two = replace(FINE, addresses=(*FINE.addresses, OTHER))
    assert codes(two, config=parse(text.encode(), "lb.yaml").config) == []
    other_port = text.replace("192.0.2.2, port: 80", "192.0.2.2, port: 81")
    assert codes(two, config=parse(other_port.encode(), "lb.yaml").config) == ["XLB504"]
