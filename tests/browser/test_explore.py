"""The page of explore.py in a real browser: each control does what it says, and nothing leaves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from heard import Heard
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "app"))

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.filterwarnings("ignore")  # of Gradio, and of what it imports


@contextmanager
def opened(run: Path, folder: Path) -> Iterator[str]:
    """Serves the page of a run by the command, and yields its address."""
    words = [f"run={run}", "port=0", "device=cpu", "threads=1", f"paths.cache_dir={folder}"]
    command = [sys.executable, str(Path(__file__).parents[2] / "explore.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = (re.search(r"http://[\d.]+:\d+", line) for line in process.stdout)
            found = next(filter(None, lines), None)
            assert found is not None
            yield found[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(300) == 0  # two seconds where nothing else runs
        finally:
            process.kill()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of digits with classes, quickly trained, and the cache with their classifier."""
    from composing import compose_config
    from training import run_folder

    from forger.app.cli import main  # noqa: F401  (registers resolvers)
    from forger.app.run.train import train
    from forger.data import MNISTSample
    from forger.metrics.classifier import Classifier

    folder = tmp_path_factory.mktemp("digits")
    words = ["experiment=quickstart", "trainer=cpu", "trainer.max_steps=600", "metrics=none"]
    words += [f"paths.log_dir={folder / 'logs'}", f"paths.cache_dir={folder / 'cache'}"]
    train(compose_config("train", *words))
    Classifier().prepare(MNISTSample(batch_size=64), folder / "cache")
    return run_folder(folder), folder / "cache"


@pytest.fixture(scope="module")
def address(digits: tuple[Path, Path]) -> Iterator[str]:
    with opened(*digits) as url:
        yield url


@pytest.fixture
def seen(address: str, page: Page) -> Page:
    page.goto(address)
    page.wait_for_selector("#samples img")
    return page


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def sources(page: Page, place: str) -> list[str]:
    """The pictures that are shown somewhere, by their addresses, which tell their contents."""
    page.wait_for_selector(f"{place} img")
    return [str(one.get_attribute("src")) for one in page.locator(f"{place} img").all()]


def changed(page: Page, place: str, act: Callable[[], Any]) -> list[str]:
    """What is shown somewhere once an act has changed it."""
    before = sources(page, place)
    act()
    page.wait_for_function(
        "([place, src]) => { const one = document.querySelector(place + ' img');"
        " return one && one.getAttribute('src') != src; }",
        arg=[place, before[0]],
    )
    return sources(page, place)


def pick(page: Page, *places: int) -> None:
    for count, place in enumerate(places, page.locator("#shelf img").count() + 1):
        page.locator("#samples img").nth(place).click()
        page.wait_for_function(
            "count => document.querySelectorAll('#shelf img').length == count", arg=count
        )


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_samples_follow_seed_and_class_and_can_be_picked_up(
    seen: Page, heard: Heard, digits: tuple[Path, Path]
) -> None:
    first = sources(seen, "#samples")
    assert len(first) == 16
    other = changed(seen, "#samples", lambda: click(seen, "Another seed"))
    assert not set(first) & set(other)
    seed = seen.get_by_label("Seed")

    def back() -> None:
        seed.fill("0")
        seed.press("Enter")

    assert [one.rsplit("/")[-2] for one in changed(seen, "#samples", back)] == [
        one.rsplit("/")[-2] for one in first
    ]
    changed(seen, "#samples", lambda: seen.get_by_label("raw").check())
    pick(seen, 2, 5)
    click(seen, "Put all back")
    seen.wait_for_selector("#shelf img", state="detached")
    assert heard.elsewhere == []
    assert heard.errors == []


def plays(page: Page, url: str) -> list[float]:
    """Has the browser play a film; returns its width, its height and its seconds."""
    found: list[float] = page.evaluate(
        "url => new Promise((done, failed) => { const film = document.createElement('video');"
        " film.muted = true; film.playbackRate = 8; film.src = url; film.onerror = failed;"
        " film.onended = () => done([film.videoWidth, film.videoHeight, film.duration]);"
        " film.play(); })",
        url,
    )
    return found


