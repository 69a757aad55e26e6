"""Checkpoint files: written whole, verified when read, and never executed.

Owns their names in a run folder, how they reach the disk and how they are read back; what is in
them is for those who save.
"""

from __future__ import annotations

import logging
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from forger.errors import DataError, RunError
from forger.whole_files import remove_leftovers, whole_file

log = logging.getLogger(__name__)

FOLDER = "checkpoints"  # in the run folder
LAST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"


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
            raise _unwritable(target, _reason(error)) from error
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


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Nothing in the file is executed.

    torch itself compares no checksums: a flipped bit would become a weight.

    Raises:
        DataError: it is no checkpoint, is damaged, or holds more than tensors and plain data.
    """
    if fault := _fault(path):
        raise DataError(f"{path}: {fault}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise DataError(
            f"{path}: cannot be read as a checkpoint: it holds more than tensors and plain data,"
            f" and loading that could run code, so nothing of it was loaded ({_reason(error)})"
        ) from error
    except Exception as error:  # of garbage, torch raises almost anything
        raise DataError(f"{path}: cannot be read as a checkpoint: {_reason(error)}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DataError(f"{path}: is not a checkpoint of a run")
    return content


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Reads the last checkpoint of a run, or the one before it where that is damaged.

    Args:
        folder: of the run.

    Returns:
        The file that was read and its content; `None` where the run has no checkpoint yet.

    Raises:
        DataError: there are checkpoints, and none can be read.
    """
    paths = [folder / FOLDER / name for name in (LAST, PREVIOUS)]
    faults: list[str] = []
    for path in filter(Path.is_file, paths):
        try:
            content = read_checkpoint(path)
        except DataError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            log.warning(
                "%s; taking the one before it, of iteration %d", fault, content["global_step"]
            )
        return path, content
    if faults:
        raise DataError("; ".join(faults))
    return None


def set_damaged_aside(folder: Path, read: Path) -> None:
    """Takes a damaged `last.ckpt` out of the way, lest it replace the good one before it."""
    last = folder / FOLDER / LAST
    if read.name == PREVIOUS and last.is_file():
        last.replace(last.with_name(DAMAGED))


def _fault(path: Path) -> str | None:
    """Says what is wrong with the file itself: a checkpoint is a zip archive with checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        return f"cannot be read as a checkpoint: it is damaged, cut off or something else ({error})"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except Exception as error:  # a damaged directory of the archive
        return f"cannot be read as a checkpoint: it is damaged ({_reason(error)})"
    return f"is damaged: the checksum of {damaged} does not fit" if damaged else None


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


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
