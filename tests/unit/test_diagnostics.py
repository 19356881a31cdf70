import pytest

from reconciler.diagnostics import (
    Diagnostic,
    quote,
    render_github,
    render_human,
    sort_by_place,
    to_json,
)
from reconciler.model import Source


def make(line=6, column=5, **changes):
    values = {
        "code": "XLB201",
        "severity": "error",
        "message": "unknown key 'wieght' in a backend",
        "source": Source("lb.yaml", line, column),
        "hint": "did you mean 'weight'?",
        "length": 6,
        **changes,
    }
    return Diagnostic(**values)


def test_human_form_is_a_compilers():
    text = "1\n2\n3\n4\n5\n    wieght: 50\n"
    assert render_human([make()], {"lb.yaml": text}) == (
        "lb.yaml:6:5: error[XLB201]: unknown key 'wieght' in a backend\n"
        "  6 |     wieght: 50\n"
        "    |     ^^^^^^\n"
        "  hint: did you mean 'weight'?"
    )


def test_human_form_without_text_place_or_hint():
    assert render_human([make(hint="")], {}) == (
        "lb.yaml:6:5: error[XLB201]: unknown key 'wieght' in a backend"
    )
    assert render_human([make(source=None, hint="")], {}).startswith("error[XLB201]: ")


@pytest.mark.parametrize(
    ("line", "column", "length", "carets"),
    [
        ("\ta: b", 5, 1, "    | \t   ^"),
        ("日本: b", 5, 1, "    |       ^"),
        ("abc", 2, 99, "    |  ^^"),
        ("abc", 4, 1, "    |    ^"),
        ("", 1, 1, "    | ^"),
    ],
)
def test_caret_stands_below_its_word(line, column, length, carets):
    found = make(1, column, length=length, hint="")
    assert render_human([found], {"lb.yaml": line}).split("\n")[2] == carets


def test_long_line_is_cut_around_the_caret():
    line = "x" * 5000 + "HERE" + "y" * 5000
    shown = render_human([make(1, 5001, length=4, hint="")], {"lb.yaml": line}).split("\n")
    assert "HERE" in shown[1]
    assert len(shown[1]) < 120
    assert shown[2].index("^") == shown[1].index("HERE")


def test_file_cannot_write_escape_sequences_to_a_terminal():
    found = make(1, 1, message="a \x1b[31m", hint="b \x1b[31m")
    assert "\x1b" not in render_human([found], {"lb.yaml": "c \x1b[31m"})


def test_lines_are_counted_as_yaml_counts_them():
    shown = render_human([make(4, 1)], {"lb.yaml": "1\r\n2\x853\n\x0cfour\n"})
    assert "4 | \ufffdfour" in shown


def test_sorted_by_place():
    found = [make(7, 1), make(6, 9), make(6, 5), make(source=None)]
    assert [str(d.source) for d in sort_by_place(found)] == [
        "None",
        "lb.yaml:6:5",
        "lb.yaml:6:9",
        "lb.yaml:7:1",
    ]


def test_json_form():
    assert to_json([make(), make(source=None, hint="")]) == [
        {
            "code": "XLB201",
            "severity": "error",
            "message": "unknown key 'wieght' in a backend",
            "file": "lb.yaml",
            "line": 6,
            "column": 5,
            "hint": "did you mean 'weight'?",
        },
        {
            "code": "XLB201",
            "severity": "error",
            "message": "unknown key 'wieght' in a backend",
            "file": None,
            "line": None,
            "column": None,
            "hint": None,
        },
    ]


def test_github_form():
    assert render_github([make()]) == (
        "::error file=lb.yaml,line=6,col=5,title=XLB201::"
        "unknown key 'wieght' in a backend%0Ahint: did you mean 'weight'?"
    )
    assert render_github([make(source=None, hint="")]).startswith("::error title=XLB201::")


def test_github_form_is_escaped():
    found = make(source=Source("a:b,c%.yaml", 1, 1), message="100%\r\n::error::x", hint="")
    assert render_github([found]) == (
        "::error file=a%3Ab%2Cc%25.yaml,line=1,col=1,title=XLB201::100%25%0D%0A::error::x"
    )


def test_quote_cuts_long_text():
    assert quote("a") == "'a'"
    assert len(quote("a" * 1000)) < 70
