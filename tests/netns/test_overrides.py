"""drain, maint, ready and wait, with real connections: with a controller and without."""

import contextlib
import json
import os
import re
import signal

import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch, fetch_again
from reconciler.lab.namespaces import is_running

pytestmark = pytest.mark.root

VIP = "192.0.2.1"
TEXT = (
    "interface: [eth0, eth1]\nlimits: {ring_slots: 150000, flows: 65536}\n"
    "vip: 192.0.2.1\nport: 8080\nsafety: {max_remove_percent: 50}\n"
    "backends:\n  - 10.0.0.11\n  - 10.0.0.12\n  - 10.0.0.13\n  - 10.0.0.14\n"
)
NAMES = {f"10.0.0.{number}" for number in range(11, 15)}


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve()
        yield made


@pytest.fixture(params=[True, False], ids=["controller", "alone"])
def controller(request, xdplb):
    """A controller that follows the file, or nobody after one pass."""
    if request.param:
        return xdplb.start(TEXT)
    xdplb.apply(TEXT)
    return None


def give(xdplb, verb, backend, *words):
    """Run a command that succeeds; its document."""
    done = xdplb.run(verb, f"default/{backend}:8080", "-c", xdplb.config, "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def find_states(xdplb):
    return {str(row.address): row.state.name.lower() for row in xdplb.tables().backends.values()}


def find_live(lab):
    """The backends that new connections get."""
    return {fetch(lab.client, VIP).backend for _ in range(60)}


@contextlib.contextmanager
def connected(lab, backend):
    """A connection that lives on this backend."""
    for _ in range(200):
        connection = lab.client.socket()
        connection.settimeout(3)
        connection.connect((VIP, 8080))
        if fetch_again(connection).backend == backend:
            with connection:
                yield connection
            return
        connection.close()
    raise AssertionError(f"no connection went to {backend}")


def start_waiting(xdplb, what, *words):
    return xdplb.popen("wait", "--for", what, "--silence", "500ms", "-c", xdplb.config, *words)


def test_a_drained_backend_keeps_its_connections_until_they_end(lab, xdplb, controller):
    with connected(lab, "10.0.0.11") as connection:
        document = give(xdplb, "drain", "10.0.0.11", "--reason", "kernel update")
        assert document["state"] == {"before": "ready", "after": "drain"}
        assert document["slots"]["after"] == 0
        assert find_live(lab) == NAMES - {"10.0.0.11"}
        for _ in range(3):
            assert fetch_again(connection).backend == "10.0.0.11"
        status = json.loads(xdplb.run("status", "--json", "-c", xdplb.config).stdout)
        (shown,) = status["overrides"]
        assert (shown["state"], shown["owner"], shown["stray"]) == ("drain", "root", False)
        backend = status["services"][0]["backends"][0]
        assert (backend["state"], backend["connections"]) == ("drain", 1)
        words = ["wait", "--for", "drained=10.0.0.11:8080", "-c", xdplb.config]
        done = xdplb.run(*words, "--silence", "100ms", "--timeout", "1s")
        assert done.returncode == 6
        assert "1 connection left" in done.stderr
        waiting = start_waiting(xdplb, "drained=10.0.0.11:8080")
        assert waiting.poll() is None
    assert waiting.wait(20) == 0
    assert give(xdplb, "ready", "10.0.0.11")["override"] is None
    assert find_live(lab) == NAMES
    assert xdplb.plan()["in_sync"]


def test_maint_breaks_connections_at_once(lab, xdplb, controller):
    with connected(lab, "10.0.0.12") as connection:
        give(xdplb, "maint", "10.0.0.12")
        with pytest.raises(OSError, match=r"reset|closed|timed out"):
            fetch_again(connection)
        assert find_live(lab) == NAMES - {"10.0.0.12"}
        assert start_waiting(xdplb, "drained=10.0.0.12:8080").wait(20) == 0
    give(xdplb, "drain", "10.0.0.12")
    assert find_states(xdplb)["10.0.0.12"] == "drain"


def test_plan_says_what_an_override_would_change(lab, xdplb):
    xdplb.apply(TEXT)
    give(xdplb, "drain", "10.0.0.13", "--for", "1h", "--reason", "brief")
    assert xdplb.plan()["in_sync"]
    path = xdplb.state / "default" / "overrides.json"
    path.write_text(re.sub('"until": .*', '"until": 1.0', path.read_text(encoding="utf-8")))
    plan = xdplb.plan()
    (change,) = plan["changes"]
    assert (change["reason"], change["before"]) == ("override", {"state": "drain"})
    assert plan["overrides"] == []
    assert "(over): brief" in xdplb.run("status").stdout
    assert "(override)" in xdplb.run("plan", "-c", xdplb.config).stdout
    assert xdplb.apply_file(xdplb.config)["applied"]
    assert "(over)" not in xdplb.run("status").stdout
    assert find_live(lab) == NAMES


def test_an_override_ends_by_itself(lab, xdplb):
    controller = xdplb.start(TEXT)
    give(xdplb, "maint", "10.0.0.14", "--for", "4s")
    assert find_states(xdplb)["10.0.0.14"] == "maint"
    waiting = start_waiting(xdplb, "ready=10.0.0.14:8080")
    assert waiting.wait(20) == 0
    assert find_live(lab) == NAMES
    log = controller.log.read_text(encoding="utf-8")
    assert "override=off backend=default/10.0.0.14:8080 state=maint" in log


def test_an_override_outlives_the_controller(lab, xdplb):
    controller = xdplb.start(TEXT)
    give(xdplb, "drain", "10.0.0.11")
    os.kill(controller.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(controller.pid), "it is dead")
    before = xdplb.tables()
    assert xdplb.apply_file(xdplb.config)["writes"] == 0
    xdplb.start()
    assert xdplb.tables() == before
    assert find_states(xdplb)["10.0.0.11"] == "drain"
    # And an edit of the file.
    text = TEXT.replace("  - 10.0.0.12\n", "")
    xdplb.config.write_text(text, encoding="utf-8")
    assert xdplb.run("wait", "--for", "synced", "-c", xdplb.config).returncode == 0
    assert find_live(lab) == {"10.0.0.13", "10.0.0.14"}


def test_the_guard_refuses_what_takes_too_much(lab, xdplb, controller):
    for number in (11, 12):
        give(xdplb, "drain", f"10.0.0.{number}")
    before = xdplb.tables()
    words = ["drain", "10.0.0.13:8080", "-c", xdplb.config]
    done = xdplb.run(*words)
    assert done.returncode == 5
    assert "removes 3 of 4 backends" in done.stderr
    assert xdplb.tables() == before
    assert xdplb.run(*words, "--allow-large-change").returncode == 0
    assert find_live(lab) == {"10.0.0.14"}
    # The file can be edited all the same.
    xdplb.config.write_text(TEXT.replace("- 10.0.0.14", "- {address: 10.0.0.14, weight: 50}"))
    if controller is None:
        assert xdplb.apply_file(xdplb.config)["applied"]
    assert xdplb.run("wait", "--for", "synced", "-c", xdplb.config).returncode == 0


def test_commands_at_once_are_both_heard(lab, xdplb, controller):
    words = ["-c", xdplb.config]
    commands = [xdplb.popen("drain", f"10.0.0.{number}:8080", *words) for number in (11, 12)]
    assert [command.wait(20) for command in commands] == [0, 0]
    assert find_states(xdplb) == {
        "10.0.0.11": "drain",
        "10.0.0.12": "drain",
        "10.0.0.13": "ready",
        "10.0.0.14": "ready",
    }
    assert xdplb.plan()["in_sync"]


def test_detach_forgets_overrides(lab, xdplb):
    xdplb.apply(TEXT)
    give(xdplb, "drain", "10.0.0.11")
    assert xdplb.run("detach", "-c", xdplb.config).returncode == 0
    assert not (xdplb.state / "default").exists()
    xdplb.apply(TEXT)
    assert find_live(lab) == NAMES


def test_overrides_that_can_not_be_read(lab, xdplb):
    controller = xdplb.start(TEXT)
    give(xdplb, "drain", "10.0.0.11")
    path = xdplb.state / "default" / "overrides.json"
    good = path.read_text(encoding="utf-8")
    path.write_text("{", encoding="utf-8")
    wait_until(lambda: "unreadable" in controller.log.read_text(encoding="utf-8"), "it is logged")
    assert find_states(xdplb)["10.0.0.11"] == "drain"
    for words in (["plan"], ["ready", "10.0.0.11:8080"]):
        done = xdplb.run(*words, "-c", xdplb.config)
        assert (done.returncode, "remove it" in done.stderr) == (1, True)
    assert "unknown: /run/xdplb/default/overrides.json" in xdplb.run("status").stdout
    path.write_text(good, encoding="utf-8")
    assert xdplb.plan()["in_sync"]


def test_another_place_of_pins_is_another_instance(xdplb):
    """Of the same name: what is kept of the one is not the other's."""
    xdplb.apply(TEXT)
    backend = next(iter(xdplb.tables().backend_info.values())).name
    given = xdplb.run("drain", backend, "-c", xdplb.config, "--allow-large-change")
    assert given.returncode == 0, given.stderr
    (override,) = xdplb.plan()["overrides"]
    elsewhere = ["-c", xdplb.config, "--pin-dir", xdplb.folder / "pins"]
    planned = xdplb.run("plan", "--json", *elsewhere)
    assert (planned.returncode, json.loads(planned.stdout)["overrides"]) == (0, [])
    assert xdplb.run("detach", *elsewhere).returncode == 69
    assert xdplb.plan()["overrides"] == [override]
