"""Reads checkpoints: verified, and never executed."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from forger.checkpoints import DAMAGED, FOLDER, LAST, PREVIOUS
from forger.errors import DataError

log = logging.getLogger(__name__)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Nothing in the file is executed.

    torch itself compares no checksums: a flipped bit would become a weight.

    Raises:
        DataError: it is no checkpoint, is damaged, or holds more than tensors and plain data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of garbage, zipfile and torch raise almost anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, UnpicklingError):
            reason = (
                "it holds more than tensors and plain data, and loading that could run code, so"
                f" nothing of it was loaded ({reason})"
            )
        raise DataError(f"{path}: cannot be read as a checkpoint: {reason}") from error
    if damaged is not None:
        raise DataError(f"{path}: is damaged: the checksum of {damaged} does not fit")
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DataError(f"{path}: is not a checkpoint of a run")
    return content


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Reads the last checkpoint of a run folder, or the one before it where that is damaged.

    Returns:
        The file that was read and its content; `None` where the run has no checkpoint yet.

    Raises:
        DataError: there are checkpoints, and none can be read.
    """
    faults: list[str] = []
    for path in (folder / FOLDER / name for name in (LAST, PREVIOUS)):
        if not path.is_file():
            continue
        try:
            content = read_checkpoint(path)
        except DataError as error:
            faults.append(str(error))
            continue
        if faults:
            step = content["global_step"]
            log.warning("%s; taking the one before it, of iteration %d", faults[0], step)
        return path, content
    if faults:
        raise DataError("; ".join(faults))
    return None


def set_damaged_aside(folder: Path, read: Path) -> None:
    """Renames a damaged `last.ckpt`, lest it replace the good one before it, which was read."""
    last = folder / FOLDER / LAST
    if read.name == PREVIOUS and last.is_file():
        last.replace(last.with_name(DAMAGED))
