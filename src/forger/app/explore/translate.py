"""The tab *Translate*, of runs from image to image: of an upload, a drawing, a held-out source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from forger.app.explore.canvas import background, canvas, over, read_canvas
from forger.app.explore.studio import shown
from forger.app.explore.words import told
from forger.app.run.latent_pictures import check_size
from forger.app.run.translate import read_source
from forger.errors import ConfigError, DataError
from forger.pictures import to_pixels
from forger.sampling.translator import Translator

_MOST = 4_000_000  # pixels of an image that is translated here


def offers(make: Callable[[], Any]) -> bool:
    """Tells whether a translator can be turned into another one."""
    try:
        make()
    except ConfigError:
        return False
    return True


def translate_tab(there: Translator, page: gr.Blocks) -> None:
    """Lays the tab out for a translator, which may have a way back."""
    lock, ways = RLock(), {"a_to_b": there}
    if offers(there.reversed):
        ways["b_to_a"] = there.reversed()
    drops = offers(there.dropping)
    shape = tuple(there.sources.shape[1:])
    # Nothing drawn is as most of the sources are: black, white, or between.
    empty = there.sources.float().median().expand(shape).to(torch.uint8).cpu()
    names = [("from source to image", "a_to_b"), ("and back", "b_to_a")]
    with gr.Row():
        direction: Any = gr.Radio(
            names[: len(ways)], value="a_to_b", label="Direction", visible=len(ways) > 1
        )
        dropout = gr.Checkbox(False, label="Dropout", visible=drops)
        seed = gr.Number(0, label="Seed of Dropout", precision=0, minimum=0, visible=drops)
    with gr.Row():
        with gr.Column():
            number = gr.Slider(1, len(there.sources), 1, step=1, label="Held-out source")
            held_out = gr.Button("Translate it")
            upload = gr.File(label="Your image", elem_id="upload", height=140, type="filepath")
            uploaded = gr.Button("Translate the upload")
        with gr.Column():
            source = gr.Image(
                label="Source", elem_id="source", format="png", interactive=False, buttons=[]
            )
            image = gr.Image(
                label="Translated", elem_id="translated", format="png", interactive=False
            )
    drawing = canvas(shape, "Or draw the source", False, 1.5, "canvas")
    page.load(lambda: background(empty), None, drawing)
    drawn = gr.Button("Translate the drawing", variant="primary")

    def made(pixels: Tensor, direction: str, dropout: bool, seed: int) -> Any:
        with lock:
            way = ways[direction].dropping() if dropout else ways[direction]
            return shown(pixels), shown(way.translate(pixels[None], int(seed))[0].cpu())

    @told
    def of_number(number: int, direction: str, *how: Any) -> Any:
        sources = ways[direction].sources
        return made(sources[(int(number) - 1) % len(sources)].cpu(), direction, *how)

    @told
    def of_upload(path: str | None, direction: str, *how: Any) -> Any:
        if path is None:
            raise ConfigError("there is no image yet; choose a file first")
        check_size(Path(path), _MOST)
        try:
            source = read_source(Path(path), ways[direction])[0]
        except DataError as error:  # without the folder where uploads lie
            raise DataError(str(error).replace(path, Path(path).name)) from error
        return made(source, direction, *how)

    @told
    def of_drawing(value: Any, direction: str, *how: Any) -> Any:
        below = empty.float() / 127.5 - 1
        colours = over(read_canvas(value, shape), below, 1.0)[1]
        return made(to_pixels(colours), direction, *how)

    how, outputs = [direction, dropout, seed], [source, image]
    held_out.click(of_number, [number, *how], outputs)
    page.load(of_number, [number, *how], outputs)
    uploaded.click(of_upload, [upload, *how], outputs)
    drawn.click(of_drawing, [drawing, *how], outputs)
