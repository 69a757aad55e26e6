"""The batches of one iteration. Owns the type that data modules hand to the GAN."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Parts(tuple[Any, ...]):
    """The batches that one iteration consumes, in order.

    Each is `images` or `(images, labels)`, images `(B, C, H, W)` in [-1, 1]. A type of its own,
    since a plain tuple `(images, labels)` is one batch and not two.
    """

    __slots__ = ()


def real_images(batch: Any, expected: int) -> list[Tensor]:
    """Takes the batches of an iteration apart, and their labels off.

    Args:
        batch: `Parts`, or one batch of a loader that knows nothing of them.
        expected: how many batches the iteration needs.

    Raises:
        ValueError: there are more or fewer.
    """
    parts = batch if isinstance(batch, Parts) else (batch,)
    if len(parts) != expected:
        raise ValueError(
            f"an iteration needs {expected} batches of real images, and the loader gave"
            f" {len(parts)}: wrap your data module,"
            " forger.data.GroupedDataModule(datamodule, gan.batches_per_iteration)"
        )
    return [part if isinstance(part, Tensor) else part[0] for part in parts]
