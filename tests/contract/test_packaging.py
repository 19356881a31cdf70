"""What runs xdplb as a service: the unit, the image, the DaemonSet."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.cli.main import VERBS
from reconciler.config import parse
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.privileges import NEEDED, NEEDED_BY_FEATURES
from reconciler.status import RUN_ROOT

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "xdplb.service"
MOST_EXPOSED = 3.0
GIVEN = {**NEEDED, **NEEDED_BY_FEATURES}

Require = Callable[[object, str], None]


# --- the unit ---


def read_unit(text: str) -> dict[str, list[str]]:
    """Every setting of a unit, and its values in order."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def make_template(text: str) -> str:
    """The unit of several instances, as docs/installation.md makes it."""
    document = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    script = re.search(r"sed '(.*?)' \\?\s*/opt/xdplb/share/xdplb/xdplb.service", document)
    assert script
    done = subprocess.run(
        ["sed", script[1]], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(params=["xdplb.service", "xdplb@.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose programs are there."""
    text = UNIT.read_text(encoding="utf-8")
    if "@" in request.param:
        text = make_template(text)
        assert text.count("%i") == 2
    program = tmp_path / "xdplb-reconcile"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = text.replace("/opt/xdplb/bin/xdplb-reconcile", str(program))
    path = tmp_path / str(request.param)
    path.write_text(text)
    return path


def test_the_unit_is_well_formed(unit: Path, require: Require) -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is missing (systemd)")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened(unit: Path, require: Require) -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is missing (systemd)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stderr
    assert float(level[1]) <= MOST_EXPOSED


def test_the_unit_says_what_the_program_needs() -> None:
    settings = read_unit(UNIT.read_text(encoding="utf-8"))
    assert settings["CapabilityBoundingSet"] == [" ".join(sorted(GIVEN, key=order_capability))]
    assert settings["RuntimeDirectory"] == [RUN_ROOT.name]
    assert settings["ReadWritePaths"] == [str(DEFAULT_PIN_ROOT.parent)]
    assert "ProtectKernelTunables" not in settings  # it makes bpffs read-only
    assert "bpf" in settings["SystemCallFilter"][0].split()


def order_capability(name: str) -> int:
    return ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_NET_RAW"].index(name)


def test_the_unit_is_in_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    shared = text.partition("[tool.hatch.build.targets.wheel.shared-data]\n")[2]
    assert shared.startswith('"packaging/xdplb.service" = "share/xdplb/xdplb.service"\n')


# --- the image ---

CONTAINERFILE = (ROOT / "packaging" / "Containerfile").read_text(encoding="utf-8")


def test_the_image_is_made_of_files_that_are_there() -> None:
    for sources in re.findall(r"^COPY (.*) \S+$", CONTAINERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source


def test_the_image_has_the_packages_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    row = re.search(r"^\| Debian 12.*?\| `(.*?)` \| `(.*?)` \|$", readme, re.MULTILINE)
    assert row
    building, running = re.findall(r"--no-install-recommends ([^\\\n]*)", CONTAINERFILE)
    assert set(building.split()) == {*row[2].split(), "python3-venv"}
    assert set(running.split()) == set(row[1].split())


def test_the_image_runs_the_controller() -> None:
    assert 'ENTRYPOINT ["xdplb"]\nCMD ["run"]\n' in CONTAINERFILE
    assert "XDPLB_CONFIG=/etc/xdplb/lb.yaml" in CONTAINERFILE


# --- the DaemonSet ---


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    text = (ROOT / "packaging" / "kubernetes.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def test_the_config_map_is_a_valid_file(objects: dict[str, dict[str, Any]]) -> None:
    (text,) = objects["ConfigMap"]["data"].values()
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config, parsed.diagnostics


def test_the_daemon_set_selects_its_own_pods(objects: dict[str, dict[str, Any]]) -> None:
    spec = objects["DaemonSet"]["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_the_config_map_is_mounted_as_a_directory(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert not [name for name, mount in mounts.items() if "subPath" in mount]
    assert volumes["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    (name,) = objects["ConfigMap"]["data"]
    (variable,) = container["env"]
    assert variable == {"name": "XDPLB_CONFIG", "value": f"{mounts['config']['mountPath']}/{name}"}


def test_pins_and_state_are_the_nodes(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    places = {m["name"]: m["mountPath"] for m in container["volumeMounts"] if m["name"] != "config"}
    of_node = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if v["name"] != "config"}
    assert places == of_node
    assert {str(DEFAULT_PIN_ROOT.parent), str(RUN_ROOT)} <= set(places.values())
    assert pod["hostNetwork"] is True


def test_the_pod_has_no_more_power_than_it_needs(pod: dict[str, Any]) -> None:
    security = pod["containers"][0]["securityContext"]
    assert {f"CAP_{name}" for name in security["capabilities"]["add"]} == set(GIVEN)
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["readOnlyRootFilesystem"] is True
    assert "privileged" not in security


def test_what_the_pod_runs_are_our_commands(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    probes = [container[probe]["exec"]["command"] for probe in ("startupProbe", "readinessProbe")]
    assert container["args"][0] in VERBS
    assert all(words[0] == "xdplb" and words[1] in VERBS for words in probes)
