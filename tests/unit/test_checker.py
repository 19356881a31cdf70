"""The checker against real servers: who is asked, what is kept, and who is told."""

import contextlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from reconciler.health import ask as ask_module
from reconciler.health.checker import MAX_OPEN, Checker, choose_max_open
from reconciler.health.checks import list_checks
from reconciler.health.failure import CheckImpossible
from reconciler.health.once import probe_once
from reconciler.health.standing import Standing
from reconciler.health.vip import VipAsker
from reconciler.lab.waiting import wait_until
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    Forwarding,
    Health,
    HealthType,
    Protocol,
    Service,
    XdpMode,
)

pytestmark = pytest.mark.slow

LOCALHOST = IPv4Address("127.0.0.1")
FAST = Health(interval_s=0.1, timeout_s=0.1)
DOWN = Standing(is_up=False, since=5.0, streak=1, detail="HTTP 500", transitions=3)


def make_config(*backends, health=FAST, **fields):
    service = Service(
        name="web",
        vip=IPv4Address("192.0.2.1"),
        port=80,
        protocol=Protocol.TCP,
        forwarding=Forwarding.NAT,
        affinity=Affinity.FLOW,
        ring_size=251,
        drain_timeout_s=1.0,
        backends=backends,
        health=health,
    )
    return Config("default", ("eth0",), XdpMode.AUTO, 1, (replace(service, **fields),))


@contextlib.contextmanager
def listen(port=0):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def reserve():
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class Told:
    """Counts how often a checker says that something has changed, in which thread, and its
    checks."""

    def __init__(self):
        self.times = 0
        self.threads = set()
        self.checks, self.transitions = Counter(), Counter()

    def count_check(self, result):
        self.checks[result] += 1

    def count_transition(self, *, is_up):
        self.transitions[is_up] += 1

    def __call__(self):
        self.times += 1
        self.threads.add(threading.current_thread().name)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def checker(told):
    with contextlib.closing(Checker(told, told, clock=lambda: 100.0)) as made:
        yield made
    assert not made.is_running()


def wait_for_checks(told, number=5):
    """Until so many more have ended."""
    enough = told.checks.total() + number
    wait_until(lambda: told.checks.total() >= enough, f"{number} checks")


def test_backends_are_up_and_down_as_they_answer(checker, told):
    with listen() as port, reserve() as other:
        checker.follow(
            make_config(Backend("a", LOCALHOST, port), Backend("b", LOCALHOST, other)), {}
        )
        wait_until(lambda: min(told.checks["passed"], told.checks["failed"]) >= 5, "some checks")
        standings = checker.read()
    assert standings[("web", "a")] == Standing(True, 100.0, 0, "connected", 0, f"127.0.0.1:{port}")
    assert standings[("web", "b")] == Standing(
        False, 100.0, 0, "connection refused", 1, f"127.0.0.1:{other}"
    )
    assert told.transitions == {False: 1}
    assert (told.checks["impossible"], told.threads) == (0, {"health"})
    # Each after its first check, and the one that went down then.
    assert told.times == 3


def test_a_backend_that_comes_and_goes_is_followed(checker, told):
    with reserve() as port:
        pass
    checker.follow(make_config(Backend("a", LOCALHOST, port)), {})
    for is_up in (False, True, False):
        with listen(port) if is_up else contextlib.nullcontext():
            wait_until(
                lambda is_up=is_up: (
                    getattr(checker.read().get(("web", "a")), "is_up", None) is is_up
                ),
                f"up: {is_up}",
            )
    assert checker.read()[("web", "a")].transitions == 3
    assert told.times == 4


def test_a_standing_from_before_is_kept_until_checks_say_otherwise(checker, told):
    slow = replace(FAST, interval_s=60.0)
    with listen() as port:
        config = make_config(Backend("a", LOCALHOST, port), health=slow)
        checker.follow(config, {("web", "a"): DOWN, ("web", "gone"): DOWN})
        assert checker.read() == {
            ("web", "a"): replace(DOWN, streak=0),
        }
        wait_for_checks(told, 1)
        assert checker.read()[("web", "a")] == replace(
            DOWN, detail="connected", server=f"127.0.0.1:{port}"
        )
        checker.follow(make_config(Backend("a", LOCALHOST, port)), {})
        wait_until(lambda: checker.read()[("web", "a")].is_up, "it is up")
    assert checker.read()[("web", "a")].transitions == 4


