"""`xdplb drain`, `maint` and `ready`: with a controller, without one, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reconciler import instance as instance_module
from reconciler import override_store
from reconciler.apply import Outcome
from reconciler.cli import override as command_module
from reconciler.cli.main import run
from reconciler.cli.override_output import (
    describe_override,
    format_rest,
    render_overrides,
)
from reconciler.config import parse
from reconciler.environment import imagine_environment
from reconciler.errors import Blocked, Locked, Unavailable, XdplbError
from reconciler.model import BackendState, Config
from reconciler.override_store import OverrideStore, list_overrides
from reconciler.overrides import Override, Overrides, find_in_force
from reconciler.plan import step
from reconciler.proposal import Proposal, propose
from reconciler.tables import Tables, make_empty_tables

TEXT = """\
interface: eth0
limits: {ring_slots: 2048, backends: 64}
services:
  - name: web
    vip: 192.0.2.1
    port: 80
    ring_size: 251
    backends:
      - {name: a, address: 10.0.0.1}
      - {name: b, address: 10.0.0.2}
      - {name: c, address: 10.0.0.3}
      - {name: d, address: 10.0.0.4, state: drain}
"""
NOW = 1_000_000.0


class FakeInstance:
    """An instance whose kernel is `step`. A controller, if one runs, follows at each look."""

    root = Path("/sys/fs/bpf/xdplb")

    def __init__(self) -> None:
        self.name = self.state_name = "default"
        self.dataplane = self
        self.store = OverrideStore("default")
        self.tables: Tables = make_empty_tables(2_048)
        self.is_there = self.is_following = True
        self.is_held = False
        self.passes = 0
        self.error: XdplbError | None = None
        self.on_look: Callable[[], None] = lambda: None
        self.applied = read(TEXT)
        self.apply()

    def __call__(self, name: str, _pin_dir: Path | None) -> FakeInstance:
        self.name = self.state_name = name
        return self

    def exists(self) -> bool:
        return self.is_there

    def propose(self, config: Config, overrides: Overrides | None = None) -> Proposal:
        if overrides is None:
            overrides = find_in_force(self.store.read(), NOW)
        machine = imagine_environment(config)
        return propose(config, machine, self.tables, now_ns=1, overrides=overrides)

    def reconcile(self, config: Config, *, allow_large_change: bool = False) -> Outcome:
        self.passes += 1
        if self.error:
            raise self.error
        proposal = self.propose(config)
        if proposal.objection and not allow_large_change:
            raise Blocked(proposal.objection)
        self.tables = reduce(step, proposal.operations, self.tables)
        return Outcome(proposal, len(proposal.operations))

    def apply(self) -> None:
        self.reconcile(self.applied)
        self.passes = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        if self.is_held:
            raise Locked("somebody has it")
        yield

    def read(self) -> Tables:
        if self.is_held and self.is_following:
            self.reconcile(self.applied)
        self.on_look()
        return self.tables

    def count_flows(self, _tables: Tables, _now_ns: int) -> Any:
        return np.full(65_536, 3)

    def read_counters(self, _name: str) -> Any:
        return np.zeros(65, [("packets", "u8")])

    def states(self) -> str:
        """The states in the order of the names, by their first letters."""
        named = {self.tables.backend_info[i].name: r for i, r in self.tables.backends.items()}
        return "".join(named[name].state.name[0].lower() for name in sorted(named))


def read(text: str) -> Config:
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return config


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeInstance:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr(override_store, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(command_module, "leave_account", lambda *_arguments: None)
    monkeypatch.setattr(command_module.time, "time", lambda: NOW)
    monkeypatch.setattr(command_module, "_POLL_S", 0.0)
    Path("lb.yaml").write_text(TEXT)
    fake = FakeInstance()
    monkeypatch.setattr(instance_module, "Instance", fake)
    return fake


def kept(instance: FakeInstance) -> list[tuple[str, str]]:
    return [(each.backend, each.state.name.lower()) for each in instance.store.read()]


# --- without a controller ---


def test_it_makes_the_pass_itself(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["drain", "web/a", "--for", "30m", "--reason", "kernel update"]) == 0
    assert (instance.states(), instance.passes) == ("drrd", 1)
    (override,) = instance.store.read()
    assert override == Override(
        "web", "a", BackendState.DRAIN, "alice", "kernel update", NOW, NOW + 1800
    )
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "web/a: ready -> drain, slots 84 -> 0"
    assert lines[1].startswith("override: drain by alice until ")
    assert lines[1].endswith("(30m left): kernel update")
    assert lines[2] == "no controller runs: the first pass after that time ends it"
    assert lines[3].startswith("connections: 3 remembered so far")


def test_ready_takes_an_override_away(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["maint", "a"])  # there is one service
    assert instance.states() == "mrrd"
    capsys.readouterr()
    assert run(["ready", "web/a"]) == 0
    assert (instance.states(), kept(instance)) == ("rrrd", [])
    assert capsys.readouterr().out == (
        "web/a: maint -> ready, slots 0 -> 84\nno override: lb.yaml decides\n"
    )
    assert run(["ready", "web/a"]) == 0
    assert capsys.readouterr().out.startswith("web/a: ready already, slots 84\n")


def test_ready_overrides_a_file_that_drains(instance: FakeInstance) -> None:
    assert run(["ready", "web/d", "-q"]) == 0
    assert (instance.states(), kept(instance)) == ("rrrr", [("d", "ready")])
    assert run(["drain", "web/d", "-q"]) == 0
    assert (instance.states(), kept(instance)) == ("rrrd", [])


def test_the_document(instance: FakeInstance, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["maint", "web/a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "format_version": "1.0",
        "kind": "xdplb.override",
        "service": "web",
        "backend": "a",
        "override": {
            "service": "web",
            "backend": "a",
            "state": "maint",
            "owner": "alice",
            "reason": "",
            "since": NOW,
            "until": None,
        },
        "state": {"before": "ready", "after": "maint"},
        "slots": {"before": 84, "after": 0},
        "connections": 3,
    }


def test_a_file_that_is_not_applied_comes_first(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("lb.yaml").write_text(TEXT.replace("10.0.0.2}", "10.0.0.2, weight: 50}"))
    assert run(["drain", "web/a"]) == 1
    assert (instance.states(), kept(instance), instance.passes) == ("rrrd", [], 0)
    assert capsys.readouterr().err == (
        "xdplb: lb.yaml has changes that are not applied, and no controller runs;"
        " apply them first: xdplb-reconcile --once\n"
    )


def test_a_comment_is_no_change(instance: FakeInstance) -> None:
    Path("lb.yaml").write_text(TEXT + "# hello\n")
    assert run(["drain", "web/a", "-q"]) == 0
    assert instance.states() == "drrd"


# --- with a controller ---


def test_a_controller_is_awaited(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.is_held = True
    assert run(["drain", "web/a", "--for", "30m"]) == 0
    assert instance.states() == "drrd"
    out = capsys.readouterr().out
    assert out.startswith("web/a: ready -> drain, slots 84 -> 0\n")
    assert "no controller" not in out
    assert run(["drain", "web/a", "--reason", "still"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("web/a: drain already, slots 0\noverride: drain by alice: still\n")
    assert run(["ready", "web/a"]) == 0
    assert instance.states() == "rrrd"


def test_a_controller_that_does_not_follow(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.is_held, instance.is_following = True, False
    assert run(["drain", "web/a", "--timeout", "10ms"]) == 6
    assert kept(instance) == [("a", "drain")]
    out, err = capsys.readouterr()
    assert out == ""
    assert "the controller has not followed in 0.01 s" in err
    assert "the override is kept" in err


def test_a_controller_that_ends_meanwhile_is_stood_in_for(instance: FakeInstance) -> None:
    instance.is_held, instance.is_following = True, False

    def end() -> None:
        instance.is_held = kept(instance) == []

    instance.on_look = end
    assert run(["drain", "web/a", "-q"]) == 0
    assert (instance.states(), instance.passes) == ("drrd", 1)


def test_a_file_that_changes_does_not_matter_to_a_controller(instance: FakeInstance) -> None:
    instance.is_held = True
    Path("lb.yaml").write_text(TEXT.replace("10.0.0.2}", "10.0.0.2, weight: 50}"))
    assert run(["drain", "web/a", "-q"]) == 0
    assert instance.states() == "drrd"


def test_a_file_that_no_longer_has_the_backend(instance: FakeInstance) -> None:
    instance.is_held = True
    run(["drain", "web/a", "-q"])
    Path("lb.yaml").write_text(TEXT.replace("      - {name: a, address: 10.0.0.1}\n", ""))
    assert run(["maint", "web/a"]) == 69
    assert run(["ready", "web/a", "-q"]) == 0
    assert (instance.states(), kept(instance)) == ("rrrd", [])


def test_a_pass_that_fails_keeps_the_override(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.error = Unavailable("there is no interface eth0")
    assert run(["drain", "web/a"]) == 69
    assert kept(instance) == [("a", "drain")]
    assert "no interface eth0; the override is kept" in capsys.readouterr().err


def test_while_the_file_is_not_valid_a_controller_takes_overrides(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.is_held = True
    Path("lb.yaml").write_text("interface: [\n")
    words = ["web/a", "-n", "default"]
    assert run(["drain", *words]) == 78
    assert kept(instance) == []
    assert "go without its safety limits: --allow-large-change" in capsys.readouterr().err
    assert run(["drain", *words, "--allow-large-change", "-q"]) == 0
    assert instance.states() == "drrd"
    assert run(["ready", *words, "-q"]) == 0
    assert instance.states() == "rrrd"
    instance.is_held = False
    assert run(["maint", *words, "--allow-large-change"]) == 78
    assert instance.states() == "rrrd"


def test_the_file_of_another_instance_says_nothing_of_this_one(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["drain", "web/a", "-n", "edge"]) == 1
    assert "lb.yaml is of instance default, not of edge" in capsys.readouterr().err


# --- refused ---


@pytest.mark.parametrize("is_held", [False, True])
def test_the_guard_is_asked_and_nothing_is_written(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str], is_held: bool
) -> None:
    instance.is_held = is_held
    for name in ("a", "b"):
        assert run(["drain", f"web/{name}", "-q"]) == 0
    assert run(["maint", "web/c"]) == 5
    assert (instance.states(), kept(instance)) == ("ddrd", [("a", "drain"), ("b", "drain")])
    err = capsys.readouterr().err
    assert "service web: leaves 0 backends, safety.min_backends is 1" in err
    assert "--allow-large-change" in err
    # Who is out already can be put out further; and back.
    assert run(["maint", "web/a", "-q"]) == 0
    assert run(["maint", "web/c", "-q", "--allow-large-change"]) == 0
    assert instance.states() == "mdmd"
    assert run(["drain", "web/c", "-q"]) == 0
    assert run(["ready", "web/c", "-q"]) == 0
    assert instance.states() == "mdrd"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["drain", "wbe/a"], 64, "there is no service wbe; did you mean web?"),
        (["drain", "x/a"], 64, "there is no service x; there is: web"),
        (["maint", "web/web-1"], 64, "has no backend web-1; there is: a, b, c, d"),
        (["drain", "e"], 64, "has no backend e"),
        (["drain", "web/a", "--for", "0s"], 64, "it would be over at once"),
        (["drain", "web/a", "--for", "0.0h"], 64, "it would be over at once"),
        (["drain", "web/a", "--for", "1ms"], 64, "it would be over at once; at least 1 s"),
        (["maint", "web/a", "--for", "999ms"], 64, "at least 1 s"),
    ],
)
def test_what_is_asked_for_wrongly(
    instance: FakeInstance,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    assert run(words) == code
    assert message in capsys.readouterr().err
    assert kept(instance) == []


def test_an_instance_that_is_not_there(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.is_there = False
    assert run(["drain", "web/a"]) == 69
    assert "there is no instance default" in capsys.readouterr().err


def test_overrides_that_can_not_be_read_are_not_written_over(instance: FakeInstance) -> None:
    instance.store.path.parent.mkdir(parents=True)
    instance.store.path.write_text("{")
    assert run(["drain", "web/a"]) == 1
    assert instance.store.path.read_text() == "{"


def test_a_stray_override_can_be_taken_away(
    instance: FakeInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = Override("web", "gone", BackendState.DRAIN, "bob", "", 1.0, None)
    instance.store.change(lambda _: (stray,), NOW)
    assert run(["drain", "web/gone"]) == 69
    assert "lb.yaml does not have backend gone of service web" in capsys.readouterr().err
    assert run(["ready", "web/gone"]) == 0
    assert kept(instance) == []
    assert capsys.readouterr().out.startswith("web/gone: not there\n")


def test_a_reason_can_not_steer_a_terminal(instance: FakeInstance) -> None:
    assert run(["drain", "web/a", "-q", "--reason", "\x1b[31mred\n"]) == 0
    assert instance.store.read()[0].reason == "[31mred"


def test_the_owner_is_who_stands_behind_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert command_module.find_owner() == "alice"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr(command_module.os, "getuid", lambda: 0)
    assert command_module.find_owner() == "root"
    monkeypatch.setattr(command_module.os, "getuid", lambda: 2**31 - 7)
    assert command_module.find_owner() == "uid 2147483641"


# --- words ---


@pytest.mark.parametrize(
    ("rest_s", "words"),
    [
        (-5, "over"),
        (0, "over"),
        (0.9, "1s left"),
        (59, "59s left"),
        (60, "1m left"),
        (719, "11m left"),
        (3600, "1h left"),
        (7500, "2h 5m left"),
        (90_000, "25h left"),
    ],
)
def test_what_is_left(rest_s: float, words: str) -> None:
    assert format_rest(rest_s) == words


@pytest.mark.parametrize(
    ("reason", "until", "words"),
    [
        ("", None, "drain by alice"),
        ("kernel update", None, "drain by alice: kernel update"),
        ("", 720.0, "drain by alice until 00:12 (12m left)"),
        ("why", 86_400.0, "drain by alice until 1970-01-02 00:00 (24h left): why"),
    ],
)
def test_an_override_in_words(
    monkeypatch: pytest.MonkeyPatch, reason: str, until: float | None, words: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    command_module.time.tzset()
    override = Override("web", "a", BackendState.DRAIN, "alice", reason, 0.0, until)
    try:
        assert describe_override(override, 0.0) == words
    finally:
        monkeypatch.undo()
        command_module.time.tzset()


def test_overrides_in_a_list_and_the_strays_among_them() -> None:
    overrides = (
        Override("web", "a", BackendState.DRAIN, "alice", "why", 0.0, None),
        Override("web", "gone", BackendState.MAINT, "bob", "", 0.0, None),
    )
    listed = list_overrides(overrides, {("web", "a")})
    assert [each["stray"] for each in listed] == [False, True]
    assert render_overrides(listed, 0.0) == [
        "  web/a     drain by alice: why",
        "  web/gone  maint by bob - there is no such backend",
    ]
    assert render_overrides([], 0.0) == []
