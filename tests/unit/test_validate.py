import json

import pytest
from click.testing import CliRunner

from reconciler.cli.validate import validate

GOOD = "interface: eth0\nport: 8080\nbackends: [10.0.0.11, 10.0.0.12]\n"
BAD = "interface: eth0\nport: 8080\nbackends:\n  - {address: 10.0.0.11, wieght: 5}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    (tmp_path / "lb.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return lambda *args, **kwargs: CliRunner().invoke(validate, args, **kwargs)


def test_valid_file(run):
    result = run("lb.yaml")
    assert result.exit_code == 0
    assert result.stdout == "lb.yaml: valid: 1 service, 2 backends\n"
    assert result.stderr == ""


def test_default_file(run):
    assert run().stdout.startswith("lb.yaml: valid")


def test_quiet_says_nothing_about_a_valid_file(run):
    assert run("-q").output == ""


def test_invalid_file(run):
    result = run("bad.yaml")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr == (
        "bad.yaml:4:26: error[XLB201]: unknown key 'wieght' in a backend\n"
        "  4 |   - {address: 10.0.0.11, wieght: 5}\n"
        "    |                          ^^^^^^\n"
        "  hint: did you mean 'weight'?\n"
    )


def test_warning_is_shown_and_the_file_is_valid(run):
    result = run("-", input=GOOD.replace("10.0.0.11", "127.0.0.1"))
    assert result.exit_code == 0
    assert "warning[XLB403]" in result.stderr
    assert result.stdout.startswith("<stdin>: valid")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (["lb.yaml", "lb.yaml"], 0),
        (["missing.yaml"], 66),
        (["lb.yaml", "missing.yaml"], 66),
        (["missing.yaml", "bad.yaml"], 78),
        (["bad.yaml", "lb.yaml"], 78),
        (["."], 66),
    ],
)
@pytest.mark.parametrize("form", ["human", "json", "github"])
def test_exit_code_is_the_worst(run, files, code, form):
    assert run("--format", form, *files).exit_code == code


def test_missing_file_is_said_in_one_line_with_a_remedy(run):
    result = run("missing.yaml")
    assert result.stderr.startswith("xdplb: there is no file missing.yaml; ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", [["--json"], ["--format", "json"]])
def test_json(run, flag):
    result = run(*flag, "lb.yaml", "bad.yaml", "missing.yaml")
    shown = json.loads(result.stdout)
    assert result.stderr == ""
    assert (shown["kind"], shown["valid"]) == ("xdplb.validation", False)
    assert [file["valid"] for file in shown["files"]] == [True, False, False]
    assert (shown["files"][0]["services"], shown["files"][0]["backends"]) == (1, 2)
    assert [(d["code"], d["line"]) for d in shown["diagnostics"]] == [
        ("XLB201", 4),
        ("XLB100", None),
    ]


def test_github(run):
    result = run("--format", "github", "lb.yaml", "bad.yaml")
    assert result.stdout == (
        "::error file=bad.yaml,line=4,col=26,title=XLB201::"
        "unknown key 'wieght' in a backend%0Ahint: did you mean 'weight'?\n"
    )
