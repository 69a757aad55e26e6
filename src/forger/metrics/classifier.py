"""A classifier of the data set itself as feature extractor: trained once, then kept in the cache.

For digits and other images unlike photographs, Inception's features say little; features of a
classifier of the same images are the usual choice.
"""

from __future__ import annotations

import io
import logging
import math
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
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
    OTHER_FEATURES,
    ClassifierNetwork,
    Recipe,
    accuracy,
    class_names,
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
_ROOM = 1 << 22  # bytes, more than the weights of a classifier take


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
        self.trained: TrainedClassifier | None = None
        self.register_buffer("_on_device", torch.empty(0), persistent=False)

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Tells whether a classifier of this data has to be trained first.

        Raises:
            DataError: the data has no labels, or the classifier is not accurate enough.
        """
        classes = class_names(data)
        trained = load_classifier(_path(data, cache_dir))
        if trained is None:
            return f"a classifier has to be trained on {len(data.train_images):,} images first"
        trained.check_accuracy(self._least_accuracy(data, classes))
        return None

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads the classifier of this data from the cache, or trains it and stores it there.

        Raises:
            DataError: the data has no labels or no test images, the cache cannot be written, or
                the classifier is not accurate enough.
        """
        classes = class_names(data)
        least, path = self._least_accuracy(data, classes), _path(data, cache_dir)
        device = self.get_buffer("_on_device").device
        # Inference mode, in which Lightning validates, would make weights that cannot be trained.
        with torch.inference_mode(False), float32_only(device):
            trained = load_classifier(path) or _train(data, classes, path, device, least)
            trained.check_accuracy(least)
            network = _untrained(data, classes)
            network.load_state_dict(trained.weights)
            self.network = network.requires_grad_(False).eval().to(device)
        self.classes, self.trained = classes, trained

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
            features: Features = self.network(images)
            return features

    def _least_accuracy(self, data: ImageData, classes: tuple[str, ...]) -> float:
        given = data.min_accuracy if self.min_accuracy is None else self.min_accuracy
        return (1 + 1 / len(classes)) / 2 if given is None else given


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

    def check_accuracy(self, least: float) -> None:
        """Raises `DataError` where the accuracy lies below `least`."""
        if self.accuracy < least:
            enough = math.floor(self.accuracy * 1000) / 1000  # rounded down: what is advised works
            raise DataError(
                f"metrics.min_accuracy: a classifier trained on {self.num_train:,} images names "
                f"{_percent(self.accuracy)} of the {self.num_test:,} test images rightly, and "
                f"scores need {_percent(least)}; accept it with metrics.min_accuracy={enough:g}, "
                f"or {OTHER_FEATURES}"
            )


def load_classifier(path: Path) -> TrainedClassifier | None:
    """Reads a file of the cache; None where there is none, and with a warning where it is damaged.

    Raises:
        DataError: it cannot be read.
    """
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


def _untrained(data: ImageData, classes: tuple[str, ...]) -> ClassifierNetwork:
    channels, height, width = data.train_images.shape[1:]
    return untrained((channels, height, width), len(classes), RECIPE)


def _train(
    data: ImageData, classes: tuple[str, ...], path: Path, device: torch.device, least: float
) -> TrainedClassifier:
    """Trains, tests and stores a classifier, whether accurate enough or not."""
    assert data.train_labels is not None
    assert data.test_labels is not None
    num_train, num_test = len(data.train_images), len(data.test_images)
    log.info(
        "training a classifier on %s images for scores; once, then cached at %s",
        *(f"{num_train:,}", path),
    )
    started = time.monotonic()
    with written_to(path.parent, "the classifier of the scores"), whole_file(path) as file:
        file.write(bytes(_ROOM))  # a full disk is told before the work
        file.flush()
        file.seek(0)
        file.truncate()
        network = _untrained(data, classes).to(device)
        train_network(network, data.train_images, data.train_labels, RECIPE)
        share = accuracy(network, data.test_images, data.test_labels)
        weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        trained = TrainedClassifier(weights, share, num_train, num_test, asdict(RECIPE))
        buffer = io.BytesIO()
        torch.save(asdict(trained) | {"seal": trained.checksum}, buffer)
        file.write(buffer.getvalue())
    log.info(
        "the classifier names %s of %s test images rightly (scores need %s); trained in %.0f s",
        *(_percent(share), f"{num_test:,}", _percent(least), time.monotonic() - started),
    )
    return trained


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %".replace(".00 ", " ")
