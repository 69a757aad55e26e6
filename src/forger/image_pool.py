"""A pool of old fakes, so that the discriminator does not forget them (arXiv:1612.07828, 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.augment.base import uniform
from forger.noise import Draws
from forger.seeds import Purpose


class ImagePool:
    """Images of earlier updates, some of which take the place of new ones.

    Until it is full, images pass and are kept. From then on each image is, by the chance `share`,
    exchanged for one of the pool at random. No two images of a batch meet the same one, so that of
    a batch larger than the pool the rest passes. Each process has a pool of its own.

    Args:
        size: how many images it holds; 0: all pass.
        share: of images that are exchanged; half in CycleGAN (arXiv:1703.10593) and in SimGAN.

    Attributes:
        images: those that it holds, `(N, C, H, W)` with N at most `size`; None: none yet.
    """

    def __init__(self, size: int, share: float = 0.5) -> None:
        self.size, self.share = size, share
        self.images: Tensor | None = None

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Returns images `(B, C, H, W)`, some of them old; the new ones carry no gradient."""
        images = images.detach()
        held = images[:0] if self.images is None else self.images.to(images)
        room = self.size - len(held)
        self.images = held = torch.cat([held, images[:room]]) if room > 0 else held
        new = images[room : room + self.size]
        if len(new) == 0:
            return images
        chance = draws.rows(Purpose.OWN_TASK, uniform, len(images))[room : room + self.size]
        places = draws.rows(Purpose.OWN_TASK, uniform, 1, self.size)[0].argsort()[: len(new)]
        swaps, old = (chance < self.share)[:, None, None, None], held[places]
        held[places] = torch.where(swaps, new, old)
        mixed = torch.where(swaps, old, new)
        return torch.cat([images[:room], mixed, images[room + self.size :]])
