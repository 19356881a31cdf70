"""Reads a file again: of its services, only those whose text is another are parsed.

A file of a thousand services is edited one at a time, and takes half a second to parse.
Nothing here knows YAML. A file is cut before each entry of `services`, where its author
has put one a line at one indentation, and an entry is only ever taken over if the parser
has found just that service in just those lines. What can't be cut, or has anything wrong
or doubtful about it, is left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from reconciler.config import parse
from reconciler.config.checks import check_together
from reconciler.config.document import digest_bytes
from reconciler.config.draft import BackendDraft, Draft, ServiceDraft
from reconciler.config.nodes import Mapping, Place
from reconciler.config.text import RefusedError, decode
from reconciler.config.yaml12 import MAX_NODES
from reconciler.model import Config, Service

_SERVICES = re.compile(r"^services: *(?:#.*)?\n", re.MULTILINE)
_FIRST = re.compile(r"(?:[ ]*(?:#.*)?\n)*(?P<indent>[ ]*)- ")
_BEGINNINGS = re.compile(r"[^\s,:\[\]{}\"']+|[,\[\]{}\"']")
# What YAML takes for the end of a line, besides the one that is looked for.
_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029]")


@dataclass(frozen=True)
class Cut:
    """A file's text before its services, of each of them, and behind them."""

    head: str
    entries: tuple[str, ...]
    tail: str

    @property
    def first_lines(self) -> list[int]:
        """The lines on which the entries start, from 1."""
        counts = (text.count("\n") for text in (self.head, *self.entries))
        return [1 + lines for lines in accumulate(counts)][:-1]


@dataclass(frozen=True)
class _Known:
    """A service, the line on which its entry started, and how many values that holds at most."""

    service: Service
    first_line: int
    most_values: int


class Rereader:
    """Remembers one valid file, to read it again when it was edited."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._cut: Cut | None = None
        self._known: dict[str, _Known] = {}

    def remember(self, config: Config, text: str) -> None:
        """Remember what a file says about which there was nothing to tell."""
        cut = cut_services(text)
        services = match_services(cut, config.services) if cut else None
        if cut is None or services is None:
            self._config, self._cut, self._known = None, None, {}
            return
        self._config, self._cut = config, cut
        self._known = self._list_known(cut, services)

    def reread(self, data: bytes, path: str) -> Config | None:
        """Return what the remembered file says now, if that is told by its services alone.

        None means nothing but that it has to be parsed. Where it is not, it is remembered
        as it is now, and what is returned equals what `parse` would return, with no
        diagnostics.
        """
        before, cut = self._cut, self._cut_again(data, path)
        if self._config is None or before is None or cut is None:
            return None
        if (cut.head, cut.tail) != (before.head, before.tail):
            return None
        known = self._parse_new(cut, path)
        if known is None:
            return None
        most_values = sum(known[text].most_values for text in cut.entries)
        if most_values + count_most_values(cut.head + cut.tail) > MAX_NODES:
            return None
        entries = zip(cut.entries, cut.first_lines, strict=True)
        services = [_place(known[text], first_line) for text, first_line in entries]
        config = replace(
            self._config,
            services=tuple(sorted(services, key=lambda service: service.name)),
            sha256=digest_bytes(data),
        )
        if next(check_together(_draft(config, services)), None):
            return None
        self.remember(config, "".join((cut.head, *cut.entries, cut.tail)))
        return config

    def _cut_again(self, data: bytes, path: str) -> Cut | None:
        if self._config is None or path != self._config.path:
            return None
        try:
            return cut_services(decode(data, path))
        except RefusedError:
            return None

    def _parse_new(self, cut: Cut, path: str) -> dict[str, _Known] | None:
        """The services by their entries; None if a new entry is not just one service."""
        new = tuple(text for text in cut.entries if text not in self._known)
        if not new:
            return self._known
        part = replace(cut, entries=new)
        parsed = parse("".join((part.head, *new, part.tail)).encode(), path)
        if parsed.config is None or parsed.diagnostics:
            return None
        services = match_services(part, parsed.config.services)
        if services is None:
            return None
        return {**self._known, **self._list_known(part, services)}

    def _list_known(self, cut: Cut, services: Sequence[Service]) -> dict[str, _Known]:
        def measure(text: str) -> int:
            known = self._known.get(text)
            return known.most_values if known else count_most_values(text)

        entries = zip(cut.entries, services, cut.first_lines, strict=True)
        return {text: _Known(one, line, measure(text)) for text, one, line in entries}


def count_most_values(text: str) -> int:
    """Return how many values a part of a file holds at most, keys among them.

    Each word, bracket, comma or quote brings three at most: a lone `?` is a mapping, a key
    and a value, and so is a lone pair in brackets.
    """
    return 3 * sum(1 for _ in _BEGINNINGS.finditer(text))


def cut_services(text: str) -> Cut | None:
    """Return a file's text cut before each entry of `services`; None if it can't be told."""
    if _OTHER_BREAKS.search(text):
        return None
    found = list(_SERVICES.finditer(text))
    first = _FIRST.match(text, found[0].end()) if len(found) == 1 else None
    if first is None:
        return None
    start = first.start("indent")
    ends = re.compile(rf"^(?![ ]{{{len(first['indent'])}}}[ -]|[ ]*(?:#|$))", re.MULTILINE)
    end = _find_end(text, ends, start)
    item = re.compile(rf"^{first['indent']}- ", re.MULTILINE)
    starts = [match.start() for match in item.finditer(text, start, end)]
    entries = tuple(text[one:other] for one, other in pairwise([*starts, end]))
    return Cut(text[:start], entries, text[end:])


def _find_end(text: str, ends: re.Pattern[str], start: int) -> int:
    """Where the first line starts that is no longer of the services."""
    match = ends.search(text, start)
    return match.start() if match else len(text)


def match_services(cut: Cut, services: Sequence[Service]) -> list[Service] | None:
    """Return the one service of each entry, in their order; None if one has not just one."""
    starts = cut.first_lines
    ends = [*starts[1:], starts[-1] + cut.entries[-1].count("\n") + 1]
    placed = sorted(services, key=_get_line)
    if len(placed) != len(starts):
        return None
    spans = zip(placed, starts, ends, strict=True)
    return placed if all(start <= _get_line(one) < end for one, start, end in spans) else None


def _get_line(service: Service) -> int:
    return service.source.line if service.source else 0


def _place(known: _Known, first_line: int) -> Service:
    return known.service.shift(first_line - known.first_line)


def _draft(config: Config, services: Sequence[Service]) -> Draft:
    """The services as the checks of the whole file want them; nothing will be said of places."""
    nowhere = Mapping(Place(config.path, 1, 1, 1))
    return Draft(config, tuple(_draft_services(services, nowhere)), nowhere)


def _draft_services(services: Sequence[Service], nowhere: Mapping) -> Iterator[ServiceDraft]:
    for service in services:
        backends = tuple(BackendDraft(backend, nowhere) for backend in service.backends)
        yield ServiceDraft(service, nowhere, backends, is_whole=True)
