"""What drivers say of themselves and of their offloads, asked of a veth."""

import pytest

from reconciler.ethtool import read_driver, read_offloads
from reconciler.lab import Lab, Topology

pytestmark = pytest.mark.root


def test_a_veth_and_what_is_switched_on_it():
    with Lab(Topology(backends=1)) as lab, lab.client.entered():
        assert read_driver("eth0") == "veth"
        for state in (True, False):
            word = "on" if state else "off"
            lab.client.run(["ethtool", "-K", "eth0", "rxvlan", word, "tx", word])
            offloads = read_offloads("eth0")
            assert (offloads.lro, offloads.rxvlan, offloads.tx_checksum) == (False, state, state)
