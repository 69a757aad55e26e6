"""What `trainer.precision=auto` means on this machine. Owns the choice and the words for it.

bfloat16 keeps float32's range, so that no loss needs scaling; weights, optimizers, losses,
penalties and samples stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

FULL, MIXED = "32-true", "bf16-mixed"
_X86 = ("avx512_bf16", "amx_bf16")  # its instructions that multiply bfloat16


def choose_precision(cfg: DictConfig) -> str | None:
    """Replaces `auto` in the config, so that it records what a resumed run goes on with.

    Returns:
        What was chosen and why, in words; None where the user chose.
    """
    if cfg.trainer.precision != "auto":
        return None
    here = device_type(cfg.trainer.accelerator)
    mixed = multiplies_bfloat16(here)
    cfg.trainer.precision = MIXED if mixed else FULL
    other = FULL if mixed else MIXED
    name = {"cpu": "processor", "cuda": "GPU"}.get(here, here)
    has = "has" if mixed else "has no"
    return (
        f"{cfg.trainer.precision}: this {name} {has} instructions for bfloat16; "
        f"trainer.precision={other} chooses the other"
    )


def device_type(accelerator: str) -> str:
    """Returns the torch device that a Trainer's accelerator means here: `cpu`, `cuda` or `mps`."""
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cuda" if accelerator == "cuda" else accelerator


def multiplies_bfloat16(device: str) -> bool:
    """Tells whether the device has instructions for products of bfloat16, not only emulates them.

    Asked of x86 processors and of NVIDIA's and AMD's GPUs; of others it is not known that they
    would train faster, and the answer is no.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    # Older versions of torch do not tell; then no processor is known to have them.
    ask: Any = getattr(torch.cpu, "get_capabilities", dict)
    capabilities: dict[str, Any] = ask()
    return any(capabilities.get(name) for name in _X86)
