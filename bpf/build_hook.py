"""Compiles the data plane ahead of time, when the package is built, and writes the man pages.

Hatchling runs this as a build hook; `python bpf/build_hook.py` compiles in place.
"""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OBJECT = HERE / "xdplb.bpf.o"
FLAGS = [
    "-O2",
    "-g",  # BTF: map types, and names in the verifier's log
    "-target",
    "bpf",
    "-mcpu=v3",
    "-fno-strict-aliasing",  # headers are read in words, as the kernel does
    "-Wall",
    "-Wextra",
    "-Werror",
]


def compile_object(clang: str | None = None, output: Path = OBJECT) -> Path:
    """Compile `xdplb.bpf.c` and return the object's path, `output`.

    Raises:
        SystemExit: there is no clang, or it refused.
    """
    clang = clang or os.environ.get("CLANG") or shutil.which("clang")
    if clang is None:
        sys.exit("clang is missing; install the packages clang and libbpf-dev")
    # Debian and Ubuntu keep asm/types.h in a folder of the architecture's own.
    multiarch = f"-I/usr/include/{platform.machine()}-linux-gnu"
    source = HERE / "xdplb.bpf.c"
    command = [clang, *FLAGS, multiarch, "-c", str(source), "-o", str(output)]
    if subprocess.run(command, check=False).returncode:
        sys.exit("clang could not compile the data plane; see above")
    return output


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    pass
else:

    class DataPlaneHook(BuildHookInterface[Any]):
        """Puts the compiled data plane and the man pages into the wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile; an editable install finds the object where it lies, and has no pages."""
            path = compile_object()
            if version == "editable":
                return
            build_data["force_include"][str(path)] = "reconciler/assets/xdplb.bpf.o"
            generator = runpy.run_path(str(HERE.parent / "packaging" / "man_pages.py"))
            for page in generator["write_pages"](HERE.parent / "build" / "man"):
                folder = f"share/man/man{page.suffix.removeprefix('.')}"
                build_data["shared_data"][str(page)] = f"{folder}/{page.name}"


if __name__ == "__main__":
    print(compile_object())