def test_a_walk_goes_from_picked_image_to_picked_image(seen: Page, heard: Heard) -> None:
    pick(seen, 0, 1, 2)
    tab(seen, "Walk")
    click(seen, "Walk")
    (film,) = sources(seen, "#film")
    assert ".gif" in film
    assert seen.request.get(film).body()[:6] == b"GIF89a"
    seen.wait_for_selector("text=Save as GIF")
    with seen.expect_download() as download:
        click(seen, "Save as MP4")
    assert download.value.suggested_filename == "walk.mp4"
    assert plays(seen, download.value.url) == [252, 252, 3.0]  # 3 walks of 20 frames, 20 a second
    assert heard.elsewhere == []


def test_sliders_move_the_image(seen: Page, heard: Heard) -> None:
    tab(seen, "Directions")
    still = sources(seen, "#moved")

    def slide() -> None:
        number = seen.get_by_label("number input for 1").first
        number.fill("2.5")
        number.press("Enter")

    moved = changed(seen, "#moved", slide)
    assert moved != still
    changed(seen, "#moved", lambda: click(seen, "All to 0"))
    assert heard.errors == []
    assert heard.elsewhere == []


def test_uploaded_digits_are_found_again(seen: Page, heard: Heard, tmp_path: Path) -> None:
    """The first of each class of the test images."""
    from forger.data import MNISTSample
    from forger.pictures import png_bytes

    data = MNISTSample(batch_size=64)
    kept = []
    for digit in range(10):
        seen.reload()
        tab(seen, "Find")
        image = tmp_path / f"a_{digit}.png"
        number = int((data.test_labels == digit).nonzero()[0])
        image.write_bytes(png_bytes(data.test_images[number]))
        seen.locator("#upload input[type=file]").set_input_files(image)
        seen.wait_for_selector(f"text=a_{digit}.png")
        click(seen, "Find it")
        sources(seen, "#found")
        text = seen.locator("#distance").inner_text()
        said = re.search(r"Distance ([\d.]+),.* is at ([\d.]+)\. Found: (\d) .*, yours: (\d)", text)
        assert said is not None, text
        assert float(said[1]) < float(said[2]), f"{digit}: {text}"
        kept.append(said[3] == said[4])
    assert sum(kept) >= 9, kept
    assert heard.elsewhere == []
    assert heard.errors == []


def place_of_canvas(page: Page) -> Any:
    """Waits until the canvas has come to rest, and returns where."""
    canvas: Locator = page.locator("#canvas canvas").first
    canvas.scroll_into_view_if_needed()
    before = None
    for _ in range(100):
        page.wait_for_timeout(1_000)
        if (box := canvas.bounding_box()) == before and box is not None:
            return box
        before = box
    raise AssertionError("the canvas goes on moving")


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """Draws along points of the canvas, in parts of its sides."""
    box = place_of_canvas(page)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=20)
    page.mouse.up()
    page.wait_for_selector("#canvas button[aria-label=Undo]:enabled")


@pytest.mark.parametrize("leaning", [0.0, 0.1])
def test_a_drawn_one_gives_ones(leaning: float, seen: Page, heard: Heard) -> None:
    tab(seen, "Scribble")
    seen.wait_for_selector("#canvas canvas")
    draw(seen, [(0.5 + leaning, 0.25), (0.5 - leaning, 0.75)])
    click(seen, "Find images")
    assert len(sources(seen, "#candidates")) == 4
    read = re.findall(r"(\d) \(", seen.locator("#candidates").inner_text())
    assert {"1", "7"} & set(read), read
    assert ".gif" in sources(seen, "#way")[0]
    changed(seen, "#way", lambda: seen.locator("#candidates img").nth(1).click())
    click(seen, "Back to the one before")
    assert heard.elsewhere == []


def words_of(page: Page) -> str:
    toast = page.locator(".toast-body").first
    toast.wait_for()
    return toast.inner_text()


