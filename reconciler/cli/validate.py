"""`xdplb validate`: is the file right? Needs no kernel and no privileges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from reconciler import diagnostics
from reconciler.cli import options
from reconciler.cli.candidates import offer_files
from reconciler.cli.color import paint
from reconciler.cli.document import write_json
from reconciler.cli.say import say, show
from reconciler.config import Parsed, codes
from reconciler.config.summary import summarise
from reconciler.config_file import name_config, read_files
from reconciler.diagnostics import Diagnostic
from reconciler.errors import ExitCode, NoInput

FORMAT_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file. `missing` says why it could not be read, if so.

    `texts` is its text, and those of the files that it includes, by path.
    """

    path: str
    parsed: Parsed
    texts: Mapping[str, str] = field(default_factory=dict)
    missing: NoInput | None = None


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE or -]...", shell_complete=offer_files)
@options.config_option
@options.format_option
@options.format_json_option
@options.json_out_option
@options.output_options
@click.pass_context
def validate(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    config: str | None,
    form: str,
    json_out: Path | None,
    quiet: bool,
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
) -> None:
    """Check syntax, schema and meaning of configuration files.

    Every problem is shown with its place. Exits 0 when all files are valid, 78
    when one is not, and 66 when one can't be read.
    """
    results = [check_file(path) for path in options.choose_paths(files, config)]
    if json_out:
        write_json(to_json(results), json_out)
    print_results(results, form, quiet)
    ctx.exit(choose_exit_code(results))


def check_file(path: str) -> Result:
    """Read and parse one file, and what it includes."""
    name = name_config(path)
    try:
        files = read_files(path, takes_pipe=True)
    except NoInput as error:
        problem = Diagnostic(codes.UNREADABLE, "error", error.message, hint=error.remedy)
        return Result(name, Parsed(None, (problem,)), missing=error)
    return Result(name, files.parse(), files.texts)


def choose_exit_code(results: Iterable[Result]) -> ExitCode:
    """Return the worst of the files' codes: invalid, then missing, then valid."""
    invalid = [result for result in results if result.parsed.config is None]
    if not invalid:
        return ExitCode.OK
    return ExitCode.NOINPUT if all(result.missing for result in invalid) else ExitCode.CONFIG


def print_results(results: list[Result], form: str, quiet: bool) -> None:
    """Print the results: data on standard output, words about problems on standard error."""
    if form == "json":
        show(json.dumps(to_json(results), indent=2))
        return
    for result in results:
        if form == "github":
            _print_github(result)
        else:
            _print_human(result, quiet)


def _print_human(result: Result, quiet: bool) -> None:
    shown = [one for one in result.parsed.diagnostics if one.is_error or not quiet]
    if result.missing:
        say(f"xdplb: {result.missing}", err=True)
    elif shown:
        say(diagnostics.render_human(shown, result.texts, paint), err=True)
    if result.parsed.config and not quiet:
        show(f"{result.path}: valid: {summarise(result.parsed.config)}")


def _print_github(result: Result) -> None:
    if result.parsed.diagnostics:
        show(diagnostics.render_github(result.parsed.diagnostics))


def to_json(results: Iterable[Result]) -> dict[str, object]:
    """Return what `--format json` prints."""
    results = list(results)
    found = [diagnostic for result in results for diagnostic in result.parsed.diagnostics]
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.validation",
        "valid": all(result.parsed.config for result in results),
        "files": [_file_to_json(result) for result in results],
        "diagnostics": diagnostics.to_json(found),
    }


def _file_to_json(result: Result) -> dict[str, object]:
    config = result.parsed.config
    if config is None:
        return {"path": result.path, "valid": False}
    return {
        "path": result.path,
        "valid": True,
        "sha256": config.sha256,
        "services": len(config.services),
        "backends": sum(len(service.backends) for service in config.services),
    }
