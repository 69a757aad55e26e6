"""Reads what both networks return."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from forger.batches import description_of
from forger.errors import ConfigError
from forger.gradients import full_precision


def check_made(images: Any, shape: torch.Size) -> Tensor:
    """Returns what a generator made; raises `ConfigError` unless it has the shape of the data's."""
    if isinstance(images, Tensor) and images.shape == shape:
        return images
    found = tuple(images.shape[1:]) if isinstance(images, Tensor) else type(images).__name__
    raise ConfigError(f"model.generator: makes images {found}, the data holds {tuple(shape[1:])}")


class Judged(NamedTuple):
    """What D says: logits, and what its class head says, if it has one."""

    logits: Tensor
    classes: Tensor | None


def read_judged(judged: Any, rows: int, num_classes: int | None = None) -> Judged:
    """Reads logits, one or a map of them for each of so many images, in at least 32 bits.

    With `num_classes` D has a class head, and returns logits of classes beside its own.

    Raises:
        ConfigError: it returns something else.
    """
    logits, classes = judged, None
    if num_classes is not None:
        logits, classes = _with_classes(judged, (rows, num_classes))
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f"model.discriminator: must return a tensor, and returns {type(logits).__name__}"
        )
    wide = full_precision(logits)
    if wide.ndim < 2 or wide[0].numel() == 1:
        wide = wide.flatten()  # (B, 1) would broadcast in relativistic losses
    if len(wide) != rows or wide.ndim == 2:
        raise ConfigError(
            f"model.discriminator: gives {tuple(logits.shape)} for {rows} images, must give one"
            " logit each, or a map of them"
        )
    wide = wide.flatten(1) if wide.ndim > 1 else wide
    return Judged(wide, None if classes is None else full_precision(classes))


def _with_classes(judged: Any, wanted: tuple[int, int]) -> tuple[Any, Tensor]:
    """Returns what a D with a class head returns; refuses one that has none."""
    if isinstance(judged, tuple) and len(judged) == 2 and isinstance(judged[1], Tensor):
        logits, classes = judged
        if classes.shape == wanted:
            return logits, classes
    raise ConfigError(
        "condition.discriminator=auxiliary: the discriminator must return its logits and those"
        f" of classes {wanted}, and returns {description_of(judged)}"
    )
