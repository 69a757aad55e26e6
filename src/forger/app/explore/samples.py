"""The tabs *Samples* and *Walk*, and the shelf of images that were picked up."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from forger.app.explore.studio import Picked, Studio, film_of
from forger.app.explore.words import told

_MOST_PICKED, _MOST_SHOWN = 12, 64
_MP4 = find_spec("av") is not None
_WALKED = 4  # of the seed's first images, where less than two are picked


class Shelf:
    """Images that were picked up, of one session, above all tabs.

    Attributes:
        picked: the state that holds them, a list of `Picked`.
    """

    def __init__(self, studio: Studio) -> None:
        self.picked = gr.State([])
        gr.Markdown("Click images to pick them up for the other tabs.")
        with gr.Row():
            gallery = gallery_of("shelf", _MOST_PICKED)
            clear = gr.Button("Put all back", scale=0, min_width=150)
        clear.click(list, None, self.picked)
        self.picked.change(
            lambda picked: [studio.image(one) for one in picked], self.picked, gallery
        )

    def takes_from(self, gallery: gr.Gallery, shown: gr.State) -> None:
        """Picks up what is clicked in a gallery whose images are made of what `shown` holds."""

        def pick(event: gr.SelectData, shown: list[Picked], picked: list[Picked]) -> list[Picked]:
            return [*picked, shown[event.index]][-_MOST_PICKED:]

        gallery.select(pick, [shown, self.picked], self.picked)

    def takes(self, button: gr.Button, made: gr.State) -> None:
        """Picks up by a button what a state holds, None: nothing."""

        def pick(made: Picked | None, picked: list[Picked]) -> list[Picked]:
            return picked if made is None else [*picked, made][-_MOST_PICKED:]

        button.click(pick, [made, self.picked], self.picked)


def gallery_of(name: str, columns: int) -> Any:
    """Returns a gallery in which a click picks."""
    return gr.Gallery(
        elem_id=name,
        elem_classes="gallery",
        show_label=False,
        columns=columns,
        height="auto",
        format="png",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def samples_tab(studio: Studio, shelf: Shelf, page: gr.Blocks) -> None:
    """Lays the tab out in which a seed is sampled."""
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
        count = gr.Slider(1, _MOST_SHOWN, 16, step=1, label="Images")
        label: Any = gr.Dropdown(
            ["any", *studio.classes], label="Class", visible=bool(studio.classes)
        )
        truncation = gr.Slider(0, 1.5, 1, step=0.05, label="Truncation", visible=studio.has_styles)
        weights: Any = gr.Radio(
            [("average (EMA)", "ema"), ("raw", "raw")], value="ema", label="Weights"
        )
    with gr.Row():
        draw = gr.Button("Draw", variant="primary")
        other = gr.Button("Another seed")
    shown = gr.State([])
    gallery = gallery_of("samples", 8)

    @told
    def sample(seed: int, n: int, label: str, truncation: float, weights: str) -> Any:
        return studio.samples(int(n), int(seed), label_of(label), truncation, weights)

    asked = [seed, count, label, truncation, weights]
    for event in (draw.click, page.load, seed.submit, label.change, weights.change, count.release):
        event(sample, asked, [gallery, shown])
    truncation.release(sample, asked, [gallery, shown])
    other.click(lambda: secrets.randbelow(10_000), None, seed).then(sample, asked, [gallery, shown])
    shelf.takes_from(gallery, shown)


def label_of(chosen: str | None) -> str | None:
    """Returns the class that was chosen, None where any is right."""
    return None if chosen in (None, "any") else chosen


def walk_tab(studio: Studio, shelf: Shelf, folder: Path) -> None:
    """Lays the tab out in which images become one another; films lie in `folder`."""
    gr.Markdown(
        "From picked image to picked image, along great circles; with less than two picked, through"
        f" the first {_WALKED} of seed 0."
    )
    with gr.Row():
        frames = gr.Slider(2, 60, 20, step=1, label="Frames from one to the next")
        closed = gr.Checkbox(True, label="Back to the first, and round again")
        walk = gr.Button("Walk", variant="primary")
    film = film_place()

    @told
    def draw(picked: list[Picked], frames: int, closed: bool) -> Any:
        if len(picked) < 2:
            picked = studio.samples(_WALKED, 0, None, 1.0, "ema")[1]
        return fill_place(folder, studio.walk(picked, int(frames), closed))

    walk.click(draw, [shelf.picked, frames, closed], film)


def film_place() -> list[Any]:
    """Lays out where a film is shown, and buttons that save it."""
    film = gr.Image(label="Film", elem_id="film", type="filepath", interactive=False, height=300)
    with gr.Row():
        names = ("Save as GIF", "Save as MP4" if _MP4 else "For MP4: pip install av")
        return [film, *(gr.DownloadButton(name, visible=False) for name in names)]


def fill_place(folder: Path, frames: Sequence[Tensor]) -> list[Any]:
    """Returns what the components of a `film_place` become, of frames `(1, C, H, W)`."""
    gif, *others = (
        write_film(folder, f"walk.{kind}", film_of(frames, kind))
        for kind in ("gif", *(["mp4"] if _MP4 else []))
    )
    mp4 = gr.update(value=next(iter(others), None), visible=True, interactive=_MP4)
    return [gif, gr.update(value=gif, visible=True), mp4]


def write_film(folder: Path, name: str, film: bytes) -> str:
    """Writes a film into a folder that no one else has, and returns its path."""
    path = folder / secrets.token_hex(8) / name
    path.parent.mkdir(parents=True)
    path.write_bytes(film)
    return str(path)
