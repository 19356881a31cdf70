"""examples/prometheus asks for metrics that there are, and its alerts are raised."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from reconciler.metrics.exposition import render
from reconciler.metrics.families import list_families
from reconciler.metrics.recorder import Recorder

from ..surveys import make_told_survey
from .test_metrics_page import read_page

FOLDER = Path(__file__).parents[2] / "examples" / "prometheus"
RULES = FOLDER / "xdplb.rules.yml"
# Labels that Prometheus or its configuration add.
ADDED = {"job", "instance", "fleet"}
_METRIC = re.compile(r"\b((?:xdplb|process)_\w+)(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))


def list_panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def list_rules():
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def list_dashboard_expressions(dashboard):
    for panel in list_panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["expr"] for one in dashboard["annotations"]["list"])
    for variable in dashboard["templating"]["list"]:
        if query := re.search(r"label_values\((.*), \w+\)", str(variable.get("definition"))):
            yield query[1]


def assert_exported(expression):
    """Every metric in it is one of docs/metrics.md, with these labels."""
    listed = read_page()
    found = _METRIC.findall(expression)
    for name, selector in found:
        family = re.sub("_(bucket|count|sum)$", "", name) if name not in listed else name
        assert family in listed, f"{name} in {expression}"
        labels = set(re.findall(r"(\w+)\s*[=!]", selector))
        assert labels <= listed[family] | ADDED, f"{name}{{{selector}}}"
    return [name for name, _ in found]


def test_alerts_ask_for_what_is_exported():
    assert [assert_exported(rule["expr"]) for rule in list_rules() if "up{" not in rule["expr"]]


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    for rule in list_rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_has_a_test_that_raises_it():
    text = (FOLDER / "xdplb.rules.test.yml").read_text(encoding="utf-8")
    for rule in list_rules():
        assert re.search(rf"\b{rule['alert']}\b", text), rule["alert"]


def test_the_dashboard_asks_for_what_is_exported(dashboard):
    expressions = list(list_dashboard_expressions(dashboard))
    assert len(expressions) > 20
    for expression in expressions:
        assert assert_exported(expression), expression


def test_panels_are_whole_and_do_not_overlap(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    sources = {json.dumps(panel["datasource"]) for panel in list_panels(dashboard)}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


# --- by Prometheus itself ---


def run_promtool(require, *words):
    require(shutil.which("promtool"), "promtool is missing (prometheus)")
    done = subprocess.run(
        ["promtool", *map(str, words)],
        cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_the_rules(require):
    run_promtool(require, "check", "config", "prometheus.yml")


def test_alerts_are_raised_where_they_should_be(require):
    run_promtool(require, "test", "rules", "xdplb.rules.test.yml")


def test_prometheus_takes_the_expressions_of_the_dashboard(require, dashboard, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(list_dashboard_expressions(dashboard))
    ]
    path = tmp_path / "dashboard.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_promtool(require, "check", "rules", path)


def test_the_linter_of_prometheus_has_nothing_to_say_of_a_scrape(require):
    require(shutil.which("promtool"), "promtool is missing (prometheus)")
    families = list_families(make_told_survey(), Recorder().list_facts(), "1.2.3")
    body, _ = render(families, "")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
