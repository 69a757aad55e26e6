"""What a feature extractor is: images in, features and class logits out.

Owns the interface between extractors and the scores on top of them, and no extractor itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn


class Features(NamedTuple):
    """What an extractor sees in images, float32.

    Attributes:
        features: `(B, D)`.
        logits: `(B, K)`, one per class that the extractor knows.
    """

    features: Tensor
    logits: Tensor


class ImageData(Protocol):
    """What extractors and scores read of a data module; each split is read on first use."""

    @property
    def train_images(self) -> Tensor:
        """uint8 `(N, C, H, W)`."""

    @property
    def train_labels(self) -> Tensor | None:
        """int64 `(N,)`."""

    @property
    def test_images(self) -> Tensor:
        """uint8 `(M, C, H, W)`, never trained on."""

    @property
    def test_labels(self) -> Tensor | None:
        """int64 `(M,)`."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names in the order of the labels."""

    @property
    def min_accuracy(self) -> float | None:
        """Share of test images that a classifier must name rightly to be trusted."""


class FeatureExtractor(nn.Module, ABC):
    """Turns uint8 images into features, always in float32, in eval mode, without gradients.

    To add an extractor, derive from this class and write `prepare`, `forward` and `fingerprint`.

    Attributes:
        name: as it stands in a protocol, and in front of the names of its scores.
        score_name: what exp of the mean KL divergence of its class probabilities is called; None:
            it knows no classes, and its logits are not looked at.
        num_features: D; known after `prepare`.
        classes: names of the data set's own classes, if the logits stand for these; after
            `prepare`.
    """

    name: ClassVar[str]
    score_name: ClassVar[str | None] = None
    num_features: int
    classes: tuple[str, ...] | None = None

    def __init__(self) -> None:  # nn.Module's own seems to take any setting
        super().__init__()

    @property
    def prefix(self) -> str:
        """What stands in front of the names of its scores; Inception alone has none."""
        return f"{self.name}_"

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Says what `prepare` has to do first that takes long; None: nothing.

        Raises:
            UserError: the data cannot be scored by this extractor.
        """
        return None

    @abstractmethod
    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads or trains the weights.

        Raises:
            UserError: they cannot be had, or are not good enough to score with.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that decides what `forward` returns; known after `prepare`."""

    @property
    def description(self) -> dict[str, Any]:
        """Plain facts for the protocol of a score."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)` to features `(B, D)` and logits `(B, K)`."""
