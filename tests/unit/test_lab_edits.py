import pytest

from reconciler.errors import XdplbError
from reconciler.lab.edits import (
    add_backend,
    list_differences,
    read_port,
    read_weights,
    remove_backend,
    set_interfaces,
    set_weight,
)

FILE = """\
# a comment about 10.0.0.12
interface: eth0  # the only one
port: 8080
backends:
  - 10.0.0.11
  - 10.0.0.12  # the second
  - {address: 10.0.0.13, weight: 50}
"""


def test_weights_and_port_are_read():
    assert read_weights(FILE) == {"10.0.0.11": 100, "10.0.0.12": 100, "10.0.0.13": 50}
    assert read_port(FILE) == 8080


def test_adding_appends_one_line():
    after = add_backend("10.0.0.14").change(FILE)
    assert list_differences(FILE, after) == ["+  - 10.0.0.14"]
    assert list(read_weights(after)) == ["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"]


@pytest.mark.parametrize("address", ["10.0.0.11", "10.0.0.12", "10.0.0.13"])
def test_removing_takes_one_line_out(address):
    after = remove_backend(address).change(FILE)
    assert len(list_differences(FILE, after)) == 1
    assert address not in read_weights(after)
    assert len(read_weights(after)) == 2


@pytest.mark.parametrize("address", ["10.0.0.11", "10.0.0.12", "10.0.0.13"])
def test_a_weight_changes_one_line(address):
    after = set_weight(address, 25).change(FILE)
    assert read_weights(after) == {**read_weights(FILE), address: 25}
    assert [line[0] for line in list_differences(FILE, after)] == ["-", "+"]


def test_adding_and_removing_gives_the_file_back():
    there = add_backend("10.0.0.14").change(FILE)
    assert remove_backend("10.0.0.14").change(there) == FILE


def test_a_file_without_an_end_of_line_works_too():
    after = add_backend("10.0.0.14").change(FILE.rstrip("\n"))
    assert read_weights(after)["10.0.0.14"] == 100


def test_interfaces_are_a_name_or_a_list():
    both = set_interfaces(["eth0", "eth1"]).change(FILE)
    assert "interface: [eth0, eth1]  # the only one\n" in both
    assert set_interfaces(["eth0"]).change(both) == FILE


@pytest.mark.parametrize("edit", [remove_backend("10.0.0.99"), set_weight("10.0.0.1", 1)])
def test_an_unknown_backend_is_an_error(edit):
    with pytest.raises(XdplbError, match="no line for backend"):
        edit.change(FILE)
