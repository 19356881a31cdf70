"""How much a pass does, counted: work grows with what has changed, not with what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler import maglev
from reconciler import model as model_module
from reconciler import proposal as proposal_module
from reconciler.config import reread as reread_module
from reconciler.config_file import FileReader, load, parse_files
from reconciler.desired import ring as ring_module
from reconciler.model import BackendState, Config
from reconciler.overrides import Override

from ..fake import FakeDataplane, FakeInstance

SERVICES = 40
HEAD = "interface: eth0\nlimits: {services: 50, backends: 200, ring_slots: 50000}\nservices:\n"


def write_service(number: int, weight: int = 100) -> str:
    return (
        f"  - name: s{number}\n    vip: 192.0.2.{number + 1}\n    port: 80\n    ring_size: 1009\n"
        f"    backends:\n      - {{address: 10.0.{number}.1, weight: {weight}}}\n"
        f"      - 10.0.{number}.2\n      - 10.0.{number}.3\n"
    )


def write_file(edited: int = -1, weight: int = 50) -> str:
    services = [write_service(n, weight if n == edited else 100) for n in range(SERVICES)]
    return HEAD + "".join(services)


class Counted:
    """An instance that has applied its file, and what its passes have done since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        path.write_text(write_file(), encoding="utf-8")
        loaded = load(str(path))
        self.reader = FileReader(str(path), loaded)
        self.config: Config = loaded.config
        self.instance = FakeInstance(FakeDataplane())
        for _ in range(2):  # the second sees what the first has written
            self.instance.reconcile(self.config)
        self.did: Counter[str] = Counter()
        watched: list[tuple[Any, str, Callable[..., int]]] = [
            (maglev, "build_ring", lambda *_: 1),
            (ring_module, "move_slots", lambda *_: 1),
            (proposal_module, "list_resources", lambda tables: len(tables.backends)),
            (reread_module, "parse", lambda *_: 1),
            (FakeDataplane, "write", lambda *_: 1),
            (model_module, "repr", lambda *_: 1),
        ]
        for owner, name, measure in watched:
            self._count(monkeypatch, owner, name, measure)

    def _count(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, measure: Callable[..., int]
    ) -> None:
        real = getattr(owner, name, repr)

        def counting(*arguments: Any, **named: Any) -> Any:
            self.did[name] += measure(*arguments)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, counting, raising=False)

    def edit(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")
        files = self.reader.read()
        assert files.known is not None
        self.config = parse_files(files).config
        self.instance.reconcile(self.config)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counted:
    return Counted(monkeypatch, tmp_path / "lb.yaml")


def test_a_pass_that_finds_nothing_to_do_does_nothing(counted: Counted) -> None:
    outcome = counted.instance.reconcile(counted.config)
    assert outcome.proposal.is_in_sync
    assert outcome.proposal.desired.slots is outcome.proposal.observed.slots
    # The digest of the whole file is put together from those of its services.
    assert counted.did == {"repr": 1, "list_resources": 0}


def test_the_same_file_again_is_not_parsed(counted: Counted) -> None:
    counted.edit(write_file())
    assert not {"build_ring", "move_slots", "parse", "write"} & counted.did.keys()


def test_one_backend_changed_builds_one_ring(counted: Counted) -> None:
    counted.edit(write_file(edited=20))
    assert counted.did["parse"] == 1
    assert counted.did["build_ring"] == 1
    # Before the writes, and to see after them that nothing is left.
    assert counted.did["move_slots"] == 2
    assert counted.did["list_resources"] == 2 * 3
    # Its service, its backend, its slots, and that it is complete.
    assert counted.did["write"] == 4


def test_one_backend_out_builds_one_ring(counted: Counted) -> None:
    out = Override("s20", "10.0.20.2:80", BackendState.MAINT, "me", "mended", 0.0, None)
    proposal = counted.instance.propose(counted.config, (out,))
    assert [change.address for change in proposal.changes] == ["service.s20.backend.10.0.20.2:80"]
    assert counted.did["build_ring"] == counted.did["move_slots"] == 1


def test_a_comment_moves_what_is_below_it_and_nothing_else(counted: Counted) -> None:
    counted.edit(write_file().replace("  - name: s20\n", "  # twenty\n  - name: s20\n"))
    lines = [s.source.line for s in counted.config.services if s.source and s.name in ("s2", "s30")]
    assert lines == [4 + 8 * 2, 4 + 8 * 30 + 1]
    assert not {"build_ring", "move_slots"} & counted.did.keys()


def test_another_place_in_the_file_is_another_place_in_the_plan(counted: Counted) -> None:
    edited = write_file(edited=30).replace("  - name: s20\n", "  # twenty\n  - name: s20\n")
    counted.path.write_text(edited, encoding="utf-8")
    config = parse_files(counted.reader.read()).config
    (change,) = counted.instance.propose(config).changes
    assert change.source is not None
    assert edited.splitlines()[change.source.line - 1].strip().startswith("- {address: 10.0.30.1")
