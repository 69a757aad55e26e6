"""The tab *Directions*: sliders along which one image changes."""

from __future__ import annotations

from typing import Any

import gradio as gr
import torch

from forger.app.explore.samples import Shelf
from forger.app.explore.studio import Picked, Studio
from forger.app.explore.words import told

_MOST, _USUAL, _REACH = 16, 6, 3.0


def directions_tab(studio: Studio, shelf: Shelf, page: gr.Blocks) -> None:
    """Lays the tab out."""
    most = min(_MOST, studio.sampler.latent_dim)
    usual = min(_USUAL, most)
    gr.Markdown(
        "Found without labels, the strongest first; in standard deviations. They move the image"
        " that was picked up last, or the first one of seed 0."
    )
    with gr.Row():
        with gr.Column(scale=2):
            sliders: list[Any] = [
                gr.Slider(-_REACH, _REACH, 0, step=0.1, label=str(k + 1), visible=k < usual)
                for k in range(most)
            ]
            towards: Any = gr.Dropdown(
                studio.classes, label="Towards class", visible=studio.moves_classes, value=None
            )
            share = gr.Slider(
                0, 1, 0, step=0.05, label="Part of the way", visible=studio.moves_classes
            )
        with gr.Column(scale=1):
            image = gr.Image(
                label="Moved", elem_id="moved", format="png", interactive=False, buttons=[]
            )
            with gr.Row():
                reset = gr.Button("All to 0")
                pick = gr.Button("Pick it up")
            number = gr.Slider(1, most, usual, step=1, label="Directions")
            reach = gr.Slider(1, 10, _REACH, step=0.5, label="Range")
    made = gr.State(None)

    @told
    def move(
        picked: list[Picked], number: int, towards: str | None, share: float, *amounts: float
    ) -> Any:
        start = picked[-1] if picked else studio.samples(1, 0, None, 1.0, "ema")[1][0]
        return studio.moved(
            start, torch.tensor(amounts[: int(number)], dtype=torch.float32), towards, share
        )

    def lay_out(number: int, reach: float, *amounts: float) -> list[Any]:
        return [
            gr.update(
                visible=k < number,
                minimum=-reach,
                maximum=reach,
                value=max(-reach, min(reach, amount)) if k < number else 0,
            )
            for k, amount in enumerate(amounts)
        ]

    asked = [shelf.picked, number, towards, share, *sliders]
    moving = [one.change for one in (*sliders, towards, share, number, shelf.picked)] + [page.load]
    gr.on(moving, move, asked, [image, made], trigger_mode="always_last", show_progress="hidden")
    gr.on([number.release, reach.release], lay_out, [number, reach, *sliders], sliders)
    reset.click(lambda: [0] * (len(sliders) + 1), None, [*sliders, share])
    shelf.takes(pick, made)
