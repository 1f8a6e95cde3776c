"""Loads a page in headless Chromium and says what it drew, what it logged and whether it reached for the network."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str | None:
    """A Chromium: the Debian package, Chrome, or Playwright's."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    cached = sorted((Path.home() / ".cache" / "ms-playwright").glob("chromium-*/chrome-linux*/chrome"))
    return str(cached[-1]) if cached else None


needs_browser = pytest.mark.skipif(
    executable() is None, reason="no Chromium here; install the Debian package chromium to run these tests"
)


@dataclass(frozen=True)
class Loaded:
    """What a page did.

    Attributes:
        title: Its title after all scripts ran.
        charts: Charts it has places for, and those that were drawn.
        complaints: Lines of its console, and of the policy that keeps it off the network.
        requests: Addresses it asked for besides itself.
        dom: Its elements at the end, as text.
    """

    title: str
    charts: tuple[int, int]
    complaints: list[str]
    requests: list[str]
    dom: str


def load(page: Path, width: int = 1100) -> Loaded:
    """Load a page from disk without a network and wait until it has drawn."""
    net_log = page.with_suffix(".netlog.json")
    command = [
        str(executable()),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},1200",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
        f"--log-net-log={net_log}",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    dom = done.stdout.decode("utf-8", "replace")
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    complaints = [line for line in lines if "CONSOLE" in line]
    title = re.search(r"<title>(.*?)</title>", dom, re.S)
    drawn = re.search(r'<html[^>]*data-charts="(\d+)"', dom)
    places = len(re.findall(r'<div class="chart(?: vega-embed[^"]*)?" id=', dom))
    return Loaded(
        title=html.unescape(title[1]) if title else "",
        charts=(places, int(drawn[1]) if drawn else 0),
        complaints=complaints,
        requests=_requests(net_log, page),
        dom=dom,
    )


def _requests(net_log: Path, page: Path) -> list[str]:
    """Addresses of the page's own requests; the browser's housekeeping goes to Google's hosts and is not the page's."""
    text = net_log.read_text(encoding="utf-8", errors="replace")
    found = set(re.findall(r'"url":"([^"]+)"', text))
    own = {address for address in found if address.startswith(("http", "ws", "ftp"))}
    return sorted(address for address in own if not re.search(r"//[^/]*(google|gvt1|chrome)[^/]*/", address))
