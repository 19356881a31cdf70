"""Options that verbs share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from reconciler.cli.main import VERBS, run, xdplb
from reconciler.cli.options import Duration, choose_name, choose_path, list_instances
from reconciler.config import ConfigInvalid
from reconciler.config.name import NAME_PATTERN
from reconciler.config.schema import load_schema
from reconciler.errors import NoInput

GOOD = "name: edge\ninterface: eth0\nport: 80\nbackends: [10.0.0.1]\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds
    assert Duration().convert(seconds, None, None) == seconds


def test_a_duration_is_no_longer_than_calendars_are() -> None:
    assert Duration().convert("87600h", None, None) == 10 * 365 * 24 * 3600
    with pytest.raises(click.BadParameter, match="more than ten years"):
        Duration().convert("99999999h", None, None)


@pytest.mark.parametrize("name", ["..", ".", "", "default/", "a/b", "Edge", "-a", "a" * 33, "a\n"])
@pytest.mark.parametrize("verb", ["status", "detach", "export", "top"])
def test_no_name_of_an_instance_leads_out_of_its_folder(
    verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "-n", name]) == 64
    assert "is no name of an instance" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1d", "1 s", "1e3s", ".5s", "1s\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration; write 500ms, 2s or 5m"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("file", "config", "path"),
    [
        ("a", None, "a"),
        (None, "b", "b"),
        ("a", "a", "a"),
        (None, None, "/etc/xdplb/lb.yaml"),
    ],
)
def test_which_file(file: str | None, config: str | None, path: str) -> None:
    assert choose_path(file, config) == path


def test_two_files_are_one_too_many() -> None:
    with pytest.raises(click.UsageError, match="two configurations are named: a and b"):
        choose_path("a", "b")


def test_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lb.yaml").write_text(GOOD)
    assert choose_path(None, None) == "lb.yaml"
    monkeypatch.setenv("XDPLB_CONFIG", "/elsewhere.yaml")
    assert choose_path(None, None) == "/elsewhere.yaml"


def test_the_name_as_given_the_files_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDPLB_CONFIG", str(tmp_path / "none.yaml"))
    assert choose_name(None, None, None) == "default"
    (tmp_path / "lb.yaml").write_text(GOOD)
    assert choose_name("core", "lb.yaml", None) == "core"
    assert choose_name(None, "lb.yaml", None) == "edge"
    with pytest.raises(NoInput):
        choose_name(None, "none.yaml", None)


@pytest.mark.parametrize(("instances", "name"), [([], None), (["a"], "a"), (["a", "b"], None)])
def test_a_file_that_is_not_valid_hides_no_instance(
    tmp_path: Path, instances: list[str], name: str | None
) -> None:
    (tmp_path / "lb.yaml").write_text("nonsense")
    root = tmp_path / "pins"
    for instance in instances:
        (root / instance).mkdir(parents=True)
    assert list_instances(root) == instances
    if name:
        assert choose_name(None, None, root) == name
    else:
        with pytest.raises(ConfigInvalid):
            choose_name(None, None, root)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: west\nprot: 80\n", "west"),  # of more than its name nobody asks
        ("prot: 80\n", "default"),
        ("name: a\nname: b\n", None),
        ("name: ../west\n", None),
        ("name: 'west\n'\n", None),
        ("name: 80\n", None),
        ("name: [west]\n", None),
        ("name: !!str west\n", None),
        ("- name: west\n", None),
        ("", None),
    ],
)
def test_only_the_name_of_a_file_counts(tmp_path: Path, text: str, name: str | None) -> None:
    (tmp_path / "lb.yaml").write_text(text)
    if name:
        assert choose_name(None, "lb.yaml", tmp_path) == name
        return
    with pytest.raises(ConfigInvalid) as caught:
        choose_name(None, "lb.yaml", tmp_path)
    assert caught.value.diagnostics


def test_a_name_is_what_the_schema_says() -> None:
    assert load_schema()["properties"]["name"]["pattern"] == NAME_PATTERN


# --- every verb ---

OFFLINE = {"validate", "completion", "demo"}


def list_options(verb: str) -> set[str]:
    command = xdplb.get_command(click.Context(xdplb), verb)
    assert command is not None
    return {option for param in command.params for option in param.opts}


@pytest.mark.parametrize("verb", sorted(set(VERBS) - OFFLINE))
def test_every_verb_of_an_instance_can_be_told_the_file_and_the_place_of_the_pins(
    verb: str,
) -> None:
    assert {"-c", "--config", "--pin-dir"} <= list_options(verb)


@pytest.mark.parametrize(
    "words",
    [
        ["validate"],
        ["plan", "--against", "lb.yaml"],
        ["lookup", "192.0.2.2:1"],
    ],
)
def test_the_environment_names_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    """`$XDPLB_CONFIG` before ./lb.yaml; an option or an argument before both."""
    (tmp_path / "lb.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text(GOOD.replace("backends", "bakends"))
    monkeypatch.setenv("XDPLB_CONFIG", "other.yaml")
    assert run(words) == 78
    assert "other.yaml:4:1: error[XLB201]" in capsys.readouterr().err
    named = ["lb.yaml"] if words == ["validate"] else ["-c", "lb.yaml"]
    assert run([*words, *named]) == 0
    monkeypatch.setenv("XDPLB_CONFIG", "")
    assert run(words) == 0
