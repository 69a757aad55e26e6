"""The tab *Find*: an image of the user's, found again in latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from forger.app.explore.samples import Shelf, label_of
from forger.app.explore.studio import Studio, shown
from forger.app.explore.words import told
from forger.app.run.latent_pictures import read_image
from forger.errors import ConfigError


def find_tab(studio: Studio, shelf: Shelf) -> None:
    """Lays the tab out."""
    near = "pixels" if studio.classifier is None else "pixels and the classifier's features"
    gr.Markdown(f"Nearest by {near}, from several starts; cut and scaled as the data are.")
    with gr.Row():
        upload = gr.File(label="Your image", elem_id="upload", height=140, type="filepath")
        with gr.Column():
            label: Any = gr.Dropdown(
                ["any", *studio.classes], label="Class", visible=bool(studio.classes)
            )
            search = gr.Button("Find it", variant="primary")
            pick = gr.Button("Pick it up")
    with gr.Row():
        wanted = gr.Image(
            label="Yours", elem_id="wanted", format="png", interactive=False, buttons=[]
        )
        image = gr.Image(
            label="Found", elem_id="found", format="png", interactive=False, buttons=[]
        )
    said = gr.Markdown(elem_id="distance")
    made = gr.State(None)

    @told
    def find(path: str | None, label: str, progress: Any = gr.Progress()) -> Any:  # noqa: B008
        if path is None:
            raise ConfigError("there is no image yet; choose a file first")
        pixels = read_image(Path(path), studio.shape)
        chosen = label_of(label)
        found, picked = studio.find(pixels, chosen, lambda *steps: progress(steps, unit="steps"))
        distance, floor = float(found.distance[0]), float(found.random_distance[0])
        text = (
            f"Distance **{distance:.3f}**, root mean square of pixels in [-1, 1]; the nearest of"
            f" 1,000 random images is at {floor:.3f}."
        )
        if read := studio.caption(found.images[0], picked.label):
            own = studio.caption(pixels / 127.5 - 1)
            text += f" Found: {read}" + (f", yours: {own}." if own else ".")
        return shown(pixels), shown(found.images[0]), text, picked

    search.click(find, [upload, label], [wanted, image, said, made])
    shelf.takes(pick, made)
