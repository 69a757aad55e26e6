"""The real images and labels of one iteration: where batches hold them, and how they must look."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from forger.errors import DataError

log = logging.getLogger(__name__)

IMAGE_NAMES = ("image", "images", "img", "pixel_values")
"""What images are called in batches whose members have names."""

LABEL_NAMES = ("label", "labels", "target", "targets")
"""What labels are called there."""

_ROUNDING = 0.01  # beyond [-1, 1]: half precision and interpolation do that
_CHANNELS = (1, 3, 4)


class IterationBatches(tuple[Any, ...]):
    """The batches that one iteration consumes, in order, each as `images_of` reads it.

    A type of its own, since a plain tuple `(images, labels)` is one batch and not two.
    """

    __slots__ = ()


class RealBatches:
    """Takes what a task needs out of the `expected` batches of an iteration, and checks it.

    Images that are odd are logged where `warns`, as in one process of several. `check` is called
    with what else a batch holds.
    """

    def __init__(
        self,
        expected: int,
        members: Sequence[str] = ("image",),
        check: Callable[[Mapping[str, Tensor]], None] | None = None,
        warns: bool = True,
    ) -> None:
        self.expected, self.members, self.check, self.warns = expected, members, check, warns
        self._shape: torch.Size | None = None

    def __call__(self, batch: Any, dtype: torch.dtype) -> list[dict[str, Tensor]]:
        """Returns the members of each batch by their names, images as `dtype`.

        Raises:
            DataError: there are more or fewer batches, or one lacks a member, holds no images in
                [-1, 1], or other ones than the first did.
        """
        batches = batch if isinstance(batch, IterationBatches) else (batch,)
        if len(batches) != self.expected:
            raise DataError(
                f"an iteration needs {self.expected} batches of real images, and the loader gave"
                f" {len(batches)}: wrap your data module,"
                " forger.data.GroupedDataModule(datamodule, gan.batches_per_iteration)"
            )
        found = [members_of(one, self.members) for one in batches]
        for members in found:
            first = self._shape is None
            self._check(members["image"])
            # Of a GPU the first batch alone: it would have to be waited for.
            if self.check is not None and (first or members["image"].device.type == "cpu"):
                self.check(members)
        return [
            {name: one.to(dtype) if one.is_floating_point() else one for name, one in each.items()}
            for each in found
        ]

    def _check(self, images: Tensor) -> None:
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


def members_of(batch: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """Returns members of a batch by name, the images as `image`, labels int64 `(B,)` as `label`.

    Labels are the member called as one of `LABEL_NAMES`, or else what a tuple or list holds behind
    its images; all others go by their own names.

    Raises:
        DataError: there is no such member, or it is not one row for each image, or labels are no
            whole numbers.
    """
    found = {"image": images_of(batch)}
    check_form(found["image"])
    rows = len(found["image"])
    for name in names:
        if name == "label":
            found[name] = _labels(batch, rows)
        elif name != "image":
            found[name] = _member(batch, (name,))
            if not isinstance(found[name], Tensor) or found[name].shape[:1] != (rows,):
                raise DataError(
                    f"real images: each batch must be a mapping with {', '.join(map(repr, names))},"
                    f" and {name!r} a tensor with a row for each image; it is"
                    f" {description_of(found[name])}"
                )
    return found


def images_of(batch: Any) -> Any:
    """Returns the images of a batch.

    They are its member called as one of `IMAGE_NAMES` where members have names (mappings,
    dataclasses, named tuples), or else the first member of a tuple or list, or the batch itself.

    Raises:
        DataError: it has members, and none that could be images.
    """
    inner = _holder(batch)
    return batch if inner is batch else images_of(inner)


def _holder(batch: Any) -> Any:
    """Returns the member of a batch that is or holds its images; the batch if it has no members."""
    names, sequence = _names(batch), isinstance(batch, (tuple, list))
    for name in IMAGE_NAMES:
        if name in names:
            return _get(batch, name)
    if sequence and len(batch) > 0:
        return batch[0]
    if not names and not sequence:
        return batch
    raise DataError(
        "real images: a batch must be images (B, C, H, W), or hold them first, or under the name "
        f"{', '.join(map(repr, IMAGE_NAMES))}; it has {', '.join(map(repr, names)) or 'nothing'}."
        " Rename them in your data set, or in on_after_batch_transfer of your data module"
    )


def _labels(batch: Any, rows: int) -> Tensor:
    labels = _member(batch, LABEL_NAMES, behind_images=True)
    if labels is None:
        raise DataError(
            "labels: a batch has none; give (images, labels), or a mapping with images as 'image'"
            f" and labels as {', '.join(map(repr, LABEL_NAMES))}"
        )
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.is_complex())
    if not whole or labels.shape != (rows,):
        raise DataError(
            f"labels: must be a tensor ({rows},) of whole numbers, one for each image, not"
            f" {description_of(labels)}; write labels.argmax(1) in your data module where they are"
            " one-hot rows, and labels.long() where they are whole"
        )
    whole_labels: Tensor = labels.long()
    return whole_labels


def _member(batch: Any, names: Sequence[str], behind_images: bool = False) -> Any:
    """Returns what a batch, or the part with the images, holds under the first name found.

    Without one it is, if wanted, what a tuple or list holds behind its images; or else None.
    """
    known = _names(batch)
    for name in names:
        if name in known:
            return _get(batch, name)
    inner = _holder(batch)
    if inner is batch:
        return None
    found = _member(inner, names, behind_images)
    if found is None and behind_images and isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[1]
    return found


def description_of(found: Any) -> str:
    """Says in a few words what was found in the place of tensors: types, shapes and names."""
    if isinstance(found, Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
    if isinstance(found, Mapping):
        return f"{{{', '.join(f'{name!r}: {description_of(one)}' for name, one in found.items())}}}"
    if isinstance(found, (tuple, list)):
        first = ", ".join(map(description_of, found[:4])) or "nothing"
        return f"a {type(found).__name__} of {first}{', ...' * (len(found) > 4)}"
    return "None" if found is None else type(found).__name__


def _get(batch: Any, name: str) -> Any:
    return batch[name] if hasattr(batch, "keys") else getattr(batch, name)


def _names(batch: Any) -> list[str]:
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        return [str(key) for key in batch.keys()]  # noqa: SIM118  (it may be no mapping)
    if is_dataclass(batch) and not isinstance(batch, type):
        return [field.name for field in fields(batch)]
    return list(getattr(batch, "_fields", ()))


def check_labels(
    labels: Tensor, num_classes: int, name: str = "a batch", key: str = "condition=label"
) -> None:
    """Raises `DataError`, which tells the remedy, unless labels are from 0 to `num_classes` - 1.

    `name` and `key` say for the message whose labels they are, and which setting wants them.
    """
    low, high = (int(value) for value in labels.aminmax())
    if low >= 0 and high < num_classes:
        return
    advice = "give each class a name in the attribute classes, or correct the labels"
    if low > 0 and high == num_classes:
        advice = f"subtract 1 if they begin at 1, or {advice}"
    raise DataError(
        f"{key}: labels of {num_classes} classes must be whole numbers from 0 to"
        f" {num_classes - 1}, and those of {name} are from {low} to {high}; {advice}"
    )


def check_form(images: Any) -> None:
    """Raises `DataError`, which tells the remedy, unless these are float images `(B, C, H, W)`."""
    fits = isinstance(images, Tensor) and images.ndim == 4 and images.numel() > 0
    if not fits or not images.is_floating_point():
        raise DataError(
            "real images: must be a tensor (B, C, H, W) of floating-point numbers in [-1, 1], not"
            f" {description_of(images)}; write images.float() / 127.5 - 1 in your data set where"
            " they are tensors from 0 to 255"
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
