"""What every command ends with, says and leaves, on a machine with a kernel of its own."""

import json
import os
import shutil

import pytest

from reconciler.fingerprint import fingerprint_rings
from reconciler.lab import Lab, Topology
from reconciler.lab.ask import fetch

pytestmark = pytest.mark.root

SHORT = "interface: [eth0, eth1]\nport: 8080\nbackends: [10.0.0.11, 10.0.0.12, 10.0.0.13]\n"
FOUR = SHORT.replace("]\n", ", 10.0.0.14]\n").replace("[eth0, eth1, 10.0.0.14]", "[eth0, eth1]")
TWO = SHORT.replace(", 10.0.0.13", "")


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve()
        yield made


@pytest.fixture
def config(xdplb):
    xdplb.config.write_text(SHORT, encoding="utf-8")
    return xdplb.config


def assert_one_line(done, code, *words):
    """It ended with this code and said why: no traceback, and every word is there."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("xdplb: ")
    assert [each for each in words if each not in done.stderr] == []


# --- exit codes that need no change ---


def test_validate(lab, xdplb, config):
    assert xdplb.run("validate", config).returncode == 0
    assert xdplb.run("validate", "-", stdin=SHORT).returncode == 0
    assert xdplb.run("validate", xdplb.folder / "none.yaml").returncode == 66
    config.write_text(SHORT + "wieght: 1\n", encoding="utf-8")
    done = xdplb.run("validate", config)
    assert done.returncode == 78
    assert f"{config}:4:1" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["plan"], ["run", "--once"], ["run"]])
def test_a_file_that_is_missing_or_wrong(xdplb, config, command):
    none = xdplb.folder / "none.yaml"
    assert_one_line(xdplb.run(*command, "-c", none), 66, str(none))
    config.write_text(SHORT.replace("8080", "eighty"), encoding="utf-8")
    assert_one_line(xdplb.run(*command, "-c", config), 78, f"{config}:2:7")
    assert not xdplb.root.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["nonsense"],
        ["plan", "--nonsense"],
        ["plan", "a.yaml", "-c", "b.yaml"],
        ["run", "--once", "--lock-timeout", "soon"],
        ["run", "--dry-run"],
        ["run", "-c", "-"],
    ],
)
def test_bad_usage(xdplb, words):
    done = xdplb.run(*words, stdin=SHORT)
    assert done.returncode == 64
    assert "Traceback" not in done.stderr
    assert not xdplb.root.exists()


@pytest.mark.parametrize("command", [["status"], ["detach"]])
def test_an_instance_that_is_not_there(xdplb, config, command):
    assert_one_line(xdplb.run(*command, "-c", config), 69, "there is no instance default")


@pytest.mark.parametrize("command", ["status", "detach", "export", "lookup 192.0.2.2:1 --live"])
def test_an_instance_of_another_name(xdplb, config, command):
    """As in the file of a controller that has not taken the new name."""
    xdplb.apply(SHORT)
    config.write_text("name: foo\n" + SHORT, encoding="utf-8")
    done = xdplb.run(*command.split(), "-c", config)
    assert_one_line(done, 69, "there is no instance foo", "there is default (-n default)")
    assert xdplb.run(*command.split(), "-n", "default").returncode == 0


# --- plan and run --once ---


def test_two_passes(lab, xdplb, config):
    plan = xdplb.run("plan", "-c", config)
    assert (plan.returncode, "7 to add" in plan.stdout) == (0, True), plan.stdout
    detailed = ["--detailed-exitcode", "-c", config]
    assert xdplb.run("plan", *detailed).returncode == 2
    first = xdplb.run("run", "--once", *detailed)
    assert first.returncode == 2, first.stderr
    assert "applied and verified: generation 1" in first.stdout
    before = xdplb.tables()
    for command in (["plan"], ["run", "--once"]):
        second = xdplb.run(*command, *detailed)
        assert second.returncode == 0, second.stderr
        assert "in sync" in second.stdout
    assert xdplb.tables() == before
    assert fetch(lab.client, "192.0.2.1").client.split()[0] == "192.0.2.2"


def test_reconcile_is_run_by_another_name(xdplb, config):
    done = xdplb.run_reconcile("--once", "--json", "-c", config)
    assert done.returncode == 0
    assert json.loads(done.stdout)["applied"] is True


def test_once_from_standard_input(xdplb):
    done = xdplb.run("run", "--once", "-c", "-", stdin=SHORT)
    assert done.returncode == 0, done.stderr
    assert xdplb.run("plan", "--detailed-exitcode", "-", stdin=SHORT).returncode == 0


def test_a_dry_run_makes_nothing(lab, xdplb, config):
    done = xdplb.run("run", "--once", "--dry-run", "--detailed-exitcode", "--json", "-c", config)
    assert done.returncode == 2, done.stderr
    document = json.loads(done.stdout)
    assert (document["applied"], document["writes"]) == (False, 0)
    assert not xdplb.root.exists()
    assert not (xdplb.state / "default").exists()
    assert xdplb.find_programs() == {}


def test_a_dry_run_writes_nothing(xdplb):
    xdplb.apply(SHORT)
    before, account = xdplb.tables(), xdplb.account()
    assert xdplb.apply(FOUR, "--dry-run")["summary"]["add"] == 1
    assert (xdplb.tables(), xdplb.account()) == (before, account)


PLAN_KEYS = [
    "format_version",
    "kind",
    "config",
    "live",
    "in_sync",
    "changes",
    "rings",
    "guard",
    "diagnostics",
    "summary",
    "connections",
    "against",
    "overrides",
    "controller",
]


def test_the_document_of_a_plan(xdplb):
    xdplb.apply(SHORT)
    xdplb.config.write_text(
        SHORT.replace("10.0.0.12", "{address: 10.0.0.12, weight: 50}"), encoding="utf-8"
    )
    out = xdplb.folder / "plan.json"
    document = xdplb.plan()
    assert xdplb.run("plan", "-q", "--json-out", out, "-c", xdplb.config).stdout == ""
    assert json.loads(out.read_text(encoding="utf-8")) == document
    assert list(document) == PLAN_KEYS
    assert (document["format_version"], document["kind"]) == ("1.0", "xdplb.plan")
    assert list(document["config"]) == ["path", "sha256"]
    assert list(document["live"]) == ["name", "interfaces", "generation", "config_sha256"]
    assert document["live"]["interfaces"] == ["eth0", "eth1"]
    assert document["live"]["generation"] == 1
    (change,) = document["changes"]
    (ring,) = document["rings"]
    assert change == {
        "address": "service.default.backend.10.0.0.12:8080",
        "actions": ["update"],
        "reason": "config",
        "before": {"weight": 100},
        "after": {"weight": 50},
        "slots": change["slots"],
        "source": {"file": str(xdplb.config), "line": 3, "column": 23},
    }
    assert list(change["slots"]) == ["before", "after"]
    assert list(ring) == ["service", "size", "slots_moved", "slots_moved_min"]
    assert (ring["service"], ring["size"]) == ("default", 65_537)
    assert document["guard"] == {"blocked": False, "reason": None}
    assert document["diagnostics"] == []
    assert document["summary"] == {"add": 0, "change": 1, "remove": 0, "drift": 0}
    assert document["overrides"] == []


def test_the_document_of_a_pass_is_that_of_its_plan_and_what_was_done(xdplb):
    document = xdplb.apply(SHORT)
    assert list(document) == [*PLAN_KEYS, "applied", "writes"]
    assert document["writes"] > 0


# --- what a machine may lack ---


def test_an_interface_that_is_not_there(xdplb, config):
    config.write_text(SHORT.replace("eth1", "eht1"), encoding="utf-8")
    for command in (["plan"], ["run", "--once"], ["run"]):
        done = xdplb.run(*command, "-c", config)
        assert_one_line(done, 69, "no interface eht1", "did you mean eth1?")
    assert list(xdplb.root.iterdir()) == []


@pytest.mark.parametrize("modes", [("auto", "auto"), ("auto", "generic"), ("generic", "native")])
def test_an_interface_that_somebody_else_has(lab, xdplb, modes):
    xdplb.apply(SHORT + f"name: first\nxdp_mode: {modes[0]}\n")
    before, programs = xdplb.tables("first"), xdplb.find_programs()
    xdplb.config.write_text(SHORT + f"name: second\nxdp_mode: {modes[1]}\n", encoding="utf-8")
    done = xdplb.run("run", "--once", "-c", xdplb.config)
    assert_one_line(done, 69, "interface eth0 already has an XDP program", "bpftool net show")
    assert [folder.name for folder in xdplb.root.iterdir()] == ["first"]
    assert xdplb.tables("first") == before
    assert xdplb.find_programs() == programs


# --- privileges ---

NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(params=[NO_CAPABILITIES, NOBODY], ids=["no-capabilities", "nobody"])
def unprivileged(request, require, lab, xdplb):
    require(shutil.which("setpriv"), "setpriv is missing (util-linux)")
    if xdplb.run("validate", "-", stdin=SHORT, under=request.param).returncode != 0:
        pytest.skip("nobody may not read this checkout")
    return request.param


@pytest.mark.parametrize("is_applied", [False, True])
def test_missing_privileges_are_named(xdplb, unprivileged, is_applied):
    if is_applied:
        xdplb.apply(SHORT)
    before = xdplb.tables() if is_applied else None
    commands = [["run", "--once", "-c", "-"]]
    if is_applied:
        commands += [["plan", "-"], ["status", "-n", "default"], ["detach", "-n", "default"]]
    for command in commands:
        done = xdplb.run(*command, stdin=FOUR, under=unprivileged)
        assert_one_line(done, 77, "root")
    if is_applied:
        assert xdplb.tables() == before
        assert len(xdplb.find_programs()) == 2


def test_validating_and_comparing_files_needs_none(xdplb, config, unprivileged):
    assert xdplb.run("validate", "-", stdin=SHORT, under=unprivileged).returncode == 0
    assert xdplb.run("--version", under=unprivileged).returncode == 0
    if unprivileged is NO_CAPABILITIES:  # nobody can't read the other file
        words = ["plan", "-", "--against", config, "--detailed-exitcode"]
        assert xdplb.run(*words, stdin=FOUR, under=unprivileged).returncode == 2


# --- the guard ---


def test_a_change_that_takes_too_much_is_blocked(lab, xdplb):
    xdplb.apply(FOUR)
    before = xdplb.tables()
    xdplb.config.write_text(TWO, encoding="utf-8")
    plan = xdplb.plan()
    assert plan["guard"]["blocked"]
    assert "removes 2 of 4 backends" in plan["guard"]["reason"]
    done = xdplb.run("run", "--once", "-c", xdplb.config)
    assert_one_line(done, 5, "removes 2 of 4 backends", "--allow-large-change")
    assert xdplb.tables() == before
    allowed = xdplb.apply_file(xdplb.config, "--allow-large-change")
    assert allowed["summary"]["remove"] == 2


def test_one_of_four_may_go(xdplb):
    xdplb.apply(FOUR)
    assert xdplb.apply(SHORT)["summary"]["remove"] == 1


# --- status and detach ---


def test_the_document_of_a_status(lab, xdplb):
    applied = xdplb.apply(SHORT)
    for _ in range(30):
        fetch(lab.client, "192.0.2.1")
    done = xdplb.run("status", "--json", "-c", xdplb.config)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["kind"], document["name"]) == ("xdplb.status", "default")
    assert document["generation"] == 1
    assert document["config_sha256"] == applied["config"]["sha256"]
    assert document["controller"]["running"] is False
    assert document["controller"]["last_attempt"]["result"] == "applied"
    assert {name: each["mode"] for name, each in document["interfaces"].items()} == {
        "eth0": "native",
        "eth1": "native",
    }
    (service,) = document["services"]
    fingerprints = fingerprint_rings(xdplb.tables())
    assert document["ring_fingerprint"] == fingerprints.whole
    assert [service["ring_fingerprint"]] == list(fingerprints.services.values())
    assert (service["name"], service["vips"], service["port"]) == ("default", ["192.0.2.1"], 8080)
    backends = service["backends"]
    assert [each["address"] for each in backends] == ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
    assert sum(each["slots"] for each in backends) == service["ring_size"] == 65_537
    assert sum(each["new_flows"] for each in backends) == 30
    assert all(each["share"] == pytest.approx(1 / 3, abs=0.01) for each in backends)
    assert document["verdicts"]["forward_redirect"] >= 90
    assert not any(n for name, n in document["verdicts"].items() if name.startswith("drop"))


def test_status_in_words(lab, xdplb):
    xdplb.apply(SHORT)
    done = xdplb.run("status")
    assert done.returncode == 0
    for words in (
        "service default: 192.0.2.1 port 8080/tcp",
        "interface eth1: native XDP",
        f"ring fingerprint: {fingerprint_rings(xdplb.tables()).whole}",
    ):
        assert words in done.stdout
    generic = xdplb.apply(SHORT + "xdp_mode: generic\n")
    assert generic["applied"]
    assert "interface eth1: generic XDP" in xdplb.run("status").stdout


def test_detach_takes_everything_away(lab, xdplb, config):
    xdplb.apply(SHORT)
    assert set(xdplb.find_programs()) == {"eth0", "eth1"}
    done = xdplb.run("detach", "-c", config)
    assert (done.returncode, done.stdout) == (0, "detached default from eth0, eth1\n")
    assert xdplb.find_programs() == {}
    assert list(xdplb.root.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        fetch(lab.client, "192.0.2.1")
    assert fetch(lab.client, "10.0.0.11").backend == "10.0.0.11"
    # And it can come back.
    xdplb.apply(SHORT)
    assert fetch(lab.client, "192.0.2.1").client.split()[0] == "192.0.2.2"


def test_two_instances_beside_each_other(lab, xdplb):
    xdplb.apply(SHORT.replace("[eth0, eth1]", "eth0") + "name: front\n")
    xdplb.apply("name: back\ninterface: eth1\nport: 9090\nbackends: ['10.0.0.11:8080']\n")
    assert sorted(folder.name for folder in xdplb.root.iterdir()) == ["back", "front"]
    assert xdplb.run("detach", "-n", "front").returncode == 0
    assert set(xdplb.find_programs()) == {"eth1"}


def test_another_place_for_the_pins(lab, xdplb, config):
    place = "/sys/fs/bpf/elsewhere"
    done = xdplb.run("run", "--once", "--pin-dir", place, "-c", config)
    assert done.returncode == 0, done.stderr
    assert not xdplb.root.exists() or list(xdplb.root.iterdir()) == []
    done = xdplb.run("status", "--json", "--pin-dir", place)
    assert done.returncode == 0, done.stderr
    assert [each["result"] for each in json.loads(done.stdout)["history"]] == ["applied"]
    assert xdplb.run("detach", "--pin-dir", place).returncode == 0
    assert os.listdir(xdplb.root.parent / "elsewhere") == []


def test_a_place_for_pins_that_holds_something_else_is_left_alone(xdplb, config):
    place = xdplb.folder / "full"
    place.mkdir()
    (place / "file").write_text("kept")
    done = xdplb.run("run", "--once", "--pin-dir", place, "-c", config)
    assert done.returncode == 69
    assert f"{place} is no BPF file system, and there is something in it" in done.stderr
    assert xdplb.balancer.run(["cat", place / "file"]).stdout == "kept"
    assert str(place) not in xdplb.balancer.run(["cat", "/proc/mounts"]).stdout


def test_who_looks_waits_for_no_library_that_only_a_pass_needs(xdplb, config):
    xdplb.apply(SHORT)
    done = xdplb.run("status", "-c", config, under=("env", "PYTHONPROFILEIMPORTTIME=1"))
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"bcc", "numpy", "reconciler.surveyor"} <= loaded
    assert not {"pyroute2", "jsonschema", "watchdog"} & loaded


def test_an_interface_that_is_listed_is_no_suggestion(lab, xdplb, config):
    config.write_text(SHORT.replace("[eth0,", "[eth3,"), encoding="utf-8")
    assert_one_line(xdplb.run("plan", "-c", config), 69, "no interface eth3; did you mean eth0?")
    config.write_text(SHORT.replace("[eth0, eth1]", "[eth0, eth1, eth3]"), encoding="utf-8")
    assert_one_line(xdplb.run("plan", "-c", config), 69, "no interface eth3; see which there are")
