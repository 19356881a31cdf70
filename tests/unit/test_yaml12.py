import math

import pytest
import yaml

from reconciler.config import codes, yaml12
from reconciler.config.nodes import to_plain
from reconciler.config.scalars import resolve_plain
from reconciler.config.yaml12 import MAX_DEPTH, MAX_NODES, MAX_PROBLEMS, read_nodes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("nULL", "nULL"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("22:22", "22:22"),
        ("1:2:3", "1:2:3"),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("+5", 5),
        ("-5", -5),
        ("-0x5", "-0x5"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("80.0", 80.0),
        (".5", 0.5),
        ("5.", 5.0),
        (".", "."),
        ("-", "-"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("inf", "inf"),
        ("2024-01-01", "2024-01-01"),
        ("10.0.0.11", "10.0.0.11"),
        ("::1", "::1"),
        ("=", "="),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text, value):
    resolved = resolve_plain(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_nan_is_a_float():
    assert math.isnan(resolve_plain(".nan"))


def test_number_with_too_many_digits_is_refused():
    with pytest.raises(ValueError, match="too long"):
        resolve_plain("9" * 5000)


def test_quoted_scalars_are_strings():
    root, problems = read_nodes("[\"80\", 'true', '', \"~\"]", "f")
    assert not problems
    assert to_plain(root) == ["80", "true", "", "~"]


def test_nodes_know_their_places():
    root, problems = read_nodes("# first\n\n日本: {é: 1}\nb:\n  - x\n", "f")
    assert not problems
    assert (root.place.line, root.place.column) == (3, 1)
    inner = root.entries["日本"]
    assert (inner.keys["é"].line, inner.keys["é"].column) == (3, 6)
    item = root.entries["b"].items[0]
    assert (item.place.line, item.place.column, item.place.length) == (5, 5, 1)


SYNTAX = [
    ("a:\n\tb: 1\n", codes.TAB, 2, 1),
    ("a:\n  b: 1\n\tc: 2\n", codes.TAB, 3, 1),
    ("a: 'x\nb: 1\n", codes.SYNTAX, 1, 4),
    ('a: "\\q"\n', codes.SYNTAX, 1, 5),
    ("a: [1, 2\nb: 3\n", codes.SYNTAX, 2, 2),
    ("a: [1, 2\n", codes.SYNTAX, 1, 4),
    ("a: {b: 1\n", codes.SYNTAX, 1, 4),
    ("a: b: c\n", codes.SYNTAX, 1, 5),
    ("a: @x\n", codes.SYNTAX, 1, 4),
    ("a:\n  b: 1\n c: 2\n", codes.SYNTAX, 3, 2),
    ("- 1\na: 2\n", codes.SYNTAX, 2, 1),
    ("- [2001:db8::1]:53\n", codes.SYNTAX, 1, 3),
    ("a: {b: [2001:db8::1]:53}\n", codes.SYNTAX, 1, 8),
    ("a:1\nb: 2\n", codes.SYNTAX, 1, 2),
    ("a: 1\nb:2\nc: 3\n", codes.SYNTAX, 2, 2),
    ("- a:1\n  b:2\n  c: 3\n", codes.SYNTAX, 2, 4),
    ("a b\nc: 1\n", codes.SYNTAX, 1, 1),
    ("a: 1\n\nb 2\n\nc: 3\n", codes.SYNTAX, 3, 1),
    ("%YAML 2.0\n---\na: 1\n", codes.SYNTAX, 1, 1),
]


@pytest.mark.parametrize(("text", "code", "line", "column"), SYNTAX)
def test_syntax_errors_have_a_place(text, code, line, column):
    root, problems = read_nodes(text, "f")
    assert root is None
    assert [(p.code, p.source.line, p.source.column) for p in problems] == [(code, line, column)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a:\n\tb: 1\n", "spaces"),
        ("- [2001:db8::1]:53\n", 'write "[2001:db8::1]:53"'),
        ("a: 1\nb:2 # two\nc: 3\n", "write 'b: 2 # two'"),
        ("a: 1\nb   2\nc: 3\n", "write 'b: 2'"),
        ('- "10.0.0.1":80\n', "quotes around the whole value"),
        ("a: b: c\n", "indentation"),
    ],
)
def test_syntax_errors_have_a_hint(text, part):
    _, problems = read_nodes(text, "f")
    assert part in problems[0].hint


def test_syntax_error_names_the_line_of_what_was_left_open():
    _, problems = read_nodes("a: [1, 2\nb: 3\n", "f")
    assert "line 1" in problems[0].message


REFUSED = [
    ("a: 1\na: 2\n", codes.DUPLICATE_KEY, 2, 1),
    ("a: {b: 1, b: 2}\n", codes.DUPLICATE_KEY, 1, 11),
    ("a: 1\n'a': 2\n", codes.DUPLICATE_KEY, 2, 1),
    ("80: x\n", codes.KEY_NOT_STRING, 1, 1),
    ("true: x\n", codes.KEY_NOT_STRING, 1, 1),
    ("~: x\n", codes.KEY_NOT_STRING, 1, 1),
    ("? [a]\n: 1\n", codes.KEY_NOT_STRING, 1, 3),
    ("a: {{ x }}\n", codes.KEY_NOT_STRING, 1, 5),
    ("a: &x 1\nb: *x\n", codes.ALIAS, 2, 4),
    ("a: !!str 1\n", codes.TAG, 1, 4),
    ('a: !!str "b"\n', codes.TAG, 1, 4),
    ("!b 'a': 1\n", codes.TAG, 1, 1),
    ("a: !!python/object/apply:os.system 'true'\n", codes.TAG, 1, 4),
    ("a: !x {}\n", codes.TAG, 1, 4),
    ("<<: {a: 1}\n", codes.MERGE_KEY, 1, 1),
    ("a: 1\n---\nb: 1\n", codes.SEVERAL_DOCUMENTS, 2, 1),
    ('a: "\\e[31m"\n', codes.UNPRINTABLE, 1, 4),
    ("a: |\n  x\n  y\n", codes.UNPRINTABLE, 1, 4),
    ("a: " + "9" * 100 + "\n", codes.TOO_LARGE, 1, 4),
]


@pytest.mark.parametrize(
    ("text", "value"), [("017", 17), ("-08", -8), ("00", 0), ("0", 0), ("0x0f", 15), ("0o17", 15)]
)
def test_a_leading_zero_is_pointed_out(text, value):
    root, problems = read_nodes(f"a: {text}\n", "f")
    assert to_plain(root) == {"a": value}
    warned = [(p.code, p.severity, p.source.column) for p in problems]
    has_zero = text not in ("0", "0x0f", "0o17")
    assert warned == ([(codes.LEADING_ZERO, "warning", 4)] if has_zero else [])


def test_many_leading_zeros_refuse_nothing():
    root, problems = read_nodes("- 01\n" * (MAX_PROBLEMS + 10), "f")
    assert root is not None
    assert {p.severity for p in problems} == {"warning"}
    assert len(problems) == MAX_PROBLEMS


@pytest.mark.parametrize(("text", "code", "line", "column"), REFUSED)
def test_what_a_configuration_has_no_use_for_is_refused(text, code, line, column):
    root, problems = read_nodes(text, "f")
    assert root is not None, "the rest of the file can still be judged"
    assert [(p.code, p.source.line, p.source.column) for p in problems] == [(code, line, column)]


def test_first_of_two_equal_keys_is_kept_for_later_stages():
    root, _ = read_nodes("a: 1\na: 2\n", "f")
    assert to_plain(root) == {"a": 1}


def test_unrendered_template_is_recognised():
    _, problems = read_nodes("port: {{ port }}\n", "f")
    assert "template" in problems[0].hint


def test_anchor_that_nobody_uses_is_harmless():
    assert read_nodes("a: &x 1\n", "f")[1] == []


def make_laughs():
    lines = ["l0: &l0 [x, x]"]
    lines += [f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 1_000_000, codes.TOO_LARGE),
        ("- " * 1_000_000, codes.TOO_LARGE),
        ("? " * 1_000_000, codes.TOO_LARGE),
        ("{a: " * 500_000, codes.TOO_LARGE),
        ("- x\n" * (MAX_NODES + 1), codes.TOO_LARGE),
        ("a: 1\n" * (MAX_PROBLEMS + 10), codes.TOO_LARGE),
        ("x" * 1_000_000, codes.TOO_LARGE),
        ("9" * 1_000_000, codes.TOO_LARGE),
        (make_laughs(), codes.ALIAS),
    ],
)
def test_hostile_text_is_refused(text, code):
    _, problems = read_nodes(text, "f")
    assert problems[-1].code == code
    assert len(problems) <= MAX_PROBLEMS + 1


def test_depth_at_the_limit_is_read():
    root, problems = read_nodes("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f")
    assert root is not None
    assert not problems


@pytest.mark.parametrize("text", ["", "---\n", "# only a comment\n", "~\n", "\n\n"])
def test_empty_document_is_null(text):
    root, problems = read_nodes(text, "f")
    assert to_plain(root) is None
    assert not problems


@pytest.mark.parametrize(("text", "code", "line", "column"), [*SYNTAX, *REFUSED])
def test_parser_without_libyaml_says_the_same(monkeypatch, text, code, line, column):
    monkeypatch.setattr(yaml12, "_Loader", yaml.SafeLoader)
    _, problems = yaml12.read_nodes(text, "f")
    assert [(p.code, p.source.line) for p in problems] == [(code, line)]
