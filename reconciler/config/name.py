"""Which instance a file is of, whatever else it says: for commands that ask for no more."""

from __future__ import annotations

import re

from reconciler.config.document import Document
from reconciler.config.fields import get_str
from reconciler.config.nodes import Mapping
from reconciler.model import DEFAULT_NAME

# As schema/lb.schema.json has it: the name becomes one of a folder.
NAME_PATTERN = "^[a-z0-9][a-z0-9_-]{0,31}$"
NAME_RULE = "use a-z, 0-9, '_' and '-', at most 32 of them, not '_' or '-' first"


def find_name(document: Document) -> str | None:
    """Return the instance's name; None where the file is no YAML, or the name is none."""
    root = document.root
    is_broken = any(problem.is_error for problem in document.problems)
    if is_broken or not isinstance(root, Mapping):
        return None
    if root.get("name") is None:
        return DEFAULT_NAME
    name = get_str(root, "name", "")
    return name if is_name(name) else None


def is_name(text: str) -> bool:
    """Return whether an instance may be called so."""
    return re.fullmatch(NAME_PATTERN, text) is not None
