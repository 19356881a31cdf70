"""The status page as a browser shows it: what the policy lets through, light and dark, narrow."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reconciler.metrics.lookout import Lookout
from reconciler.metrics.recorder import Recorder
from reconciler.metrics.server import Answers, MetricsServer
from reconciler.metrics.style import STYLE

from ..surveys import make_told_survey

pytestmark = pytest.mark.slow

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Browse = Callable[..., str]

# A browser that asks nobody but this machine.
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync
""".split()  # noqa: SIM905
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    lookout = Lookout(lambda: replace(make_told_survey(), now_ns=0))
    server = MetricsServer(
        ip_address("127.0.0.1"), 0, Answers("default", lookout, Recorder().list_facts)
    )
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.close()


@pytest.fixture
def browse(require: Callable[[object, str], None], address: str, tmp_path: Path) -> Browse:
    """Open the page in a browser of its own; return what that prints."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    require(chromium, "no browser (chromium)")

    def open_page(*words: str) -> str:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(chromium), *FLAGS, profile, *words, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        # A page that breaks its own policy says so on the console.
        assert "Content Security Policy" not in done.stderr, done.stderr
        return done.stdout

    return open_page


def take_picture(browse: Browse, path: Path, width: int, height: int, *words: str) -> Pixels:
    """A picture of the page, shape (height, width, 3)."""
    browse(
        "--enable-logging=stderr", f"--window-size={width},{height}", f"--screenshot={path}", *words
    )
    return np.asarray(Image.open(path).convert("RGB"))


def find_color(name: str, *, is_dark: bool) -> list[int]:
    """A colour of the style, as red, green and blue."""
    light, _, dark = STYLE.partition("prefers-color-scheme: dark")
    found = re.search(rf"--{name}: #([0-9a-f]{{6}})", dark if is_dark else light)
    assert found
    return list(bytes.fromhex(found[1]))


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_style_gets_through_the_policy(browse: Browse, tmp_path: Path, is_dark: bool) -> None:
    words = [DARK] if is_dark else []
    picture = take_picture(browse, tmp_path / "page.png", 1280, 1000, *words)
    assert picture.shape == (1000, 1280, 3)
    assert picture[2, 2].tolist() == find_color("ground", is_dark=is_dark)
    for name in ("card", "bar", "track", "good-ground", "bad-ground"):
        is_there = (picture == find_color(name, is_dark=is_dark)).all(axis=2)
        assert is_there.any(), f"nothing is of the colour {name}"


def test_nothing_sticks_out_on_a_phone(browse: Browse, tmp_path: Path) -> None:
    picture = take_picture(browse, tmp_path / "page.png", 500, 2500)
    edge = picture[:, -4:].reshape(-1, 3)
    assert (edge == find_color("ground", is_dark=False)).all()


def test_what_is_served_is_what_is_shown(browse: Browse) -> None:
    document = browse("--dump-dom")
    assert "connection refused" in document
    assert "lb.yaml is not valid: 1 error" in document
    assert document.count("<script") == 0