def test_a_standing_of_another_server_is_worth_nothing(checker, told):
    config = make_config(Backend("a", LOCALHOST, 1), health=replace(FAST, interval_s=60.0))
    checker.follow(config, {("web", "a"): replace(DOWN, server="127.0.0.2:1")})
    assert ("web", "a") not in checker.read()
    checker.follow(config, {("web", "a"): replace(DOWN, server="127.0.0.1:1")})
    wait_for_checks(told, 1)


def test_another_address_or_port_is_another_server(checker):
    with reserve() as port, reserve() as other:
        checker.follow(make_config(Backend("a", LOCALHOST, port)), {})
        wait_until(lambda: checker.read().get(("web", "a"), DOWN).transitions == 1, "down")
        checker.follow(make_config(Backend("a", LOCALHOST, other)), {})
        standing = checker.read().get(("web", "a"))
        assert standing is None or standing.is_up


def test_another_kind_of_check_keeps_what_is_known(checker):
    with reserve() as port:
        checker.follow(make_config(Backend("a", LOCALHOST, port)), {})
        wait_until(lambda: checker.read().get(("web", "a"), DOWN).transitions == 1, "down")
        known = checker.read()[("web", "a")]
        slow = replace(FAST, type=HealthType.HTTP, interval_s=60.0)
        checker.follow(make_config(Backend("a", LOCALHOST, port), health=slow), {})
        assert checker.read()[("web", "a")] == replace(known, streak=0)


def test_a_backend_in_maint_is_not_checked_and_comes_back_as_it_went(checker):
    with reserve() as port:
        backend = Backend("a", LOCALHOST, port)
        checker.follow(make_config(backend), {})
        wait_until(lambda: checker.read().get(("web", "a"), DOWN).transitions == 1, "down")
        checker.follow(make_config(replace(backend, state=BackendState.MAINT)), {})
        assert checker.read() == {}
        checker.follow(make_config(backend), {})
        assert not checker.read()[("web", "a")].is_up
        checker.follow(make_config(), {})
        checker.follow(make_config(backend), {})
        assert checker.read().get(("web", "a"), replace(DOWN, is_up=True)).is_up


def test_following_the_same_again_disturbs_nothing(checker, told):
    with listen() as port:
        config = make_config(Backend("a", LOCALHOST, port))
        checker.follow(config, {})
        wait_for_checks(told)
        checker.follow(config, {})
        wait_for_checks(told)
    assert (set(told.checks), told.times) == ({"passed"}, 1)


def test_drain_is_checked_and_none_is_not():
    backend = Backend("a", LOCALHOST, 1, state=BackendState.DRAIN)
    assert list(list_checks(make_config(backend))) == [("web", "a")]
    assert list_checks(make_config(backend, health=None)) == {}


def test_where_a_check_goes():
    other = IPv4Address("127.0.0.9")
    by_the_service = replace(FAST, port=7)
    plain, moved = Backend("a", LOCALHOST, 1), Backend("b", LOCALHOST, 1, health_address=other)
    whole = replace(moved, name="c", health_port=9)
    checks = list_checks(make_config(plain, moved, whole)).values()
    assert [(check.address, check.port) for check in checks] == [
        (LOCALHOST, 1),
        (other, 1),
        (other, 9),
    ]
    checks = list_checks(make_config(plain, whole, health=by_the_service)).values()
    assert [(check.port, check.server) for check in checks] == [
        (7, "127.0.0.1:1"),
        (9, "127.0.0.1:1"),
    ]


