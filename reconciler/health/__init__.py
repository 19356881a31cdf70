"""Health: whether backends answer, and what follows from it."""
