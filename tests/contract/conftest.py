"""The compiled data plane's own account of its types."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.assets import find_asset

BPF = Path(__file__).parents[2] / "bpf"

Require = Callable[[object, str], None]


@dataclass(frozen=True)
class Member:
    """A field of a struct: offset and size in bytes, and whether it is declared __be16 or such."""

    name: str
    offset: int
    size: int
    is_big_endian: bool


@dataclass(frozen=True)
class Map:
    """A map, as the ELF declares it."""

    kind: int
    key: str
    value: str


class Btf:
    """The types of one ELF, by their BTF (Documentation/bpf/btf.rst)."""

    def __init__(self, path: Path) -> None:
        command = ["bpftool", "-j", "btf", "dump", "file", str(path)]
        dump = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
        self.types: dict[int, dict[str, Any]] = {t["id"]: t for t in json.loads(dump)["types"]}

    def _find(self, kind: str) -> dict[str, dict[str, Any]]:
        return {t["name"]: t for t in self.types.values() if t["kind"] == kind}

    @property
    def structs(self) -> dict[str, dict[str, Any]]:
        """Structs that have a name."""
        return {name: t for name, t in self._find("STRUCT").items() if name != "(anon)"}

    def enum(self, name: str) -> dict[str, int]:
        """Names and values of an enum."""
        return {value["name"]: value["val"] for value in self._find("ENUM")[name]["values"]}

    def members(self, struct: str) -> list[Member]:
        """A struct's fields, in order."""
        return [
            Member(
                m["name"],
                m["bits_offset"] // 8,
                self.size(m["type_id"]),
                self.types[m["type_id"]]["name"].startswith("__be"),
            )
            for m in self.structs[struct]["members"]
        ]

    def size(self, number: int) -> int:
        """Bytes of a type."""
        one = self._strip(number)
        if one["kind"] == "ARRAY":
            return one["nr_elems"] * self.size(one["type_id"])
        return 8 if one["kind"] == "PTR" else one["size"]

    def name(self, number: int) -> str:
        """A type's name, without typedefs."""
        return self._strip(number)["name"]

    def _strip(self, number: int) -> dict[str, Any]:
        one = self.types[number]
        while one["kind"] in ("TYPEDEF", "CONST", "VOLATILE"):
            one = self.types[one["type_id"]]
        return one

    @property
    def maps(self) -> dict[str, Map]:
        """Every map, by name."""
        variables = [self.types[v["type_id"]] for v in self._find("DATASEC")[".maps"]["vars"]]
        return {v["name"]: self._map(v["type_id"]) for v in variables}

    def _map(self, number: int) -> Map:
        # libbpf's __uint(name, n) is a pointer to an array of n, __type(name, t) one to t.
        pointees = {
            m["name"]: self.types[m["type_id"]]["type_id"] for m in self.types[number]["members"]
        }
        kind = self._strip(pointees["type"])["nr_elems"]
        return Map(kind, self.name(pointees["key"]), self.name(pointees["value"]))


@pytest.fixture(scope="session")
def btf(require: Require) -> Btf:
    require(shutil.which("bpftool"), "bpftool is missing")
    try:
        path = find_asset("xdplb.bpf.o")
    except FileNotFoundError:
        require(shutil.which("clang"), "clang is missing")
        path = runpy.run_path(str(BPF / "build_hook.py"))["compile_object"]()
    return Btf(path)


@pytest.fixture(scope="session")
def compile_header(
    require: Require, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Btf]:
    """A function that compiles `abi.h` and more, and returns the types.

    The program's own BTF has no enums: clang forgets those that are only ever
    compared.
    """
    require(shutil.which("bpftool"), "bpftool is missing")
    require(shutil.which("clang"), "clang is missing")
    flags = runpy.run_path(str(BPF / "build_hook.py"))["FLAGS"]
    folder = tmp_path_factory.mktemp("abi")

    def compile_more(text: str, *more: str) -> Btf:
        source, target = folder / "probe.c", folder / "probe.o"
        source.write_text(f'#include "abi.h"\n{text}\n', encoding="utf-8")
        multiarch = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]
        command = ["clang", *flags, *more, *multiarch, f"-I{BPF}", "-c", source, "-o", target]
        subprocess.run(command, check=True, timeout=60)
        return Btf(target)

    return compile_more
