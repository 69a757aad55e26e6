"""The tab *Text*, of runs with texts: images of what is typed, and a film from text to text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import gradio as gr
import torch

from forger.app.explore.samples import fill_place, film_place, gallery_of
from forger.app.explore.studio import shown
from forger.app.explore.words import told
from forger.app.run.walk_picture import embedded
from forger.sampling.between_classes import walk
from forger.sampling.sampler import Sampler

_MOST, _EXAMPLES = 32, 8
_WALKED = 1  # images of the film


def text_tab(samplers: Mapping[str, Sampler], folder: Path, page: gr.Blocks) -> None:
    """Lays the tab out for the samplers of a run, by the name of their weights."""
    lock, any_one = RLock(), samplers["ema"]
    examples = list(any_one.condition.prompts[:_EXAMPLES])
    text = gr.Textbox(examples[0], label="Text", elem_id="text", max_lines=2)
    choice = gr.Dropdown(examples, label="Held-out captions", value=examples[0])
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
        count = gr.Slider(1, _MOST, 8, step=1, label="Images")
        weights: Any = gr.Radio(
            [("average (EMA)", "ema"), ("raw", "raw")], value="ema", label="Weights"
        )
        draw = gr.Button("Draw", variant="primary")
    gallery, unknown = gallery_of("samples", 8), gr.Markdown(elem_id="unknown")
    other = gr.Textbox(examples[-1], label="To another text", elem_id="other", max_lines=2)
    with gr.Row():
        frames = gr.Slider(2, 60, 20, step=1, label="Frames from one to the other")
        go = gr.Button("Walk")
    film = film_place()

    @told
    def sample(text: str, seed: int, n: int, weights: str) -> Any:
        sampler = samplers[weights]
        with lock:
            images = sampler.sample(int(n), int(seed), text=text)
        missing = sampler.condition.check_text(text)
        note = f"Captions had no {', '.join(missing)}." if missing else ""
        return [shown(image) for image in images.cpu()], note

    @told
    def draw_film(text: str, other: str, seed: int, frames: int) -> Any:
        with lock, torch.inference_mode():
            any_one.condition.read({"text": [text, other]}, 2)
            stops = embedded(any_one, [text, other])[:, None]
            noise = any_one.noise(_WALKED, int(seed)).expand(2 * int(frames), -1, -1)
            images = [image.cpu() for image in walk(any_one, noise, stops)]
        return fill_place(folder, images)

    asked, outputs = [text, seed, count, weights], [gallery, unknown]
    for event in (draw.click, text.submit, seed.submit, count.release, weights.change, page.load):
        event(sample, asked, outputs)
    choice.input(lambda chosen: chosen, choice, text).then(sample, asked, outputs)
    go.click(draw_film, [text, other, seed, frames], film)
