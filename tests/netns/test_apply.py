"""`xdplb apply` as people and pipelines use it, on a machine with a kernel of its own."""

import contextlib
import json
import os
import pty
import subprocess

import pytest

from reconciler.lab import Lab, Topology
from reconciler.lab.ask import fetch_again
from reconciler.lab.controller import find_program
from reconciler.lab.process import python_environment
from reconciler.lock import hold_lock

pytestmark = pytest.mark.root

VIP = "192.0.2.1"
HEAD = "interface: [eth0, eth1]\nlimits: {ring_slots: 262144, flows: 65536}\n"
THREE = HEAD + "port: 8080\nbackends: [10.0.0.11, 10.0.0.12, 10.0.0.13]\n"
FOUR = THREE.replace("10.0.0.13]", "10.0.0.13, 10.0.0.14]")
TWO = THREE.replace(", 10.0.0.13]", "]")
NAMED = THREE.replace("10.0.0.13", "{name: c, address: 10.0.0.13}")
LARGER_RING = THREE + "ring_size: 131071\n"


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve()
        yield made


def apply(xdplb, text, *words):
    xdplb.config.write_text(text, encoding="utf-8")
    return xdplb.run("apply", "--yes", "-c", xdplb.config, *words)


@contextlib.contextmanager
def opened(lab, count):
    """Connections through the VIP."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(lab.client.socket()) for _ in range(count)]
        for each in connections:
            each.settimeout(3)
            each.connect((VIP, 8080))
        yield connections


def test_an_apply_changes_what_it_says_and_breaks_no_connection(lab, xdplb):
    done = apply(xdplb, THREE)
    assert done.returncode == 0, done.stderr
    assert "applied and verified: generation 1" in done.stdout
    with opened(lab, 12) as connections:
        homes = [fetch_again(each).backend for each in connections]
        for text, words in ((FOUR, "none broken"), (TWO, "none broken; those on 10.0.0.13:8080")):
            done = apply(xdplb, text, "--allow-large-change")
            assert done.returncode == 0, done.stderr
            assert words in done.stdout
            assert [fetch_again(each).backend for each in connections] == homes
    assert xdplb.run("plan", "--detailed-exitcode", "-c", xdplb.config).returncode == 0
    controller = json.loads(xdplb.run("status", "--json").stdout)["controller"]
    results = [controller[each]["result"] for each in ("last_attempt", "last_good")]
    assert results == ["applied", "applied"]


def test_what_a_plan_says_will_break_is_said_before(xdplb):
    apply(xdplb, THREE)
    xdplb.config.write_text(LARGER_RING, encoding="utf-8")
    (effect,) = xdplb.plan()["connections"]
    assert effect["causes"] == ["another ring_size"]
    assert 0 < effect["broken_percent"] < 50


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (THREE, LARGER_RING),
        (THREE + "ring_size: 65537\n", THREE + "ring_size: 16381\n"),
        (THREE, THREE + "affinity: client\n"),
        (THREE, "hash_seed: 7\n" + THREE),
        (THREE, THREE.replace("10.0.0.13", "{address: 10.0.0.13, state: maint}")),
        (NAMED, NAMED.replace("10.0.0.13", "10.0.0.14")),
        (THREE, THREE.replace("10.0.0.13", "{address: 10.0.0.13, state: drain}")),
        (THREE, THREE.replace(", 10.0.0.13]", "]")),
    ],
    ids=["larger", "smaller", "affinity", "seed", "maint", "address", "drain", "removed"],
)
def test_as_many_connections_break_as_was_said(lab, xdplb, before, after):
    apply(xdplb, before)
    with opened(lab, 240) as connections:
        homes = {each: fetch_again(each).backend for each in connections}
        done = apply(xdplb, after, "--allow-large-change", "--json")
        assert done.returncode == 0, done.stderr
        (effect,) = json.loads(done.stdout)["connections"]
        broken = sum(not is_at_home(each, home) for each, home in homes.items())
    # Of 240, within four standard deviations.
    share = effect["broken_percent"] / 100
    assert broken == pytest.approx(240 * share, abs=4 * (240 * share * (1 - share)) ** 0.5)


def is_at_home(connection, home):
    connection.settimeout(0.2)
    try:
        return fetch_again(connection).backend == home
    except OSError:
        return False


def test_those_that_are_remembered_are_counted(lab, xdplb):
    apply(xdplb, THREE)
    with opened(lab, 120) as connections:
        homes = [fetch_again(each).backend for each in connections]
        apply(xdplb, FOUR)
        for _ in range(3):  # who is not known has to go on before it is remembered
            assert [fetch_again(each).backend for each in connections] == homes
        xdplb.config.write_text(FOUR.replace("10.0.0.11, ", ""), encoding="utf-8")
        (effect,) = xdplb.plan()["connections"]
        done = xdplb.run("plan", "-c", xdplb.config)
    (ending,) = effect["ending"]
    assert (ending["backend"], ending["within_s"]) == ("10.0.0.11:8080", 300.0)
    assert 0 < ending["remembered"] <= homes.count("10.0.0.11")
    assert f"10.0.0.11:8080 (at least {ending['remembered']}) have 5m to end" in done.stdout


@pytest.mark.parametrize("words", [["apply", "--yes"], ["run", "--once"]])
def test_exit_codes(xdplb, words):
    xdplb.config.write_text(THREE, encoding="utf-8")
    words = [*words, "--detailed-exitcode", "-c", xdplb.config]
    assert [xdplb.run(*words).returncode for _ in range(2)] == [2, 0]
    xdplb.config.write_text(LARGER_RING, encoding="utf-8")
    done = xdplb.run(*words)
    assert done.returncode == 5
    assert done.stderr.endswith("if that is what you want: --allow-large-change [XLB601]\n")
    assert xdplb.tables().generation == 1


def test_another_controller_holds_it(xdplb):
    xdplb.start(THREE)
    done = apply(xdplb, FOUR)
    assert done.returncode == 75
    assert "is held by pid" in done.stderr
    assert done.stdout == ""


def test_it_waits_for_the_lock(xdplb):
    apply(xdplb, THREE)
    xdplb.config.write_text(FOUR, encoding="utf-8")
    words = ["apply", "--yes", "--lock-timeout", "20s", "-c", str(xdplb.config)]
    with hold_lock(xdplb.root / "default"):
        assert xdplb.run(*words[:2], *words[-2:]).returncode == 75
        waiting = xdplb.popen(*words)
    assert waiting.wait(20) == 0
    assert len(xdplb.tables().backends) == 4


def test_without_a_terminal_nobody_is_asked(xdplb):
    xdplb.config.write_text(THREE, encoding="utf-8")
    done = xdplb.run("apply", "-c", xdplb.config)
    assert done.returncode == 64
    assert "--yes" in done.stderr
    assert not xdplb.root.exists()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 5)])
def test_on_a_terminal_it_asks(lab, xdplb, answer, code):
    xdplb.config.write_text(THREE, encoding="utf-8")
    ours, theirs = pty.openpty()
    command = [*lab.balancer.entry, *find_program("xdplb"), "apply", "-c", str(xdplb.config)]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=python_environment(),
    ) as process:
        os.write(ours, answer)
        said = process.stdout.read().decode()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code, said
    assert "Apply this? [y/N]" in said
    assert ("applied and verified" in said) == (code == 0)
    assert bool(xdplb.find_programs()) == (code == 0)


def test_a_saved_plan_is_what_is_done_or_nothing(xdplb):
    apply(xdplb, THREE)
    xdplb.config.write_text(FOUR, encoding="utf-8")
    plan = xdplb.folder / "plan.json"
    assert xdplb.run("plan", "-q", "--json-out", plan, "-c", xdplb.config).returncode == 0
    planned = json.loads(plan.read_text(encoding="utf-8"))
    done = xdplb.run("apply", "--yes", "--plan", plan, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["changes"], document["rings"]) == (planned["changes"], planned["rings"])
    again = xdplb.run("apply", "--yes", "--plan", plan)
    assert again.returncode == 5
    assert "starts from generation 1, this is 2" in again.stderr


def test_a_saved_plan_of_a_kernel_that_has_drifted(xdplb):
    apply(xdplb, THREE)
    xdplb.config.write_text(FOUR, encoding="utf-8")
    plan = xdplb.folder / "plan.json"
    xdplb.run("plan", "-q", "--json-out", plan, "-c", xdplb.config)
    dataplane = xdplb.dataplane()
    dataplane.slots[:1000] = dataplane.slots[0]
    done = xdplb.run("apply", "--yes", "--plan", plan)
    assert done.returncode == 5
    assert "the kernel has drifted" in done.stderr


def test_drift_is_shown_apart(xdplb):
    apply(xdplb, THREE)
    dataplane = xdplb.dataplane()
    dataplane.slots[:1000] = dataplane.slots[0]
    done = xdplb.run("plan", "-c", xdplb.config)
    assert "drift: the kernel is not as it was left; this puts it back\n  ~ service" in done.stdout
    assert "connections of default: none broken" in done.stdout
    assert apply(xdplb, THREE).returncode == 0
    assert "in sync" in xdplb.run("plan", "-c", xdplb.config).stdout


def test_another_place_for_the_pins(xdplb):
    place = "/sys/fs/bpf/elsewhere"
    assert apply(xdplb, THREE, "--pin-dir", place).returncode == 0
    words = ["--pin-dir", place, "-c", xdplb.config]
    assert xdplb.run("plan", "--detailed-exitcode", *words).returncode == 0
    assert xdplb.run("detach", *words).returncode == 0
