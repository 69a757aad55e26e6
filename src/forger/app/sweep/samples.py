"""What one job of a sweep draws in the end. Owns how it is cropped, not where it is shown."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forger.app.sweep.outcome import Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

_BORDER = 64  # the grey between the images of a grid, as `forger.pictures` draws it


def read_samples(outcome: Outcome, side: int, pixels: int) -> Image | None:
    """Crops a job's last grid to its first images, so that they can be seen on a small tile.

    Args:
        outcome: of the job.
        side: images in a row and in a column of the crop.
        pixels: of the crop's longer side.

    Returns:
        RGB; `None` of a failed job, and where there is no grid that can be read.
    """
    from PIL import Image

    path = outcome.folder / "samples" / "last.png"
    if outcome.status in ("failed", "missing"):
        return None
    try:
        with Image.open(path, formats=["PNG"]) as file:
            grid = file.convert("RGB")
    except FileNotFoundError:
        return None
    except Exception as error:  # PIL raises many kinds for a damaged file
        log.warning("%s: damaged: %s", path, error)
        return None
    crop = _crop(grid, side)
    scale = pixels / max(crop.size)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    sharp = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return crop.resize(size, sharp)


def _crop(grid: Image, side: int) -> Image:
    import numpy as np

    border = (np.asarray(grid) == _BORDER).all(axis=2)
    columns, rows = _spans(border.all(axis=0).tolist()), _spans(border.all(axis=1).tolist())
    for spans in (columns, rows):
        if not spans or len({end - start for start, end in spans}) > 1:
            return grid  # drawn by something else
    right, bottom = columns[:side][-1][1], rows[:side][-1][1]
    return grid.crop((columns[0][0], rows[0][0], right, bottom))


def _spans(border: Sequence[bool]) -> list[tuple[int, int]]:
    """Finds the images between the borders of a grid: beginnings and ends."""
    spans, start = [], None
    for place, is_border in enumerate([*border, True]):
        if not is_border and start is None:
            start = place
        elif is_border and start is not None:
            spans.append((start, place))
            start = None
    return spans
