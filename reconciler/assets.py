"""The files that ship beside the code: the schema and the compiled data plane.

In a wheel they lie in `reconciler/assets/`; in a checkout they lie where they
are made. One place knows both.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "assets"
_CHECKOUT = Path(__file__).parent.parent

_CHECKOUT_PLACES = {
    "lb.schema.json": _CHECKOUT / "schema" / "lb.schema.json",
    "xdplb.bpf.o": _CHECKOUT / "bpf" / "xdplb.bpf.o",
}


def find_asset(name: str) -> Path:
    """Return the path of a shipped file.

    Raises:
        FileNotFoundError: it was not built; the message says how to build it.
    """
    for path in (_PACKAGED / name, _CHECKOUT_PLACES[name]):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} is not built; run 'make build' in the checkout")
