"""Laws of reading a file again: it says what it would say to one who reads it afresh."""

from __future__ import annotations

import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reconciler.config import parse
from reconciler.config.reread import Rereader, count_most_values, cut_services
from reconciler.config.yaml12 import read_nodes

HEAD = "interface: eth0\nlimits: {services: 6, backends: 12, ring_slots: 4000}\n"
SERVICE = """\
- name: {name}
  vip: 192.0.2.{vip}
  port: {port}
  ring_size: 1009
  backends: [{backends}]
"""
LETTERS = st.sampled_from("abcde")
# What an editor, or a mischief-maker, may put between lines or in the place of one.
LINES = [
    "# a comment",
    "  # another",
    "",
    "  weight: 3",
    "- name: torn",
    "  - name: torn",
    "    affinity: client",
    "services:",
    "reconcile: {heal: false}",
    "---",
    "...",
    '"',
    "'",
    "  port: [",
    "]",
    "  name: |",
    "    x",
    "  forwarding: &a nat",
    "\t",
    "  note: \u2028",
]


@st.composite
def services(draw, names=LETTERS):
    numbers = st.integers(1, 9)
    named = draw(names)
    backends = draw(st.lists(numbers, min_size=2, max_size=3, unique=True))
    return SERVICE.format(
        name=named,
        vip=ord(named) % 8 + 1,
        port=draw(st.sampled_from([80, 443])),
        backends=", ".join(f"10.0.{ord(named)}.{number}" for number in backends),
    )


@st.composite
def files(draw):
    """Files that are mostly right: up to four services of five."""
    indent = draw(st.sampled_from(["", "  "]))
    names = draw(st.lists(LETTERS, min_size=1, max_size=4, unique=True))
    listed = [draw(services(st.just(name))) for name in names]
    body = "".join(indent + line for one in listed for line in one.splitlines(keepends=True))
    tail = draw(st.sampled_from(["", "", "hash_seed: 7\n", "# the end"]))
    return f"{HEAD}services:\n{body}{tail}"


@st.composite
def edits(draw):
    """A file, and what becomes of it line by line."""
    texts = [draw(files())]
    for _ in range(draw(st.integers(1, 3))):
        lines = texts[-1].split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["insert", "replace", "delete", "double", "another"])):
            case "insert":
                lines.insert(at, draw(st.sampled_from(LINES)))
            case "replace":
                lines[at] = draw(st.sampled_from(LINES))
            case "delete":
                del lines[at]
            case "double":
                lines[at:at] = lines[at : at + 5]
            case _:
                lines = draw(st.sampled_from([texts[0], draw(files())])).split("\n")
        texts.append("\n".join(lines))
    return texts


def remember(rereader, text):
    parsed = parse(text.encode(), "lb.yaml")
    if parsed.config and not parsed.diagnostics:
        rereader.remember(parsed.config, text)
    return parsed


@given(edits())
@settings(max_examples=300, deadline=None)
def test_read_again_a_file_says_what_it_says_afresh(texts):
    rereader = Rereader()
    remember(rereader, texts[0])
    for text in texts[1:]:
        again = rereader.reread(text.encode(), "lb.yaml")
        afresh = parse(text.encode(), "lb.yaml")
        if again is None:
            remember(rereader, text)
            continue
        assert not afresh.diagnostics
        # Places in the file take no part in equality: they are shown as well.
        assert repr(again) == repr(afresh.config)
        assert again == afresh.config


@given(st.lists(st.sampled_from(LINES) | services() | st.text(max_size=12), max_size=8))
@example(['{a, b: {"": [c, d: "e"]}}'])
@settings(max_examples=300, deadline=None)
def test_no_text_holds_more_values_than_are_counted(lines):
    text = "\n".join(lines)
    assume(not re.search("[\r\x85\u2028\u2029]", text))  # such a file is not cut
    # One that holds more than there is room for can't be read to its end.
    room = count_most_values(text) + 1
    _, problems = read_nodes(text, "lb.yaml", room)
    assert not any("hold more than" in problem.message for problem in problems)


def test_what_is_cut_is_the_file():
    text = f"{HEAD}services:  # all\n\n{SERVICE * 3}hash_seed: 7\n"
    cut = cut_services(text)
    assert cut is not None
    assert len(cut.entries) == 3
    assert "".join((cut.head, *cut.entries, cut.tail)) == text
