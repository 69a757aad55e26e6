"""The real images of one iteration: where a batch holds them, and what they must look like."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from forger.errors import DataError

log = logging.getLogger(__name__)

IMAGE_NAMES = ("image", "images", "img", "pixel_values")
"""What images are called in batches whose members have names."""

_ROUNDING = 0.01  # beyond [-1, 1]: half precision and interpolation do that
_CHANNELS = (1, 3, 4)


class IterationBatches(tuple[Any, ...]):
    """The batches that one iteration consumes, in order, each as `images_of` reads it.

    A type of its own, since a plain tuple `(images, labels)` is one batch and not two.
    """

    __slots__ = ()


class RealImages:
    """Takes the real images out of the `expected` batches of an iteration, and checks them.

    Images that are odd are logged where `warns`, as in one process of several.
    """

    def __init__(self, expected: int, warns: bool = True) -> None:
        self.expected, self.warns = expected, warns
        self._shape: torch.Size | None = None

    def __call__(self, batch: Any) -> list[Tensor]:
        """Returns the images of each batch, `(B, C, H, W)`.

        Raises:
            DataError: there are more or fewer batches, or one holds no images in [-1, 1], or other
                ones than the first did.
        """
        batches = batch if isinstance(batch, IterationBatches) else (batch,)
        if len(batches) != self.expected:
            raise DataError(
                f"an iteration needs {self.expected} batches of real images, and the loader gave"
                f" {len(batches)}: wrap your data module,"
                " forger.data.GroupedDataModule(datamodule, gan.batches_per_iteration)"
            )
        return [self._checked(images_of(one)) for one in batches]

    def _checked(self, images: Tensor) -> Tensor:
        check_form(images)
        shape = images.shape[1:]
        if self._shape is None:  # values of the first batch alone, since a GPU waits for them
            self._shape = shape
            if check_values(images) >= 0 and self.warns:
                log.warning(
                    "the real images of the first batch are all at or above 0: generators make"
                    " images in [-1, 1]; write images * 2 - 1 in your data module if yours are in"
                    " [0, 1]"
                )
        elif shape != self._shape:
            raise DataError(
                f"real images: a batch holds images {tuple(shape)}, the first one held"
                f" {tuple(self._shape)}; resize all to one size in your data module"
            )
        return images


def images_of(batch: Any) -> Any:
    """Returns the images of a batch.

    They are its member called as one of `IMAGE_NAMES` where members have names (mappings,
    dataclasses, named tuples), or else the first member of a tuple or list, or the batch itself.

    Raises:
        DataError: it has members, and none that could be images.
    """
    names, sequence = _names(batch), isinstance(batch, (tuple, list))
    for name in IMAGE_NAMES:
        if name in names:
            return images_of(batch[name] if hasattr(batch, "keys") else getattr(batch, name))
    if sequence and len(batch) > 0:
        return images_of(batch[0])
    if not names and not sequence:
        return batch
    raise DataError(
        "real images: a batch must be images (B, C, H, W), or hold them first, or under the name "
        f"{', '.join(map(repr, IMAGE_NAMES))}; it has {', '.join(map(repr, names)) or 'nothing'}."
        " Rename them in your data set, or in on_after_batch_transfer of your data module"
    )


def _names(batch: Any) -> list[str]:
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        return [str(key) for key in batch.keys()]  # noqa: SIM118  (it may be no mapping)
    if is_dataclass(batch) and not isinstance(batch, type):
        return [field.name for field in fields(batch)]
    return list(getattr(batch, "_fields", ()))


def check_form(images: Any) -> None:
    """Raises `DataError`, which tells the remedy, unless these are float images `(B, C, H, W)`."""
    found, fits = type(images).__name__, False
    if isinstance(images, Tensor):
        found = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        fits = images.ndim == 4 and images.numel() > 0 and images.is_floating_point()
    if not fits:
        raise DataError(
            "real images: must be a tensor (B, C, H, W) of floating-point numbers in [-1, 1], not"
            f" {found}; write images.float() / 127.5 - 1 in your data set where they are tensors"
            " from 0 to 255"
        )
    if images.shape[3] in _CHANNELS and images.shape[1] > max(_CHANNELS):
        raise DataError(
            f"real images: must be a batch (B, C, H, W), and {tuple(images.shape)} seems to have"
            " its channels last; write images.permute(0, 3, 1, 2)"
        )


def check_values(images: Tensor) -> float:
    """Returns the least value of images; raises `DataError` unless they are in [-1, 1]."""
    low, high = (float(value) for value in images.detach().aminmax())
    if low >= -1 - _ROUNDING and high <= 1 + _ROUNDING:
        return low
    raise DataError(
        f"real images: must be in [-1, 1], and are from {low:g} to {high:g}; write images / 127.5"
        " - 1 in your data module where they are from 0 to 255, and images * 2 - 1 where they are"
        " from 0 to 1, in place of any other normalisation"
    )
