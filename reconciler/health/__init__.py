"""Health checks: whether the backends are up, asked from this machine."""
