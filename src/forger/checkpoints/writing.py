"""Writes checkpoints: whole or not at all, with the one before them kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from forger.checkpoints import LAST, PREVIOUS
from forger.checkpoints.reading import read_checkpoint
from forger.errors import RunError
from forger.whole_files import whole_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for checkpoint files, with three promises.

    A file appears under its name only when it is whole and on the disk. The `last.ckpt` that is
    replaced stays as `previous.ckpt`. A file is read as plain data (`weights_only`), its checksums
    compared.
    """

    def __init__(self) -> None:
        self._read_back = False

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Writes a checkpoint; the first of a run is read back, since later is too late.

        Raises:
            RunError: the disk is full, for example; what was there before is still there.
        """
        target = Path(path)
        try:
            with whole_file(target) as file:
                torch.save(checkpoint, file)
                file.flush()
                if target.name == LAST:
                    _keep_as_previous(target)
        except OSError as error:
            raise _unwritten(target, error) from error
        if not self._read_back:
            read_checkpoint(target)
            self._read_back = True

    def load_checkpoint(self, path: str | os.PathLike[str], *_: Any, **__: Any) -> dict[str, Any]:
        """Reads a checkpoint as `read_checkpoint` does, whatever else is asked for."""
        return read_checkpoint(Path(path))


def _unwritten(target: Path, error: OSError) -> RunError:
    reason = f"the checkpoint cannot be written: {error.strerror or error}"
    return RunError(f"{target}: {reason}; the one before it is still whole")


def _keep_as_previous(last: Path) -> None:
    """Gives the checkpoint about to be replaced its second name; at no moment is there none."""
    previous = last.with_name(PREVIOUS)
    if last.is_file() and not _linked(last, previous):
        last.replace(previous)


def keep_as(checkpoint: Path, name: str) -> None:
    """Keeps a checkpoint under a second name beside its own, where it is whole or not at all.

    Raises:
        RunError: the file system has no links, and the copy cannot be written.
    """
    target = checkpoint.with_name(name)
    if _linked(checkpoint, target):
        return
    try:
        with checkpoint.open("rb") as source, whole_file(target) as file:
            shutil.copyfileobj(source, file)
    except OSError as error:
        raise _unwritten(target, error) from error


def _linked(checkpoint: Path, target: Path) -> bool:
    """Gives a file a second name, in place of what has it; False on file systems without links."""
    link = target.with_name(f".{target.name}.link.tmp")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(checkpoint)
        link.replace(target)
        link.unlink(missing_ok=True)  # a move between two names of one file does nothing
    except OSError:
        return False
    return True
