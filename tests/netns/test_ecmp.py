"""Two balancers behind a router that spreads connections over them by ECMP.

Neither knows of the other. What one of them alone knows is lost with it: that bound has
its tests too, and `pytest -s` prints the figures.
"""

import json
import shutil
from contextlib import ExitStack, closing

import numpy as np
import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch_again
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan
from reconciler.lab.sample import Outcome
from reconciler.steering import find_choices
from reconciler.tables import unpack_slots

from .pair import Pair, prepare_pair_lab
from .test_modes import FAMILIES, WEB, Mix

pytestmark = [pytest.mark.root, pytest.mark.alone]

HELD = 200
NAT, TUNNEL = Mix("nat", 4, 4), Mix("ipip", 4, 4)
MIXES = [NAT, Mix("nat", 6, 6), Mix("l2dsr", 4, 4), TUNNEL, Mix("gue", 6, 4)]
LIMITS = pytest.mark.parametrize("pair", [NAT, TUNNEL], ids=str, indirect=True)


@pytest.fixture(scope="module")
def lab(require):
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=1, balancers=2, backends=4, ipv6=True)) as made:
        prepare_pair_lab(made)
        yield made


@pytest.fixture(params=MIXES, ids=str)
def pair(lab, request):
    with closing(Pair(lab, request.param)) as made:
        yield made


# --- what goes on ---


def wait_for_answers(held, connections):
    """Return when each connection of a load has been answered a question asked from now on."""
    first = len(held.samples())

    def are_answered():
        samples = held.samples()
        answered = samples.connection[first:][samples.outcome[first:] == Outcome.OK.value]
        # The first sample from now may answer an older question; the second does not.
        return np.count_nonzero(np.bincount(answered, minlength=connections) >= 2) == connections

    wait_until(are_answered, f"{connections} connections are answered", 30)


def test_connections_go_on_when_a_balancer_is_lost_and_when_it_returns(pair):
    pair.begin(3)
    one, other = pair.balancers
    before = [pair.count_new_flows(each) for each in pair.balancers]
    plan = LoadPlan(pair.mix.vip, WEB, rate=0, held=HELD, held_interval_s=0.25, timeout_s=10)
    with Drive(pair.lab.client, plan) as held:
        wait_for_answers(held, HELD)
        opened = [pair.count_new_flows(each) for each in pair.balancers]
        assert min(np.subtract(opened, before)) > HELD / 4
        with Drive(pair.lab.client, LoadPlan(pair.mix.vip, WEB, rate=50, timeout_s=10)) as new:
            pair.cut(one)
            wait_for_answers(held, HELD)
            survived = pair.count_new_flows(one)
            pair.mend(one)
            wait_until(lambda: pair.count_new_flows(one) > survived, "the first one serves again")
            wait_for_answers(held, HELD)
            pair.cut(other)
            wait_for_answers(held, HELD)
            pair.mend(other)
            wait_for_answers(held, HELD)
            assert new.stop().failures == {}
        samples = held.stop()
    assert samples.failures == {}


def test_balancers_of_different_pasts_show_one_fingerprint(lab):
    with closing(Pair(lab, NAT)) as pair:
        one, other = pair.balancers
        pair.apply_to(one, 3)
        pair.apply_to(other, 4)
        assert read_fingerprints(one) != read_fingerprints(other)
        pair.apply_to(other, 3)
        assert read_fingerprints(one) == read_fingerprints(other)


def read_fingerprints(balancer):
    document = json.loads(balancer.run("status", "--json").stdout)
    return document["ring_fingerprint"], [s["ring_fingerprint"] for s in document["services"]]


# --- what a balancer alone knows ---


