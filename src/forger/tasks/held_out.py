"""The held-out images by which a run that translates is looked at: it keeps them, without data."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from forger.batches import description_of
from forger.errors import DataError
from forger.sampling.translator import Translator
from forger.seeds import Purpose, stream

ImageShape: TypeAlias = tuple[int, int, int]

_ROWS, _BYTES = 64, 4 * 2**20  # at most so many of a side, and so large together


class HeldOut(nn.Module):
    """Sources and images of the test split, at even distances in it, uint8.

    Buffers of a task: a loaded run has them too.

    Args:
        image_shape: channels, height, width of what is made.
        source_shape: of what it is made from.
    """

    sources: Tensor
    images: Tensor

    def __init__(self, image_shape: ImageShape, source_shape: ImageShape) -> None:
        super().__init__()
        rows = max(1, min(_ROWS, _BYTES // max(prod(image_shape), prod(source_shape))))
        for name, shape in (("sources", source_shape), ("images", image_shape)):
            self.register_buffer(name, torch.zeros(rows, *shape, dtype=torch.uint8))

    def setup(self, datamodule: Any) -> None:
        """Takes them from the data, of training where none are held out.

        Raises:
            DataError: a data module of the user's own has no such images.
        """
        datamodule = getattr(datamodule, "datamodule", datamodule)  # of the user's own
        if datamodule is None:
            return
        for kept, kind in ((self.sources, "sources"), (self.images, "images")):
            has = kind == "images" or getattr(datamodule, "source_shape", True) is not None
            found: Any = getattr(datamodule, f"test_{kind}", None) if has else None
            found = getattr(datamodule, f"train_{kind}", None) if has and found is None else found
            fits = isinstance(found, Tensor) and found.dtype == torch.uint8 and len(found) > 0
            if not fits or found.shape[1:] != kept.shape[1:]:
                raise DataError(
                    f"task: {type(datamodule).__name__} must have test_{kind} or train_{kind},"
                    f" uint8 (N, {', '.join(map(str, kept.shape[1:]))}), and has"
                    f" {description_of(found)}"
                )
            kept.copy_(found[torch.arange(len(kept)) * len(found) // len(kept)])

    def translator(self, generator: nn.Module, paired: bool = False) -> Translator:
        """Returns what shows a generator on them."""
        return Translator(generator, self.sources, self.images, paired)

    def example(self, rows: int) -> Tensor:
        """Returns sources of noise in [-1, 1], to try networks on."""
        shape = rows, *self.sources.shape[1:]
        return torch.rand(shape, generator=stream(Purpose.SAMPLES)) * 2 - 1

    def describe(self) -> str:
        """Says what images are made from."""
        return f"from sources {'x'.join(map(str, self.sources.shape[1:]))}"
