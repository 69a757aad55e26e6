"""Translates a user's image files by a run: what `generate.py input=<file or folder>` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import interpolate

from forger.app.config.messages import given
from forger.errors import ConfigError, DataError
from forger.image_files import ImageFormat, image_endings, try_decode, upright_size
from forger.pictures import pixel_grid, png_bytes, to_pixels
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator

_MOST = 10_000  # files of a folder
_LISTED = 3  # names in a message
_SHOWN, _SIDE = 16, 256  # inputs in grid.png, and pixels of the longer side of an image there
_GREY = 64  # around images in cells of the grid that are larger


@dataclass(frozen=True)
class Inputs:
    """A user's images.

    Attributes:
        path: what was named.
        files: the image files, sorted.
        left_out: names of files in the folder that are no images, by their endings.
    """

    path: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def find_inputs(named: str, setting: str = "input") -> Inputs:
    """Finds a file, or the images directly in a folder, that a setting names; reads none.

    Raises:
        ConfigError: there is none, there are more than 10,000, or two would have one name.
    """
    path, key = Path(named).expanduser().resolve(), given(setting, named)
    if path.is_file():
        return Inputs(path, (path,))
    if not path.is_dir():
        raise ConfigError(f"{key}: there is no such file or folder")
    endings = image_endings()
    inside = sorted(one for one in path.iterdir() if one.is_file() and one.name[0] != ".")
    files = tuple(one for one in inside if one.name.lower().endswith(endings))
    if not files:
        raise ConfigError(f"{key}: holds no image directly in it; name a folder that does")
    if len(files) > _MOST:
        raise ConfigError(f"{key}: holds {len(files):,} images; allowed: up to {_MOST:,}")
    stems = dict[str, Path]()
    for file in files:
        if (other := stems.setdefault(file.stem, file)) is not file:
            both = f"{other.name} and {file.name}"
            raise ConfigError(f"{key}: {both} would both become {file.stem}.png; rename one")
    return Inputs(path, files, tuple(one.name for one in inside if one not in files))


def directed(sampler: Sampler, cfg: DictConfig) -> Sampler:
    """Returns what generates by `direction` and `dropout`, and takes `input` where there is one.

    Raises:
        ConfigError: the run does not translate, has no way back, no Dropout, or several outputs of
            one input would be the same.
    """
    wanted = {"input": cfg.input, "direction": cfg.direction, "dropout": cfg.dropout}
    plain = {"input": None, "direction": "a_to_b", "dropout": False}
    if not isinstance(sampler, Translator):
        for key, value in wanted.items():
            if value != plain[key]:
                raise ConfigError(
                    f"{given(key, value)}: the run translates no images; leave it out"
                )
        return sampler
    sampler = sampler.reversed() if cfg.direction == "b_to_a" else sampler
    sampler = sampler.dropping() if cfg.dropout else sampler
    if cfg.input is not None and (cfg.n or 1) > 1 and not cfg.dropout:
        raise ConfigError(
            f"n={cfg.n}: outputs of one input differ by Dropout alone; write dropout=true, or leave"
            " n out"
        )
    return sampler


def name_of(cfg: DictConfig, inputs: Inputs | None) -> str:
    """Returns how the name of the folder of pictures goes on."""
    parts = ["dropout"] * cfg.dropout + [cfg.direction] * (cfg.direction != "a_to_b")
    parts += ["project"] * (cfg.project is not None)
    if inputs is not None:
        stem = inputs.path.stem if inputs.path.is_file() else inputs.path.name
        parts.append("".join(one if one.isalnum() or one in "-_" else "_" for one in stem)[:40])
    return "".join(f"_{part}" for part in parts)


def write_translations(
    folder: Path, sampler: Translator, inputs: Inputs, n: int, seed: int
) -> dict[str, Any]:
    """Writes `images/<name>.png`, or `<name>_<k>.png` of several, and `grid.png` of the first ones.

    Output k of an input depends on the image and `seed + k` alone.

    Args:
        folder: there is nothing in it.
        sampler: of the run, in the wanted direction.
        inputs: files.
        n: outputs for each.
        seed: of Dropout.

    Returns:
        What the record says: `input`, `n`, and `translated`, by image the file that it comes from.

    Raises:
        DataError: a file is no image, damaged, or too large for the memory.
    """
    (folder / "images").mkdir()
    written, shown = dict[str, str](), list[list[Tensor]]()
    for file in inputs.files:
        source = read_source(file, sampler)
        made = [_translated(sampler, source, seed + k, file) for k in range(n)]
        for k, image in enumerate(made):
            name = f"{file.stem}_{k}.png" if n > 1 else f"{file.stem}.png"
            (folder / "images" / name).write_bytes(png_bytes(image))
            written[name] = file.name
        if len(shown) < _SHOWN:
            shown.append([_small(one) for one in (source[0], *made[: _SHOWN - 1])])
    (folder / "grid.png").write_bytes(png_bytes(_grid(shown)))
    return {"input": inputs.path.name, "n": n, "translated": written}


def read_source(file: Path, sampler: Translator) -> Tensor:
    """Reads an image in its own size, uint8 `(1, C, H, W)`, with the channels of the sources.

    Raises:
        DataError: it is none, or damaged, or sources are of other than 1 or 3 channels.
    """
    channels = sampler.sources.shape[1]
    if channels not in (1, 3):
        raise DataError(f"input: the run translates {channels} channels; image files have 1 or 3")
    size = upright_size(file)
    width, height = size or (1, 1)  # decoding tells the reason
    pixels = try_decode(str(file), ImageFormat(channels, (height, width)))
    if size is None or isinstance(pixels, str):
        reason = pixels if isinstance(pixels, str) else "its size is damaged"
        raise DataError(f"input: {file} cannot be read: {reason}")
    return torch.from_numpy(pixels.copy()).unsqueeze(0)


def _translated(sampler: Translator, source: Tensor, seed: int, file: Path) -> Tensor:
    """Returns the pixels of a translation, uint8 `(C, H, W)`."""
    try:
        return to_pixels(sampler.translate(source, seed))[0].cpu()
    except RuntimeError as error:  # of torch: no memory, or a size that a network does not take
        reason = " ".join(str(error).split())[:200]
        sides = "x".join(map(str, source.shape[2:]))
        raise DataError(f"input: {file}, {sides} pixels, cannot be translated: {reason}") from error


def _small(image: Tensor) -> Tensor:
    """Returns an image with sides of 256 pixels at most."""
    factor = _SIDE / max(image.shape[1:])
    if factor >= 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    resized = interpolate(image[None].float(), size, mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


def _grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Lays sources and their translations out, a row each, in cells of one size."""
    tiles = [image for row in rows for image in row]
    channels, height, width = (max(one.shape[k] for one in tiles) for k in range(3))
    cells = torch.full((len(tiles), channels, height, width), _GREY, dtype=torch.uint8)
    for cell, one in zip(cells, tiles, strict=True):
        cell[:, : one.shape[1], : one.shape[2]] = one
    return pixel_grid(cells, len(rows[0]))
