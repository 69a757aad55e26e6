"""Random crops of images that were enlarged a little, as pix2pix and CycleGAN train on them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def draw_places(count: int, margin: int, generator: torch.Generator) -> Tensor:
    """Draws where crops begin, int64 `(count, 2)`: pixels from above and from the left."""
    return torch.randint(margin + 1, (count, 2), generator=generator)


def crop_enlarged(images: Tensor, places: Tensor, margin: int) -> Tensor:
    """Enlarges images `(B, C, H, W)` by `margin` pixels a side, and cuts out `H` by `W` of each.

    Enlarged bilinearly, to `(H + margin, W + margin)`; the papers' 286 of 256 pixels are a margin
    of 30. Places are those of `draw_places`, a row for each image.
    """
    height, width = images.shape[-2:]
    size = [height + margin, width + margin]
    large = interpolate(images, size, mode="bilinear", align_corners=False)
    rows, columns = (
        places[:, side, None] + torch.arange(length, device=images.device)
        for side, length in enumerate((height, width))
    )
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cut = large.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()
