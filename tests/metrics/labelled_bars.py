"""Small labelled images that a classifier learns in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forger.data import ImageDataModule


class Bars(ImageDataModule):
    """Noisy grey images of a lying bar, a standing bar or a cross."""

    native_shape = (1, 12, 12)
    classes = ("lying", "standing", "cross")
    labels_of = ("train", "test")
    counts = {"train": 90, "test": 30}  # noqa: RUF012

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        for name, value in changes.items():
            setattr(self, name, value)

    def read(self, split: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(len(split))
        count = self.counts[split]
        labels = torch.arange(count) % 3
        noise = torch.randint(0, 60, (count, 1, 12, 12), generator=generator)
        images = noise.to(torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = torch.randint(2, 10, (2,), generator=generator).tolist()
            if label != 1:
                image[:, row] += 150
            if label != 0:
                image[:, :, column] += 100
        return {"image": images} | ({"label": labels} if split in self.labels_of else {})
