"""Where things are pinned, and that names survive what bpffs refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT, is_bpffs
from reconciler.dataplane.pins import Pins, remove_folder
from reconciler.model import XdpMode


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    folder = tmp_path / "edge"
    folder.mkdir()
    return Pins(folder)


def test_paths() -> None:
    pins = Pins(DEFAULT_PIN_ROOT / "edge")
    assert str(pins.maps) == "/sys/fs/bpf/xdplb/edge/maps"
    assert pins.map("slots") == "/sys/fs/bpf/xdplb/edge/maps/slots"
    assert pins.program("ab").name == "program_ab"
    assert pins.link(XdpMode.NATIVE, "eth0").name == "link_native_eth0"


@pytest.mark.parametrize(
    "interface", ["eth0", "eth0.100", "a_b", "link_x", "e%2Eh", "50%", "..a", "a-b+c@d", "é"]
)
@pytest.mark.parametrize("mode", [XdpMode.NATIVE, XdpMode.GENERIC])
def test_a_link_is_found_by_the_name_it_was_given(
    pins: Pins, mode: XdpMode, interface: str
) -> None:
    path = pins.link(mode, interface)
    assert "." not in path.name
    path.touch()
    assert list(pins.find_links()) == [(interface, mode, path)]


def test_names_that_differ_have_pins_that_differ(pins: Pins) -> None:
    names = ["eth0.1", "eth0%2E1", "eth0%252E1"]
    assert len({pins.link(XdpMode.NATIVE, name) for name in names}) == 3


def test_what_is_found(pins: Pins) -> None:
    for sha256 in ("cd", "ab"):
        pins.program(sha256).touch()
    pins.link(XdpMode.GENERIC, "eth0").touch()
    pins.maps.mkdir()
    assert [sha256 for sha256, _ in pins.find_programs()] == ["ab", "cd"]
    assert [interface for interface, _, _ in pins.find_links()] == ["eth0"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "none")
    assert list(pins.find_links()) == list(pins.find_programs()) == []
    pins.remove_contents()


def test_links_go_first(pins: Pins, monkeypatch: pytest.MonkeyPatch) -> None:
    pins.maps.mkdir()
    pins.maps_in_making.mkdir()
    for path in (
        pins.program("ab"),
        pins.link(XdpMode.NATIVE, "eth0"),
        pins.link(XdpMode.GENERIC, "eth1"),
        Path(pins.map("slots")),
        pins.maps_in_making / "slots",
    ):
        path.touch()
    removed: list[str] = []
    unlink = Path.unlink

    def watch_unlink(path: Path) -> None:
        removed.append(path.name)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", watch_unlink)
    pins.remove_contents()
    assert removed == ["link_generic_eth1", "link_native_eth0", "program_ab", "slots", "slots"]
    assert list(pins.folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_removed_already(tmp_path: Path) -> None:
    remove_folder(tmp_path / "none")


def test_a_folder_of_another_file_system_is_no_bpffs(tmp_path: Path) -> None:
    assert not is_bpffs(tmp_path)
    assert not is_bpffs(tmp_path / "none")
