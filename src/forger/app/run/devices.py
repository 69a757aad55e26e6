"""Chooses what computes: the device, its CPU threads and its precision; without Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig

from forger import hardware
from forger.errors import ConfigError, RunError

FULL, MIXED = "32-true", "bf16-mixed"
_X86 = ("avx512_bf16", "amx_bf16")  # its instructions that multiply bfloat16


def pick_device(name: str) -> torch.device:
    """Returns the device that `name` means; `auto` is an Apple GPU, else CUDA, else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:<index>` or `mps`.

    Raises:
        ConfigError: there is no such device here.
        RunError: there is a GPU, and torch cannot use it.
    """
    count = hardware.gpu_count()
    here = ["cuda", *(f"cuda:{index}" for index in range(count))] if count else []
    here = [*(["mps"] if hardware.has_mps() else []), *here, "cpu"]
    if name not in ("auto", *here):
        raise ConfigError(f"device={name}: must be one of those here: auto, {', '.join(here)}")
    if name not in ("cpu", "mps"):
        check_gpu()
    return torch.device(here[0] if name == "auto" else name)


def check_gpu() -> None:
    """Finds out whether torch can use the GPUs that are here or that this process was given.

    Raises:
        RunError: it cannot, and would compute on the CPU unseen.
    """
    given, count = hardware.given_gpus(), hardware.gpu_count()
    if not (given or count) or torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    names = f"CUDA_VISIBLE_DEVICES={','.join(given or ())}: names a GPU"
    here = names if given else f"{count} GPUs are here"
    raise RunError(
        f"{here}, and torch (built for CUDA {torch.version.cuda}) finds none; see which ones"
        " nvidia-smi -L lists, or ask for the CPU: trainer=cpu, and device=cpu for evaluate.py and"
        " generate.py"
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


def choose_precision(cfg: DictConfig) -> str | None:
    """Replaces `auto` in the config, so that it records what a resumed run goes on with.

    bfloat16 keeps float32's range, so that no loss needs scaling; weights, optimizers, losses,
    penalties and samples stay in float32.

    Returns:
        What was chosen and why; None where the user chose.
    """
    if cfg.trainer.precision != "auto":
        return None
    accelerator = hardware.accelerator(cfg.trainer.accelerator)
    mixed = multiplies_bfloat16({"gpu": "cuda"}.get(accelerator, accelerator))
    cfg.trainer.precision, other = (MIXED, FULL) if mixed else (FULL, MIXED)
    name = {"cpu": "processor", "gpu": "GPU"}.get(accelerator, accelerator)
    return (
        f"{cfg.trainer.precision}: this {name} {'has' if mixed else 'has no'} instructions for"
        f" bfloat16; trainer.precision={other} chooses the other"
    )


def multiplies_bfloat16(device: str) -> bool:
    """Tells whether the device has instructions for products of bfloat16, not only emulates them.

    Asked of x86 processors and of NVIDIA's and AMD's GPUs; others are taken to have none.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask: Any = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch do not tell
    return device == "cpu" and any(ask().get(name) for name in _X86)
