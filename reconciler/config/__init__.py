"""Reads lb.yaml: bytes in, a `Config` or every reason why not out.

Four stages, each a module: YAML (`yaml12`), schema (`schema`), conversion
(`convert`) and meaning (`checks`, `later`). A later stage looks only at what the
earlier ones accepted, so that all of a file's problems are found in one run and
none is told twice. Pure, but for reading the schema that ships with the code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar

from reconciler.config import codes, nodes
from reconciler.config.checks import check_meaning
from reconciler.config.convert import convert
from reconciler.config.later import refuse_later_features
from reconciler.config.schema import check_schema
from reconciler.config.text import RefusedError, decode
from reconciler.config.yaml12 import MAX_PROBLEMS, read_nodes
from reconciler.diagnostics import (
    Diagnostic,
    Paint,
    leave_plain,
    render_human,
    sort_by_place,
)
from reconciler.errors import ExitCode, XdplbError
from reconciler.model import Config, Source

__all__ = ["ConfigInvalid", "Parsed", "parse"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file says. `config` is None exactly when a diagnostic is an error."""

    config: Config | None
    diagnostics: tuple[Diagnostic, ...]


class ConfigInvalid(XdplbError):
    """The configuration has errors. Carries them, and the text to show them in."""

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIG

    def __init__(
        self, path: str, diagnostics: tuple[Diagnostic, ...], texts: Mapping[str, str]
    ) -> None:
        count = sum(diagnostic.is_error for diagnostic in diagnostics)
        super().__init__(f"{path} is not valid: {count} error{'s' if count != 1 else ''}")
        self.path = path
        self.diagnostics = diagnostics
        self.texts = texts

    def render(self, paint: Paint = leave_plain) -> str:
        """Return the diagnostics as a compiler prints them."""
        return render_human(self.diagnostics, self.texts, paint)


def parse(data: bytes, path: str) -> Parsed:
    """Return the configuration that these bytes are, or everything that is wrong with them.

    Never raises on any input. Diagnostics are sorted by place, warnings among
    errors; past a thousand of either the rest is left out.

    Args:
        data: the bytes of the file.
        path: its name in diagnostics and in `Config.path`.
    """
    config, diagnostics = _parse(data, path)
    found = sort_by_place(_limit(diagnostics, path))
    is_valid = not any(diagnostic.is_error for diagnostic in found)
    return Parsed(config if is_valid else None, found)


def _parse(data: bytes, path: str) -> tuple[Config | None, list[Diagnostic]]:
    try:
        text = decode(data, path)
    except RefusedError as refused:
        return None, [refused.diagnostic]
    root, problems = read_nodes(text, path)
    if root is None:
        return None, problems
    if isinstance(root, nodes.Scalar) and root.value is None:
        place = nodes.Place(path, 1, 1, 1)
        hint = "start with 'interface', 'port' and 'backends'"
        return None, [*problems, nodes.diagnose(codes.EMPTY, place, "the file is empty", hint)]
    return _parse_nodes(root, path, hashlib.sha256(data).hexdigest(), problems)


def _parse_nodes(
    root: nodes.Node, path: str, sha256: str, problems: list[Diagnostic]
) -> tuple[Config | None, list[Diagnostic]]:
    findings = list(islice(check_schema(root), MAX_PROBLEMS + 1))
    told = {problem.source for problem in problems if problem.is_error}
    # A value that YAML refused is null in the tree: that it is null is no news.
    refused = [f.diagnostic for f in findings if not (f.bad_path and f.diagnostic.source in told)]
    wrong = {diagnostic.source for diagnostic in refused}
    problems = [p for p in problems if p.is_error or p.source not in wrong]
    if not isinstance(root, nodes.Mapping) or len(findings) > MAX_PROBLEMS:
        return None, [*problems, *refused]
    nodes.prune(root, (finding.bad_path for finding in findings if finding.bad_path))
    draft, unreadable = convert(root, path, sha256)
    meaning = _stop_at_limit(chain(refuse_later_features(root), check_meaning(draft)))
    return draft.config, [*problems, *refused, *unreadable, *meaning]


def _stop_at_limit(diagnostics: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """Yield them until there are more errors than are shown. Warnings never hide an error."""
    errors = 0
    for diagnostic in diagnostics:
        yield diagnostic
        errors += diagnostic.is_error
        if errors > MAX_PROBLEMS:
            return


def _limit(diagnostics: Iterable[Diagnostic], path: str) -> Iterator[Diagnostic]:
    """Yield at most a thousand errors and a thousand warnings, and whether errors are missing."""
    errors: list[Diagnostic] = []
    warnings: list[Diagnostic] = []
    for diagnostic in diagnostics:
        (errors if diagnostic.is_error else warnings).append(diagnostic)
    yield from errors[:MAX_PROBLEMS]
    yield from warnings[:MAX_PROBLEMS]
    if len(errors) > MAX_PROBLEMS:
        message = f"more than {MAX_PROBLEMS} errors; the others are not shown"
        yield Diagnostic(codes.TOO_LARGE, "error", message, Source(path, 1, 1))
