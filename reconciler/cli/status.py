"""`xdplb status`: what the kernel holds and what the controller says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options
from reconciler.cli.backends import make_surveyor, take_survey
from reconciler.cli.color import paint
from reconciler.cli.document import write_json
from reconciler.cli.say import show
from reconciler.cli.status_output import render_status


@click.command()
@options.config_option
@options.name_option
@options.json_option
@options.json_out_option
@options.pin_dir_option
@options.output_options
def status(
    config: str | None,
    name: str | None,
    *,
    as_json: bool,
    json_out: Path | None,
    pin_dir: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show services, backends, verdicts and the last reload.

    What is shown of the data plane is read from its maps, whether a controller
    runs or not. With -v also what is remembered of flows, and verdicts that no packet got.
    """
    from reconciler.survey_document import describe_survey  # noqa: PLC0415  (as BCC)

    survey = take_survey(make_surveyor(options.choose_name(name, config, pin_dir), pin_dir))
    if json_out:
        write_json(describe_survey(survey), json_out)
    if as_json:
        show(json.dumps(describe_survey(survey), indent=2))
    elif not quiet:
        for line in render_status(survey, paint, verbose=verbose):
            show(line)
