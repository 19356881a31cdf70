"""Metrics and the status page of a controller that runs, of real traffic and real edits."""

import http.client
import json
import socket
import threading
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch
from reconciler.surveyor import Surveyor

pytestmark = [pytest.mark.root, pytest.mark.alone]

VIP = "192.0.2.1"
PORT = 9464
HEAD = (
    "interface: [eth0, eth1]\nlimits: {ring_slots: 150000, flows: 65536}\nport: 8080\n"
    "defaults: {health: {interval: 200ms, timeout: 100ms, rise: 1, fall: 2}}\n"
    "reconcile: {resync: 1s}\n"
)
THREE = HEAD + "backends:\n  - 10.0.0.11\n  - 10.0.0.12\n  - 10.0.0.13\n"
FOUR = THREE + "  - 10.0.0.14\n"


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=4)) as made:
        made.serve()
        yield made


class Site:
    """What the balancer's controller serves, asked from the balancer itself."""

    def __init__(self, lab):
        self.balancer = lab.balancer

    def ask(self, path, port=PORT):
        """Status and body."""
        with self.balancer.socket(socket.AF_INET) as client:
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: lb\r\n\r\n".encode())
            response = http.client.HTTPResponse(client)
            response.begin()
            return response.status, response.read().decode()

    def scrape(self, port=PORT):
        """Every sample, by name and labels."""
        status, body = self.ask("/metrics", port)
        assert status == 200, body
        samples = [
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        ]
        found = {(name, labels): value for name, labels, value in samples}
        assert len(found) == len(samples), "a series is there twice"
        return found

    def get(self, name, port=PORT, **labels):
        return self.scrape(port).get((name, tuple(sorted(labels.items()))))

    def is_served(self, port=PORT):
        try:
            return self.ask("/healthz", port)[0] in (200, 503)
        except OSError:
            return False


def list_new_flows(samples):
    """By backend."""
    return {
        dict(labels)["backend"]: value
        for (name, labels), value in samples.items()
        if name == "xdplb_backend_new_flows_total"
    }


@pytest.fixture
def site(lab):
    return Site(lab)


def test_a_scrape_counts_what_went_through(lab, xdplb, site):
    xdplb.start(THREE)
    wait_until(site.is_served, "metrics are served")
    wait_until(lambda: site.get("xdplb_condition", type="Ready") == 1, "the controller is ready")
    reached = Counter(fetch(lab.client, VIP).backend for _ in range(60))
    # Who asks right behind another gets the same survey.
    wait_until(lambda: sum(list_new_flows(site.scrape()).values()) == 60, "all are counted")
    samples = site.scrape()
    assert sorted(list_new_flows(samples).values()) == sorted(reached.values())
    document = json.loads(xdplb.run("status", "--json").stdout)
    (service,) = document["services"]
    for backend in service["backends"]:
        who = (("backend", backend["name"]), ("service", "default"))
        assert samples["xdplb_backend_slots", who] == backend["slots"]
        assert samples["xdplb_backend_new_flows_total", who] == backend["new_flows"]
    digest = (("digest", document["config_sha256"]), ("which", "last_good"))
    assert samples["xdplb_config_info", digest] == 1
    assert samples["xdplb_reconcile_total", (("result", "applied"),)] == 1
    assert site.ask("/healthz") == (200, "ready\n")
    page = site.ask("/")[1]
    assert "10.0.0.11:8080" in page
    assert "192.0.2.1 port 8080/tcp" in page


def test_a_backend_that_died_is_down_everywhere(lab, xdplb, site):
    xdplb.start(THREE.replace("10.0.0.13", "{address: 10.0.0.13, port: 8081}"))
    wait_until(site.is_served, "metrics are served")
    dead = {"service": "default", "backend": "10.0.0.13:8081"}
    wait_until(lambda: site.get("xdplb_backend_up", **dead) == 0, "the checks have found it")
    wait_until(lambda: site.get("xdplb_backend_slots", **dead) == 0, "its slots have moved")
    assert site.get("xdplb_backend_expected_share_ratio", **dead) == 0
    assert site.get("xdplb_backend_up", service="default", backend="10.0.0.11:8080") == 1
    assert site.get("xdplb_health_transitions_total", to="down") == 1
    assert site.get("xdplb_backend_transitions_total", **dead) == 1
    assert site.get("xdplb_health_check_lag_seconds") < 1
    assert site.get("xdplb_health_checks_total", result="failed") >= 2
    assert site.get("xdplb_panic", service="default") == 0
    assert "refused" in site.ask("/")[1]
    wait_until(lambda: "DOWN" in xdplb.run("status").stdout, "the status command says so too")
    shown = xdplb.run("top", "--count", "1", "--interval", "200ms")
    assert (shown.returncode, shown.stdout.count("DOWN")) == (0, 1)


def test_a_refused_file_is_told_and_what_ran_goes_on(xdplb, site):
    xdplb.start(THREE)
    wait_until(site.is_served, "metrics are served")
    wait_until(lambda: site.get("xdplb_config_last_attempt_successful") == 1, "it is in force")
    xdplb.config.write_text(THREE + "nonsense: 1\n")
    wait_until(lambda: site.get("xdplb_config_last_attempt_successful") == 0, "it was refused")
    assert site.get("xdplb_condition", type="ConfigValid") == 0
    assert site.get("xdplb_condition", type="Ready") == 1
    assert site.ask("/healthz")[0] == 200


def test_the_place_is_followed_without_a_restart(xdplb, site):
    controller = xdplb.start(THREE)
    wait_until(site.is_served, "metrics are served")
    xdplb.config.write_text(THREE + "metrics: {listen: '127.0.0.1:9465'}\n")
    wait_until(lambda: site.is_served(9465), "they are served elsewhere")
    assert not site.is_served()
    xdplb.config.write_text(THREE + "metrics: {listen: off}\n")
    wait_until(lambda: not site.is_served(9465), "they are switched off")
    xdplb.config.write_text(THREE)
    wait_until(site.is_served, "they are back")
    assert xdplb.account()["pid"] == controller.pid


def test_every_scrape_during_edits_is_whole(lab, xdplb, site):
    xdplb.start(THREE)
    wait_until(site.is_served, "metrics are served")
    seen, problems, ending = Counter(), [], threading.Event()

    def scrape():
        while not ending.is_set():
            try:
                samples = site.scrape()
                names = {dict(labels).get("backend") for _, labels in samples} - {None}
                seen[len(names)] += 1
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for text in (FOUR, THREE, FOUR):
            before = xdplb.tables().generation
            xdplb.config.write_text(text, encoding="utf-8")
            wait_until(lambda b=before: xdplb.tables().generation > b, "the edit is live")
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert set(seen) <= {3, 4}
    assert sum(seen.values()) >= 3


def test_a_surveyor_sees_an_instance_that_was_made_anew(lab, xdplb):
    surveyor = Surveyor("default", xdplb.root, state_root=xdplb.state)
    try:
        assert surveyor.take() is None
        xdplb.apply(THREE)
        fetch(lab.client, VIP)
        first = surveyor.take()
        assert [len(service.backends) for service in first.services] == [3]
        assert sum(backend.counters.new_flows for backend in first.services[0].backends) == 1
        assert xdplb.run("detach").returncode == 0
        assert surveyor.take() is None
        xdplb.apply(FOUR)
        second = surveyor.take()
        assert [len(service.backends) for service in second.services] == [4]
        assert sum(backend.counters.new_flows for backend in second.services[0].backends) == 0
        assert second.ring_fingerprint != first.ring_fingerprint
    finally:
        surveyor.close()
