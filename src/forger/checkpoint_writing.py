"""How checkpoints reach the disk: whole or not at all, with the one before them kept.

Owns the writing that Lightning is given; what is in a file is for those who save, and reading it
back is in `forger.checkpoint_files`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from forger.checkpoint_files import LAST, PREVIOUS, read_checkpoint, reason_of
from forger.errors import RunError
from forger.whole_files import remove_leftovers, whole_file


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's way to disk for checkpoints, with three promises.

    A file appears under its name only when it is whole and on the disk. The `last.ckpt` that is
    replaced stays as `previous.ckpt`. A file is read as plain data (`weights_only`), its checksums
    compared.
    """

    def __init__(self) -> None:
        self._readable = False

    @override
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
        remove_leftovers(target.parent, target.name)
        try:
            with whole_file(target) as file:
                torch.save(checkpoint, file)
                file.flush()
                if target.name == LAST:
                    _keep(target)
        except OSError as error:
            raise _unwritable(target, error.strerror or str(error)) from error
        except RuntimeError as error:  # torch's word for a write that failed
            if "writ" not in str(error):
                raise
            raise _unwritable(target, reason_of(error)) from error
        if not self._readable:
            read_checkpoint(target)
            self._readable = True

    @override
    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any | None = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Reads a checkpoint as `read_checkpoint` does, whatever `weights_only` says."""
        return read_checkpoint(Path(path))


def _keep(last: Path) -> None:
    """Gives the checkpoint about to be replaced its second name; at no moment is there none."""
    previous = last.with_name(PREVIOUS)
    link = last.with_name(f".{PREVIOUS}.link")
    with suppress(FileNotFoundError):
        link.unlink()
    try:
        link.hardlink_to(last)
        link.replace(previous)
        link.unlink(missing_ok=True)  # a move between two names of one file does nothing
    except FileNotFoundError:
        return  # the first of the run
    except OSError:  # a file system without links
        with suppress(FileNotFoundError):
            last.replace(previous)


def _unwritable(path: Path, reason: str) -> RunError:
    return RunError(
        f"{path}: the checkpoint cannot be written: {reason}; the one before it is still whole"
    )
