"""Draws what `generate.py` finds in latent space: `project=<image>` and `directions=<number>`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forger.app.run.translate import Inputs
from forger.errors import ConfigError, DataError
from forger.image_files import ImageFormat, try_decode
from forger.pictures import image_grid, pixel_grid, png_bytes, to_pixels
from forger.sampling.sampler import Sampler

FRAMES = 9  # of each direction; the image itself in the middle
_PAIRS = 200  # in grid.png, at most
_MOST = 100_000_000  # pixels of an image that is read


def check_latent(sampler: Sampler, key: str) -> None:
    """Raises `ConfigError` unless a generator has a latent space, which the setting `key` needs."""
    if not sampler.latent_dim:
        raise ConfigError(f"{key}: the run's generator takes no noise; leave it out")


def read_image(file: Path, shape: tuple[int, ...]) -> Tensor:
    """Reads an image, cropped and scaled as the data, uint8 `(C, H, W)`.

    Raises:
        DataError: it is none, damaged, or too large.
    """
    if shape[0] not in (1, 3):
        raise DataError(f"the run makes {shape[0]} channels; image files have 1 or 3")
    check_size(file)
    pixels = try_decode(str(file), ImageFormat(shape[0], (shape[1], shape[2])))
    if isinstance(pixels, str):
        raise DataError(f"{file.name} cannot be read: {pixels}")
    return torch.from_numpy(pixels.copy())


def check_size(file: Path, most: int = _MOST) -> None:
    """Raises `DataError` where an image has more pixels than are read."""
    try:
        with Image.open(file) as image:
            too_large = image.width * image.height > most
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        too_large = True
    except Exception:  # decoding tells the reason
        return
    if too_large:
        raise DataError(
            f"{file.name} is too large; allowed: up to {most // 1_000_000} million pixels"
        )


def write_projections(
    folder: Path, sampler: Sampler, inputs: Inputs, label: int | None, seed: int
) -> dict[str, Any]:
    """Writes `images/<name>.png`, what was found for each file, `noise.npz`, and `grid.png`.

    Args:
        folder: there is nothing in it.
        sampler: of the run.
        inputs: the files.
        label: the number of the class of all; None: it is searched for.
        seed: of the random images among which searches begin.

    Returns:
        What the record says: `project`, `n`, and `projected`, by image its file and how far it is.

    Raises:
        DataError: a file cannot be read.
    """
    shape = tuple(sampler.sample(1).shape[1:])
    wanted = torch.stack([_read(file, shape) for file in inputs.files])
    given = None if label is None else torch.tensor([label])
    found = sampler.project(wanted, label=given, seed=seed)
    (folder / "images").mkdir()
    pixels, projected = to_pixels(found.images).cpu(), dict[str, dict[str, Any]]()
    for row, file in enumerate(inputs.files):
        (folder / "images" / f"{file.stem}.png").write_bytes(png_bytes(pixels[row]))
        facts: dict[str, Any] = {
            "file": file.name,
            "distance": round(float(found.distance[row]), 4),
            "random_distance": round(float(found.random_distance[row]), 4),
        }
        if found.label is not None:
            facts["label"] = sampler.condition.classes[int(found.label[row])]
        projected[f"{file.stem}.png"] = facts
    arrays: Any = {"noise": found.noise.cpu().numpy()}
    arrays |= {} if found.label is None else {"label": found.label.cpu().numpy()}
    np.savez(folder / "noise.npz", **arrays)
    pairs = torch.stack([wanted, pixels], 1)[:_PAIRS]
    columns = 2 * max(1, round((len(pairs) / 2) ** 0.5))
    (folder / "grid.png").write_bytes(png_bytes(pixel_grid(pairs.flatten(0, 1), columns)))
    return {"project": inputs.path.name, "n": len(wanted), "projected": projected}


def draw_directions(
    sampler: Sampler, seed: int, k: int, reach: float, label: int | None
) -> tuple[bytes, str]:
    """Returns a PNG, a row for each direction of the first image, and how they were found.

    Args:
        sampler: of the run.
        seed: of the image.
        k: how many.
        reach: how far to each side, in standard deviations.
        label: the number of the image's class, where it has one.
    """
    found = sampler.directions(k)
    own = None if label is None else torch.tensor(label, device=sampler.device)
    noise = sampler.noise(1, seed)[0].to(sampler.device)
    images = found.sweep(sampler, noise, reach, FRAMES, own).flatten(0, 1)
    names = [str(number + 1) for number in range(k)]
    return png_bytes(image_grid(images.cpu(), FRAMES, names)), found.method


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    try:
        return read_image(file, shape)
    except DataError as error:
        raise DataError(f"project: {error}") from error
