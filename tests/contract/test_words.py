"""One word a thing: what has a name of its own is called by no other."""

import io
import itertools
import keyword
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_ROW = re.compile(r"^\| (?P<use>[^|]+) \| [^|]+ \| (?P<never>[^|]*)\|$", re.MULTILINE)


def read_glossary():
    """The words that are never used for a thing, each with the one that is; spaces left out."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [(row["use"].strip(), row["never"].strip()) for row in _ROW.finditer(text)]
    return {
        word.strip().replace(" ", "").lower(): use
        for use, words in rows[1:]
        for word in words.split(",")
        if word.strip()
    }


INSTEAD = read_glossary()

# Identifiers in which such a word names another thing, which has no better name.
MEANT = {
    # An address, port and protocol: a VIP's or a backend's.
    "endpoint": r"(?i:_*(read|hash|is_same|write)?_?endpoints?(_fields|_tables)?)",
    # YAML's.
    "node": r"(?i:(\w+_)?nodes?(_count)?|NodeEvent)",
    # What a slot shall lead to, a link shows to, a load asks.
    "target": r"_?(ring_)?targets?",
    # Before and after, in a comparison; programs, and YAML 1.1, of former times.
    "old": r"old|forget_old_programs|_OLD_BOOLEANS",
    # The kernel's: the way to an address.
    "route": r"routes?|\w*NO_ROUTE|NETLINK_ROUTE",
    # What a call returns.
    "result": r"(?i:((print|find)_)?results?)",
    # A number that says which form something has.
    "version": r"(?i:\w*abi_version|format_version|__version__|version|version_option)",
    "current": r"get_current_context",  # click
    # What a plan means to people, key by key; part of the JSON contract.
    "changes": r"(?i:(is_|has_|ring_|_render_)?changes)",
    # "in sync": desired equals observed; part of the JSON contract.
    "sync": r"_?((wait|is)_)?in_sync",
    # Ask again what was remembered; draw again; a page that is loaded again.
    "refresh": r"refresh(_nexthop)?|_(SLOW_)?REFRESH_S|(_choose_)?refresh_s",
    # See whether something holds, and say so; a health check.
    "check": r"_?((list|make|start|follow|count)_)?checks?(_\w+)?|Check(Failed|Impossible)?",
    # What a process is, to systemd and to others.
    "alive": r"say_alive|_is_alive",
    # The kernel's: a device, as netlink says; a program on one, as BPF says; a path.
    "link": r"_?(\w+_)?links?(_fd|_info|_local)?|_SCOPE_LINK|_LINK|_Link(Opts|Info)",
}
# Names that others gave.
FOREIGN = {
    "auto_refresh",  # rich
    "bpf_link_create",
    "bpf_link_detach",
    "bpf_link_get_fd_by_id",
    "bpf_link_get_next_id",
    "bpf_link_update",
    "BPF_FIB_LKUP_RET_FWD_DISABLED",
    "create_datagram_endpoint",  # asyncio
    "current_task",  # asyncio
    "is_alive",  # threading
    "SSLWantReadError",  # ssl
    "IPRoute",  # pyroute2
    "mtu_result",  # struct bpf_fib_lookup
    "rc_context",  # matplotlib
    "request_version",  # http.server
    "start_new_session",  # subprocess
    "version_string",  # http.server
}

_NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"[^"\n]*"|#include[^\n]*', re.DOTALL)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def read_identifiers(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"[A-Za-z_]\w*", _NO_CODE.sub(" ", text)))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    return {name for name in names if not keyword.iskeyword(name)}


def find_never_words(identifier):
    words = [word.lower() for word in _WORD.findall(identifier)]
    words += [first + second for first, second in itertools.pairwise(words)]
    return {each for word in words for each in (word, word.removesuffix("s")) if each in INSTEAD}


def is_meant(word, identifier):
    return identifier in FOREIGN or re.fullmatch(MEANT.get(word, r"(?!)"), identifier)


SOURCES = sorted(
    path
    for folder, pattern in (("bpf", "*.[ch]"), ("bpf", "*.py"), ("reconciler", "*.py"))
    for path in (ROOT / folder).rglob(pattern)
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_things_are_called_by_their_names(path):
    wrong = {
        identifier: INSTEAD[word]
        for identifier in read_identifiers(path)
        for word in find_never_words(identifier)
        if not is_meant(word, identifier)
    }
    assert not wrong, "; ".join(f"{name}: say {use}" for name, use in wrong.items())


def test_the_glossary_has_been_read():
    assert INSTEAD["bucket"] == "ring, slot"
    assert INSTEAD["virtualserver"] == "service"
    assert set(MEANT) <= set(INSTEAD)


def test_nothing_is_excused_that_nobody_says():
    said = {name for path in SOURCES for name in read_identifiers(path)}
    words = {word for name in said for word in find_never_words(name)}
    assert set(MEANT) <= words
    assert said >= FOREIGN


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        ("frontend_nodes", {"frontend", "node"}),
        ("VirtualServer", {"virtualserver"}),
        ("BUCKETS", {"bucket"}),
        ("changes", {"changes"}),
        ("change", set()),
        ("resync_s", set()),
        ("normal", set()),
    ],
)
def test_words_are_found_in_identifiers(identifier, found):
    assert find_never_words(identifier) == found
