"""From a run folder back to its GAN. Owns where the checkpoint lies and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from forger.errors import UserError
from forger.gan import GAN
from forger.runs.build import build_gan


def find_checkpoint(run: Path) -> Path:
    """Returns the checkpoint that `run` means: itself, or a run folder's last one.

    Raises:
        UserError: there is none.
    """
    path = run if run.is_file() else run / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UserError(f"run={run}: no checkpoint there; looked for {path}")
    return path


def load_gan(run: str | Path) -> GAN:
    """Rebuilds the GAN of a run, in eval mode on the CPU, from its folder or a checkpoint file.

    Nothing in the file is executed: it is read with `weights_only=True`.

    Raises:
        UserError: there is no checkpoint, or it does not say how its run was made.
    """
    path = find_checkpoint(Path(run))
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if "config" not in checkpoint or "image_shape" not in checkpoint:
        raise UserError(f"{path}: this checkpoint does not hold the config of a forger run")
    cfg = OmegaConf.create(checkpoint["config"])
    channels, height, width = checkpoint["image_shape"]
    gan = build_gan(cfg, (channels, height, width), cfg.seed)
    gan.load_state_dict(checkpoint["state_dict"])
    return gan.eval()
