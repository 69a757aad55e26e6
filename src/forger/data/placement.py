"""Where the training images stay while they are trained on. Owns the choice, not the moving."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Residence = Literal["auto", "cpu", "accelerator"]
RESIDENCES = ("auto", "cpu", "accelerator")

_SHARE = 4  # images that take at most a quarter of the free memory leave enough to train


def residence(images: Tensor, wanted: Residence, device: torch.device) -> torch.device:
    """Returns the device that shall hold the images: gathering a batch there moves nothing.

    Args:
        images: all that are trained on.
        wanted: `auto` is the accelerator where they take at most a quarter of its free memory.
        device: of the training.
    """
    if device.type == "cpu" or wanted == "cpu":
        return torch.device("cpu")
    if wanted == "accelerator" or images.nbytes * _SHARE <= free_bytes(device):
        return device
    return torch.device("cpu")


def free_bytes(device: torch.device) -> int:
    """Returns the accelerator's free memory; 0 where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0
