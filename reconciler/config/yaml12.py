"""Reads YAML 1.2 into nodes with places, and refuses what a configuration has no use for.

libyaml does the syntax and hands over events; they are turned into nodes one by
one, so that a hostile file is given up as soon as it passes a limit, before
there is a tree of it. No aliases, no tags and no merge keys: without them a
file is no larger than it looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from reconciler.config import codes
from reconciler.config.nodes import (
    Mapping,
    Node,
    Place,
    Scalar,
    ScalarValue,
    Sequence,
    diagnose,
)
from reconciler.config.scalars import has_leading_zero, resolve_plain
from reconciler.config.syntax import explain_syntax
from reconciler.config.text import RefusedError
from reconciler.diagnostics import Diagnostic, quote

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

# Room for as many backends as there are ids, for 1,000 services of 10 backends that say
# all there is to say, and for two seconds of work on any machine.
MAX_NODES = 150_000
MAX_DEPTH = 16
MAX_SCALAR = 1024
MAX_PROBLEMS = 1000


@dataclass(slots=True)
class _Frame:
    """An open sequence or mapping; `key` waits for its value."""

    node: Sequence | Mapping
    key: Scalar | None = None
    expects_value: bool = False


@dataclass(slots=True)
class _Builder:
    file: str
    room: int
    root: Node | None = None
    problems: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)
    node_count: int = 0
    document_count: int = 0

    def take(self, event: yaml.Event) -> bool:
        """Add what an event says. Returns False when the rest is of no interest."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._make_scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(Sequence(self._begin(event)))
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(Mapping(self._begin(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._refuse_alias(event))
        elif isinstance(event, yaml.DocumentStartEvent):
            return self._start_document(event)
        return True

    def _start_document(self, event: yaml.DocumentStartEvent) -> bool:
        self.document_count += 1
        if self.document_count > 1:
            message = "a second document starts here"
            hint = "a file holds one document: remove this '---' and what follows"
            self._report(codes.SEVERAL_DOCUMENTS, _place(event, self.file), message, hint)
        return self.document_count == 1

    def _begin(self, event: yaml.CollectionStartEvent) -> Place:
        place = _place(event, self.file)
        self._refuse_tag(event, place)
        if len(self.stack) >= MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            raise RefusedError(diagnose(codes.TOO_LARGE, place, message))
        return place

    def _open(self, node: Sequence | Mapping) -> None:
        self._add(node)
        self.stack.append(_Frame(node))

    def _make_scalar(self, event: yaml.ScalarEvent) -> Scalar:
        place = _place(event, self.file)
        is_tagged = self._refuse_tag(event, place)
        is_plain = not event.style and not is_tagged
        text: str = event.value
        if len(text) > MAX_SCALAR:
            message = f"this value is longer than {MAX_SCALAR} characters"
            raise RefusedError(diagnose(codes.TOO_LARGE, place, message))
        if not text.isprintable():
            message = "line breaks and invisible characters are not allowed in a value"
            self._report(codes.UNPRINTABLE, place, message)
            return Scalar(place, None)
        if not is_plain:
            return Scalar(place, text)
        try:
            value = resolve_plain(text)
        except ValueError as error:
            self._report(codes.TOO_LARGE, place, str(error))
            return Scalar(place, None)
        if has_leading_zero(text):
            self._warn_of_zero(place, text, value)
        return Scalar(place, value)

    def _warn_of_zero(self, place: Place, text: str, value: ScalarValue) -> None:
        message = f"{quote(text)} is {value}: a leading zero means nothing"
        hint = f"write {value}; an octal number is written 0o17"
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(
                diagnose(codes.LEADING_ZERO, place, message, hint, severity="warning")
            )

    def _refuse_tag(self, event: yaml.NodeEvent, place: Place) -> bool:
        tag = getattr(event, "tag", None)
        if not tag:
            return False
        hint = "take the tag away; quote a value to make it a string"
        self._report(codes.TAG, place, "YAML tags are not supported", hint)
        return True

    def _refuse_alias(self, event: yaml.AliasEvent) -> Scalar:
        place = _place(event, self.file)
        hint = "write the value out; 'defaults' holds what services share"
        self._report(codes.ALIAS, place, "YAML aliases are not supported", hint)
        return Scalar(place, None)

    def _add(self, node: Node) -> None:
        self.node_count += 1
        if self.node_count > self.room:
            who = "the file holds" if self.room == MAX_NODES else "the files together hold"
            message = f"{who} more than {MAX_NODES} values"
            raise RefusedError(diagnose(codes.TOO_LARGE, node.place, message))
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.expects_value:
            self._add_value(frame, frame.node, node)
        else:
            frame.key = self._check_key(frame.node, node)
            frame.expects_value = True

    def _add_value(self, frame: _Frame, mapping: Mapping, node: Node) -> None:
        if frame.key is not None:
            name = str(frame.key.value)
            mapping.entries[name] = node
            mapping.keys[name] = frame.key.place
        frame.key, frame.expects_value = None, False

    def _check_key(self, mapping: Mapping, key: Node) -> Scalar | None:
        """Return the key, or None when its value is to be left out."""
        if not isinstance(key, Scalar):
            hint = "is this a template that was not rendered?"
            self._report(codes.KEY_NOT_STRING, key.place, "a key must be a word", hint)
        elif not isinstance(key.value, str):
            hint = "put quotes around it if it is meant as a word"
            self._report(codes.KEY_NOT_STRING, key.place, "a key must be a string", hint)
        elif key.value == "<<":
            hint = "write the keys out; 'defaults' holds what services share"
            self._report(codes.MERGE_KEY, key.place, "merge keys are not supported", hint)
        elif key.value in mapping.keys:
            line = mapping.keys[key.value].line
            message = f"{quote(key.value)} is already set on line {line}"
            self._report(codes.DUPLICATE_KEY, key.place, message, "keep one of the two")
        else:
            return key
        return None

    def _report(self, code: str, place: Place, message: str, hint: str = "") -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            message = f"more than {MAX_PROBLEMS} problems in this file"
            raise RefusedError(diagnose(codes.TOO_LARGE, place, message))
        self.problems.append(diagnose(code, place, message, hint))


def _place(event: yaml.Event, file: str) -> Place:
    start, end = event.start_mark, event.end_mark
    # Only events that are made by hand have no marks.
    assert start is not None
    assert end is not None
    is_spanned = isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)) and end.line == start.line
    length = max(1, end.column - start.column) if is_spanned else 1
    return Place(file, start.line + 1, start.column + 1, length)


def read_nodes(text: str, file: str, room: int = MAX_NODES) -> tuple[Node | None, list[Diagnostic]]:
    """Return the root of a document of at most `room` values and what is wrong with it as YAML.

    The root is None when the text can't be read to its end; then the problems
    say why. Otherwise what was refused is left out of the tree, or null in it,
    and the rest can be judged. An empty document is a null scalar. Warnings come last.
    """
    builder = _Builder(file, room)
    try:
        for event in _read_events(text, file):
            if not builder.take(event):
                break
    except RefusedError as refused:
        return None, [*builder.problems, refused.diagnostic]
    root = builder.root or Scalar(Place(file, 1, 1, 1), None)
    return root, [*builder.problems, *builder.warnings]


def _read_events(text: str, file: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RefusedError(explain_syntax(error, text, file)) from None
