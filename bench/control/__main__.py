"""Measure the control plane through the real programs and a real kernel; needs root.

Everything happens in network namespaces that are made for it and taken away.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from bench.control.balancer import make_balancer
from bench.control.figures import Figure, render_table
from bench.control.scenarios import SCENARIOS, measure_growth


def main() -> int:
    """Measure and print; return 1 if a limit is not met."""
    options = _parse_options()
    figures: list[Figure] = []
    for name in options.only or SCENARIOS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        with make_balancer() as balancer:
            figures += SCENARIOS[name](balancer, options.rounds)
    if options.edits:
        with make_balancer() as balancer:
            figures += measure_growth(balancer, options.edits)
    print(render_table(figures))
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    if options.json_out:
        document = {
            "kind": "xdplb.bench.control",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "figures": [one.to_json() for one in figures],
        }
        options.json_out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(not all(one.is_met for one in figures))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.control", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*SCENARIOS, []], help="these; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement")
    parser.add_argument("--edits", type=int, default=0, help="look for a leak over so many edits")
    parser.add_argument("--json-out", type=Path, help="write the figures to this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
