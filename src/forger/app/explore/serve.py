"""`explore(cfg)` serves the page of a run on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import near
from forger.app.run.devices import pick_device, threads
from forger.app.run.evaluate import find_cache_dir, rebuild_data
from forger.app.run.load import LoadedRun, load_run
from forger.errors import ConfigError, UserError
from forger.metrics import classifier
from forger.sampling.translator import Translator

log = logging.getLogger(__name__)

OFFLINE = {  # what Gradio and what it imports would ask other machines
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_LARGEST = "50mb"  # of an upload
_STYLE = """
.gallery .grid-wrap {min-height: 92px; max-height: none; height: auto}
.gallery .thumbnail-item {min-width: 0; width: 100%}
#shelf .grid-container {grid-template-columns: repeat(auto-fill, 72px) !important}
#canvas button svg {filter: drop-shadow(0 0 1px #888)}
@media (max-width: 640px) {
  #samples .grid-container {grid-template-columns: repeat(3, minmax(0, 1fr)) !important}
  #candidates .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr)) !important}
}
"""
# The browser itself lets nothing pass to another address.
_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


def explore(cfg: DictConfig) -> None:
    """Serves the page of a run until Ctrl-C or SIGTERM.

    Args:
        cfg: composed from `configs/explore.yaml`.

    Raises:
        UserError: the run cannot be rebuilt, or the port is in use.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    with suppress(KeyboardInterrupt), served(cfg) as (server, listening):
        log.info("page            http://%s:%d, until Ctrl-C", *listening.getsockname()[:2])
        server.run(sockets=[listening])
    log.info("closed")


@contextmanager
def served(cfg: DictConfig) -> Iterator[tuple[Any, socket.socket]]:
    """Yields uvicorn's server of the page, not yet running, and the socket that it is to listen to.

    What is uploaded and made lies in a temporary folder, which is removed afterwards.
    """
    with (
        _listening(cfg.host, cfg.port) as listening,
        TemporaryDirectory(prefix="forger_explore_") as folder,
    ):
        before = {name: os.environ.get(name) for name in (*OFFLINE, "GRADIO_TEMP_DIR")}
        os.environ.update(OFFLINE, GRADIO_TEMP_DIR=folder)  # before Gradio is imported
        try:
            with threads(cfg.threads):
                yield asyncio.run(_server(cfg, Path(folder))), listening
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        other = "; write port=<another>, or port=0 for any that is free" if port else ""
        raise ConfigError(f"host={host} port={port}: cannot be used: {reason}{other}") from error
    with listening:
        yield listening


def _page(cfg: DictConfig, folder: Path) -> Any:
    """Builds the page that the run can fill."""
    device = pick_device(cfg.device)
    run = load_run(cfg.run, cfg.checkpoint, cfg.get("trust") or (), cfg.get("moved"))
    run.gan.to(device)
    log.info("run             %s, iteration %s", near(run.checkpoint), f"{run.iteration:,}")
    from forger.app.explore.page import build_page, build_text_page, build_translating_page
    from forger.app.explore.studio import Studio

    sampler = run.gan.task.sampler(run.gan.ema_generator.module)
    if isinstance(sampler, Translator):
        return build_translating_page(run, sampler)
    if sampler.condition.prompts:
        return build_text_page(run, folder)
    if not sampler.latent_dim:
        raise UserError(f"run={run.folder}: its generator takes neither noise nor images")
    return build_page(Studio(run, *_classifier(cfg, run, device)), folder)


def _classifier(
    cfg: DictConfig, run: LoadedRun, device: torch.device
) -> tuple[Callable[[torch.Tensor], Any] | None, tuple[str, ...]]:
    """Returns the classifier of the run's data, and its classes; None where there is none yet."""
    keep_offline = {"download": False} if "download" in run.cfg.data else {}
    own = {key: cfg[key] for key in ("data", "paths", "trust", "moved")}
    settings: Any = OmegaConf.merge(OmegaConf.create(own), {"data": keep_offline})
    try:
        cache_dir = find_cache_dir(settings, run)
        data, found = rebuild_data(settings, run, cache_dir), classifier.Classifier()
        if (lacking := found.to_do(data, cache_dir)) is not None:
            raise ConfigError(f"{lacking}; write paths.cache_dir=<where it is>")
        found = found.to(device)
        found.prepare(data, cache_dir)
    except UserError as error:
        log.info("classifier      none, images are found by their pixels: %s", error)
        return None, ()
    return found.forward, found.classes or ()  # which takes pixels of any type


async def _server(cfg: DictConfig, folder: Path) -> Any:
    """Returns a server that lets the page ask for nothing elsewhere.

    A coroutine: where no event loop runs, Gradio makes some that nobody closes.
    """
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    app, page = FastAPI(openapi_url=None), _page(cfg, folder)
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    gr.mount_gradio_app(
        app,
        page.queue(default_concurrency_limit=4),
        path="/",
        theme=theme,
        css=_STYLE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        max_file_size=_LARGEST,
    )
    config = uvicorn.Config(_staying_here(app), log_level="warning", timeout_graceful_shutdown=1)
    return uvicorn.Server(config)


def _staying_here(app: Any) -> Any:
    """Returns an ASGI application whose every answer carries the policy."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = (b"content-security-policy", _POLICY)
                message = {**message, "headers": [*message["headers"], own]}
            await send(message)

        await app(scope, receive, with_policy)

    return run
