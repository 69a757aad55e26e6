"""Writes checkpoints: whole or not at all, with the one before them kept."""

from __future__ import annotations

import os
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
            raise RunError(
                f"{target}: the checkpoint cannot be written: {error.strerror or error}; the one"
                " before it is still whole"
            ) from error
        if not self._read_back:
            read_checkpoint(target)
            self._read_back = True

    def load_checkpoint(self, path: str | os.PathLike[str], *_: Any, **__: Any) -> dict[str, Any]:
        """Reads a checkpoint as `read_checkpoint` does, whatever else is asked for."""
        return read_checkpoint(Path(path))


def _keep_as_previous(last: Path) -> None:
    """Gives the checkpoint about to be replaced its second name; at no moment is there none."""
    link, previous = last.with_name(f".{PREVIOUS}.link"), last.with_name(PREVIOUS)
    link.unlink(missing_ok=True)
    if not last.is_file():
        return
    try:
        link.hardlink_to(last)
        link.replace(previous)
        link.unlink(missing_ok=True)  # a move between two names of one file does nothing
    except OSError:  # a file system without links
        last.replace(previous)
