"""The page of `format=html` in a browser that has no network."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "app"))  # for what its tests share

import numpy as np
import pytest
import torch
from composing import compose_config
from heard import Heard
from training import colour_folder, trained

import forger
from forger.app.export.export import export
from forger.app.export.web_runtime import find_web_runtime
from forger.errors import UserError
from forger.pictures import to_pixels
from forger.sampling.sampler import Sampler

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "forger"  # npm's package is fetched once for all runs of the tests
DRAWN = """() => [...document.querySelectorAll('canvas')].map(canvas =>
  [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sampler, Path]:
    """A generator of coloured digits with classes, barely trained, and its page."""
    try:
        find_web_runtime(None, CACHE)
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("page")
    words = ["data=image_folder", f"data.root={colour_folder(folder / 'images')}"]
    words += ["data.image_size=[12,16]", "model=subpixel", "condition=label"]
    run = trained(folder, *words, "model.generator.hidden=32", "model.generator.width=4")
    words = [f"run={run}", "format=html", f"paths.cache_dir={CACHE}", "weights=raw"]
    output = export(compose_config("export", *words))
    return forger.load(run, weights="raw"), output / "index.html"


@pytest.fixture
def opened(
    exported: tuple[Sampler, Path], new_page: Callable[..., Page], heard: Heard
) -> Callable[..., Page]:
    def open_page(**settings: Any) -> Page:
        page = new_page(offline=True, **settings)
        page.goto(exported[1].as_uri())
        ready(page)
        return page

    return open_page


def ready(page: Page, text: str = "ms each") -> None:
    page.wait_for_function(
        "text => document.getElementById('status').textContent.includes(text)", arg=text
    )


def drawn(page: Page, text: str = "ms each") -> np.ndarray:
    """The pixels of all images, (N, 3, 12, 16), as the browser shows them."""
    ready(page, text)
    found = np.array(page.evaluate(DRAWN), dtype=int).reshape(-1, 12, 16, 4)
    assert (found[..., 3] == 255).all()
    return found[..., :3].transpose(0, 3, 1, 2)


def changed(page: Page, before: np.ndarray) -> np.ndarray:
    """Waits until other images are there."""
    for _ in range(1200):
        if (found := drawn(page)).shape != before.shape or (found != before).any():
            return found
        page.wait_for_timeout(50)
    raise AssertionError("the images stay as they were")


def settled(page: Page) -> np.ndarray:
    """Waits until the images stay as they are; while a walk goes on, none does."""
    before = drawn(page)
    for _ in range(100):
        page.wait_for_timeout(300)
        if ((found := drawn(page)) == before).all():
            return found
        before = found
    raise AssertionError("the images go on changing")


def noise_file(folder: Path, sampler: Sampler, n: int) -> tuple[Path, np.ndarray]:
    """Writes known noise, and returns what torch makes of it."""
    noise, label = sampler.noise(n, 5), torch.arange(n) % 2
    path = folder / "noise.json"
    path.write_text(json.dumps({"noise": noise.tolist(), "label": label.tolist()}))
    return path, to_pixels(sampler(noise, label)).numpy().astype(int)


def test_known_noise_gives_torchs_images_without_a_network(
    exported: tuple[Sampler, Path], opened: Callable[..., Page], heard: Heard, tmp_path: Path
) -> None:
    page = opened()
    assert len(drawn(page)) == 16
    path, expected = noise_file(tmp_path, exported[0], 10)
    page.set_input_files("#file", path)
    found = drawn(page, "10 images in")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2
    assert expected.std() > 5
    page.select_option("#class", label="dog")
    found = changed(page, found)
    noise = exported[0].noise(10, 5)
    expected = to_pixels(exported[0](noise, torch.full((10,), 1))).numpy().astype(int)
    assert np.abs(found - expected).max() <= 2
    assert heard.requests == [exported[1].as_uri()]
    assert heard.errors == []


def test_every_control_does_what_it_says(opened: Callable[..., Page], heard: Heard) -> None:
    page = opened()
    first = drawn(page)
    page.fill("#seed", "1")
    second = changed(page, first)
    page.fill("#seed", "0")
    assert (changed(page, second) == first).all(), "the same seed, the same images"
    page.select_option("#count", "4")
    assert (drawn(page, "4 images in") == first[:4]).all(), "the first ones stay"
    page.select_option("#count", "16")
    drawn(page, "16 images in")
    page.locator("#direction0").fill("3")
    moved = changed(page, first)
    page.click("#reset")
    assert (changed(page, moved) == first).all()
    page.click("#walk")
    on_the_way = changed(page, first)
    changed(page, on_the_way)
    page.click("#walk")
    stopped = settled(page)
    page.click("#next")
    changed(page, stopped)
    assert heard.errors == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be used"),
        ('{"noise": []}', "noise must be rows of 64 numbers"),
        ('{"noise": [[1, 2]]}', "noise must be rows of 64 numbers"),
        (json.dumps({"noise": [[0] * 64], "label": [7]}), "label must be a number of a class"),
    ],
)
def test_a_file_that_is_no_noise_is_told(
    content: str, reason: str, opened: Callable[..., Page], tmp_path: Path
) -> None:
    page, path = opened(), tmp_path / "noise.json"
    path.write_text(content)
    page.set_input_files("#file", path)
    ready(page, reason)
    page.click("#next")
    ready(page)


def test_its_policy_lets_no_request_leave(
    exported: tuple[Sampler, Path], page: Page, heard: Heard
) -> None:
    page.goto(exported[1].as_uri())
    ready(page)
    assert heard.requests == [exported[1].as_uri()]
    with socket.create_server(("127.0.0.1", 0)) as server:  # which anybody may ask
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        told = page.evaluate("url => fetch(url).catch(error => `${error}`)", address)
        page.evaluate("url => void Object.assign(new Image(), {src: url})", address)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "Failed to fetch" in told
    assert len(heard.errors) >= 2
    assert all("Content Security Policy" in error for error in heard.errors)


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_window(
    width: int, scheme: str, opened: Callable[..., Page], tmp_path: Path
) -> None:
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / "page.png", full_page=True)
