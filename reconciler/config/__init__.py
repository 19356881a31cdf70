"""Reads lb.yaml: bytes in, a `Config` or every reason why not out.

Four stages, each a module: YAML (`document`), schema (`schema`), conversion
(`convert`) and meaning (`checks`, `later`). A later stage looks only at what the
earlier ones accepted, so that all of a file's problems are found in one run and
none is told twice. Between the second and the third, the services of included files
join those of the file that includes them (`include`). Pure, but for reading the schema
that ships with the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from reconciler.config import codes, nodes
from reconciler.config.checks import check_meaning
from reconciler.config.convert import convert
from reconciler.config.document import Document, digest_documents, read_document
from reconciler.config.include import add_services, check_any_service, take_services
from reconciler.config.schema import check_included_schema, check_schema
from reconciler.config.schema_messages import Finding
from reconciler.config.yaml12 import MAX_PROBLEMS
from reconciler.diagnostics import (
    Diagnostic,
    Paint,
    leave_plain,
    render_human,
    sort_by_place,
)
from reconciler.errors import ExitCode, XdplbError
from reconciler.model import Config, Source

__all__ = ["ConfigInvalid", "Parsed", "judge", "parse"]


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
    """Return the configuration that these bytes alone are, or everything that is wrong with them.

    What they include is not looked for. Otherwise as `judge`.

    Args:
        data: the bytes of the file.
        path: its name in diagnostics and in `Config.path`.
    """
    return judge(read_document(data, path))


def judge(document: Document, included: Sequence[Document] = ()) -> Parsed:
    """Return the configuration that documents are together, or everything that is wrong with them.

    Never raises on any input. Diagnostics are sorted by place, warnings among
    errors; past a thousand of either the rest is left out.

    Args:
        document: the file itself.
        included: the files that it includes, in their order.
    """
    config, diagnostics = _judge(document, included)
    found = sort_by_place(_limit(diagnostics, document.path))
    is_valid = not any(diagnostic.is_error for diagnostic in found)
    return Parsed(config if is_valid else None, found)


def _judge(
    document: Document, included: Sequence[Document]
) -> tuple[Config | None, list[Diagnostic]]:
    root = document.root
    if root is None:
        return None, document.problems
    found = list(document.problems)
    if not _check_schema(check_schema(root), root, found):
        return None, found
    if not isinstance(root, nodes.Mapping) or not _join_services(root, included, found):
        return None, found
    sha256 = digest_documents([document, *included])
    draft, unreadable = convert(root, document.path, sha256)
    meaning = _stop_at_limit(check_meaning(draft))
    return draft.config, [*found, *unreadable, *meaning]


def _check_schema(findings: Iterator[Finding], root: nodes.Node, found: list[Diagnostic]) -> bool:
    """Add what the schema refuses to `found`, and prune it; False when it is too much."""
    refused = list(islice(findings, MAX_PROBLEMS + 1))
    told = {problem.source for problem in found if problem.is_error}
    # A value that YAML refused is null in the tree: that it is null is no news.
    news = [f.diagnostic for f in refused if not (f.bad_path and f.diagnostic.source in told)]
    # Nor is a warning about a value that is wrong altogether.
    wrong = {diagnostic.source for diagnostic in news}
    found[:] = [p for p in found if p.is_error or p.source not in wrong] + news
    if isinstance(root, nodes.Mapping):
        nodes.prune(root, (finding.bad_path for finding in refused if finding.bad_path))
    return len(refused) <= MAX_PROBLEMS


def _join_services(
    root: nodes.Mapping, included: Sequence[Document], found: list[Diagnostic]
) -> bool:
    """Add the services of included files to `root` and what is wrong with them to `found`.

    Returns False when that is too much to go on.
    """
    joined = []
    for document in included:
        services, misplaced = take_services(document)
        found += [*document.problems, *misplaced]
        if services is None:
            continue
        part = nodes.Mapping(services.place, {"services": services})
        if not _check_schema(check_included_schema(part), part, found):
            return False
        if isinstance(listed := part.get("services"), nodes.Sequence):
            joined.append(listed)
    add_services(root, joined)
    if not any(diagnostic.is_error for diagnostic in found):
        found += check_any_service(root)
    return True


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
