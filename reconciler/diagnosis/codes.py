"""The codes of what the doctor looks at, beside those of `reconciler.advice`.

A code names one look at the machine, whatever comes of it. It never changes its
meaning and is never used again for another.
"""

from __future__ import annotations

# The machine.
PRIVILEGES = "XLB510"
BCC = "XLB511"
KERNEL = "XLB512"
PROGRAM = "XLB513"
JIT = "XLB514"
BPFFS = "XLB515"
LASTING_PINS = "XLB516"
MEMLOCK = "XLB517"

# Interfaces.
INTERFACE = "XLB520"
CARRIER = "XLB521"
OTHER_PROGRAM = "XLB522"
NATIVE_XDP = "XLB523"
JUMBO_FRAMES = "XLB524"
MERGED_SEGMENTS = "XLB525"
STRIPPED_TAGS = "XLB526"
HALF_DONE_CHECKSUMS = "XLB527"
REVERSE_PATH = "XLB528"

# Ways to the backends, and what comes back.
NO_ROUTE = "XLB530"
NEIGHBOUR = "XLB531"
UNLISTED_EGRESS = "XLB532"
BEHIND_ROUTER = "XLB533"
TUNNEL_MTU = "XLB534"
TUNNEL_SOURCE = "XLB535"
OWN_BACKEND = "XLB536"
BACKEND_ANSWER = "XLB537"
SERVICE_OUT = "XLB538"
WAY_BACK = "XLB539"

# VIPs.
VIP_HERE = "XLB540"
SHADOWED_SOCKET = "XLB541"
KNOWN_SEED = "XLB542"

# The instance.
CONFIG_FILE = "XLB550"
CONTROLLER = "XLB551"
LAST_RELOAD = "XLB552"
DIFFERENCE = "XLB553"
FLOW_TABLE = "XLB554"
