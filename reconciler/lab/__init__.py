"""A laboratory of network namespaces: a client, balancers, backends, a switch.

`Lab` builds it from a `Topology` and takes it away again. `xdplb demo` and the
tests in `tests/netns/` run in it; the machine's own network is never touched.
"""

from reconciler.lab.host import Host
from reconciler.lab.lab import Lab
from reconciler.lab.topology import Topology
from reconciler.lab.waiting import wait_until

__all__ = ["Host", "Lab", "Topology", "wait_until"]
