"""The status page: what it says, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reconciler.metrics.html import Html, join, tag
from reconciler.metrics.page import POLICY, render_page
from reconciler.metrics.style import STYLE
from reconciler.rates import compute_rates
from reconciler.status import Attempt, ControllerStatus
from reconciler.survey import Controller, Health, Survey
from reconciler.tables import Tables

from ..surveys import (
    AT,
    NOW_NS,
    compile_text,
    find,
    make_survey,
    make_told_survey,
    tell,
)

HOSTILE = "<script>alert(1)</script>\"'&"
VOID = {"meta"}


class Reader(HTMLParser):
    """Every element and attribute of a page, its text, and whether its tags are paired."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def show(survey: Survey | None, before: Survey | None = None) -> Reader:
    rates = compute_rates(before, survey) if survey else None
    return Reader(render_page("default", survey, rates))


def rename(name: str) -> Tables:
    """The tables with every name and the interface called this."""
    tables = compile_text()
    return replace(
        tables,
        service_info={i: one._replace(name=f"{i}{name}") for i, one in tables.service_info.items()},
        backend_info={i: one._replace(name=f"{i}{name}") for i, one in tables.backend_info.items()},
        attachments={name: tables.attachments["eth0"]},
    )


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = tag("b", HOSTILE, 5, None)
    assert inner == "<b>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;5</b>"
    assert tag("p", inner) == f"<p>{inner}</p>"
    assert tag("td", class_="x", aria_label='a"b', title=None) == (
        '<td class="x" aria-label="a&quot;b"></td>'
    )
    assert isinstance(join(HOSTILE), Html)


def test_what_everybody_sees() -> None:
    page = show(make_told_survey())
    for words in (
        "xdplb default",
        "pid 4242",
        "rejected",
        "lb.yaml is not valid: 1 error",
        "192.0.2.1 port 443/tcp",
        "connection refused",
        "PANIC",
        "heal is off",
        "alice",
        "new kernel",
        "drop_malformed",
        "66.53 %",
    ):
        assert words in page.text, words
    assert not page.open


def test_hostile_names_stay_text() -> None:
    """The schema lets none in; but what is pinned need not have come through it."""
    attempt = Attempt(HOSTILE, AT, HOSTILE, HOSTILE)
    condition = tell(HOSTILE, False, HOSTILE, HOSTILE)
    name = next(iter(rename(HOSTILE).service_info.values())).name
    tables = rename(HOSTILE)
    survey = make_survey(
        tables=tables,
        controller=Controller(1, ControllerStatus(1, HOSTILE, attempt, None), (condition,)),
        health=Health(
            {
                (tables.service_info[row.service].name, tables.backend_info[i].name): (
                    find(False, detail=HOSTILE)
                )
                for i, row in tables.backends.items()
            }
        ),
        overrides_problem=HOSTILE,
    )
    page = Reader(render_page(HOSTILE, survey, None))
    assert name in page.text
    assert page.text.count(HOSTILE) >= 15
    ordinary = show(make_told_survey())
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in ordinary.elements}
    for _, attributes in page.elements:
        assert not any(key.startswith("on") for key in attributes)


def test_nothing_is_loaded_run_or_sent() -> None:
    page = show(make_told_survey(), make_survey(now_ns=NOW_NS - 10**9))
    assert not page.find("script") + page.find("form") + page.find("img") + page.find("iframe")
    assert [each["href"] for each in page.find("a") + page.find("link")] == ["/metrics"]
    assert not any("style" in attributes for _, attributes in page.elements)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_the_policy_lets_the_style_in_and_nothing_else() -> None:
    page = render_page("default", make_survey(), None)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert POLICY.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in POLICY


def test_it_refreshes_itself_and_less_often_where_it_is_long() -> None:
    def find_refresh(survey: Survey) -> str | None:
        metas = show(survey).find("meta")
        return next(each["content"] for each in metas if each.get("http-equiv") == "refresh")

    survey = make_survey()
    assert find_refresh(survey) == "5"
    many = survey.services[1].backends * 200
    long = replace(survey, services=(survey.services[1]._replace(backends=many),))
    assert find_refresh(long) == "30"


def test_rates_are_told_where_there_is_an_earlier_survey() -> None:
    now = make_survey()
    assert "packets and" not in show(now).text
    page = show(now, make_survey(now_ns=NOW_NS - 2 * 10**9))
    assert "rates over 2 s" in page.text
    assert "new flows" in page.text
    assert "Mbit a second" in page.text


def test_tables_have_headers_and_bars_have_words() -> None:
    page = show(make_told_survey())
    headers = page.find("th")
    assert headers
    assert {each["scope"] for each in headers} == {"col", "row"}
    assert len(page.find("caption")) == len(page.find("table"))
    assert all(each["aria-hidden"] == "true" for each in page.find("svg"))
    (html,) = page.find("html")
    assert html["lang"] == "en"
    widths = [float(str(each["width"])) for each in page.find("rect")]
    assert all(0 <= width <= 100 for width in widths)


def test_an_instance_that_is_not_there() -> None:
    page = show(None)
    assert "no data plane" in page.text
    assert not page.open


COLORS = re.compile(r"--([a-z-]+): (#[0-9a-f]{6})")


def measure_contrast(one: str, other: str) -> float:
    """Contrast of two colours (WCAG 2.1, relative luminance)."""

    def find_luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((find_luminance(one), find_luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *((text, ground) for text in ("text", "quiet", "link") for ground in ("card", "ground")),
        *((role, f"{role}-ground") for role in ("good", "warn", "bad")),
    ],
)
def test_text_can_be_read(text: str, ground: str, is_dark: bool) -> None:
    light, _, dark = STYLE.partition("prefers-color-scheme: dark")
    colors = dict(COLORS.findall(dark if is_dark else light))
    assert measure_contrast(colors[text], colors[ground]) >= 4.5
