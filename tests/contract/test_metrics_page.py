"""docs/metrics.md lists what a scrape exports, and nothing else."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from reconciler.metrics.exposition import render
from reconciler.metrics.families import list_families
from reconciler.metrics.recorder import Recorder

from ..surveys import make_told_survey

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_PARTS = re.compile("_(bucket|count|sum)$")


def read_page():
    """The labels of each metric, by its name, in the order of the page."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:xdplb|process)_\w+)` \|(.*?)\|", text, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a metric has one row"
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def scrape():
    """The labels of each metric that a scrape exports when everything is told."""
    recorder = Recorder()
    recorder._slots_moved["web"] = 1
    families = list_families(make_told_survey(), recorder.list_facts(), "1.2.3")
    exported = {}
    for family in text_string_to_metric_families(render(families, "")[0].decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            is_histogram = family.type == "histogram"
            name = _PARTS.sub("", sample.name) if is_histogram else sample.name
            exported.setdefault(name, set()).update(sample.labels)
    return exported


def pick(metrics, prefix):
    return {name: labels for name, labels in metrics.items() if name.startswith(prefix)}


def test_the_page_and_a_scrape_agree_on_names_labels_and_order():
    page, exported = pick(read_page(), "xdplb_"), pick(scrape(), "xdplb_")
    assert page == exported
    assert list(page) == list(exported)


def test_what_the_page_says_of_the_process_is_exported():
    """Other releases of the library may have more."""
    listed = pick(read_page(), "process_")
    assert listed
    assert listed.keys() <= pick(scrape(), "process_").keys()


def test_names_follow_the_conventions():
    """https://prometheus.io/docs/practices/naming/."""
    for name in scrape():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name)
        assert not re.search(r"_(ms|us|ns|minutes|percent|kb)(_|$)", name), "base units"
