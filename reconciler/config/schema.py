"""Checks a tree against `schema/lb.schema.json`, the public contract of lb.yaml."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reconciler.assets import find_asset
from reconciler.config.nodes import Node, to_plain
from reconciler.config.schema_messages import Finding, SchemaIndex, Violation, explain_violation

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator


def check_schema(root: Node) -> Iterator[Finding]:
    """Yield what the schema refuses in a file, in no particular order."""
    index, validator, _ = _load_validators()
    yield from _check(root, index, validator)


def check_included_schema(root: Node) -> Iterator[Finding]:
    """Yield what the schema refuses in an included file, in no particular order."""
    index, _, validator = _load_validators()
    yield from _check(root, index, validator)


def _check(root: Node, index: SchemaIndex, validator: Validator) -> Iterator[Finding]:
    plain: Any = to_plain(root)
    for error in validator.iter_errors(plain):
        if error.validator != "type" and _is_of_wrong_type(error, validator):
            continue  # Its type is refused already.
        yield from explain_violation(_read_error(error), root, index)


def _is_of_wrong_type(error: ValidationError, validator: Validator) -> bool:
    expected = error.schema.get("type", []) if isinstance(error.schema, dict) else []
    types = [expected] if isinstance(expected, str) else expected
    instance: Any = error.instance
    return bool(types) and not any(validator.is_type(instance, kind) for kind in types)


def _read_error(error: ValidationError) -> Violation:
    return Violation(
        keyword=str(error.validator),
        expected=error.validator_value,
        schema=error.schema if isinstance(error.schema, dict) else {},
        path=tuple(error.absolute_path),
        message=error.message,
    )


@functools.cache
def _load_validators() -> tuple[SchemaIndex, Validator, Validator]:
    """The keys there are, and what checks a file and what an included one."""
    # Only commands that read a configuration pay for this import.
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415

    schema = load_schema()
    # JSON Schema calls 80.0 and 1e3 integers; in a configuration they are mistakes.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    strict: Any = validators.extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    return SchemaIndex(schema), strict(schema), strict(schema["$defs"]["included"])


def load_schema() -> dict[str, Any]:
    """Return the schema with every `$ref` replaced by what it names.

    Following references is what most of a validation's time would go into.
    """
    schema: dict[str, Any] = json.loads(find_asset("lb.schema.json").read_bytes())
    definitions = schema["$defs"]

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        own = {key: inline(value) for key, value in part.items() if key not in ("$ref", "$defs")}
        reference = part.get("$ref")
        return {**inline(definitions[reference.rpartition("/")[2]]), **own} if reference else own

    return {**inline(schema), "$defs": inline(definitions)}


def _is_integer(_checker: object, value: object) -> bool:
    return type(value) is int
