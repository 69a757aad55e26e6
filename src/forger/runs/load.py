"""From a run folder back to its networks. Owns where checkpoints lie and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forger.checkpoint_files import FOLDER, LAST, newest, read_checkpoint
from forger.errors import UserError
from forger.gan import GAN
from forger.random_state import random_state_kept
from forger.runs.build import build_gan
from forger.sampler import Sampler


@dataclass(frozen=True)
class Run:
    """A run that has been read back.

    Attributes:
        folder: of the run.
        checkpoint: the file that was read.
        cfg: of the run, resolved.
        image_shape: channels, height, width.
        iteration: completed iterations.
        gan: in eval mode on the CPU, with the checkpoint's weights.
    """

    folder: Path
    checkpoint: Path
    cfg: DictConfig
    image_shape: tuple[int, int, int]
    iteration: int
    gan: GAN

    def sampler(self, weights: str = "ema") -> Sampler:
        """Returns what generates: the averaged generator, or with `raw` the trained one itself."""
        averaged = self.gan.ema_generator.module
        return Sampler(self.gan.generator if weights == "raw" else averaged, self.gan.prior)


def forger_version() -> str:
    """Returns the installed version of this package."""
    try:
        return version("forger")
    except PackageNotFoundError:
        return "unknown"


def find_checkpoint(run: str | Path, checkpoint: str = "last", setting: str = "run") -> Path:
    """Returns the file that `run` means: itself, or a run folder's last or best checkpoint.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`.
        setting: what the user wrote it under.

    Raises:
        UserError: there is none.
    """
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / FOLDER / f"{checkpoint}.ckpt"
    if path.is_file():
        return path
    hint = ""
    if path.with_name("last.ckpt").is_file():
        hint = "; there is a last.ckpt: write checkpoint=last (a run without scores has no best)"
    raise UserError(f"{setting}={run}: no checkpoint there; looked for {path}{hint}")


def load_run(run: str | Path, checkpoint: str = "last") -> Run:
    """Rebuilds the GAN of a run from its folder or a checkpoint file.

    Nothing in the file is executed: it is read with `weights_only=True`.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`; a damaged last one gives way to the
            one before it.

    Raises:
        UserError: there is no checkpoint, it is damaged, does not say how its run was made, or
            does not fit this version of forger.
    """
    path = find_checkpoint(run, checkpoint)
    whole_run = path.name == LAST and Path(run).expanduser().is_dir()
    found = newest(path.parent.parent) if whole_run else None
    path, content = found or (path, read_checkpoint(path))
    if "config" not in content or "image_shape" not in content:
        raise UserError(
            f"{path}: this checkpoint does not hold the config of a forger run, so that its"
            " networks cannot be rebuilt; give one that train.py wrote"
        )
    cfg = OmegaConf.create(content["config"])
    try:
        channels, height, width = (int(size) for size in content["image_shape"])
        shape = (channels, height, width)
        with random_state_kept(torch.device("cpu")):  # first weights are drawn, then replaced
            gan = build_gan(cfg, shape, cfg.seed)
        gan.load_state_dict(content["state_dict"])
    except (HydraException, OmegaConfBaseException, ImportError, *_MISFITS) as error:
        raise UserError(_misfit(path, content, error)) from error
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return Run(folder, path, cfg, shape, int(content.get("global_step", 0)), gan.eval())


_MISFITS = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def load(run: str | Path, checkpoint: str = "last", weights: str = "ema") -> Sampler:
    """Returns the generator of a run, ready to sample from: float32, eval mode, on the CPU.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`.
        weights: `ema`, the moving average, or `raw`.

    Raises:
        UserError: see `load_run`.
    """
    if weights not in ("ema", "raw"):
        raise UserError(f"weights={weights}: must be one of ema, raw")
    if checkpoint not in ("last", "best"):
        raise UserError(f"checkpoint={checkpoint}: must be one of last, best")
    return load_run(run, checkpoint).sampler(weights)


def _misfit(path: Path, content: dict[str, Any], error: Exception) -> str:
    """Says that a checkpoint and this code do not belong together, and which code would."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [repr(cause)]
    made = content.get("forger_version", "an earlier version")
    commit = content.get("commit")
    return (
        f"{path}: does not fit this version of forger ({forger_version()}); it was written by"
        f" {made}{f', commit {commit}' if commit else ''}. Use that one, or see the run's"
        f" environment.json. What failed: {' '.join(lines[:2])}"
    )
