"""A feature extractor that needs no training: fixed random projections of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from forger.metrics.extractor import FeatureExtractor, Features, ImageData


class Projection(FeatureExtractor):
    name: ClassVar[str] = "projection"
    score_name: ClassVar[str] = "classifier_score"
    num_features = 8
    classes = ("low", "middle", "high")
    prepared = 0

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        self.prepared += 1
        size = data.train_images[0].numel()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(size, self.num_features, generator=generator) / size**0.5

    @property
    def fingerprint(self) -> str:
        return "0" * 16

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"resize": "none"}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        with torch.autocast(images.device.type, enabled=False):
            features = (images.flatten(1).float() / 127.5 - 1) @ self.matrix
        return Features(features, features[:, :3] * 4)
