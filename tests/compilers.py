"""The compilers of this machine, and the data plane as each of them makes it."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def list_compilers() -> list[str]:
    """The default clang, and every other that is installed under its version."""
    versioned = sorted(Path("/usr/bin").glob("clang-[0-9]*"), key=lambda path: path.name)
    return ["clang", *(path.name for path in versioned if path.name[6:].isdigit())]


def compile_program(compiler: str, target: Path) -> Path:
    """Compile as `bpf/build_hook.py`, which is no package's part, does."""
    path = Path(__file__).parents[1] / "bpf" / "build_hook.py"
    spec = importlib.util.spec_from_file_location("build_hook", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.compile_object(compiler, target)
    return made
