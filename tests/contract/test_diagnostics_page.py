"""docs/diagnostics.md has every code, and its examples do get the codes that it says."""

import re
from pathlib import Path

import pytest

from reconciler import advice, disruption, errors, unheld
from reconciler.config import codes, parse

PAGE = Path(__file__).parents[2] / "docs" / "diagnostics.md"
_ROW = re.compile(r"^\| (?P<code>XLB\d{3}) \| [^|]+ \| (?P<example>.+) \|$", re.MULTILINE)

VALID = {"interface": "eth0", "port": "80", "backends": "[10.0.0.11]"}
# What no line of a file can show.
TOLD_IN_WORDS = {"XLB100", "XLB102", "XLB210", "XLB309", "XLB318", "XLB408"}


def read_rows():
    return [(row["code"], row["example"]) for row in _ROW.finditer(PAGE.read_text("utf-8"))]


def list_codes():
    named = [vars(module).values() for module in (codes, advice, disruption, unheld)]
    of_errors = [getattr(one, "code", "") for one in vars(errors).values()]
    values = [*(value for values in named for value in values), *of_errors]
    return {one for one in values if isinstance(one, str) and re.fullmatch(r"XLB\d{3}", one)}


def make_file(example):
    """The lines of an example, and before them what a valid file has beside them."""
    lines = [line.strip("`").replace("⇥", "\t") for line in example.split("<br>")]
    keys = {line.partition(":")[0] for line in lines}
    is_long = "services" in keys
    rest = {"interface": VALID["interface"]} if is_long else VALID
    if lines[0].startswith("#"):
        rest = {}
    others = [f"{key}: {value}" for key, value in rest.items() if key not in keys]
    return "\n".join([*others, *lines]) + "\n"


def test_every_code_has_its_row_and_none_twice():
    listed = [code for code, _ in read_rows()]
    assert listed == sorted(set(listed))
    assert set(listed) == list_codes()


@pytest.mark.parametrize(
    ("code", "example"),
    [row for row in read_rows() if row[0] < "XLB5" and row[0] not in TOLD_IN_WORDS],
)
def test_the_example_gets_its_code(code, example):
    found = parse(make_file(example).encode(), "lb.yaml").diagnostics
    assert code in [one.code for one in found]
    assert {one.severity for one in found if one.code == code} == {
        "warning" if code.startswith("XLB4") else "error"
    }


def test_an_example_is_valid_but_for_what_it_shows():
    assert parse(make_file("`name: edge`").encode(), "lb.yaml").diagnostics == ()
