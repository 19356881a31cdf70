"""Health: whether backends are up, asked from this machine, and what follows from it."""
