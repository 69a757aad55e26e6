"""Are two checkpoints the same in bits? Tells where they are not."""

from __future__ import annotations

from typing import Any

import torch


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Places at which two nested containers differ, tensors compared bit by bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{path}/{key}: in one only" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            found += differences(one[key], other[key], f"{path}/{key}")
        return found
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)} entries"]
        return [
            text
            for place, pair in enumerate(zip(one, other, strict=True))
            for text in differences(*pair, f"{path}/{place}")
        ]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [f"{path}: tensors differ"]
    return [] if one == other and type(one) is type(other) else [f"{path}: {one!r} and {other!r}"]
