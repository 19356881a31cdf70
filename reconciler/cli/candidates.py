"""What a word on the command line may become: for shell completion.

Whatever goes wrong offers nothing: a key press is no place for an error message.
"""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem


def offer_files(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Leave it to the shell, which knows the files."""
    return [CompletionItem(incomplete, type="file")]


def offer_instances(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the instances that are pinned, as far as this user may see them."""
    from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT  # noqa: PLC0415
    from reconciler.dataplane.pins import list_instances  # noqa: PLC0415

    return _offer(list_instances(ctx.params.get("pin_dir") or DEFAULT_PIN_ROOT), incomplete)


def offer_services(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the services of the file."""
    return _offer((service for service, _ in _list_backends(ctx)), incomplete)


def offer_backends(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the backends of the file, as `service/backend`."""
    return _offer((f"{service}/{backend}" for service, backend in _list_backends(ctx)), incomplete)


def _offer(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in dict.fromkeys(words) if word.startswith(incomplete)]


def _list_backends(ctx: click.Context) -> list[tuple[str, str]]:
    from reconciler.config_file import default_config_path, load  # noqa: PLC0415  (only if asked)
    from reconciler.errors import XdplbError  # noqa: PLC0415

    try:
        config = load(ctx.params.get("config") or default_config_path()).config
    except XdplbError:
        return []
    return [(s.name, b.name) for s in config.services for b in s.backends]
