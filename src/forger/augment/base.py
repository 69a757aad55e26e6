"""The base of all augmentations, which is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from forger.noise import Draw

Rows: TypeAlias = Callable[..., Tensor]
"""`rows(draw, batch, *shape)` draws `(batch, *shape)`, a row for each image."""


class Augment(nn.Module):
    """No augmentation: the discriminator sees images as they are. The base of all others.

    An augmentation is differentiable twice in the images, as gradient penalties need it, and takes
    all its random numbers from `rows`. Buffers of its own are in the checkpoint, and the same in
    all processes.
    """

    takes_factor = False
    """Whether a schedule's factor scales how often it changes an image."""

    is_adaptive = False
    """Whether it follows the discriminator's logits, and needs a loss with a boundary."""

    logged_names: tuple[str, ...] = ()
    """What it logs."""

    def __init__(self) -> None:  # without arguments, which those of nn.Module would not tell
        super().__init__()

    def forward(self, images: Tensor, rows: Rows, factor: float = 1.0) -> Tensor:
        """Returns what D sees of images `(B, C, H, W)`, of the same shape, type and device.

        Args:
            images: in [-1, 1]; what comes out may lie outside.
            rows: draws what the changes are, for each image its own.
            factor: of how often images are changed.
        """
        return images

    def describe(self) -> str:
        """Says in a few words what is done, for the plan of a run; "" where nothing is."""
        return ""

    def see(self, real_logits: Tensor, boundary: float | None) -> None:
        """Takes notice of D's logits `(B,)` or `(B, parts)` of augmented real images."""

    def adapt(self) -> None:
        """Follows what was seen; called after each update of D, in all processes together."""

    def logged(self, factor: float, device: torch.device) -> dict[str, Tensor]:
        """Returns scalars on a device that tell how strong it is."""
        return {}


def uniform(shape: tuple[int, ...], generator: torch.Generator, _: torch.dtype) -> Tensor:
    """Draws U(0, 1) in float32 whatever the networks' type: 16 bits are too few for places."""
    return torch.rand(shape, generator=generator, device=generator.device)


def normal(shape: tuple[int, ...], generator: torch.Generator, _: torch.dtype) -> Tensor:
    """Draws N(0, 1) in float32."""
    return torch.randn(shape, generator=generator, device=generator.device)


def rows_of_torch(device: torch.device, draw: Draw, *shape: int) -> Tensor:
    """Draws from torch's own random generator of the CPU, the same numbers for every device."""
    return draw(shape, torch.default_generator, torch.float32).to(device)
