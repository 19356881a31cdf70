"""What a scrape says, and that it is what the library would write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from reconciler import abi
from reconciler.metrics.exposition import InstanceCollector, render
from reconciler.metrics.families import Family, HistogramFamily, Labels, list_families
from reconciler.metrics.recorder import Recorder
from reconciler.survey import Controller, Survey

from ..surveys import make_survey, make_told_survey

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def list_all(survey: Survey | None = None) -> list[Family | HistogramFamily]:
    recorder = Recorder()
    recorder.count_pass("applied", 0.3)
    return list(list_families(survey, recorder.list_facts(), "1.2.3"))


def scrape(survey: Survey | None, accept: str = "") -> dict[tuple[str, frozenset[Any]], float]:
    """Samples by name and labels, as Prometheus reads them."""
    body, content_type = render(list_all(survey), accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    samples: dict[tuple[str, frozenset[Any]], float] = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, "a series that is there twice fails the whole scrape"
            samples[key] = sample.value
    return samples


def get(samples: Any, name: str, **labels: str) -> float:
    value: float = samples[name, frozenset(labels.items())]
    return value


@pytest.mark.parametrize(
    ("accept", "module", "parse"),
    [("", text_format, parse_text), (OPENMETRICS, openmetrics, parse_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_columns_say_what_the_library_would_say(accept: str, module: Any, parse: Any) -> None:
    families = list_all(make_told_survey())
    registry = CollectorRegistry()
    registry.register(InstanceCollector(lambda: families))
    body, content_type = render(families, accept)
    assert ("openmetrics" in content_type) == bool(accept)
    ours = [one for one in parse(body.decode()) if one.name.startswith("xdplb_")]
    assert ours == list(parse(module.generate_latest(registry).decode()))
    assert body.endswith(b"# EOF\n") == bool(accept)
    assert body.count(b"# EOF") == bool(accept)


def test_what_is_escaped_comes_back() -> None:
    hostile = 'a"b\\c\nd{},=<script>'
    labels = Labels(("backend", "service"), [(hostile, "web")])
    family = Family("xdplb_backend_slots", "gauge", "Slots.", labels, [7])
    body, _ = render([family], "")
    sample = next(iter(parse_text(body.decode()))).samples[0]
    assert sample.labels == {"backend": hostile, "service": "web"}
    assert sample.value == 7


def test_large_counters_are_exact() -> None:
    family = Family("xdplb_x_total", "counter", "X.", Labels((), [()]), [2**63 + 1])
    assert f"\nxdplb_x_total {2**63 + 1}\n".encode() in render([family], "")[0]


def test_backends_are_counted() -> None:
    survey = make_survey()
    samples = scrape(survey)
    for service in survey.services:
        for backend in service.backends:
            who = {"service": service.name, "backend": backend.name}
            counters = backend.counters
            assert get(samples, "xdplb_backend_packets_total", **who) == counters.packets
            assert get(samples, "xdplb_backend_bytes_total", **who) == counters.bytes
            assert get(samples, "xdplb_backend_new_flows_total", **who) == counters.new_flows
            assert get(samples, "xdplb_backend_reply_bytes_total", **who) == counters.reply_bytes
            assert get(samples, "xdplb_backend_slots", **who) == backend.slots
            assert get(samples, "xdplb_remembered_flows", **who) == backend.connections
            state = backend.state.name.lower()
            assert get(samples, "xdplb_backend_state", state=state, **who) == 1
    assert get(samples, "xdplb_backend_expected_share_ratio", service="web", backend="a") == (
        pytest.approx(2 / 3)
    )


def test_health_is_told_of_those_that_are_checked() -> None:
    samples = scrape(make_told_survey())
    ups = {
        dict(labels)["backend"]: v for (n, labels), v in samples.items() if n == "xdplb_backend_up"
    }
    assert ups == {"a": 1, "b": 0}
    assert get(samples, "xdplb_panic", service="web") == 1
    assert get(samples, "xdplb_panic", service="dns") == 0
    assert not any(name == "xdplb_backend_up" for name, _ in scrape(make_survey()))


def test_the_controller() -> None:
    samples = scrape(make_told_survey())
    digests = {
        which: digest * 32 for which, digest in (("last_attempted", "cd"), ("last_good", "ab"))
    }
    for which, digest in digests.items():
        assert get(samples, "xdplb_config_info", which=which, digest=digest) == 1
    assert get(samples, "xdplb_config_last_attempt_successful") == 0
    assert get(samples, "xdplb_condition", type="Ready") == 1
    assert get(samples, "xdplb_condition", type="Synced") == 0
    assert get(samples, "xdplb_reconcile_total", result="applied") == 1
    assert get(samples, "xdplb_reconcile_duration_seconds_bucket", le="0.25") == 0
    assert get(samples, "xdplb_reconcile_duration_seconds_bucket", le="0.5") == 1
    assert get(samples, "xdplb_reconcile_duration_seconds_count") == 1
    assert get(samples, "xdplb_build_info", version="1.2.3", abi=str(abi.ABI_VERSION)) == 1


def test_conditions_of_a_controller_that_has_ended_are_not_told() -> None:
    told = make_told_survey()
    ended = replace(told, controller=Controller(None, None, told.controller.conditions))
    assert not any(name == "xdplb_condition" for name, _ in scrape(ended))


def test_verdicts_events_and_maps() -> None:
    samples = scrape(make_survey())
    assert get(samples, "xdplb_verdict_packets_total", verdict="drop_malformed") == 11
    assert get(samples, "xdplb_flow_events_total", event="refused") == 4
    assert get(samples, "xdplb_map_entries", map="flows") == 3
    assert get(samples, "xdplb_map_capacity", map="flows") == 1000
    assert get(samples, "xdplb_ring_slots", service="web") == 251


def test_without_a_data_plane_only_the_controller_is_told() -> None:
    samples = scrape(None)
    assert get(samples, "xdplb_dataplane_up") == 0
    assert get(samples, "xdplb_reconcile_total", result="applied") == 1
    assert not any(name.startswith("xdplb_backend") for name, _ in samples)
    assert get(scrape(make_survey()), "xdplb_dataplane_up") == 1


def test_the_process_is_told_too() -> None:
    assert any(name == "process_resident_memory_bytes" for name, _ in scrape(None, OPENMETRICS))


def test_labels_are_sorted_as_the_library_sorts_them() -> None:
    with pytest.raises(AssertionError):
        Labels(("service", "backend"), [])
