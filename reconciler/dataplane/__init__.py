"""The kernel's side of the tables, and the only part that knows BCC and libbpf."""
