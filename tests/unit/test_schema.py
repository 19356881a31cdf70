import dataclasses
import json

import pytest
from jsonschema import Draft202012Validator

from reconciler.assets import find_asset
from reconciler.config import codes
from reconciler.config.convert import DEFAULT_DRAIN_TIMEOUT_S, DEFAULT_WEIGHT
from reconciler.config.schema import load_schema
from reconciler.config.values import parse_duration
from reconciler.model import (
    DEFAULT_NAME,
    DEFAULT_RING_SIZE,
    Affinity,
    BackendState,
    Forwarding,
    Limits,
    Protocol,
    Safety,
    XdpMode,
)


@pytest.fixture(scope="module")
def schema():
    return load_schema()


def walk(part):
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from walk(value)


def test_schema_is_a_schema():
    schema = json.loads(find_asset("lb.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")


def test_every_reference_is_replaced(schema):
    assert not [part for part in walk(schema) if "$ref" in part]


def test_every_key_is_described_and_every_mapping_closed(schema):
    for part in walk({**schema, "then": None}):
        if "properties" in part:
            assert part["additionalProperties"] is False
            for key, value in part["properties"].items():
                assert value.get("description"), key


def test_defaults_and_examples_are_valid(schema):
    for part in walk(schema):
        validator = Draft202012Validator({key: part[key] for key in part if key != "$defs"})
        examples = part.get("examples", [])
        for value in [*examples, *([part["default"]] if "default" in part else [])]:
            assert validator.is_valid(value), value


def test_defaults_are_the_models(schema):
    top, defaults = schema["properties"], schema["properties"]["defaults"]["properties"]
    assert top["name"]["default"] == DEFAULT_NAME
    assert top["ring_size"]["default"] == DEFAULT_RING_SIZE
    assert defaults["weight"]["default"] == DEFAULT_WEIGHT
    assert parse_duration(defaults["drain_timeout"]["default"]) == DEFAULT_DRAIN_TIMEOUT_S
    for section, model in (("limits", Limits()), ("safety", Safety())):
        for key, value in dataclasses.asdict(model).items():
            assert top[section]["properties"][key]["default"] == value, key


@pytest.mark.parametrize(
    ("key", "model"), [("protocol", Protocol), ("forwarding", Forwarding), ("affinity", Affinity)]
)
def test_enums_are_the_models(schema, key, model):
    assert schema["properties"][key]["enum"] == [member.name.lower() for member in model]


def test_enums_of_mode_and_state_are_the_models(schema):
    states = schema["$defs"]["backend"]["properties"]["state"]["enum"]
    assert states == [member.name.lower() for member in BackendState]
    assert schema["properties"]["xdp_mode"]["enum"] == [member.value for member in XdpMode]


def test_codes_are_used_once_and_well_formed():
    listed = [value for name, value in vars(codes).items() if name.isupper()]
    assert len(listed) == len(set(listed))
    assert all(code.startswith("XLB") and len(code) == 6 for code in listed)
