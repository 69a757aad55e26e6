"""A classifier of the data set itself as feature extractor, trained once and kept in the cache."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forger.bounds import Fraction, check_bounds
from forger.errors import DataError
from forger.metrics.cache import data_hash, written_to
from forger.metrics.classifier_training import (
    NETWORK_VERSION,
    NUM_FEATURES,
    ClassifierNetwork,
    Recipe,
    accuracy,
    train_network,
    untrained,
)
from forger.metrics.extractor import (
    HASH_DIGITS,
    FeatureExtractor,
    Features,
    ImageData,
    float32_only,
    weights_hash,
)
from forger.seeds import STREAMS
from forger.whole_files import whole_file

log = logging.getLogger(__name__)

RECIPE = Recipe()
_OTHERS = (
    "write metrics/features=pixels (crude, but needs nothing else) or"
    " metrics/features=inception metrics.inception_weights=<file>"
)


class Classifier(FeatureExtractor):
    """A small CNN, trained once on the labels of the training split and then kept in the cache.

    It is trained on the device that it was moved to before `prepare`, and again for other data or
    another `RECIPE`. The last layer but one gives 128 features, and the logits stand for the data
    set's own classes.

    Where each channel is an image of its own (`channels_from`), the classifier is that of those
    images and looks at each channel. Features are then those of all channels, one after the other,
    and classes are all combinations, the last channel's changing fastest.

    Args:
        min_accuracy: share of the test images that it must name rightly, from 0 to 1; None: the
            data's own `min_accuracy`, or else halfway between chance and 1.
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
        self.trained: TrainedClassifier | None = None
        self.channels: int | None = None  # that are looked at one by one; None: all at once
        self.register_buffer("_on_device", torch.empty(0), persistent=False)

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Tells whether a classifier of this data has to be trained first."""
        data = self._learned_from(data)
        classes = _class_names(data)
        trained = load_classifier(_path(data, cache_dir))
        if trained is None:
            return f"a classifier has to be trained on {len(data.train_images):,} images first"
        self._check_accuracy(trained, data, classes)
        return None

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads the classifier of this data from the cache, or trains it and stores it there.

        Raises:
            DataError: there are no labels, no room in the cache, or too low an accuracy.
        """
        data = self._learned_from(data)
        classes, path = _class_names(data), _path(data, cache_dir)
        channels, height, width = data.train_images.shape[1:]
        device = self.get_buffer("_on_device").device
        # Inference mode, in which Lightning validates, would make weights that cannot be trained.
        with torch.inference_mode(False), float32_only(device):
            network = untrained((channels, height, width), len(classes), RECIPE)
            trained = load_classifier(path) or _train(network.to(device), data, path)
            self._check_accuracy(trained, data, classes)
            network.load_state_dict(trained.weights)
            self.network = network.requires_grad_(False).eval().to(device)
        combinations = product(classes, repeat=self.channels or 1)
        self.classes = tuple("".join(names) for names in combinations)
        self.trained = trained

    @property
    def fingerprint(self) -> str:
        """Hash of the trained weights and of the network's definition."""
        assert self.trained is not None, "prepare comes first"
        return self.trained.fingerprint

    @property
    def description(self) -> dict[str, Any]:
        """Name, hash, test accuracy, numbers of images, and the recipe."""
        assert self.trained is not None, "prepare comes first"
        facts = {key: value for key, value in vars(self.trained).items() if key != "weights"}
        return {**super().description, **facts, "resize": "none"}

    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)` to features `(B, 128)` and logits `(B, K)`.

        With channels that are looked at one by one, these are `(B, C * 128)` and `(B, K**C)`.
        """
        assert self.network is not None, "prepare comes first"
        if self.channels is None:
            seen: Features = self.network(images)
            return seen
        seen = self.network(images.flatten(0, 1).unsqueeze(1))  # of (B * C, 1, H, W)
        features, logits = (part.view(len(images), self.channels, -1) for part in seen)
        return Features(features.flatten(1), combined_logits(logits))

    def _learned_from(self, data: ImageData) -> ImageData:
        """Returns what the network is trained on, and notes how it looks at the data."""
        source = data.channels_from
        if source is None:
            return data
        self.channels, self.counts_modes = data.train_images.shape[1], True
        self.num_features = NUM_FEATURES * self.channels
        return source

    def _check_accuracy(
        self, trained: TrainedClassifier, data: ImageData, classes: tuple[str, ...]
    ) -> None:
        least = data.min_accuracy if self.min_accuracy is None else self.min_accuracy
        least = (1 + 1 / len(classes)) / 2 if least is None else least
        if trained.accuracy < least:
            enough = math.floor(trained.accuracy * 1000) / 1000  # rounded down: it is accepted
            raise DataError(
                f"metrics.min_accuracy: a classifier trained on {trained.num_train:,} images names"
                f" {trained.accuracy:.2%} of the {trained.num_test:,} test images rightly, and"
                f" scores need {least:.2%}; accept it with metrics.min_accuracy={enough:g}, or"
                f" {_OTHERS}"
            )


def combined_logits(logits: Tensor) -> Tensor:
    """Adds up the logits `(B, C, K)` of each combination of classes, to `(B, K**C)`.

    The softmax of these is the product of the channels' own.
    """
    first, *others = logits.unbind(1)
    for each in others:
        first = (first[:, :, None] + each[:, None, :]).flatten(1)
    return first


@dataclass(frozen=True)
class TrainedClassifier:
    """What training left behind."""

    weights: dict[str, Tensor]  # the state of the network, on the CPU
    accuracy: float  # share of the test images that it names rightly
    num_train: int  # images
    num_test: int
    recipe: dict[str, Any]  # the settings of the training

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of the network they belong to."""
        return weights_hash(self.weights, "classifier", NETWORK_VERSION)

    @property
    def checksum(self) -> str:
        """Hash of everything, which tells a damaged file."""
        facts = (self.fingerprint, self.accuracy, self.num_train, self.num_test, self.recipe)
        return sha256(repr(facts).encode()).hexdigest()


def load_classifier(path: Path) -> TrainedClassifier | None:
    """Reads a file of the cache; None where it is missing, and with a warning where damaged."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        checksum = stored.pop("seal")
        trained = TrainedClassifier(**stored)
        if trained.checksum != checksum:
            raise ValueError("it is not what was saved")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"paths.cache_dir: {path} cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged pickles and archives raise many kinds
        reason = str(error).partition("\n")[0]
        log.warning("%s is damaged and will be replaced (%s)", path, reason)
        return None
    return trained


def _path(data: ImageData, cache_dir: Path) -> Path:
    facts = (data_hash(data), asdict(RECIPE), NETWORK_VERSION, STREAMS)
    digits = sha256(repr(facts).encode()).hexdigest()[:HASH_DIGITS]
    return cache_dir / f"classifier-{digits}.pt"


def _class_names(data: ImageData) -> tuple[str, ...]:
    """Returns the classes that a classifier can learn; `DataError` where it cannot."""
    if data.train_labels is None:
        reason = "has no labels to train a classifier on"
    elif data.test_labels is None:
        reason = "has no labels of test images to test a classifier on"
    else:
        labels = torch.cat([data.train_labels, data.test_labels])
        lowest, highest = int(labels.min()), int(labels.max())
        classes = data.classes or tuple(str(label) for label in range(highest + 1))
        if lowest >= 0 and len(classes) > max(highest, 1):
            return classes
        reason = (
            f"has {len(classes)} classes and labels from {lowest} to {highest}; a classifier needs"
            " two classes or more, and labels from 0 on"
        )
    raise DataError(f"metrics/features=classifier: {type(data).__name__} {reason}; {_OTHERS}")


def _train(network: ClassifierNetwork, data: ImageData, path: Path) -> TrainedClassifier:
    """Trains, tests and stores a classifier, whether accurate enough or not."""
    assert data.train_labels is not None
    assert data.test_labels is not None
    num_train, num_test = len(data.train_images), len(data.test_images)
    log.info(
        "training a classifier on %s images for scores; once, then cached at %s",
        *(f"{num_train:,}", path),
    )
    # The file is opened first: what cannot be written is told before the work.
    with written_to(path.parent, "the classifier of the scores"), whole_file(path) as file:
        train_network(network, data.train_images, data.train_labels, RECIPE)
        share = accuracy(network, data.test_images, data.test_labels)
        weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        trained = TrainedClassifier(weights, share, num_train, num_test, asdict(RECIPE))
        torch.save(asdict(trained) | {"seal": trained.checksum}, file)
    log.info("the classifier names %.2f %% of %s test images rightly", 100 * share, f"{num_test:,}")
    return trained
