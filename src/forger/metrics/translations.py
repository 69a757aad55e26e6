"""Scores of translations: the held-out sources they are made from, and how near they come."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from forger.errors import DataError
from forger.metrics.extractor import HASH_DIGITS, FeatureExtractor, Features, ImageData
from forger.metrics.settings import SPLITS
from forger.sampling.sampler import CHUNK, chunk_sizes
from forger.sampling.translator import expanded
from forger.score_names import FEATURE_DISTANCE
from forger.seeds import Purpose, stream

_WINDOW = 11  # pixels, a side of the windows of SSIM


class HeldOutSources:
    """The sources of the test split, each once, in random order, in chunks of 250.

    Args:
        data: has sources.
        prefix: of the names of scores of features.
        seed: of the order.

    Attributes:
        names: of the scores that compare translations with the right images; none without pairs.
    """

    def __init__(self, data: ImageData, prefix: str, seed: int = 0) -> None:
        self.data = data
        names = pair_names(data.test_images.shape) if data.paired else ()
        self.names = tuple(prefix + one if one == FEATURE_DISTANCE else one for one in names)
        random = stream(Purpose.SCORED_REAL, seed, len(SPLITS))
        self.order = torch.randperm(len(data.test_sources), generator=random)

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, number: int, size: int) -> Tensor:
        """Returns which sources the first of a chunk are, int64 `(size,)`."""
        return self.order[number * CHUNK :][:size]

    def given(self, number: int, size: int) -> dict[str, Tensor]:
        """Returns them as a generator is given them, `source` in [-1, 1]."""
        return {"source": self.data.test_sources[self.rows(number, size)].float() / 127.5 - 1}

    def labels(self, number: int, size: int) -> Tensor:
        """Returns their classes, int64 `(size,)`."""
        labels = self.data.test_source_labels
        assert labels is not None, "classes_kept comes first"
        return labels[self.rows(number, size)]

    def compare(self, images: Tensor, seen: Features, right: Features, number: int) -> Tensor:
        """Returns the scores of the translations of a chunk, a column for each of `names`.

        Args:
            images: uint8 `(B, C, H, W)`.
            seen: what the extractor sees in them.
            right: what it sees in all test images.
            number: of the chunk.
        """
        rows = self.rows(number, len(images))
        features = right.features[rows].to(images.device)
        distance = (seen.features - features).norm(dim=1, keepdim=True)
        targets = self.data.test_images[rows].to(images.device)
        return torch.cat([pair_scores(images, targets), distance], dim=1)

    def compare_unchanged(
        self, count: int, extractor: FeatureExtractor, right: Features, device: torch.device
    ) -> dict[str, float]:
        """Returns the scores of sources that nothing was done to, grey ones in all channels.

        Nothing where they have other sides or other colours than images.
        """
        source, image = self.data.test_sources.shape[1:], self.data.test_images.shape[1:]
        if not self.names or source[1:] != image[1:] or source[0] not in (1, image[0]):
            return {}
        found = []
        for number, size in enumerate(chunk_sizes(min(count, len(self)))):
            sources = self.data.test_sources[self.rows(number, size)].to(device)
            images = expanded(sources, image[0]).contiguous()
            found.append(self.compare(images, extractor(images), right, number).cpu())
        return self.means(found)

    def means(self, found: Sequence[Tensor]) -> dict[str, float]:
        """Returns the mean of each column of what `compare` gave of chunks."""
        means = torch.cat([*found]).double().mean(0).tolist() if self.names else []
        return dict(zip(self.names, means, strict=True))


def classes_kept(data: ImageData) -> tuple[str, ...]:
    """Returns the names of the classes that translations should keep; none without all labels.

    Raises:
        DataError: labels of sources are not those of the classes.
    """
    labels = data.test_source_labels
    others = data.train_source_labels, data.train_labels, data.test_labels
    if data.classes is None or labels is None or any(one is None for one in others):
        return ()
    if labels.min() < 0 or labels.max() >= len(data.classes):
        raise DataError(
            f"{type(data).__name__}: has labels of sources from {int(labels.min())} to"
            f" {int(labels.max())}; allowed: 0 to {len(data.classes) - 1}, numbers of its classes"
        )
    return data.classes


def pair_names(image_shape: torch.Size | tuple[int, ...]) -> tuple[str, ...]:
    """Returns the names of the columns of `pair_scores`, and that of the features' distance."""
    structure = () if min(image_shape[-2:]) < _WINDOW else ("ssim",)
    return ("psnr", *structure, "l1", FEATURE_DISTANCE)


def pair_scores(images: Tensor, targets: Tensor) -> Tensor:
    """Compares images with those that they should be, both uint8 `(B, C, H, W)`, pixel by pixel.

    - `psnr`: `10 log10(255^2 / MSE)` in dB of each image; of one without a mistake as if a single
      value were off by 1 of 255, since a mean must stay finite.
    - `ssim` (Wang et al. 2004): structural similarity in windows of 11 pixels, Gaussian with
      deviation 1.5; up to 1. Not of images with a smaller side.
    - `l1`: mean distance of values between 0 and 1; half of the one between -1 and 1.

    Returns:
        float32 `(B, 2 or 3)`, a column for each, in this order.
    """
    made, right = images.double() / 255, targets.double() / 255
    difference = (made - right).flatten(1)
    least = 1 / 255**2 / difference.shape[1]
    psnr = -10 * difference.square().mean(1).clamp(min=least).log10()
    columns = [psnr, difference.abs().mean(1)]
    if "ssim" in pair_names(images.shape):
        similarity = structural_similarity_index_measure(
            made, right, sigma=1.5, kernel_size=_WINDOW, data_range=1.0, reduction="none"
        )
        assert isinstance(similarity, Tensor)
        columns.insert(1, similarity.view(-1))
    return torch.stack(columns, dim=1).float()


def sources_hash(data: ImageData) -> str:
    """Hashes the held-out sources."""
    digest = sha256(repr(tuple(data.test_sources.shape)).encode())
    for rows in torch.split(data.test_sources, 1000):
        digest.update(rows.contiguous().numpy().data)
    return digest.hexdigest()[:HASH_DIGITS]