class Connections:
    """Held connections, by the client's port."""

    def __init__(self, pair, count):
        self.pair = pair
        self.open, self.homes = {}, {}
        for _ in range(count):
            connection = pair.lab.client.socket(FAMILIES[pair.mix.inner])
            connection.settimeout(5)
            connection.connect((pair.mix.vip, WEB))
            port = connection.getsockname()[1]
            self.open[port] = connection
            self.homes[port] = fetch_again(connection).backend
        self.first_ways = pair.find_ways(self.open)

    def close(self):
        for each in self.open.values():
            each.close()

    def find_broken(self):
        """Ask on each once; the ports of those that broke."""
        return {port for port in self.open if not self.is_answered(port)}

    def is_answered(self, port):
        try:
            return fetch_again(self.open[port]).backend == self.homes[port]
        except OSError:
            return False

    def find_strayed(self):
        """The ports of those that the router sends to another balancer than at first."""
        ways = self.pair.find_ways(self.open)
        return {port for port in self.open if ways[port] is not self.first_ways[port]}


@pytest.fixture
def connect(pair):
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(closing(Connections(pair, count)))


def find_moved(pair, before, after, ports):
    """The ports whose slot leads to another backend after a change than before."""

    def choose(tables, port):
        (choice,) = find_choices(tables, pair.client, port)
        return choice.backend

    return {port for port in ports if choose(before, port) != choose(after, port)}


def is_window_open(balancer):
    """Whether, after another pass, slots still tell older connections from newer ones."""
    balancer.apply_file(balancer.config)
    backend, previous = unpack_slots(balancer.tables().slots)
    return bool(np.any((previous != 0) & (previous != backend)))


@LIMITS
def test_inside_the_window_those_of_moved_slots_that_are_newer_are_at_risk(pair, connect):
    """The survivor takes whom it does not know for older than the change."""
    pair.begin(3)
    lost, survivor = pair.balancers
    before = survivor.tables()
    older = connect(HELD)
    pair.apply(4)
    newer = connect(HELD)
    moved = find_moved(pair, before, survivor.tables(), [*older.open, *newer.open])
    pair.cut(lost)
    assert older.find_strayed() & moved, "some depend on who was there before"
    assert older.find_broken() == set()
    assert_bound(newer, newer.find_strayed() & moved)


@LIMITS
def test_after_the_window_those_of_moved_slots_that_are_older_are_at_risk(pair, connect):
    """The survivor takes whom it does not know for newer than the change."""
    pair.begin(3)
    lost, survivor = pair.balancers
    before = survivor.tables()
    older = connect(HELD)
    pair.apply(4, drain_timeout="8s")
    assert older.find_broken() == set()  # and now each balancer knows its own
    newer = connect(HELD)
    moved = find_moved(pair, before, survivor.tables(), [*older.open, *newer.open])
    wait_until(lambda: not any(map(is_window_open, pair.balancers)), "the window is over", 30)
    assert older.find_broken() == set()
    pair.cut(lost)
    assert newer.find_strayed() & moved, "some depend on who is there now"
    assert newer.find_broken() == set()
    assert_bound(older, older.find_strayed() & moved)


@LIMITS
@pytest.mark.parametrize("has_earlier_file", [False, True])
def test_a_balancer_that_begins_anew_knows_who_was_there_before_by_the_earlier_file(
    pair, connect, has_earlier_file
):
    pair.begin(3)
    anew, survivor = pair.balancers
    before = survivor.tables()
    older = connect(HELD)
    pair.cut(anew)
    assert anew.run("detach").returncode == 0
    pair.apply_to(survivor, 4)
    assert older.find_broken() == set()
    moved = find_moved(pair, before, survivor.tables(), older.open)
    if has_earlier_file:
        pair.apply_to(anew, 3)
    pair.apply_to(anew, 4)
    pair.mend(anew)
    returned = {port for port, way in older.first_ways.items() if way is anew}
    assert returned & moved
    assert_bound(older, set() if has_earlier_file else returned & moved)


def assert_bound(connections, at_risk):
    broken = connections.find_broken()
    print(f"{len(broken)} broken, {len(at_risk)} at risk, {len(connections.open)} connections")
    assert broken <= at_risk
