"""The pure core stays pure, and each heavy library has one door."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reconciler"

PURE = """
    model maglev tables codec abi plan desired movement allocation environment proposal
    resources touched rows guard flowhash fingerprint memory directory diagnostics disruption
    unheld config overrides export diagnosis advice survey rates conditions
    health.effect health.standing health.checks
""".split()  # noqa: SIM905  (a column of names is no easier to read)
# Input and output, clocks, chance, logs, threads.
IMPURE = set(
    """
    os io socket subprocess time datetime random secrets logging threading multiprocessing
    asyncio signal fcntl tempfile shutil pathlib ctypes mmap
    bcc pyroute2 watchdog click rich matplotlib
    """.split()  # noqa: SIM905
)
# The schema ships with the code as a file; reading it is the one exception.
EXCEPTIONS = {("reconciler.config.schema", "reconciler.assets")}

DOORS = {
    "bcc": "dataplane/libbpf.py",
    "pyroute2": "netlink.py",
    "watchdog": "watch.py",
    "matplotlib": "lab/picture.py",
    "prometheus_client": "metrics/exposition.py",
}


def name_module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in PACKAGE.rglob("*.py")}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def walk_running(node):
    """Every node below this one that runs, function bodies too."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from walk_running(child)


def name_imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else str(node.module) for name in whole]
    return []


@cache
def find_imports(module):
    """What a module imports; of a package's parts each parent is imported too."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    named = {name for node in walk_running(tree) for name in name_imported(node)}
    parents = {name.rsplit(".", 1)[0] for name in named if "." in name and name in MODULES}
    return frozenset(named | parents)


def find_ways(module):
    """Each foreign module that is reached, and the chain of imports that leads there."""
    ways, seen, open_ways = {}, set(), [(module,)]
    while open_ways:
        way = open_ways.pop()
        for name in sorted(find_imports(way[-1])):
            if (way[-1], name) in EXCEPTIONS or name in seen:
                continue
            seen.add(name)
            if name in MODULES:
                open_ways.append((*way, name))
            else:
                ways[name] = (*way, name)
    return ways


def find_pure(module):
    """The entry of the list that a module belongs to, or None."""
    ways = (module.removeprefix("reconciler."), module.split(".")[1:2])
    return next((name for name in (ways[0], *ways[1]) if name in PURE), None)


PURE_MODULES = [name for name in MODULES if find_pure(name)]


def test_every_pure_module_is_there():
    assert {find_pure(name) for name in PURE_MODULES} == set(PURE)


def test_the_walk_goes_all_the_way():
    ways = find_ways("reconciler.cli.run")
    assert ways["bcc"][-2:] == ("reconciler.dataplane.libbpf", "bcc")


@pytest.mark.parametrize("module", sorted(PURE_MODULES))
def test_pure_modules_reach_no_io(module):
    ways = find_ways(module)
    reached = {name: way for name, way in ways.items() if name.split(".")[0] in IMPURE}
    assert not reached, {name: " -> ".join(way) for name, way in reached.items()}


@pytest.mark.parametrize("module", sorted(PURE_MODULES))
def test_pure_modules_call_no_io_that_needs_no_import(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    chance = {name for name in called if name.startswith(("np.random.", "numpy.random."))}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"} | chance


@pytest.mark.parametrize(("library", "door"), DOORS.items())
def test_each_library_has_one_door(library, door):
    users = {
        str(MODULES[module].relative_to(PACKAGE))
        for module in MODULES
        for name in find_imports(module)
        if name.split(".")[0] == library
    }
    assert users == {door}


def list_loaded(*arguments):
    """Run a command of xdplb in a fresh interpreter; return the top-level modules it loaded."""
    program = (
        "import json, sys\n"
        "from reconciler.cli.main import main\n"
        "sys.argv[0] = 'xdplb'\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "finally:\n"
        "    names = sorted({name.split('.')[0] for name in sys.modules})\n"
        "    print(json.dumps(names), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


EXAMPLE = ROOT / "examples" / "lb.yaml"


@pytest.mark.parametrize(
    "arguments",
    [("validate", EXAMPLE), ("plan", "--against", EXAMPLE, EXAMPLE), ("--help",)],
    ids=lambda arguments: arguments[0],
)
def test_commands_without_a_kernel_load_no_kernel_library(arguments):
    loaded = list_loaded(*arguments)
    assert "reconciler" in loaded
    assert not loaded & set(DOORS)
