"""What a run and its checkpoints say of code, packages, hardware and data."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer

import forger
from forger.app.config.command import Command
from forger.app.run.folder import RunFolder
from forger.data import ImageDataModule
from forger.processes import slurm_job
from forger.secrets import masked

_PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf"),
    *("wandb", "mlflow-skinny", "numpy", "pillow"),
)
_SAMPLED = 256  # images that the fingerprint looks at, spread over all


@cache
def git(*arguments: str) -> str | None:
    """Returns what git says of the folder of this code, or `None` where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe_environment(seed: int, command: Command) -> dict[str, Any]:
    """Returns the record: git commit, packages, hardware, command and seed, as plain JSON."""
    job = slurm_job(command.overrides)
    changes = git("status", "--porcelain")
    return {
        "seed": seed,
        "command": masked(sys.argv),
        "folder": str(Path.cwd()),
        "git": {
            "commit": git("rev-parse", "HEAD"),
            "dirty": None if changes is None else bool(changes),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {"forger": forger.__version__} | {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        **({"job": job} if job else {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def fingerprint(datamodule: LightningDataModule) -> dict[str, Any] | None:
    """Returns the number of training images and a hash of some of them; `None`: cannot tell."""
    if not isinstance(datamodule, ImageDataModule):
        return None
    images = datamodule.train_images
    some = images[:: max(1, len(images) // _SAMPLED)].contiguous()
    return {"images": len(images), "hash": sha256(some.numpy().tobytes()).hexdigest()[:20]}


class RecordInCheckpoint(Callback):
    """Puts what rebuilds the networks into every checkpoint, and notes in the folder how far it is.

    Args:
        folder: of the run.
        image_shape: channels, height, width.
        data: fingerprint of the training images.
    """

    def __init__(
        self, folder: RunFolder, image_shape: tuple[int, int, int], data: dict[str, Any] | None
    ) -> None:
        self.folder = folder
        self.record = {
            "config": folder.config,
            "image_shape": list(image_shape),
            "data": data,
            "threads": torch.get_num_threads(),
            "forger_version": forger.__version__,
            "commit": git("rev-parse", "HEAD"),
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the record."""
        checkpoint.update(self.record)
        self.folder.mark("running", None, checkpoint["global_step"])
