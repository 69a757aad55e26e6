"""Small pixels as features: a crude score that needs no training, no labels and no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from forger.metrics.extractor import FeatureExtractor, Features, ImageData

SIDE = 16  # pixels, at most


class Pixels(FeatureExtractor):
    """Averages each image down to 16 x 16 pixels at most, in [-1, 1], and takes these as features.

    Such scores see colours, brightness and coarse shapes, but no detail and no content.
    """

    name = "pixels"

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Learns the number of features from the shape of the images."""
        channels, height, width = data.train_images.shape[1:]
        self.size = min(height, SIDE), min(width, SIDE)
        self.num_features = channels * self.size[0] * self.size[1]

    @property
    def fingerprint(self) -> str:
        """Says what is computed: nothing is learned."""
        return f"mean-{self.size[0]}x{self.size[1]}"

    @property
    def description(self) -> dict[str, Any]:
        """Name, and the size of the small images."""
        resize = f"{self.size[0]}x{self.size[1]}, means over areas"
        return {**super().description, "resize": resize}

    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)` to features `(B, D)` and logits `(B, 1)` of zeros."""
        features = adaptive_avg_pool2d(images.float() / 127.5 - 1, self.size).flatten(1)
        return Features(features, features.new_zeros(len(features), 1))
