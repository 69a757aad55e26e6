"""Figures of the scores of a training, for trackers. Owns which there are, not how they look.

Those that take more than the scores themselves are for evaluate.py.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forger.metrics.names import RELATIVE


def score_pictures(
    scores: Mapping[str, float],
    shares: Sequence[float] | None,
    reference_shares: Sequence[float] | None,
    classes: Sequence[str] | None,
    boundary: float | None,
) -> dict[str, Tensor]:
    """Draws the discriminator's confusion matrix, and the classes where they are known.

    Args:
        scores: of one scoring.
        shares: of each class among the generated images; None: unknown.
        reference_shares: the same of the real images.
        classes: their names.
        boundary: the logit at which the discriminator decides; None: its loss has none.

    Returns:
        Pictures `(3, H, W)`, uint8, by name.
    """
    from forger.metrics import figures

    drawn = {"confusion_matrix": confusion_matrix(scores, boundary)}
    if shares is not None and reference_shares is not None and classes is not None:
        drawn["class_histogram"] = figures.class_histogram(shares, reference_shares, classes)
    return {name: _pixels(png) for name, png in drawn.items()}


def confusion_matrix(scores: Mapping[str, float], boundary: float | None) -> bytes:
    """Draws the discriminator's confusion matrix as a PNG from the scores of one scoring."""
    from forger.metrics import figures  # matplotlib: of no use to a run without trackers

    kind = "d_" if boundary is not None else f"d_{RELATIVE}"
    tpr, fnr, fpr, tnr = (scores[f"{kind}{name}"] for name in ("tpr", "fnr", "fpr", "tnr"))
    return figures.confusion_matrix(tpr, fnr, fpr, tnr, boundary)


def _pixels(png: bytes) -> Tensor:
    with Image.open(io.BytesIO(png)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
