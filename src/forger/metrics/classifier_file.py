"""A trained classifier on disk. Owns its format and the checks of it, not its training."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forger.errors import DataError
from forger.metrics.cache import data_hash
from forger.metrics.classifier_data import WAYS_OUT
from forger.metrics.classifier_network import VERSION
from forger.metrics.classifier_training import Recipe
from forger.metrics.extractor import ImageData
from forger.metrics.files import whole_file
from forger.metrics.fingerprint import DIGITS, weights_hash
from forger.seeds import STREAMS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What training left behind.

    Attributes:
        weights: the state of the network, on the CPU.
        accuracy: share of the test images that it names rightly.
        num_train: number of training images.
        num_test: number of test images.
        recipe: the settings of the training.
    """

    weights: dict[str, Tensor]
    accuracy: float
    num_train: int
    num_test: int
    recipe: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of the network they belong to."""
        return weights_hash(self.weights, "classifier", VERSION)

    @property
    def seal(self) -> str:
        """Hash of everything, which tells a damaged file."""
        facts = (self.fingerprint, self.accuracy, self.num_train, self.num_test, self.recipe)
        return sha256(repr(facts).encode()).hexdigest()

    def check(self, bound: float) -> None:
        """Raises `DataError` where the accuracy lies below `bound`."""
        if self.accuracy < bound:
            # Rounded down, so that what is advised suffices.
            enough = math.floor(self.accuracy * 1000) / 1000
            raise DataError(
                f"metrics.min_accuracy: a classifier trained on {self.num_train:,} images names "
                f"{percent(self.accuracy)} of the {self.num_test:,} test images rightly, and "
                f"scores need {percent(bound)}; accept it with metrics.min_accuracy={enough:g}, "
                f"or {WAYS_OUT}"
            )


def percent(share: float) -> str:
    """Writes 0.9937 as 99.37 %."""
    return f"{100 * share:.2f} %".replace(".00 ", " ")


def file_of(data: ImageData, cache_dir: Path, recipe: Recipe) -> Path:
    """Returns where the classifier of this data and recipe is kept.

    Raises:
        DataError: the data cannot be read.
    """
    facts = (data_hash(data), asdict(recipe), VERSION, STREAMS)
    return cache_dir / f"classifier-{sha256(repr(facts).encode()).hexdigest()[:DIGITS]}.pt"


def save(trained: Trained, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
        DataError: the folder cannot be written to.
    """
    with whole_file(path, "the classifier of the scores") as file:
        torch.save(asdict(trained) | {"seal": trained.seal}, file)


def load(path: Path) -> Trained | None:
    """Reads the file; None where there is none, and with a warning where it is damaged.

    Raises:
        DataError: it cannot be read.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        seal = stored.pop("seal")
        trained = Trained(**stored)
        if trained.seal != seal:
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
