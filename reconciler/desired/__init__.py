"""From a Config to the Tables that should be.

`compile_tables` is a pure function. Of the observed tables it takes only what the file
doesn't say: who has which id and which slots, and which slots still remember. Two
balancers with one file therefore agree on every backend's name, though not on its number.

In the order of a pass: `given` is what it starts from; `identity` says who has which id
and place; `service` makes one service's rows and `ring` its slots; `last_pass` keeps what
services at rest need not make again; `compile` puts all of it together.
"""

from __future__ import annotations

from reconciler.desired.compile import compile_tables
from reconciler.desired.last_pass import LastPass

__all__ = ["LastPass", "compile_tables"]