def test_a_silent_backend_delays_no_other(checker, monkeypatch):
    results, take = Counter(), Checker.take

    def count(checker, job, result):
        results[job.name] += 1
        take(checker, job, result)

    monkeypatch.setattr(Checker, "take", count)
    silent_health = replace(FAST, type=HealthType.HTTP)
    with listen() as silent, reserve() as dead:
        config = make_config(
            *(Backend(f"s{number}", LOCALHOST, silent) for number in range(50)),
            Backend("a", LOCALHOST, dead),
            health=silent_health,
        )
        checker.follow(config, {})
        wait_until(
            lambda: not checker.read().get(("web", "a"), replace(DOWN, is_up=True)).is_up, "down"
        )
        enough = results["web", "a"] + 20
        wait_until(lambda: results["web", "a"] >= enough, "it is checked on and on")
        assert checker.read()[("web", "s1")].detail == "timeout after 0.1s"


def test_what_this_machine_can_not_ask_is_not_held_against_the_backend(
    checker, told, caplog, monkeypatch
):
    async def refuse(_ask, _timeout_s):
        raise CheckImpossible("too many open files")

    monkeypatch.setattr("reconciler.health.checker.find_result", refuse)
    checker.follow(make_config(Backend("a", LOCALHOST, 1)), {})
    wait_until(lambda: told.checks["impossible"] >= 5, "five in vain")
    assert (checker.read(), told.times) == ({}, 0)
    assert caplog.text.count("check=impossible backend=web/a") == 1
    assert 'reason="too many open files"' in caplog.text


def test_sockets_are_half_of_what_the_process_may_have():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        assert choose_max_open() == 300
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * MAX_OPEN + 1, hard))
        assert choose_max_open() == MAX_OPEN
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_every_type_of_check_can_be_prepared():
    for kind in set(HealthType) - {HealthType.NONE}:
        health = Health(type=kind, query="example.com", send=b"x")
        checks = list_checks(make_config(Backend("a", LOCALHOST, 1), health=health))
        assert len(ask_module.prepare_asks(checks.items(), VipAsker())) == 1


def test_one_probe_judges_each_backend_by_itself():
    with listen() as port, reserve() as other:
        config = make_config(
            Backend("a", LOCALHOST, port),
            Backend("b", LOCALHOST, other),
            Backend("c", LOCALHOST, other, state=BackendState.MAINT),
        )
        standings = probe_once(config, lambda: 7.0)
    assert standings == {
        ("web", "a"): Standing(True, 7.0, 0, "connected", 0, f"127.0.0.1:{port}"),
        ("web", "b"): Standing(False, 7.0, 0, "connection refused", 0, f"127.0.0.1:{other}"),
    }


def test_a_checker_that_has_nothing_to_do_ends_as_well(checker):
    assert checker.is_running()
    assert (checker.read(), checker.measure_lag_s()) == ({}, 0.0)


def test_a_connection_that_is_under_way_ends_with_the_checker():
    with listen() as port:
        checker = Checker(lambda: None, Told())
        health = Health(type=HealthType.HTTP, interval_s=60.0, timeout_s=60.0)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            checker.follow(make_config(Backend("a", LOCALHOST, port), health=health), {})
            checker.close()
    assert not checker.is_running()


def test_a_frozen_program_is_down_and_up_again_when_it_goes_on(checker):
    command = [sys.executable, "-m", "reconciler.lab.server", "a", "--http", "0"]
    with reserve() as port:
        pass
    command[-1] = str(port)
    health = Health(type=HealthType.HTTP, interval_s=0.5, timeout_s=0.5, fall=2)

    def is_up():
        return getattr(checker.read().get(("web", "a")), "is_up", None)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            checker.follow(make_config(Backend("a", LOCALHOST, port), health=health), {})
            wait_until(lambda: is_up() is True, "it is up")
            server.send_signal(signal.SIGSTOP)
            wait_until(lambda: is_up() is False, "it is down")
            assert checker.read()[("web", "a")].detail == "timeout after 0.5s"
            server.send_signal(signal.SIGCONT)
            wait_until(lambda: is_up() is True, "it is up again")
        finally:
            server.kill()
