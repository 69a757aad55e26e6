"""Compares a run that was killed and resumed with one that was not, bit for bit."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forger.checkpoints import FOLDER, LAST
from forger.checkpoints.reading import read_checkpoint

# What a run measures in time, and what tells of the software rather than of the training.
TIMES = ("train/images_per_second",)
_NOT_TRAINING = ("commit",)
_ONLY_RESUMED = ("resumes.json", "errors/")


def differences(run: Path, reference: Path) -> list[str]:
    """Returns what differs, one line each; nothing where both runs made the same.

    Compared are the names of all files, every number in `metrics.csv` but times, every picture,
    and all that is in each checkpoint.
    """
    found = [*_names(run, reference), *_rows(run / "metrics.csv", reference / "metrics.csv")]
    for path in sorted(reference.rglob("*.png")):
        picture = path.relative_to(reference)
        if (run / picture).is_file() and (run / picture).read_bytes() != path.read_bytes():
            found.append(f"{picture}: other bytes")
    for name in (LAST, "best.ckpt"):
        one, other = run / FOLDER / name, reference / FOLDER / name
        if one.is_file() and other.is_file():
            parts = _parts(_training(one), _training(other), "")
            found += [f"{name}: {line}" for line in parts]
    return found


def _names(run: Path, reference: Path) -> Iterator[str]:
    theirs, ours = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (run, reference)
    )
    for name in sorted(theirs ^ ours):
        if not name.startswith(_ONLY_RESUMED):
            yield f"{name}: {'missing' if name in ours else 'is there, and not in the reference'}"


def _rows(run: Path, reference: Path) -> Iterator[str]:
    (columns, theirs), (own_columns, ours) = map(_table, (run, reference))
    if columns != own_columns:
        yield f"metrics.csv: columns {columns} for {own_columns}"
    steps, own_steps = ([row["step"] for row in rows] for rows in (theirs, ours))
    if steps != own_steps:
        more, fewer = Counter(steps) - Counter(own_steps), Counter(own_steps) - Counter(steps)
        yield f"metrics.csv: rows too many: {[*more.elements()]}, missing: {[*fewer.elements()]}"
        return
    for one, other in zip(theirs, ours, strict=True):
        for name in own_columns:
            if name not in TIMES and one.get(name) != other[name]:
                yield (
                    f"metrics.csv: {name} of step {other['step']} is {one.get(name)} for"
                    f" {other[name]}"
                )


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def _training(checkpoint: Path) -> dict[str, Any]:
    content = read_checkpoint(checkpoint)
    return {name: part for name, part in content.items() if name not in _NOT_TRAINING}


def _parts(one: Any, other: Any, where: str) -> Iterator[str]:
    """Yields where two nested contents differ; floats and tensors are compared by their bits."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__} for {type(other).__name__}"
    elif isinstance(one, Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            yield f"{where}: {one.dtype} {tuple(one.shape)} for {other.dtype} {tuple(other.shape)}"
        elif count := int((_bits(one) != _bits(other)).any(dim=1).sum()):
            yield f"{where}: other bits in {count} of {one.numel()} numbers"
    elif isinstance(one, dict):
        for key in [*other, *(key for key in one if key not in other)]:
            inside = f"{where}.{key}" if where else str(key)
            if (key in one) != (key in other):
                yield f"{inside}: {'missing' if key in other else 'not in the reference'}"
            else:
                yield from _parts(one[key], other[key], inside)
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{where}: {len(one)} entries for {len(other)}"
        for index, (ours, theirs) in enumerate(zip(one, other, strict=False)):
            yield from _parts(ours, theirs, f"{where}[{index}]")
    elif repr(one) != repr(other):  # tells -0.0 from 0.0, and takes nan for nan
        yield f"{where}: {one!r} for {other!r}"


def _bits(tensor: Tensor) -> Tensor:
    """Returns `(numbers, bytes of one)`."""
    count = tensor.numel()
    numbers = tensor.new_empty(count).copy_(tensor.flatten())  # strides of saved weights may be any
    return numbers.view(torch.uint8).reshape(count, tensor.element_size())
