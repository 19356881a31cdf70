"""`xdplb doctor` as a command, on whatever machine this is."""

import json

import pytest

from reconciler.cli.doctor_output import count_severities, print_findings, print_summary
from reconciler.cli.main import run
from reconciler.diagnosis.finding import Finding, Severity
from reconciler.errors import ExitCode, Unavailable
from reconciler.inspection import machine

FINDINGS = (
    Finding("XLB510", Severity.OK, "machine", "is fine"),
    Finding("XLB521", Severity.ERROR, "eth0", "is down", "ip link set dev eth0 up"),
    Finding("XLB539", Severity.NOTE, "web", "ask", "ip route get CLIENT", "10.0.0.1", "via us"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDPLB_CONFIG", "")
    return tmp_path


def test_a_machine_without_a_file(folder, capsys):
    code = run(["doctor", "--json", "--pin-dir", str(folder / "pins")])
    said = capsys.readouterr()
    assert code in (ExitCode.OK, ExitCode.UNAVAILABLE, ExitCode.NOPERM)
    document = json.loads(said.out)
    assert (document["kind"], document["config"]) == ("xdplb.doctor", None)
    assert "machine" in {finding["subject"] for finding in document["findings"]}
    assert said.err == ""
    assert not (folder / "pins").exists()


def test_a_machine_without_bcc(folder, capsys, monkeypatch):
    def refuse():
        raise Unavailable("BCC is missing (No module named 'bcc')")

    monkeypatch.setattr(machine, "Libbpf", refuse)
    code = run(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    errors = {f["code"] for f in document["findings"] if f["severity"] == "error"}
    assert "XLB511" in errors
    assert code == ExitCode.UNAVAILABLE
    messages = {f["code"]: f["message"] for f in document["findings"]}
    assert messages["XLB513"] == "not looked at: it takes BCC"


def test_a_file_that_is_named_and_not_there(folder, capsys):
    assert run(["doctor", "none.yaml"]) == ExitCode.NOINPUT
    assert capsys.readouterr().err.startswith("xdplb: there is no file none.yaml")


def test_lines(capsys):
    print_findings(FINDINGS, Severity)
    print_summary(FINDINGS)
    assert capsys.readouterr().out.splitlines() == [
        "ok       XLB510  machine  is fine",
        "error    XLB521  eth0     is down  $ ip link set dev eth0 up",
        "note     XLB539  web      ask (via us)  on 10.0.0.1 $ ip route get CLIENT",
        "doctor: 1 error, 0 warnings, 1 note, 1 ok",
    ]
    print_findings(FINDINGS, [Severity.ERROR])
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours(capsys, monkeypatch, environment, is_coloured):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_findings(FINDINGS, Severity)
    assert ("\x1b[1;31m" in capsys.readouterr().out) is is_coloured


def test_a_line_is_never_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_findings(FINDINGS, Severity)
    assert len(capsys.readouterr().out.splitlines()) == len(FINDINGS)


def test_counts():
    assert count_severities(FINDINGS) == {"error": 1, "warning": 0, "note": 1, "ok": 1}
