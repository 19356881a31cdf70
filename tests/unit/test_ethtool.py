"""`ethtool`: what every machine's loopback interface answers."""

import pytest

from reconciler.ethtool import read_driver, read_offloads


def test_an_interface_without_a_driver():
    assert read_driver("lo") == ""
    assert not read_offloads("lo").lro
    assert read_offloads("lo").tx_checksum


def test_an_interface_that_is_not_there():
    assert read_driver("nowhere0") == ""
    with pytest.raises(OSError, match="No such device"):
        read_offloads("nowhere0")