def test_mistakes_are_told_in_words(seen: Page, tmp_path: Path, heard: Heard) -> None:
    pdf = tmp_path / "paper.pdf"
    pdf.write_bytes(b"%PDF-1.7 no image at all")
    Image.new("1", (20_000, 20_000)).save(huge := tmp_path / "huge.png")
    tab(seen, "Find")
    click(seen, "Find it")
    assert "there is no image yet; choose a file first" in words_of(seen)
    seen.reload()
    tab(seen, "Find")
    seen.locator("#upload input[type=file]").set_input_files(pdf)
    seen.wait_for_selector("text=paper.pdf")
    click(seen, "Find it")
    assert "paper.pdf cannot be read: not an image" in words_of(seen)
    seen.reload()
    tab(seen, "Find")
    seen.locator("#upload input[type=file]").set_input_files(huge)
    seen.wait_for_selector("text=huge.png")
    click(seen, "Find it")
    assert "huge.png is too large; allowed: up to 100 million pixels" in words_of(seen)
    seen.reload()
    tab(seen, "Scribble")
    seen.wait_for_selector("#canvas canvas")
    place_of_canvas(seen)
    click(seen, "Find images")
    assert "the canvas is empty; draw something on it first" in words_of(seen)
    assert heard.elsewhere == []


def test_two_pages_have_shelves_of_their_own(address: str, new_page: Callable[..., Page]) -> None:
    pages = [new_page(), new_page(color_scheme="dark", viewport={"width": 400, "height": 800})]
    for page in pages:
        page.goto(address)
        page.wait_for_selector("#samples img")
    pick(pages[0], 1, 2)
    pick(pages[1], 3)
    assert pages[0].locator("#shelf img").count() == 2
    pages[0].close()  # in the middle of it all
    changed(pages[1], "#samples", lambda: click(pages[1], "Another seed"))
    width = pages[1].evaluate("document.documentElement.scrollWidth")
    assert width <= 400


def test_a_source_is_translated(page: Page, heard: Heard, tmp_path: Path) -> None:
    from PIL import Image
    from training import trained

    (images := tmp_path / "images").mkdir()
    for level in range(0, 240, 10):  # each as bright as its number: soon learned
        Image.new("RGB", (32, 32), (level,) * 3).save(images / f"{level}.png")
    words = ("task=paired", "model=unet_patchgan", "data=grey_to_colour_folder")
    sizes = ("data.image_size=32", "model.generator.width=8", "model.discriminator.width=8")
    sizes = (*sizes, "model.discriminator.layers=1", "optimizer.lr=5e-3")
    run = trained(tmp_path, *words, f"data.root={images}", *sizes, steps=40)
    with opened(run, tmp_path / "cache") as url:
        page.goto(url)
        first = sources(page, "#source")
        number = page.get_by_label("number input for Held-out source")
        number.fill("64")  # of few held-out images, repeated in order
        number.press("Enter")
        changed(page, "#translated", lambda: click(page, "Translate it"))
        assert sources(page, "#source") != first
        draw(page, [(0.45, 0.3), (0.55, 0.3), (0.5, 0.7)])
        changed(page, "#translated", lambda: click(page, "Translate the drawing"))
        page.close()
    assert heard.elsewhere == []
    assert heard.errors == []


def test_a_text_is_drawn_and_becomes_another(page: Page, heard: Heard, tmp_path: Path) -> None:
    from composing import compose_config
    from training import run_folder

    from forger.app.run.train import train

    words = ["model=dfgan", "condition=text", "loss=hinge", "data=captioned_sample", "trainer=cpu"]
    words += ["data.train_limit=100", "trainer.max_steps=9", "metrics=none", "report=false"]
    words += ["data.batch_size=10", "optimizer.lr=0.01"]  # for images that follow the text
    words += ["model.generator.width=4", "model.discriminator.width=4"]
    words += [f"paths.log_dir={tmp_path / 'logs'}", f"paths.cache_dir={tmp_path}"]
    train(compose_config("train", *words))
    with opened(run_folder(tmp_path), tmp_path) as address:
        page.goto(address)
        images = page.locator("#samples img")
        images.nth(7).wait_for()
        first = images.first.get_attribute("src")
        page.locator("#text textarea").fill("a thin blue three on white zork")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("Captions had no zork.").wait_for()
        assert images.first.get_attribute("src") != first
        page.locator("#text textarea").fill("zork")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("has no word of the training captions").wait_for()
        page.locator("#text textarea").fill("a red 3")
        page.get_by_role("button", name="Walk").click()
        page.locator("#film img").wait_for()
        page.get_by_role("button", name="Save as MP4").wait_for()
    assert not heard.elsewhere
