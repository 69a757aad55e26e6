"""Draws the figures of an evaluation into its folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from forger.metrics import figures
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.neighbours import nearest
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.whole_files import write_whole

SAMPLES, NEIGHBOURS = 12, 6  # whose nearest training images are shown, and how many of them
LOOKED_AT = 1_000  # for the grid per class


def draw_figures(
    folder: Path,
    evaluator: Evaluator,
    sampler: Sampler,
    scored: Evaluation,
    seed: int,
    boundary: float | None,
) -> None:
    """Writes the figures of one evaluation as PNG; `boundary` is that of the loss."""
    images, features, logits = _look(evaluator, sampler, seed)
    training = evaluator.data.train_images
    database = torch.split(evaluator.real("train").features, CHUNK)
    # is the generator memorising?
    indices, distances = nearest(features[:SAMPLES], database, min(NEIGHBOURS, len(training)))
    neighbours = figures.nearest_neighbours(images[:SAMPLES], training[indices], distances)
    pictures = {
        "confusion_matrix": figures.confusion_matrix(scored.scores, boundary),
        "nearest_neighbours": neighbours,
    }
    classes = evaluator.extractor.classes
    if classes is not None:
        confidence, predicted = logits.softmax(1).max(1)
        pictures["classes"] = figures.class_grid(images, predicted, confidence, classes)
        shares, reference = scored.class_shares, evaluator.reference_shares
        assert shares is not None
        assert reference is not None
        pictures["class_histogram"] = figures.class_histogram(shares, reference, classes)
    for name, png in pictures.items():
        write_whole(folder / f"{name}.png", png)


def _look(evaluator: Evaluator, sampler: Sampler, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Generates the first images again, with their features and logits."""
    images, features, logits = [], [], []
    for number, size in enumerate(chunk_sizes(LOOKED_AT)):
        chunk = sampler.chunk(number, size, seed)
        seen = evaluator.extractor(chunk)
        images.append(chunk.cpu())
        features.append(seen.features.cpu())
        logits.append(seen.logits.cpu())
    return torch.cat(images), torch.cat(features), torch.cat(logits)
