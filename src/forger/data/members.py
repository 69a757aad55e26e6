"""What a data set reads of one split, named tensors of as many rows: checked, and resized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from forger.batches import IMAGE_NAMES, LABEL_NAMES, description_of
from forger.data.loaders import holds_images, is_of_sources
from forger.errors import DataError

Shape: TypeAlias = tuple[int, int, int]  # of an image: channels, height, width

_MISNAMED = {*IMAGE_NAMES[1:], *LABEL_NAMES[1:]}  # in batches they mean images and labels
_CHUNK = 4096  # images resized at a time: bounds the float copy that resizing makes


def check_members(
    members: Any,
    native_shape: Shape,
    reader: str,
    source_shape: Shape | None = None,
    paired: bool = True,
) -> Mapping[str, Tensor]:
    """Returns the members of a split; unpaired sources and their labels have rows of their own.

    Raises:
        DataError: they are not what `ImageDataModule.read` promises; it names their `reader`.
    """
    if isinstance(members, Mapping) and not _MISNAMED & members.keys():
        apart = {k: one for k, one in members.items() if not paired and is_of_sources(k)}
        along = {k: one for k, one in members.items() if k not in apart}
        sources_fit = source_shape is None or _fit(apart or along, "source", source_shape)
        if _fit(along, "image", native_shape) and sources_fit:
            return members
    sources = "" if source_shape is None else f' uint8 sources as "source": {_told(source_shape)},'
    rows = "N rows" if paired else "N rows (what is of sources: as many as those)"
    raise DataError(
        f"{reader}: must return tensors by name, as in"
        ' return {"image": images, "label": labels}: uint8 images of shape'
        f" {_told(native_shape)}, with N at least 1,{sources} int64 labels of shape (N,)"
        f" if there are any, and others of {rows} under other names; returned"
        f" {description_of(members)}"
    )


def _told(shape: Shape) -> str:
    return f"(N, {', '.join(map(str, shape))})"


def _fit(members: Mapping[str, Any], name: str, shape: Shape) -> bool:
    """Tells whether images have their shape, and all members as many rows, and labels whole."""
    images = members.get(name)
    if not isinstance(images, Tensor) or images.ndim == 0:
        return False
    rows, labels = len(images), [members[k] for k in ("label", "source_label") if k in members]
    return (
        rows > 0
        and (images.dtype, images.shape[1:]) == (torch.uint8, torch.Size(shape))
        and all(isinstance(x, Tensor) and x.shape[:1] == (rows,) for x in members.values())
        and all((one.dtype, one.ndim) == (torch.int64, 1) for one in labels)
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
