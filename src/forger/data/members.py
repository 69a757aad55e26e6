"""What a data set reads of one split, named tensors of as many rows: checked, and resized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from forger.batches import IMAGE_NAMES, LABEL_NAMES, description_of
from forger.data.loaders import holds_images
from forger.errors import DataError

_CHUNK = 4096  # images resized at a time: bounds the float copy that resizing makes


def check_members(
    members: Any, native_shape: tuple[int, int, int], source: str
) -> Mapping[str, Tensor]:
    """Returns the members of a split.

    Raises:
        DataError: they are not what `ImageDataModule.read` promises; it names their `source`.
    """
    if isinstance(members, Mapping) and _as_promised(members, native_shape):
        return members
    raise DataError(
        f"{source}: must return tensors by name, as in"
        ' return {"image": images, "label": labels}: uint8 images of shape'
        f" (N, {', '.join(map(str, native_shape))}), with N at least 1, int64 labels of shape (N,)"
        " if there are any, and others of N rows under other names; returned"
        f" {description_of(members)}"
    )


def _as_promised(members: Mapping[str, Any], native_shape: tuple[int, int, int]) -> bool:
    image, label = members.get("image"), members.get("label")
    rows = len(image) if isinstance(image, Tensor) and image.ndim else 0
    others = {*IMAGE_NAMES[1:], *LABEL_NAMES[1:]}  # in batches they mean images and labels
    return (
        isinstance(image, Tensor)
        and rows > 0
        and (image.dtype, image.shape[1:]) == (torch.uint8, torch.Size(native_shape))
        and all(isinstance(x, Tensor) and x.shape[:1] == (rows,) for x in members.values())
        and (label is None or (label.dtype, label.ndim) == (torch.int64, 1))
        and not others & members.keys()
    )


def resize_members(members: Mapping[str, Tensor], size: int | None) -> dict[str, Tensor]:
    """Resizes the images of the size of `image` among the members, where a size is given."""
    own = members["image"].shape[-2:]
    return {
        name: resize(one, size) if size and holds_images(one, own) else one
        for name, one in members.items()
    }


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes uint8 `(N, C, H, W)` to a square `(N, C, size, size)`, antialiased and bilinear."""
    if images.shape[-2:] == (size, size):
        return images
    out = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for begin in range(0, len(images), _CHUNK):
        chunk = images[begin : begin + _CHUNK]
        resized = functional.resize(chunk, [size, size], antialias=True)  # type: ignore[attr-defined]
        out[begin : begin + _CHUNK] = resized
    return out
