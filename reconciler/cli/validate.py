"""`xdplb validate`: is the file right? Needs no kernel and no privileges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import click

from reconciler import diagnostics
from reconciler.cli import options
from reconciler.cli.candidates import offer_files
from reconciler.cli.color import color_option, paint
from reconciler.config import Parsed, codes
from reconciler.config.summary import summarise
from reconciler.config_file import default_config_path, name_config, read_files
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
@options.format_option
@options.format_json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing about valid files.")
@options.verbose_option
@color_option
@click.pass_context
def validate(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    form: str,
    quiet: bool,
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
) -> None:
    """Check syntax, schema and meaning of configuration files.

    Every problem is shown with its place. Exits 0 when all files are valid, 78
    when one is not, and 66 when one can't be read.
    """
    results = [check_file(path) for path in files or (default_config_path(),)]
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
        click.echo(json.dumps(to_json(results), indent=2))
        return
    for result in results:
        if form == "github":
            _print_github(result)
        else:
            _print_human(result)
        if result.parsed.config and not quiet and form == "human":
            click.echo(f"{result.path}: valid: {summarise(result.parsed.config)}")


def _print_human(result: Result) -> None:
    if result.missing:
        click.echo(f"xdplb: {result.missing}", err=True)
    elif result.parsed.diagnostics:
        text = diagnostics.render_human(result.parsed.diagnostics, result.texts, paint)
        click.echo(text, err=True)


def _print_github(result: Result) -> None:
    if result.parsed.diagnostics:
        click.echo(diagnostics.render_github(result.parsed.diagnostics))


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
