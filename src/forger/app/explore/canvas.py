"""Reads what was drawn on a canvas, and lays out what is drawn on."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from forger.errors import ConfigError
from forger.pictures import to_pil

SIDE = 364  # pixels of a canvas, about
SKETCH = "#ff00ff"  # a colour that no one paints with: lines drawn in it are edges
_GREYS = ["#ffffff", "#000000", "#808080"]
_COLOURS = ["#ffffff", "#000000", "#d32f2f", "#388e3c", "#1976d2", "#fbc02d", "#8d6e63"]


def canvas(shape: tuple[int, ...], label: str, sketch: bool, width: float, name: str) -> Any:
    """Returns an editor for an image of a shape; the brush is so many of its pixels wide."""
    factor = max(1, round(SIDE / max(shape[1:])))
    size = shape[2] * factor, shape[1] * factor
    colours = [*(_GREYS if shape[0] == 1 else _COLOURS), *([SKETCH] if sketch else [])]
    return gr.ImageEditor(
        label=label,
        elem_id=name,
        type="numpy",
        format="png",
        sources=(),
        transforms=(),
        layers=gr.LayerOptions(allow_additional_layers=False),
        brush=gr.Brush(
            default_size=round(width * factor / 2), colors=list(colours), color_mode="fixed"
        ),
        canvas_size=size,
        fixed_canvas=True,
        height=size[1] + 120,
        buttons=[],
    )


def background(image: Tensor) -> dict[str, Any]:
    """Returns the value of a canvas that shows an image, uint8 `(C, H, W)`, to be drawn on."""
    factor = max(1, round(SIDE / max(image.shape[1:])))
    size = image.shape[2] * factor, image.shape[1] * factor
    picture = to_pil(image).convert("RGB").resize(size, Image.Resampling.NEAREST)
    return {"background": picture, "layers": [], "composite": picture}


def read_canvas(value: dict[str, Any] | None, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Returns what was drawn, each pixel of the image by the part of it that is covered.

    Returns:
        mask `(H, W)` in [0, 1], colours `(C, H, W)` in [-1, 1] and edges `(H, W)` in [0, 1].

    Raises:
        ConfigError: nothing was drawn.
    """
    layers = [np.asarray(one) for one in (value or {}).get("layers", ()) if one is not None]
    if not any(layer[..., 3].any() for layer in layers):
        raise ConfigError("the canvas is empty; draw something on it first")
    drawn = Image.fromarray(layers[0], "RGBA")
    for layer in layers[1:]:
        drawn = Image.alpha_composite(drawn, Image.fromarray(layer, "RGBA"))
    pixels = torch.from_numpy(np.array(drawn)).permute(2, 0, 1).float() / 255
    colours, alpha = pixels[:3], pixels[3]
    # A colour is pink where red and blue are well above green; edges of strokes are mixed.
    sketched = alpha * ((colours[0] + colours[2]) / 2 - colours[1] > 0.5)
    sketched = sketched * (colours[0] - colours[2]).abs().lt(0.2)
    painted = alpha * (sketched == 0)
    size = shape[1], shape[2]
    mask, edges = (adaptive_avg_pool2d(one[None], size)[0] for one in (painted, sketched))
    covered = adaptive_avg_pool2d(colours * painted, size) / mask.clamp_min(1e-6)
    if shape[0] == 1:
        covered = covered.mean(0, keepdim=True)
    return mask, covered.clamp(0, 1) * 2 - 1, edges


def over(drawn: tuple[Tensor, ...], image: Tensor, rest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lets what was not drawn count, too, as what the canvas shows there.

    Args:
        drawn: mask, colours and edges.
        image: what the canvas shows, in [-1, 1] `(C, H, W)`.
        rest: how much it counts, in [0, 1]; nothing near lines.
    """
    mask, colours, edges = drawn
    near = max_pool2d(edges[None], 5, stride=1, padding=2)[0] > 0
    kept = torch.where(near, 0.0, rest * (1 - mask))
    total = (mask + kept).clamp_min(1e-6)
    return mask + kept, (mask * colours + kept * image) / total, edges
