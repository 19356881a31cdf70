"""`xdplb lookup`: what a client gets from one file, and what becomes of it with another."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from reconciler.cli.main import run
from reconciler.errors import ExitCode

WEB = """\
interface: eth0
services:
  - name: web
    vip: 192.0.2.10
    port: 80
    ring_size: 251
    backends: [{name: a, address: 10.0.0.1}]
"""
NEAR = WEB.replace("    port", "    affinity: client\n    port")
SIX = WEB.replace("192.0.2.10", '"2001:db8::10"').replace("10.0.0.1", '"2001:db8:1::1"')
CLIENT = "192.0.2.2:40000"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    Path("lb.yaml").write_text(WEB)


def look_up(
    capsys: pytest.CaptureFixture[str], *words: str, with_text: str | None = None
) -> list[str]:
    """The lines of a lookup."""
    if with_text is not None:
        Path("new.yaml").write_text(with_text)
        words = (*words, "--with", "new.yaml")
    assert run(["lookup", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


# --- a client without a port ---


@pytest.mark.parametrize(
    ("text", "client", "hint"),
    [
        (WEB, "192.0.2.2", "write 192.0.2.2:PORT\n"),
        (SIX, "2001:db8::1:5", "write [2001:db8::1:5]:PORT, with the brackets\n"),
    ],
)
def test_a_port_that_matters_can_not_be_left_out(
    capsys: pytest.CaptureFixture[str], text: str, client: str, hint: str
) -> None:
    Path("lb.yaml").write_text(text)
    assert run(["lookup", client]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert f"{client} has no port, and service web goes by it; {hint}" in err


def test_a_port_that_does_not_matter_can(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lb.yaml").write_text(NEAR)
    assert look_up(capsys, "192.0.2.2") == look_up(capsys, "192.0.2.2:7")
    assert run(["lookup", "192.0.2.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["client"] == {"address": "192.0.2.2", "port": None}


def test_the_other_file_may_go_by_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    Path("near.yaml").write_text(NEAR)
    assert run(["lookup", "192.0.2.2", "-c", "near.yaml", "--with", "lb.yaml"]) == ExitCode.USAGE
    assert "service web goes by it" in capsys.readouterr().err


def test_only_the_service_that_is_asked_has_to_do_without_a_port(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = NEAR.split("services:\n")[1].replace("web", "near").replace("2.10", "2.11")
    Path("lb.yaml").write_text(WEB + other)
    assert run(["lookup", "192.0.2.2"]) == ExitCode.USAGE
    assert "service web goes by it" in capsys.readouterr().err
    assert look_up(capsys, "192.0.2.2", "near")[0].startswith("service near: ")


# --- with another file ---


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        (WEB, "a (10.0.0.1:80) (stays)"),
        (WEB.replace("name: a", "name: b"), "b (10.0.0.1:80) (moves)"),
        (
            WEB.replace("10.0.0.1", "10.0.0.9"),
            "a (10.0.0.9:80) (same name, another address: was 10.0.0.1:80)",
        ),
        (
            WEB.replace("10.0.0.1}", "10.0.0.1, port: 81}"),
            "a (10.0.0.1:81) (same name, another address: was 10.0.0.1:80)",
        ),
    ],
)
def test_what_becomes_of_a_client(capsys: pytest.CaptureFixture[str], text: str, fate: str) -> None:
    first, second = look_up(capsys, CLIENT, with_text=text)
    assert first.startswith("service web: ")
    assert first.endswith("a (10.0.0.1:80)")
    assert second.startswith("  after: ")
    assert second.endswith(fate)


@pytest.mark.parametrize("service", ["www", None])
def test_a_service_that_is_new(capsys: pytest.CaptureFixture[str], service: str | None) -> None:
    words = [CLIENT, *([service] if service else [])]
    lines = look_up(capsys, *words, with_text=WEB.replace("web", "www"))
    first, second = lines[-2:]
    assert first == "service www: not there"
    assert second.endswith("a (10.0.0.1:80) (the service is new)")
    assert len(lines) == (2 if service else 4)


@pytest.mark.parametrize("service", ["web", None])
@pytest.mark.parametrize("text", [WEB.replace("web", "www"), SIX])
def test_a_service_that_is_gone(
    capsys: pytest.CaptureFixture[str], service: str | None, text: str
) -> None:
    words = [CLIENT, *([service] if service else [])]
    lines = look_up(capsys, *words, with_text=text)
    assert lines[0].startswith("service web: ")
    assert lines[1] == "  after: the service is gone"


def test_a_service_that_is_in_neither_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.yaml").write_text(WEB.replace("web", "www"))
    assert run(["lookup", CLIENT, "wbe", "--with", "new.yaml"]) == ExitCode.USAGE
    assert "there is: web, www" in capsys.readouterr().err
    assert run(["lookup", "[2001:db8::1]:5", "--with", "new.yaml"]) == ExitCode.UNAVAILABLE


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.yaml").write_text(WEB.replace("web", "www"))
    assert run(["lookup", CLIENT, "--with", "new.yaml", "--json"]) == 0
    gone, new = json.loads(capsys.readouterr().out)["results"]
    assert (gone["service"], gone["backend"], gone["after"]) == ("web", "a", None)
    assert (new["service"], new["backend"], new["slot"]) == ("www", None, None)
    assert (new["after"]["backend"], new["after"]["address"]) == ("a", "10.0.0.1")
    assert run(["lookup", CLIENT, "--json"]) == 0
    (alone,) = json.loads(capsys.readouterr().out)["results"]
    assert "after" not in alone


def test_standard_input_is_one_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WEB))
    assert run(["lookup", CLIENT, "-c", "-", "--with", "-"]) == ExitCode.USAGE
    assert "standard input can't be both files" in capsys.readouterr().err
