"""Puts the page together: the tabs that a run can fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from forger.app.explore.find import find_tab
from forger.app.explore.samples import Shelf, samples_tab, walk_tab
from forger.app.explore.scribble import scribble_tab
from forger.app.explore.sliders import directions_tab
from forger.app.explore.studio import Studio
from forger.app.explore.texts import text_tab
from forger.app.explore.translate import translate_tab
from forger.app.run.load import LoadedRun
from forger.sampling.translator import Translator


def build_page(studio: Studio, folder: Path) -> Any:
    """Builds the page of a run whose generator takes noise; films lie in `folder`."""
    with _page(studio.run) as page:
        shelf = Shelf(studio)
        with gr.Tabs():
            with gr.Tab("Samples"):
                samples_tab(studio, shelf, page)
            with gr.Tab("Walk"):
                walk_tab(studio, shelf, folder)
            with gr.Tab("Directions"):
                directions_tab(studio, shelf, page)
            with gr.Tab("Find"):
                find_tab(studio, shelf)
            with gr.Tab("Scribble"):
                scribble_tab(studio, shelf, folder, page)
    return page


def build_translating_page(run: LoadedRun, translator: Translator) -> Any:
    """Builds the page of a run from image to image."""
    with _page(run) as page, gr.Tabs(), gr.Tab("Translate"):
        translate_tab(translator, page)
    return page


def build_text_page(run: LoadedRun, folder: Path) -> Any:
    """Builds the page of a run with texts; films lie in `folder`."""
    task, gan = run.gan.task, run.gan
    networks = {"ema": gan.ema_generator.module, "raw": gan.generator}
    samplers = {name: task.sampler(network) for name, network in networks.items()}
    with _page(run) as page, gr.Tabs(), gr.Tab("Text"):
        text_tab(samplers, folder, page)
    return page


def _page(run: LoadedRun) -> Any:
    page = gr.Blocks(title=f"forger: {run.folder.name}", analytics_enabled=False)
    with page:
        facts = f"{run.checkpoint.stem}, iteration {run.iteration:,}"
        gr.Markdown(f"### {run.folder.name}\n{facts}, images {'x'.join(map(str, run.image_shape))}")
    return page
