"""What is measured: each scenario gives its figures, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.control.balancer import Balancer, SlotWatch, replace_file, save_fleet
from bench.control.figures import Figure
from bench.control.fleet import FIRST_BACKEND, Fleet
from reconciler import maglev
from reconciler.model import BackendState
from reconciler.overrides import Override

ONE = Fleet(services=1, backends=100, ring_size=65_537)
MANY = Fleet(services=1_000, backends=10, ring_size=4_093)
LARGE = Fleet(services=1, backends=1_000, ring_size=1_048_573)
SMALL = Fleet(services=1, backends=3, ring_size=65_537)
HALF = Fleet(services=1, backends=5_000, ring_size=1_048_573)
WHOLE = Fleet(services=1, backends=10_000, ring_size=1_048_573)

_RESYNC_S = 1.0


def measure_one(balancer: Balancer, rounds: int) -> list[Figure]:
    """One service of 100 backends."""
    return _measure_daemon(balancer, rounds, "1 service of 100", ONE, _Limits(edit_s=0.06))


def measure_many(balancer: Balancer, rounds: int) -> list[Figure]:
    """A thousand services of 10 backends."""
    limits = _Limits(start_s=6, no_op_s=1, edit_s=0.3, down_s=0.3, memory_mb=150, status_s=None)
    return _measure_daemon(balancer, rounds, "1,000 services of 10", MANY, limits)


def measure_large(balancer: Balancer, rounds: int) -> list[Figure]:
    """One ring as large as rings get."""
    weights = {f"b{number}": 100 for number in range(LARGE.backends)}
    figure = Figure("ring of 1,048,573 slots, 1,000 backends: built", "s", 2.0)
    for _ in range(rounds):
        begun = time.perf_counter()
        maglev.build_ring(weights, LARGE.ring_size)
        figure.values.append(time.perf_counter() - begun)
    name = "1 service of 1,000, 1,048,573 slots"
    return [figure, *_measure_daemon(balancer, rounds, name, LARGE, _Limits(edit_s=2.0))]


def measure_offline(balancer: Balancer, rounds: int) -> list[Figure]:
    """Commands that need no kernel."""
    folder = balancer.lab.directory
    paths = {
        "3": save_fleet(folder, SMALL, "small.yaml"),
        "5,000": save_fleet(folder, HALF, "half.yaml"),
        "10,000": save_fleet(folder, WHOLE, "whole.yaml"),
    }
    limits = {"3": 0.35, "5,000": 1.5, "10,000": None}
    words = {
        Figure(f"validate {count} backends", "s", limits[count]): ("validate", str(path))
        for count, path in paths.items()
    }
    edited = save_fleet(folder, WHOLE.edit(50), "edited.yaml")
    many, other = (save_fleet(folder, MANY.edit(w), f"many-{w}.yaml") for w in (100, 50))
    words[Figure("plan 10,000 backends against another file", "s", 5.0)] = (
        *("plan", str(edited), "--against"),
        str(paths["10,000"]),
    )
    words[Figure("plan 1,000 services of 10 against another file", "s")] = (
        *("plan", str(other), "--against"),
        str(many),
    )
    for _ in range(rounds):
        for figure, command in words.items():
            balancer.measure(figure, *command)
    return list(words)


def measure_included(balancer: Balancer, rounds: int) -> list[Figure]:
    """A thousand services, each in a file of its own."""
    folder = balancer.lab.directory / "conf.d"
    folder.mkdir(exist_ok=True)
    for number in range(MANY.services):
        _write_included(balancer, MANY, number)
    name = "1,000 included files"
    start, edit = Figure(f"{name}: cold start", "s"), Figure(f"{name}: edit to live", "s")
    text = f"{MANY.head}include: [conf.d/*.yaml]\n"
    idle = Figure(f"{name}: CPU while nothing happens", "%")
    with balancer.controller(text) as took_s:
        start.values.append(took_s)
        with balancer.slots(f"s{MANY.edited}") as slots:
            for turn in range(rounds):
                settle(balancer)
                fleet = MANY.edit(50 + turn)
                begun_ns = _write_included(balancer, fleet, fleet.edited)
                # Several files have no end of a change: the debounce is waited for.
                edit.values.append((slots.await_change() - begun_ns) / 1e9 - 0.5)
        settle(balancer)
        begun, begun_s = balancer.read_cpu_s(), time.monotonic()
        time.sleep(5)
        idle.values.append(100 * (balancer.read_cpu_s() - begun) / (time.monotonic() - begun_s))
    return [start, edit, idle]


def measure_growth(balancer: Balancer, edits: int) -> list[Figure]:
    """Memory over many edits of one service."""
    figure = Figure(f"memory grown over {edits} edits", "MB")
    fleet = replace(ONE, backends=20)
    with balancer.controller(fleet.render()), balancer.slots("s0") as slots:
        _edit_repeatedly(balancer, fleet, slots, edits // 10)
        first_mb = balancer.read_memory_mb()
        _edit_repeatedly(balancer, fleet, slots, edits)
        figure.values.append(balancer.read_memory_mb() - first_mb)
    return [figure]


SCENARIOS: dict[str, Callable[[Balancer, int], list[Figure]]] = {
    "offline": measure_offline,
    "one": measure_one,
    "many": measure_many,
    "large": measure_large,
    "included": measure_included,
}


@dataclass(frozen=True)
class _Limits:
    """What the figures of a running controller shall not exceed; None: nothing promised."""

    start_s: float | None = None
    no_op_s: float | None = None
    edit_s: float | None = None
    down_s: float | None = None
    memory_mb: float | None = None
    status_s: float | None = 0.4


def _measure_daemon(
    balancer: Balancer, rounds: int, name: str, fleet: Fleet, limits: _Limits
) -> list[Figure]:
    start = Figure(f"{name}: cold start", "s", limits.start_s)
    edit = Figure(f"{name}: weight edited, rename to last slot", "s", limits.edit_s)
    whole = Figure(f"{name}: the same, to the end of the pass", "s")
    down = Figure(f"{name}: backend out by override, to last slot", "s", limits.down_s)
    reload = Figure(f"{name}: reload of the same file", "s")
    no_op = Figure(f"{name}: pass without work", "s", limits.no_op_s)
    memory = Figure(f"{name}: resident", "MB", limits.memory_mb)
    peak = Figure(f"{name}: resident, highest", "MB", limits.memory_mb)
    status = Figure(f"{name}: status", "s", limits.status_s)
    export = Figure(f"{name}: export", "s")
    live = Figure(f"{name}: plan against the kernel", "s")
    with balancer.controller(fleet.render()) as took_s:
        start.values.append(took_s)
        start.cpu_s.append(balancer.read_cpu_s())
        with balancer.slots(f"s{fleet.edited}") as slots:
            for turn in range(rounds):
                settle(balancer)
                cpu_s, before_ns = balancer.read_cpu_s(), time.time_ns()
                begun_ns = balancer.write(fleet.edit(50 + turn).render())
                edit.values.append((slots.await_change() - begun_ns) / 1e9)
                balancer.await_pass(before_ns)
                whole.values.append((time.monotonic_ns() - begun_ns) / 1e9)
                whole.cpu_s.append(balancer.read_cpu_s() - cpu_s)
                reload.values.append(balancer.time_reload())
                settle(balancer)
                down.values.append(_time_override(balancer, slots, fleet, is_out=True))
                settle(balancer)
                _time_override(balancer, slots, fleet, is_out=False)
                balancer.measure(status, "status")
                balancer.measure(export, "export")
                balancer.measure(live, "plan", str(balancer.config))
        settle(balancer)
        balancer.write(replace(fleet, resync=f"{_RESYNC_S:g}s").render())
        settle(balancer)
        for _ in range(rounds):
            no_op.values.append(balancer.time_resync(_RESYNC_S))
        memory.values.append(balancer.read_memory_mb())
        peak.values.append(balancer.read_memory_mb("VmHWM"))
    commands = [status, export, live]
    return [start, edit, whole, down, reload, no_op, memory, peak, *commands]


def _time_override(balancer: Balancer, slots: SlotWatch, fleet: Fleet, *, is_out: bool) -> float:
    """Return the seconds from the override to the last slot written."""
    service, name = f"s{fleet.edited}", _name_first(fleet)
    override = Override(service, name, BackendState.MAINT, "bench", "measured", time.time(), None)
    begun_ns = time.monotonic_ns()
    balancer.override((override,) if is_out else ())
    return (slots.await_change() - begun_ns) / 1e9


def _name_first(fleet: Fleet) -> str:
    return f"{FIRST_BACKEND + fleet.edited * fleet.backends}:80"


def settle(balancer: Balancer) -> None:
    """Return when the controller has nothing to do: it was idle for 0.2 s."""
    deadline = time.monotonic() + 60
    cpu_s = balancer.read_cpu_s()
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now_s = balancer.read_cpu_s()
        if now_s - cpu_s < 0.011:
            return
        cpu_s = now_s


def _edit_repeatedly(balancer: Balancer, fleet: Fleet, slots: SlotWatch, count: int) -> None:
    for turn in range(count):
        balancer.write(fleet.edit(50 + turn % 2).render())
        slots.await_change()


def _write_included(balancer: Balancer, fleet: Fleet, number: int) -> int:
    path = balancer.lab.directory / "conf.d" / f"s{number}.yaml"
    return replace_file(path, f"services:\n{fleet.render_service(number)}")
