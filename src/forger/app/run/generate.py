"""`generate(cfg)` samples the generator of a run into image files."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

import forger
from forger.app.config.messages import near
from forger.app.config.trust import links_out_of
from forger.app.run.devices import pick_device, threads
from forger.app.run.load import Run, load_sampler
from forger.errors import UserError
from forger.pictures import gif_bytes, pixel_grid, png_bytes, to_pixels
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.sampling.walk import loop

log = logging.getLogger(__name__)

GRID = 400  # images in grid.png, at most
WALKERS, STOPS = 16, 6  # of walk.gif: images side by side, and points that each of them visits
_RATE = 20  # frames per second
_WALK_WIDTH = 384  # pixels, about
_RECORD = "generated.json"  # stands in every folder that generate.py wrote
_OURS = re.compile(r"grid\.png|images|images/\d{6,}\.png|images\.npz|walk\.gif|generated\.json")
_OF_FILE_MANAGERS = (".DS_Store", "Thumbs.db", "desktop.ini")


def generate(cfg: DictConfig) -> Path:
    """Samples a run's generator and returns the folder that holds the pictures.

    It writes `images/000000.png` and so on, which scoring tools read, `grid.png` with the first 400
    at most, and `generated.json`, which says what they come from. `npz` adds `images.npz`, `walk`
    adds `walk.gif`, in which the first 16 images wander through latent space and come back. The
    same settings on the same device give the same bytes.

    Args:
        cfg: composed from `configs/generate.yaml`. `output` is replaced as a whole, or left as it
            was if anything fails; the default is
            `<run>/generated/<checkpoint>_<weights>_seed<n>`.

    Raises:
        UserError: a setting, the run or the folder cannot work; nothing was written.
    """
    device = pick_device(cfg.device)
    trust, moved = cfg.get("trust") or (), cfg.get("moved")
    run, sampler = load_sampler(cfg.run, cfg.checkpoint, cfg.weights, trust, moved)
    output = _output(cfg, run)
    _check_replaceable(output)
    sampler.to(device)
    log.info("run             %s, iteration %s", near(run.checkpoint), f"{run.iteration:,}")
    log.info("generator       %s weights, on %s", cfg.weights, device)
    with threads(cfg.threads), _replaced(output) as folder:
        write_images(folder, sampler, cfg.n, cfg.seed, cfg.npz)
        if cfg.walk:
            (folder / "walk.gif").write_bytes(_walk(sampler, cfg.seed, cfg.frames))
        (folder / _RECORD).write_text(json.dumps(_record(cfg, run, device), indent=2) + "\n")
    log.info("images          %s in %s", f"{cfg.n:,}", near(output / "images"))
    for name in ("grid.png", *("images.npz",) * cfg.npz, *("walk.gif",) * cfg.walk):
        log.info("%-15s %s", name, near(output / name))
    return output


def write_images(folder: Path, sampler: Sampler, n: int, seed: int, npz: bool) -> None:
    """Writes the seed's first n images, their grid, and on request the array of them all."""
    (folder / "images").mkdir()
    first: list[Tensor] = []
    arrays: list[Tensor] = []
    for number, size in enumerate(chunk_sizes(n)):
        begin = number * CHUNK
        pixels = sampler.chunk(number, size, seed).cpu()
        for index, image in enumerate(pixels, begin):
            (folder / "images" / f"{index:06d}.png").write_bytes(png_bytes(image))
        if begin < GRID:
            first.append(pixels[: GRID - begin])
        if npz:  # grey repeated, as scoring tools have three channels: (B, H, W, 3)
            arrays.append(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1))
    (folder / "grid.png").write_bytes(png_bytes(pixel_grid(torch.cat(first))))
    if npz:  # the name that ADM's evaluator reads (github.com/openai/guided-diffusion)
        np.savez(folder / "images.npz", arr_0=torch.cat(arrays).numpy())


def _output(cfg: DictConfig, run: Run) -> Path:
    if cfg.output is not None:
        return Path(cfg.output).expanduser().resolve()
    folder = run.folder / "generated"
    if links := links_out_of(folder, cfg.get("trust") or (), run.folder):
        raise UserError(f"run={run.folder}: {links[0]}, or name another output=<folder>")
    return (folder / f"{run.checkpoint.stem}_{cfg.weights}_seed{cfg.seed}").resolve()


def _walk(sampler: Sampler, seed: int, frames: int) -> bytes:
    """Returns a GIF that repeats without a seam; its first frame shows the seed's first images."""
    stops = sampler.noise(WALKERS * STOPS, seed).view(STOPS, WALKERS, -1)
    path = loop(stops, frames, sampler.prior).to(sampler.device)  # (frames, walkers, latent_dim)
    with torch.inference_mode():
        pictures = (pixel_grid(to_pixels(sampler(z)), width=_WALK_WIDTH) for z in path)
        return gif_bytes(pictures, _RATE)


def _record(cfg: DictConfig, run: Run, device: torch.device) -> dict[str, Any]:
    return {
        "run": run.folder.name,
        "checkpoint": run.checkpoint.name,
        "iteration": run.iteration,
        "weights": cfg.weights,
        "seed": cfg.seed,
        "n": cfg.n,
        "walk_frames": cfg.frames if cfg.walk else None,
        "device": device.type,
        "forger_version": forger.__version__,
    }


def _check_replaceable(folder: Path) -> None:
    """Refuses a folder with anything in it that generate.py did not write."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder")
    ours = (folder / _RECORD).is_file()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.name not in _OF_FILE_MANAGERS and not (ours and _OURS.fullmatch(name)):
            raise UserError(
                f"output={folder}: holds {name}, which generate.py did not write, and would be"
                " replaced as a whole; name a new or an empty folder"
            )


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` at the end, if nothing is raised."""
    building, previous = (folder.with_name(f".{folder.name}.{x}") for x in ("partial", "previous"))
    try:
        for left in (building, previous):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        building.mkdir(parents=True)
        yield building
        if folder.exists():
            folder.rename(previous)
        building.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"output={folder}: cannot be written: {reason}") from error
    finally:
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
