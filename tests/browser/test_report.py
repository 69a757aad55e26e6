"""Reports in a browser: nothing is asked of anybody, and all can be read without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from heard import Heard
from reported import COMMAND, write_run, write_sweep

from forger.app.report.write import write_at_end

if TYPE_CHECKING:
    from playwright.sync_api import Page

JOBS = {n: (f"model={'ab'[n % 2]}", f"seed={n // 2}") for n in range(12)}


@pytest.fixture
def run(tmp_path: Path) -> str:
    folder = write_run(tmp_path / "run", reason="<script>alert(1)</script><b>bold</b>")
    write_at_end(folder, COMMAND)
    return (folder / "report.html").as_uri()


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    folder = write_sweep(tmp_path / "sweep", JOBS)
    write_at_end(folder, COMMAND)
    return (folder / "report.html").as_uri()


def shown(page: Page) -> list[str]:
    captions = page.locator(".frames figcaption").all()
    return [caption.inner_text() for caption in captions if caption.is_visible()]


def test_the_slider_and_the_film(page: Page, heard: Heard, run: str) -> None:
    page.goto(run)
    assert shown(page) == ["iteration 1,000"]
    page.get_by_label("Iteration").first.fill("1")
    assert shown(page) == ["iteration 500"]
    page.get_by_role("button", name="Play").click()
    page.get_by_text("iteration 0", exact=True).wait_for()  # it begins again at its end
    page.get_by_role("button", name="Pause").click()
    assert heard.requests == [run, *(one for one in heard.requests if one.startswith("data:"))]
    assert heard.errors == []
    sizes = page.locator("img").evaluate_all("them => them.map(one => one.naturalWidth)")
    assert set(sizes) == {64}
    assert page.locator("b", has_text="bold").count() == 0


def test_tables_are_sorted(page: Page, heard: Heard, sweep: str) -> None:
    page.goto(sweep)
    jobs = page.locator("table").first

    def column(number: int) -> list[str]:
        return jobs.locator(f"tbody td:nth-child({number})").all_inner_texts()

    assert column(1)[0].strip() == "1"  # the first of the best setting, model=b
    jobs.get_by_role("button", name="number").click()
    assert [int(text) for text in column(1)] == list(range(12))
    jobs.get_by_role("button", name="number").click()
    assert [int(text) for text in column(1)] == list(range(11, -1, -1))
    assert jobs.locator("th").first.get_attribute("aria-sort") == "descending"
    jobs.get_by_role("button", name="model").click()
    assert column(2) == ["a"] * 6 + ["b"] * 6
    assert (heard.elsewhere, heard.errors) == ([], [])
    assert page.locator(".pictures img").count() == 12


def test_without_javascript_all_of_it_stands_there(
    new_page: Callable[..., Page], heard: Heard, run: str
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(run)
    assert shown(page) == ["iteration 0", "iteration 500", "iteration 1,000"]
    assert page.get_by_role("button", name="Play").count() == 0
    assert page.locator("svg .line").first.is_visible()
    page.get_by_text("All settings").click()
    assert page.get_by_text("width: 8").is_visible()
    assert (heard.elsewhere, heard.errors) == ([], [])


def test_print_shows_all_grids_in_light(page: Page, run: str) -> None:
    page.goto(run)
    page.emulate_media(media="print", color_scheme="dark")
    assert len(shown(page)) == 3
    assert not page.get_by_role("button", name="Play").is_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_alone(
    scheme: str, new_page: Callable[..., Page], run: str, sweep: str
) -> None:
    page = new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    for address in (run, sweep):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
