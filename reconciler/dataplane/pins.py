"""Where everything of an instance is pinned.

    <root>/<name>/maps/<map>            one pin a map
    <root>/<name>/program_<sha256>      the program, named for its ELF
    <root>/<name>/link_<mode>_<ifname>  one link an interface

bpffs refuses dots in names (kernel/bpf/inode.c), interfaces have them: eth0.100.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from reconciler.model import XdpMode

_LINK = "link_"
_PROGRAM = "program_"


def list_instances(root: Path) -> list[str]:
    """Return the names of the instances that are pinned under `root`."""
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


@dataclass(frozen=True)
class Pins:
    """The paths of one instance."""

    folder: Path

    @property
    def maps(self) -> Path:
        """The folder of the maps; it exists only complete."""
        return self.folder / "maps"

    @property
    def maps_in_making(self) -> Path:
        """Where maps are pinned until all are there."""
        return self.folder / "maps_in_making"

    def map(self, name: str) -> str:
        """Return a map's path."""
        return str(self.maps / name)

    def program(self, sha256: str) -> Path:
        """Return the path of the program of an ELF."""
        return self.folder / f"{_PROGRAM}{sha256}"

    def link(self, mode: XdpMode, interface: str) -> Path:
        """Return the path of an interface's link."""
        return self.folder / f"{_LINK}{mode.value}_{_escape(interface)}"

    def find_programs(self) -> Iterator[tuple[str, Path]]:
        """Yield (sha256, path) of each pinned program."""
        for path in self._find(_PROGRAM):
            yield path.name.removeprefix(_PROGRAM), path

    def find_links(self) -> Iterator[tuple[str, XdpMode, Path]]:
        """Yield (interface, mode, path) of each pinned link."""
        for path in self._find(_LINK):
            mode, interface = path.name.removeprefix(_LINK).split("_", 1)
            yield unquote(interface), XdpMode(mode), path

    def _find(self, prefix: str) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from sorted(p for p in self.folder.iterdir() if p.name.startswith(prefix))

    def remove_contents(self) -> None:
        """Remove every pin: links first, so that no packet meets a half-taken instance."""
        for _, _, path in list(self.find_links()):
            path.unlink()
        for _, path in list(self.find_programs()):
            path.unlink()
        remove_folder(self.maps_in_making)
        if self.maps.is_dir():  # it exists only complete, also on its way out
            self.maps.rename(self.maps_in_making)
            remove_folder(self.maps_in_making)


def remove_folder(folder: Path) -> None:
    """Remove a folder of pins, if it exists."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _escape(interface: str) -> str:
    return interface.replace("%", "%25").replace(".", "%2E")
