"""A real browser, Chromium, driven by Playwright; only `make test-browser` runs what lies here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from heard import Heard, leaves

if TYPE_CHECKING:  # `make test` reads this file, too
    from playwright.sync_api import Browser, Page

PATIENCE = 120_000  # milliseconds, for what is there in two seconds where nothing else runs
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can have none
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def new_page(browser: Browser, heard: Heard) -> Iterator[Callable[..., Page]]:
    """Opens pages; settings are those of a context: `viewport`, `color_scheme`, `offline` ..."""
    contexts = []

    def open_page(**settings: Any) -> Page:
        contexts.append(context := browser.new_context(**settings))
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: heard.requests.append(request.url))
        context.on("weberror", lambda raised: heard.errors.append(str(raised.error)))
        context.on("console", lambda said: said.type == "error" and heard.errors.append(said.text))
        context.route(leaves, lambda route: route.abort())
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A page in a window of the usual size; `heard` tells what it did."""
    return new_page()
