"""What the fixtures of this folder hear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heard import Heard

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_requests_and_errors_are_heard_and_none_leaves(
    page: Page, heard: Heard, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        "<!doctype html><title>x</title><img src='https://example.org/a.png'>"
        "<script>console.error('said'); throw new Error('raised')</script>"
    )
    page.goto(file.as_uri())
    assert heard.requests == [file.as_uri(), "https://example.org/a.png"]
    assert heard.elsewhere == ["https://example.org/a.png"]
    assert "said" in heard.errors
    assert any("raised" in error for error in heard.errors)
    assert any("ERR_FAILED" in error for error in heard.errors)
