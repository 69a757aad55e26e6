"""How useful generated images are: a classifier is trained on them, and tested on real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.classifier import RECIPE
from forger.metrics.classifier_training import accuracy, train_network, untrained
from forger.metrics.extractor import ImageData, float32_only
from forger.metrics.translations import classes_kept
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.sampling.translator import Translator, expanded


def check_useful(sampler: Sampler, data: ImageData) -> None:
    """Raises `ConfigError` unless images have classes, of the condition or kept of sources."""
    translates = isinstance(sampler, Translator) and data.source_shape is not None
    if not sampler.condition.classes and not (translates and classes_kept(data)):
        raise ConfigError(
            "classification_accuracy=true: a classifier is trained, and the images of this run have"
            " no classes; leave it out"
        )


def classification_accuracies(
    sampler: Sampler, data: ImageData, seed: int, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Trains classifiers of one recipe, and tests them on the real test images.

    - `classification_accuracy`: of one trained on generated images (CAS, arXiv:1905.10887): as many
      as there are training images, of classes as in training, or the translations of all training
      sources, which keep their classes (SimGAN, arXiv:1612.07828).
    - `classification_accuracy_of_sources`: of one trained on these sources as they are.

    Args:
        sampler: of the generator, see `check_useful`.
        data: with labels.
        seed: of the noise, and of the recipe.
        device: of generator and classifiers.

    Returns:
        These scores, and as floor the accuracy of one trained on the real training images.
    """
    sampler = sampler.to(device)
    made = [(batch["image"].cpu(), label) for batch, label in _chunks(sampler, data, seed)]
    images, labels = (torch.cat(part) for part in zip(*made, strict=True))
    scores = {"classification_accuracy": _accuracy(images, labels, data, seed, device)}
    fit = data.source_shape is not None and data.source_shape[1:] == data.test_images.shape[2:]
    if isinstance(sampler, Translator) and fit:
        sources = expanded(data.train_sources, data.test_images.shape[1])
        if sources.shape[1] == data.test_images.shape[1]:
            found = _accuracy(sources, labels, data, seed, device)
            scores["classification_accuracy_of_sources"] = found
    real = data.train_labels
    assert real is not None, "check_useful comes first"
    floor = _accuracy(data.train_images, real, data, seed, device)
    return scores, {"classification_accuracy": floor}


def _chunks(
    sampler: Sampler, data: ImageData, seed: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yields what is generated, and the classes of it."""
    if not isinstance(sampler, Translator):
        for number, size in enumerate(chunk_sizes(len(data.train_images))):
            batch = sampler.chunk(number, size, seed)
            yield batch, batch["label"].cpu()
        return
    labels = data.train_source_labels
    assert labels is not None, "check_useful comes first"
    parts = torch.split(data.train_sources, CHUNK), torch.split(labels, CHUNK)
    for number, (sources, own) in enumerate(zip(*parts, strict=True)):
        given = {"source": sources.float() / 127.5 - 1}
        yield sampler.chunk(number, len(sources), seed, given), own


def _accuracy(
    images: Tensor, labels: Tensor, data: ImageData, seed: int, device: torch.device
) -> float:
    """Returns the share of real test images that a classifier trained on images names rightly."""
    assert data.test_labels is not None, "check_useful comes first"
    classes = max(int(one.max()) for one in (labels, data.test_labels)) + 1
    channels, height, width = images.shape[1:]
    recipe = replace(RECIPE, seed=seed)
    with torch.inference_mode(False), float32_only(device):
        network = untrained((channels, height, width), classes, recipe).to(device)
        train_network(network, images, labels, recipe)
        return accuracy(network, data.test_images, data.test_labels)
