"""A classifier of the data set itself as feature extractor. Owns when it is trained and trusted.

For digits and other images unlike photographs, Inception's features say little; features of a
classifier of the same images are the usual choice.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forger.bounds import Fraction, check_bounds
from forger.metrics import classifier_file
from forger.metrics.classifier_data import Labelled, labelled
from forger.metrics.classifier_file import Trained, file_of, percent
from forger.metrics.classifier_network import NUM_FEATURES, ClassifierNetwork
from forger.metrics.classifier_training import Recipe, accuracy, train_network, untrained
from forger.metrics.extractor import FeatureExtractor, Features, ImageData
from forger.metrics.files import check_writable
from forger.metrics.float32 import float32_only

log = logging.getLogger(__name__)

RECIPE = Recipe()


class Classifier(FeatureExtractor):
    """A small CNN, trained once on the labels of the training split and then kept in the cache.

    It is trained on the device that it was moved to before `prepare`, and again for other data or
    another `RECIPE`. The last layer but one gives 128 features, and the logits stand for the data
    set's own classes.

    Args:
        min_accuracy: share of the test images that it must name rightly, from 0 to 1; None: the
            data's own `min_accuracy`, or else halfway between chance and 1.

    Raises:
        ConfigError: `min_accuracy` is out of range.
    """

    name = "classifier"
    score_name = "classifier_score"

    def __init__(self, *, min_accuracy: Fraction | None = None) -> None:
        super().__init__()
        if min_accuracy is not None:
            check_bounds(min_accuracy, Fraction, "metrics.min_accuracy")
        self.min_accuracy = min_accuracy
        self.num_features = NUM_FEATURES
        self.network: ClassifierNetwork | None = None
        self._facts: dict[str, Any] = {}
        self.register_buffer("_place", torch.empty(0), persistent=False)  # knows the device

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Tells whether a classifier of this data has to be trained first.

        Raises:
            DataError: the data has no labels, or the classifier is not accurate enough.
        """
        images = labelled(data)
        trained = classifier_file.load(file_of(data, cache_dir, RECIPE))
        if trained is None:
            return f"a classifier has to be trained on {len(images.train_images):,} images first"
        trained.check(self._bound(data, images))
        return None

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads the classifier of this data from the cache, or trains it and stores it there.

        Raises:
            DataError: the data has no labels or no test images, the cache cannot be written, or
                the classifier is not accurate enough.
        """
        images = labelled(data)
        device, bound = self._device, self._bound(data, images)
        path = file_of(data, cache_dir, RECIPE)
        # Inference mode, in which Lightning validates, would make weights that cannot be trained.
        with torch.inference_mode(False), float32_only(device):
            trained = classifier_file.load(path)
            if trained is None:
                trained = _train(images, path, device, bound)
            trained.check(bound)
            network = _untrained(images)
            network.load_state_dict(trained.weights)
            self.network = network.requires_grad_(False).eval().to(device)
        self.classes = images.classes
        self._facts = {
            "fingerprint": trained.fingerprint,
            "accuracy": trained.accuracy,
            "num_train": trained.num_train,
            "num_test": trained.num_test,
            "recipe": trained.recipe,
            "resize": "none",
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the trained weights and of the network's definition."""
        fingerprint: str = self._facts["fingerprint"]
        return fingerprint

    @property
    def description(self) -> dict[str, Any]:
        """Name, hash, test accuracy, numbers of images, and the recipe."""
        return {"name": self.name, **self._facts}

    def train(self, mode: bool = True) -> Classifier:
        """Stays in eval mode: nothing else is ever scored with."""
        return super().train(False)

    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)` to features `(B, 128)` and logits `(B, K)`.

        Raises:
            ValueError: the images are not uint8.
        """
        assert self.network is not None, "prepare comes first"
        if images.dtype != torch.uint8:
            raise ValueError(f"images: must be uint8, are {images.dtype}")
        with torch.no_grad(), float32_only(images.device):
            seen: Features = self.network(images)
            return seen

    @property
    def _device(self) -> torch.device:
        place: Tensor = self.get_buffer("_place")
        return place.device

    def _bound(self, data: ImageData, images: Labelled) -> float:
        if self.min_accuracy is not None:
            return self.min_accuracy
        if data.min_accuracy is not None:
            return data.min_accuracy
        return (1 + 1 / len(images.classes)) / 2


def _untrained(images: Labelled) -> ClassifierNetwork:
    channels, height, width = images.train_images.shape[1:]
    return untrained((channels, height, width), len(images.classes), RECIPE)


def _train(images: Labelled, path: Path, device: torch.device, bound: float) -> Trained:
    """Trains, tests and stores a classifier, whether accurate enough or not."""
    num_train, num_test = len(images.train_images), len(images.test_images)
    log.info(
        "training a classifier on %s images for scores; once, then cached at %s",
        *(f"{num_train:,}", path),
    )
    check_writable(path.parent, "the classifier of the scores")
    started = time.monotonic()
    network = _untrained(images).to(device)
    train_network(network, images.train_images, images.train_labels, RECIPE)
    share = accuracy(network, images.test_images, images.test_labels)
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    trained = Trained(weights, share, num_train, num_test, asdict(RECIPE))
    classifier_file.save(trained, path)
    log.info(
        "the classifier names %s of %s test images rightly (scores need %s); trained in %.0f s",
        *(percent(share), f"{num_test:,}", percent(bound), time.monotonic() - started),
    )
    return trained
