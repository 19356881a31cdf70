"""xdplb: an XDP layer-4 load balancer that is run from one file."""

__version__ = "0.1.0"
