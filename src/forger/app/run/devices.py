"""Where scoring and generating compute. Owns the choice of one device and of its CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from forger import hardware
from forger.errors import ConfigError, RunError


def pick_device(name: str) -> torch.device:
    """Returns the device that `name` means; `auto` is CUDA, else an Apple GPU, else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:<index>` or `mps`.

    Raises:
        ConfigError: there is no such device here.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if count := torch.cuda.device_count():
        here = ["cuda", *(f"cuda:{index}" for index in range(count)), *here]
    if name == "auto":
        check_given_gpu()
        return torch.device(here[0])
    if name not in here:
        raise ConfigError(f"device={name}: must be one of those here: auto, {', '.join(here)}")
    return torch.device(name)


def check_given_gpu() -> None:
    """Finds out whether a process that was given a GPU has one, lest it compute on the CPU unseen.

    Raises:
        RunError: it has none.
    """
    given = hardware.given_gpus()
    if given and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        built = "" if torch.version.cuda or torch.version.hip else ", which is built without CUDA,"
        raise RunError(
            f"CUDA_VISIBLE_DEVICES={','.join(given)}: names a GPU, and torch{built} finds none;"
            " unset it or name one of those that nvidia-smi -L lists, or ask for the CPU:"
            " trainer=cpu, and device=cpu for evaluate.py and generate.py"
        )


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Computes with `count` CPU threads for a while; `None` leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
