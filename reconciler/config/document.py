"""One file of a configuration, read as YAML and not yet judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.config import codes
from reconciler.config.nodes import Node, Place, Scalar, diagnose
from reconciler.config.text import RefusedError, decode
from reconciler.config.yaml12 import MAX_NODES, read_nodes
from reconciler.diagnostics import Diagnostic


@dataclass(slots=True)
class Document:
    """A file's tree, and what is wrong with it as YAML.

    `root` is None when there is no tree to look at; then a problem says why.
    `sha256` is the hex digest of the file's bytes, empty when they could not be read.
    """

    path: str
    sha256: str
    root: Node | None
    problems: list[Diagnostic]


_EMPTY_HINT = "start with 'interface', 'port' and 'backends'"


def read_document(
    data: bytes, path: str, *, room: int = MAX_NODES, hint: str = _EMPTY_HINT
) -> Document:
    """Return the document that these bytes are. Never raises on any input.

    Args:
        data: the bytes of the file.
        path: its name in diagnostics.
        room: how many values it may hold.
        hint: what to write into an empty one.
    """
    sha256 = digest_bytes(data)
    try:
        text = decode(data, path)
    except RefusedError as refused:
        return Document(path, sha256, None, [refused.diagnostic])
    root, problems = read_nodes(text, path, room)
    if isinstance(root, Scalar) and root.value is None:
        place = Place(path, 1, 1, 1)
        problems.append(diagnose(codes.EMPTY, place, "the file is empty", hint))
        root = None
    return Document(path, sha256, root, problems)


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256, in hex, of one file's bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_documents(documents: Iterable[Document]) -> str:
    """Return the one digest of all files that a configuration was read from.

    A file alone has its own SHA-256; several have the SHA-256 of their digests in
    hex, a line each, as `sha256sum FILES | cut -c -64 | sha256sum` prints it.
    """
    digests = [document.sha256 for document in documents]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{one}\n" for one in digests).encode()).hexdigest()
