"""Writes metrics as Prometheus reads them; the one door of prometheus_client.

`InstanceCollector` is a collector like any other. Rendered by the library, 45,000 samples
take some 0.5 s, most of it for the labels of each sample anew; so `render` has the library
write the heads and everything small, and writes the samples of `Family`s by columns. A
test holds both to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from reconciler.metrics.families import Family, HistogramFamily

_END = b"# EOF\n"  # of OpenMetrics

Families = Iterable[Family | HistogramFamily]


class InstanceCollector:
    """The metrics that `list_now` gives, for the library's registries and encoders."""

    def __init__(self, list_now: Callable[[], Families]) -> None:
        self._list_now = list_now

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        for family in self._list_now():
            yield _fill(family)


def render(families: Families, accept: str) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that an Accept header asks for.

    The process's own metrics come last.
    """
    encode, content_type = choose_encoder(accept)
    parts = []
    for family in families:
        head: Metric
        if isinstance(family, Family):
            head, samples = _make_head(family), _write_samples(family)
        else:
            head, samples = _fill(family), b""
        parts += [encode(_Single(head)).removesuffix(_END), samples]
    return b"".join([*parts, encode(_make_process_registry())]), content_type


def _write_samples(family: Family) -> bytes:
    name = family.name
    pairs = zip(family.labels.texts, family.values, strict=True)
    return "".join([f"{name}{labels} {_format(value)}\n" for labels, value in pairs]).encode()


def _format(value: float) -> str:
    """Go and OpenMetrics read Python's numbers; `True` is 1."""
    return str(int(value)) if isinstance(value, int) else repr(float(value))


class _Single:
    """A registry of one metric, as far as encoders ask."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _make_process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def _make_head(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    """The metric without samples."""
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return kind(family.name, family.meaning, labels=family.labels.names)


def _fill(family: Family | HistogramFamily) -> Metric:
    if isinstance(family, HistogramFamily):
        return HistogramMetricFamily(family.name, family.meaning, list(family.counts), family.total)
    metric = _make_head(family)
    for row, value in zip(family.labels.rows, family.values, strict=True):
        metric.add_metric(row, value)
    return metric
