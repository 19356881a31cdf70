from ipaddress import ip_address

import pytest

from reconciler.config.primes import find_next_prime, is_prime
from reconciler.config.values import format_address_port, parse_address_port, parse_duration


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("500ms", 0.5), ("2s", 2), ("1.5s", 1.5), ("5m", 300), ("1h", 3600), ("0s", 0)],
)
def test_duration(text, duration_s):
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5d", "1e3s", ".5s", "2s\n", "٣s"])
def test_text_that_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.11", "10.0.0.11", None),
        ("10.0.0.11:9000", "10.0.0.11", 9000),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:53", "2001:db8::1", 53),
        ("2001:0DB8:0::1", "2001:db8::1", None),
    ],
)
def test_address_and_port(text, address, port):
    assert parse_address_port(text) == (ip_address(address), port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10.0.0.1:",
        ":80",
        "10.0.0.1:65536",
        "[10.0.0.1]:80",
        "[::1]",
        "10.0.0.1:80 ",
        "::1%lo",
    ],
)
def test_text_that_is_no_address_and_port(text):
    with pytest.raises(ValueError, match=r"address|port|zone|IPv6"):
        parse_address_port(text)


@pytest.mark.parametrize("text", ["10.0.0.11:9000", "[2001:db8::1]:53"])
def test_format_address_port_undoes_parse_address_port(text):
    address, port = parse_address_port(text)
    assert format_address_port(address, port) == text


def test_primes():
    primes = [n for n in range(-1, 60) if is_prime(n)]
    assert primes == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]
    assert is_prime(65_537)
    assert is_prime(1_048_573)
    assert not is_prime(251 * 257)
    assert find_next_prime(65_536) == 65_537
    assert find_next_prime(251) == 251
