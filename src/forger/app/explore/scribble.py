"""The tab *Scribble*: the images nearest to strokes that look real (iGAN, arXiv:1609.03552)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from forger.app.explore.canvas import background, canvas, over, read_canvas
from forger.app.explore.samples import Shelf, gallery_of, write_film
from forger.app.explore.studio import Picked, Studio
from forger.app.explore.words import told
from forger.errors import ConfigError
from forger.pictures import to_pixels


def scribble_tab(studio: Studio, shelf: Shelf, folder: Path, page: gr.Blocks) -> None:
    """Lays the tab out; films lie in `folder`."""
    grey = studio.shape[0] == 1
    gr.Markdown(
        "Paint, on nothing or on an image: the nearest images that look real are searched for. The"
        " pink brush draws lines instead, whatever their colour is to be. Click one to go on."
    )
    empty = torch.full(studio.shape, -1.0 if grey else 0.0)
    start, earlier, made, ways = gr.State(None), gr.State([]), gr.State([]), gr.State([])
    with gr.Row():
        with gr.Column():
            drawing = canvas(studio.shape, "Draw here", True, 2.5, "canvas")
            with gr.Row():
                search = gr.Button("Find images", variant="primary")
                clear = gr.Button("Empty canvas")
            with gr.Row():
                take = gr.Button("Draw on the image picked up last")
                undo = gr.Button("Back to the one before")
        with gr.Column():
            gallery = gallery_of("candidates", 4)
            film = gr.Image(
                label="The way to it", elem_id="way", type="filepath", interactive=False
            )
            pick = gr.Button("Pick up what is drawn on")
            rest = gr.Slider(
                0, 1, 0.05 if grey else 0, step=0.01, label="How much counts what is not drawn"
            )
            stay = gr.Slider(0, 1, 0.1, step=0.01, label="Stay near where it is")
            realism = gr.Slider(0, 0.2, 0.02, step=0.005, label="Look real, by the discriminator")

    def shown_on(start: Picked | None) -> Tensor:
        if start is None:
            return empty
        with studio.lock, torch.no_grad():
            image: Tensor = studio.sampler(*studio.inputs(start))[0].cpu()
            return image

    @told
    def find(
        value: Any,
        start: Picked | None,
        rest: float,
        stay: float,
        realism: float,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Any:
        drawn = over(read_canvas(value, studio.shape), shown_on(start), rest)
        done, found = studio.scribble(
            drawn, start, (stay, realism), lambda *steps: progress(steps, unit="steps")
        )
        each = zip(done.images, found, strict=True)
        items = [(studio.image(one), studio.caption(image, one.label)) for image, one in each]
        films = [write_film(folder, "way.gif", studio.way(done, row)) for row in range(len(found))]
        return items, found, films, films[0]

    def onto(start: Picked | None) -> Any:
        return background(to_pixels(shown_on(start)))

    def go_on(
        event: gr.SelectData, made: list[Picked], films: list[str], start: Any, earlier: Any
    ) -> Any:
        chosen = made[event.index]
        return chosen, [*earlier, start], films[event.index], onto(chosen)

    @told
    def take_up(picked: list[Picked], start: Any, earlier: list[Any]) -> Any:
        if not picked:
            raise ConfigError("nothing is picked up yet; click an image in Samples first")
        return picked[-1], [*earlier, start], onto(picked[-1])

    @told
    def back(earlier: list[Any]) -> Any:
        if not earlier:
            raise ConfigError("this is where it began")
        return earlier[-1], earlier[:-1], onto(earlier[-1])

    asked = [drawing, start, rest, stay, realism]
    search.click(find, asked, [gallery, made, ways, film])
    gallery.select(go_on, [made, ways, start, earlier], [start, earlier, film, drawing])
    take.click(take_up, [shelf.picked, start, earlier], [start, earlier, drawing])
    undo.click(back, earlier, [start, earlier, drawing])
    clear.click(
        lambda start, earlier: (None, [*earlier, start], onto(None)),
        [start, earlier],
        [start, earlier, drawing],
    )
    shelf.takes(pick, start)
    page.load(lambda: onto(None), None, drawing)
