"""`xdplb demo`: a laboratory on this machine, a load, live edits, and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.live import Live

from reconciler.cli import options
from reconciler.cli.color import make_console
from reconciler.errors import Unavailable, XdplbError
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.controller import Controller
from reconciler.lab.drawing import draw
from reconciler.lab.drive import Drive
from reconciler.lab.edits import (
    Edit,
    add_backend,
    list_differences,
    read_port,
    read_weights,
    remove_backend,
    set_interfaces,
    set_weight,
)
from reconciler.lab.lab import sweep_kept
from reconciler.lab.load import LoadPlan
from reconciler.lab.phase import Phase
from reconciler.lab.picture import can_draw, draw_picture
from reconciler.lab.report import (
    describe_entry,
    describe_plan,
    describe_totals,
    tabulate_phases,
    tabulate_recent,
)
from reconciler.lab.samples import Samples
from reconciler.lab.story import Story

if TYPE_CHECKING:
    from rich.console import Console

_EXAMPLES = (
    Path(__file__).parents[1] / "assets" / "lb.yaml",  # in a wheel
    Path(__file__).parents[2] / "examples" / "lb.yaml",  # in a checkout
)
_HELD = 32
_REFRESH_S = 0.25
_RECENT_S = 2.0
_DIFFERENCE = {"+": "green", "-": "red"}


@click.command()
@click.option("--keep", is_flag=True, help="Leave the laboratory up and say how to enter it.")
@click.option("--clean", is_flag=True, help="Take away what --keep has left, and do no more.")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(min=4),
    default=24.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the load goes on, apart from the time that edits take.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1, max=5000),
    default=500.0,
    show_default=True,
    help="New connections a second.",
)
@click.option(
    "--arms",
    type=click.Choice(["1", "2"]),
    default="1",
    show_default=True,
    help="Interfaces of the balancer: 1 beside the others on the switch, or 2 between them.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="demo.svg",
    show_default=True,
    help="The picture: .svg, .png or .pdf.",
)
@options.output_options
def demo(
    *,
    quiet: bool,
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
    keep: bool,
    clean: bool,
    duration_s: float,
    rate: float,
    arms: str,
    out: Path,
) -> None:
    """Show it all on this machine, in network namespaces that are taken away again.

    A client, the balancer and web servers; real connections; lb.yaml edited
    while they run. Exits 1 if a single request failed. Needs root.
    """
    console = make_console(quiet=quiet, soft_wrap=True)
    if clean:
        for tag in sweep_kept():
            console.print(f"{tag} is taken away")
        return
    _check_picture(console, out)
    text = _read_example()
    addresses = tuple(read_weights(text))
    topology = Topology(arms=1 if arms == "1" else 2, backends=len(addresses) + 1)
    newcomer = _check_addresses(topology, addresses)
    text = set_interfaces(topology.balancer_interfaces).change(text)
    edits = choose_edits(addresses, newcomer)
    with Lab(topology, keep=keep) as lab, _told_how_to_enter(lab, console):
        _introduce(console, topology, text, newcomer)
        phase_s = duration_s / (len(edits) + 1)
        samples, phases = _play(lab, console, text, edits, phase_s=phase_s, rate=rate)
        console.print()
        console.print(tabulate_phases(samples, phases), soft_wrap=False)
        console.print("\n".join(describe_totals(samples, phases)))
        if can_draw():
            draw_picture(samples, phases, out)
            console.print(f"picture: {out}")
    if samples.failures:
        raise XdplbError(f"{sum(samples.failures.values())} requests failed")


def choose_edits(addresses: tuple[str, ...], newcomer: str) -> tuple[Edit, ...]:
    """The demo's story: one backend comes, one goes, one is given less.

    Args:
        addresses: of the backends in the file; two or more.
        newcomer: the address of one more.
    """
    return add_backend(newcomer), remove_backend(addresses[1]), set_weight(addresses[-1], 50)


def _read_example() -> str:
    for path in _EXAMPLES:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise Unavailable("examples/lb.yaml is missing", remedy="reinstall xdplb")


def _check_picture(console: Console, out: Path) -> None:
    if not can_draw():
        console.print("There will be no picture: pip install 'xdplb[demo]'")
    elif out.suffix not in (".svg", ".png", ".pdf"):
        raise click.BadParameter(f"{out} is no .svg, .png or .pdf", param_hint="--out")
    elif not out.absolute().parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no directory", param_hint="--out")


def _check_addresses(topology: Topology, addresses: tuple[str, ...]) -> str:
    """Return the address of the backend that the file does not have yet."""
    *there, newcomer = (
        str(topology.addresses[name, "eth0"][0].ip) for name in topology.backend_names
    )
    if tuple(there) != addresses:
        raise XdplbError(f"the example's backends should be {', '.join(there)}")
    return newcomer


def _introduce(console: Console, topology: Topology, text: str, newcomer: str) -> None:
    console.print(draw(topology, {newcomer: "(joins later)"}))
    console.print()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    console.print("\n".join(["lb.yaml", *(f"  {line}" for line in lines)]))


@contextmanager
def _told_how_to_enter(lab: Lab, console: Console) -> Iterator[None]:
    try:
        yield
    finally:
        if lab.keep:
            console.print(f"\n{describe_entry(lab)}")


def _play(
    lab: Lab,
    console: Console,
    text: str,
    edits: Sequence[Edit],
    *,
    phase_s: float,
    rate: float,
) -> tuple[Samples, list[Phase]]:
    """Start everything, make the edits one after the other, and stop the load."""
    port = read_port(text)
    lab.serve(http=port)
    config = lab.directory / "lb.yaml"
    config.write_text(text, encoding="utf-8")
    controller = Controller(lab, config)
    controller.wait_in_sync()
    load = LoadPlan(str(lab.balancer.address), port, rate=rate, held=_HELD)
    with Drive(lab.client, load) as drive:
        wait_until(lambda: len(drive.samples().count()) > 0, "the first good answer")
        story = Story(controller, drive, text)
        _watch(console, story, phase_s)
        for number, edit in enumerate(edits, start=1):
            _make_edit(console, story, number, edit)
            _watch(console, story, phase_s)
        return story.finish(), story.phases


def _make_edit(console: Console, story: Story, number: int, edit: Edit) -> None:
    console.print(f"\nedit {number}: {edit.title}", style="bold")
    for line in list_differences(story.text, edit.change(story.text)):
        console.print(f"  {line}", style=_DIFFERENCE[line[0]])
    report = story.preview(edit)
    for line in describe_plan(report):
        console.print(f"  {line}")
    phase = story.make(edit, report)
    console.print(f"  the kernel follows {phase.settled_s - phase.saved_s:.1f} s after saving")


def _watch(console: Console, story: Story, phase_s: float) -> None:
    """Let the load go on for a phase, and show the last seconds' shares on a terminal.

    Raises:
        XdplbError: the load has ended.
    """
    phase = story.phases[-1]
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while time.monotonic() < phase.settled_s + phase_s:
            if not story.drive.is_running:
                raise XdplbError("the load has ended before its time")
            if console.is_terminal:
                recent_s = max(phase.settled_s, time.monotonic() - _RECENT_S)
                live.update(tabulate_recent(phase, story.drive.samples(), recent_s), refresh=True)
            time.sleep(_REFRESH_S)
