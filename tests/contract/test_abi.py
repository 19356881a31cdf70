"""`bpf/abi.h` and `reconciler/abi.py` say the same, in both directions."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from reconciler import abi, model

HEADER = (Path(__file__).parents[2] / "bpf" / "abi.h").read_text(encoding="utf-8")

# include/uapi/linux/bpf.h, enum bpf_map_type.
HASH, ARRAY, PERCPU_ARRAY, LRU_HASH = 1, 2, 6, 9
KINDS = {
    "settings": ARRAY,
    "meta": ARRAY,
    "directory": ARRAY,
    "endpoints": ARRAY,
    "slots": ARRAY,
    "backends": ARRAY,
    "interfaces": HASH,
    "service_info": ARRAY,
    "backend_info": ARRAY,
    "flows": HASH,
    "origins": LRU_HASH,
    "pending": LRU_HASH,
    "strays": LRU_HASH,
    "direct_seen": ARRAY,
    "backend_nexthops": PERCPU_ARRAY,
    "client_nexthops": PERCPU_ARRAY,
    "client_ways": PERCPU_ARRAY,
    "ways": PERCPU_ARRAY,
    "backend_stats": PERCPU_ARRAY,
    "flow_events": PERCPU_ARRAY,
    "verdicts": PERCPU_ARRAY,
}

# In Python an address is 16 bytes without a type of its own.
ONLY_IN_C = {"address"}
# A program's scratch, which is its own and nobody else's (bpf/scratch.h).
PRIVATE = {"query", "draft", "sought", "way", "walk"}
IN_SCRATCH = {"flow_query", "ipv6_walk", "way_query"}
# The kernel's, in the program's BTF but not ours.
FOREIGN = {"xdp_md", "bpf_fib_lookup"}
KEYS = ("endpoint", "flow_key")  # compared as bytes

ENUMS = {
    "verdict": ("VERDICT_", abi.Verdict),
    "service_flag": ("SERVICE_", abi.ServiceFlag),
    "entry_part": ("ENTRY_", abi.EntryPart),
    "reply_flag": ("REPLY_", abi.ReplyFlag),
    "interface_flag": ("INTERFACE_", abi.InterfaceFlag),
    "flow_kind": ("FLOW_", abi.FlowKind),
    "flow_event": ("FLOW_EVENT_", abi.FlowEvent),
    "flow_tracking": ("FLOW_TRACKING_", model.FlowTracking),
    "forwarding": ("FORWARDING_", model.Forwarding),
    "affinity": ("AFFINITY_", model.Affinity),
    "backend_state": ("BACKEND_", model.BackendState),
}
# The data plane's memory of next hops is read by nobody else.
ENUMS_ONLY_IN_C = {"nexthop_action"}
# A number of verdicts is no verdict; an absent backend has no row.
VALUES_ONLY_IN_C = {"VERDICT_COUNT", "FLOW_EVENT_COUNT", "BACKEND_ABSENT"}


def name_dtype(dtype):
    """What C calls the type of a key or a value."""
    names = {id(struct): name for name, struct in abi.STRUCTS.items()}
    scalars = {abi.INDEX: "unsigned int", abi.COUNTER: "unsigned long long"}
    return names.get(id(dtype)) or scalars[dtype]


@pytest.fixture(scope="session")
def enums(compile_header):
    names = re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE)
    types = compile_header("".join(f"enum {name} one_{name};\n" for name in names))
    return {name: types.enum(name) for name in names}


def test_the_version_is_one():
    found = re.search(r"#define XDPLB_ABI_VERSION (\d+)", HEADER)
    assert found
    assert int(found[1]) == abi.ABI_VERSION


def test_names_have_one_length():
    found = re.search(r"#define XDPLB_NAME_SIZE\s+(\d+)", HEADER)
    assert found
    assert int(found[1]) == abi.NAME_SIZE


def test_no_side_has_a_struct_of_its_own(btf):
    declared = set(re.findall(r"^struct (\w+) \{", HEADER, re.MULTILINE))
    assert declared - ONLY_IN_C == set(abi.STRUCTS)
    assert set(btf.structs) - ONLY_IN_C - FOREIGN - IN_SCRATCH == set(abi.STRUCTS)


@pytest.mark.parametrize("name", abi.STRUCTS)
def test_structs_lie_alike(btf, name):
    dtype = abi.STRUCTS[name]
    mirrored = [(field, dtype.fields[field][1], dtype[field].itemsize) for field in dtype.names]
    assert [(m.name, m.offset, m.size) for m in btf.members(name)] == mirrored
    assert btf.structs[name]["size"] == dtype.itemsize


@pytest.mark.parametrize("name", KEYS)
def test_keys_have_no_hidden_padding(btf, name):
    end = 0
    for member in btf.members(name):
        assert member.offset == end, f"padding before {member.name}"
        end += member.size
    assert end == btf.structs[name]["size"]


@pytest.mark.parametrize("name", KEYS)
def test_the_compiler_finds_no_padding_in_keys_either(compile_header, name):
    try:
        compile_header(f"struct {name} one;", "-Wpadded")
    except subprocess.CalledProcessError:
        pytest.fail("clang pads a struct of abi.h, see above")


@pytest.mark.parametrize("name", abi.STRUCTS)
def test_the_same_fields_are_in_network_order(btf, name):
    dtype = abi.STRUCTS[name]
    swapped = {field for field in dtype.names if dtype[field].str.startswith(">")}
    assert swapped == {member.name for member in btf.members(name) if member.is_big_endian}


def test_no_side_has_a_map_of_its_own(btf):
    assert set(btf.maps) - PRIVATE == set(abi.MAPS) == set(KINDS)


@pytest.mark.parametrize("name", abi.MAPS)
def test_maps_are_declared_alike(btf, name):
    key, value = (name_dtype(dtype) for dtype in abi.MAPS[name])
    declared = btf.maps[name]
    assert (declared.kind, declared.key, declared.value) == (KINDS[name], key, value)


def test_no_side_has_an_enum_of_its_own(enums):
    assert set(enums) - ENUMS_ONLY_IN_C == set(ENUMS)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_same_names_and_values(enums, name):
    prefix, mirror = ENUMS[name]
    mirrored = {f"{prefix}{member.name}": member.value for member in mirror}
    declared = {k: v for k, v in enums[name].items() if k not in VALUES_ONLY_IN_C}
    assert declared == mirrored


def test_verdicts_are_numbered_without_a_gap(enums):
    numbers = sorted(enums["verdict"].values())
    assert numbers == list(range(enums["verdict"]["VERDICT_COUNT"] + 1))


def test_a_slot_is_one_aligned_word():
    assert abi.SLOT.itemsize == np.dtype(np.uint32).itemsize
    assert abi.SLOT_PAIR.itemsize == 2 * abi.SLOT.itemsize
