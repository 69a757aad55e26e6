"""Keeps, reads and sets the global random states of Python, NumPy and torch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_CPU = torch.device("cpu")


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Undoes all draws from torch made inside, on the CPU and on `device`."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def random_state_of(seed: int, device: torch.device) -> Iterator[None]:
    """Lets torch draw from a seed inside, on the CPU and on `device`, and undoes it afterwards."""
    with random_state_kept(device):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reset every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def random_states(device: torch.device = _CPU) -> dict[str, Any]:
    """Returns the states of torch (CPU and `device`), NumPy and Python as tensors and lists."""
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), [int(key) for key in keys], *rest],
        "python": [version, list(internal), gauss],
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Any], device: torch.device = _CPU) -> None:
    """Sets the states that `random_states` returned; one of another device is left out."""
    torch.set_rng_state(states["torch"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
