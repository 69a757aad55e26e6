"""What a run records of itself: code, packages, hardware and data it is made from, and its end."""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

import forger
from forger.app.config.command import Command
from forger.app.config.messages import AGAINST_DIVERGENCE, near, setting
from forger.app.config.trust import locations_in, trust_in
from forger.app.distributed.watch import reason_of
from forger.app.run.folder import RunFolder, is_main_process
from forger.app.run.resume import trusting
from forger.callbacks.early_stopping import EarlyStopping
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.data import ImageDataModule
from forger.errors import ConfigError, DivergedError, Interrupted, Pruned, RunError
from forger.loggers import close_trackers, send_checkpoints
from forger.processes import slurm_job
from forger.secrets import masked
from forger.text import TextFacts

log = logging.getLogger(__name__)

_PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf"),
    *("wandb", "mlflow-skinny", "numpy", "pillow"),
)
_SAMPLED = 256  # images that the fingerprint looks at, spread over all


@cache
def _git(*arguments: str) -> str | None:
    """Returns what git says of the folder of this code, or `None` where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe_environment(seed: int, command: Command) -> dict[str, Any]:
    """Returns git commit, packages, hardware, command and seed, as plain JSON."""
    job, changes = slurm_job(command.overrides), _git("status", "--porcelain")
    return {
        "seed": seed,
        "command": masked(sys.argv),
        "folder": str(Path.cwd()),
        "git": {
            "commit": _git("rev-parse", "HEAD"),
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
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def fingerprint(datamodule: LightningDataModule) -> dict[str, Any] | None:
    """Returns the number of training images and a hash of some of them; `None`: cannot tell."""
    if not isinstance(datamodule, ImageDataModule):
        return None
    images = datamodule.train_images
    found = {"images": len(images), "hash": _hash(images)}
    if datamodule.source_shape is not None:
        found["sources"] = _hash(datamodule.train_sources)
    if datamodule.captions is not None:
        texts = "\0".join(datamodule.captions.texts)
        found["captions"] = sha256(texts.encode()).hexdigest()[:20]
    return found


def _hash(images: Tensor) -> str:
    some = images[:: max(1, len(images) // _SAMPLED)].contiguous()
    return sha256(some.numpy().tobytes()).hexdigest()[:20]


class RecordInCheckpoint(Callback):
    """Puts what rebuilds the networks into checkpoints, and notes in the folder how far it is."""

    def __init__(
        self,
        folder: RunFolder,
        image_shape: tuple[int, int, int],
        classes: Sequence[str],
        data: dict[str, Any] | None,
        source_shape: tuple[int, int, int] | None = None,
        texts: TextFacts | None = None,
    ) -> None:
        self.folder = folder
        self.record = {
            "config": folder.config,
            "image_shape": list(image_shape),
            "classes": list(classes),
            "data": data,
            "threads": torch.get_num_threads(),
            "forger_version": forger.__version__,
            "commit": _git("rev-parse", "HEAD"),
            **({} if source_shape is None else {"source_shape": list(source_shape)}),
            **({} if texts is None else {"texts": texts.plain()}),
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the record."""
        checkpoint.update(self.record)
        self.folder.mark("running", None, checkpoint["global_step"])


@contextmanager
def recorded(folder: RunFolder, trainer: Trainer, command: Command) -> Iterator[None]:
    """Writes how the run ended into its folder, its log and its trackers.

    Raises:
        RunError: in place of an `OSError`: the disk is full, a file has vanished.
        Interrupted: in place of the `SystemExit` that Lightning makes of Ctrl-C.
        Pruned: the search that the run belongs to ended it.
    """
    try:
        yield
    except Pruned as pruned:
        folder.mark("pruned", str(pruned), trainer.global_step)
        close_trackers(trainer.loggers, exit_code=0)
        raise
    except BaseException as error:
        ended = _as_told(error, trainer)
        stopped = isinstance(ended, (SystemExit, Interrupted))
        reason = ended.cause if isinstance(ended, Interrupted) else reason_of(ended)
        try:  # what fails on the way must not hide the error
            status = "interrupted" if stopped else "failed"
            kind = getattr(ended, "kind", type(ended).__name__)
            folder.mark(status, reason, trainer.global_step, kind)
        except OSError as failure:
            log.warning("status.json cannot be written: %s", failure)
        with suppress(OSError):
            close_trackers(trainer.loggers, getattr(ended, "exit_code", 1) if stopped else 1)
        if is_main_process():
            _say_what_helps(folder, ended, command)
        if ended is error:
            raise
        raise ended from error
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    early = (c.reason for c in callbacks if isinstance(c, EarlyStopping) and c.reason)
    folder.mark("finished", next(early, None), trainer.global_step)
    send_checkpoints(trainer.loggers, folder.path, trainer.global_step)
    close_trackers(trainer.loggers, exit_code=0)


def _as_told(error: BaseException, trainer: Trainer) -> BaseException:
    """Returns what is raised in place of an error."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        ctrl_c = any(isinstance(e, KeyboardInterrupt) for e in (error, error.__context__))
        return Interrupted(signal.SIGINT) if ctrl_c else error
    if isinstance(error, OSError):
        lines = str(error.strerror or error).strip().splitlines()  # of a worker: a traceback
        reason = lines[-1] if lines else type(error).__name__
        place = f"{error.filename}: " if error.filename else ""
        return RunError(f"{place}{reason}; the run stopped at iteration {trainer.global_step}")
    return error


def _say_what_helps(folder: RunFolder, error: BaseException, command: Command) -> None:
    """Names the checkpoint, and the way to go on where the same would not happen again."""
    kept = [name for name in (LAST, PREVIOUS) if (folder.path / FOLDER / name).is_file()]
    if kept:
        log.info("kept            %s", folder.path / FOLDER / kept[0])
    if isinstance(error, DivergedError):
        log.info("what helps      %s", AGAINST_DIVERGENCE)
    trust = trusting([*trust_in(folder.config), *locations_in(folder.config)])
    if not isinstance(error, (ConfigError, DivergedError)):
        again = [setting("resume", near(folder.path)), *trust]
        log.info("to go on        %s", command.typed("train", *again))
    elif kept:
        again = [setting("init_from", near(folder.path)), *trust]
        log.info("its weights     %s, with what is changed", command.typed("train", *again))
