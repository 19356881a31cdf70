"""The commands: one file a verb, one error boundary in `main`."""
