"""The overview in headless Chromium: no network, no console error, tables that sort and search."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import value_of
from .test_summary import make

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed"
)
PROBE = """
<script>
const table = [...document.querySelectorAll("table")].find(one => one.tFoot);
const body = table.tBodies[0];
const names = () => [...body.rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
const sorter = table.tHead.rows[0].cells[1].querySelector("button");
const told = {written: names()};
sorter.click(); told.up = names(); told.order = sorter.parentElement.getAttribute("aria-sort");
sorter.click(); told.down = names();
told.last = table.tFoot.rows[0].cells[0].textContent;
const box = document.querySelector("nav + label input");  // the page's own search
box.value = "row3"; box.dispatchEvent(new Event("input")); told.found = names();
box.value = ""; box.dispatchEvent(new Event("input"));
told.pictures = [...document.images].map(one => one.complete && one.naturalWidth > 0);
told.fetched = performance.getEntriesByType("resource").map(one => one.name);
told.reachable = sorter.tabIndex;
told.ground = getComputedStyle(document.body).backgroundColor;
told.text = getComputedStyle(document.body).color;
told.filters = [...document.querySelectorAll("img.chart")].map(one => getComputedStyle(one).filter);
told.silent = [...document.images].filter(one => !one.alt).length;
told.dead = [...document.querySelectorAll('a[href^="#"]')].map(one => one.hash.slice(1))
  .filter(name => !document.getElementById(name));
told.width = window.innerWidth;
told.wide = document.documentElement.scrollWidth - window.innerWidth;
document.body.dataset.told = JSON.stringify(told);
parent.postMessage(JSON.stringify(told), "*");
</script></body>"""
# a headless window is at least 500 pixels wide; a frame is as narrow as a phone
PHONE = """<!DOCTYPE html><body><iframe src="page.html" width="375" height="700"></iframe><script>
addEventListener("message", event => { document.body.dataset.told = event.data; });
</script></body>"""
DARK = "--blink-settings=preferredColorScheme=0"
VALUES = [0.4, 0.1, 0.9, float("nan"), 0.3, 0.2, 0.5, 0.6, 0.7]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    values = [value_of(value, row=f"row{i}") for i, value in enumerate(VALUES)]
    values.append(value_of(0.2, row="row0", metric="chance"))
    return make(tmp_path_factory.mktemp("page"), values)[0]


def opened(
    folder: Path, page: str, width: int, *words: str, is_phone: bool = False
) -> tuple[dict[str, Any], str]:
    """Open the page with the probe; return what the probe told and the browser's log."""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    if is_phone:
        path = folder / "phone.html"
        path.write_text(PHONE, encoding="utf-8")
    command = [
        str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000", "--dump-dom",
        *words, path.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = re.search(r'data-told="([^"]*)"', result.stdout)
    assert told, result.stderr
    return json.loads(html.unescape(told.group(1))), result.stderr


@pytest.mark.parametrize("width", [1280, 500])  # a headless window is at least 500 pixels wide
def test_page_works_offline_without_a_console_error(page: str, tmp_path: Path, width: int) -> None:
    told, log = opened(tmp_path, page, width)
    assert "CONSOLE" not in log
    assert not [name for name in told["fetched"] if not name.startswith("data:")]
    assert told["pictures"] == [True]
    assert told["wide"] <= 0  # tables scroll by themselves, the page does not
    assert told["reachable"] == 0  # by keyboard
    assert told["silent"] == 0  # every picture says what it is
    assert told["dead"] == []  # every link of the contents leads somewhere


def test_a_phone_scrolls_tables_and_not_the_page(page: str, tmp_path: Path) -> None:
    told, log = opened(tmp_path, page, 800, is_phone=True)
    assert told["width"] == 375
    assert told["wide"] <= 0
    assert "CONSOLE" not in log


def brightness(colour: str) -> float:
    """Return the mean of red, green and blue of `rgb(...)`."""
    return sum(map(int, re.findall(r"[0-9]+", colour)[:3])) / 3


def test_light_and_dark_follow_the_system(page: str, tmp_path: Path) -> None:
    light, _ = opened(tmp_path, page, 1280)
    dark, log = opened(tmp_path, page, 1280, DARK)
    assert brightness(light["ground"]) > 200 > 100 > brightness(light["text"])
    assert brightness(dark["ground"]) < 50 < 200 < brightness(dark["text"])
    assert light["filters"] == ["none"]
    assert "invert" in dark["filters"][0]  # a drawing on white does not glare
    assert "CONSOLE" not in log


def test_tables_sort_and_search(page: str, tmp_path: Path) -> None:
    told, _ = opened(tmp_path, page, 1280)
    up = ["row1", "row5", "row4", "row0", "row6", "row7", "row8", "row2"]
    assert told["written"] == [f"row{i}" for i in range(9)]
    assert (told["up"], told["order"]) == ([*up, "row3"], "ascending")  # undefined stays last
    assert told["down"] == [*reversed(up), "row3"]
    assert told["last"] == "chance level"
    assert told["found"] == ["row3"]


def test_a_console_error_would_be_seen(page: str, tmp_path: Path) -> None:
    broken = page.replace('"use strict";', '"use strict"; console.error("seen");')
    assert '"seen"' in opened(tmp_path, broken, 1280)[1]


def test_without_scripts_every_table_is_there(page: str) -> None:
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert bare.count("<td>row3</td>") == 1
    assert "hidden" not in bare.split("</style>")[1]
