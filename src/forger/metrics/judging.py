"""What a task's discriminator says of pixels, without being changed by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from forger.copying import copied
from forger.random_state import random_state_of


class Judge(Protocol):
    """A task, as far as its discriminator is judged by it."""

    @property
    def discriminator(self) -> nn.Module:
        """The one to judge by."""

    def judge(self, discriminator: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Returns what it, or a copy of it, says of images in [-1, 1]: logits, a row each."""


@torch.no_grad()
def logits_of(task: Judge, batch: Mapping[str, Tensor], seed: int = 0) -> Tensor:
    """Returns the discriminator's logits `(N,)` of a batch whose images are uint8 `(N, C, H, W)`.

    A copy of it runs, in eval mode and float32: weights, buffers, modes and the random state stay
    as they are, in bits. What is drawn on the way, as by an augmentation, depends on the seed
    alone. Of several logits of one image the mean counts.
    """
    judge, images = copied(task.discriminator).float().eval(), batch["image"]
    with random_state_of(seed, images.device), torch.autocast(images.device.type, enabled=False):
        pixels = {k: one for k, one in batch.items() if one.dtype == torch.uint8}
        scaled = {name: one.float() / 127.5 - 1 for name, one in pixels.items()}
        logits = task.judge(judge, {**batch, **scaled})
    return logits.reshape(len(images), -1).float().mean(1)
