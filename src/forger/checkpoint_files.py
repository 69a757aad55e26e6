"""Checkpoint files: verified when read, and never executed.

Owns their names in a run folder and how they are read back, without Lightning; how they reach the
disk is in `forger.checkpoint_writing`.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from forger.errors import DataError

log = logging.getLogger(__name__)

FOLDER = "checkpoints"  # in the run folder
LAST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"


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
            f" and loading that could run code, so nothing of it was loaded ({reason_of(error)})"
        ) from error
    except Exception as error:  # of garbage, torch raises almost anything
        raise DataError(f"{path}: cannot be read as a checkpoint: {reason_of(error)}") from error
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
        return f"cannot be read as a checkpoint: it is damaged ({reason_of(error)})"
    return f"is damaged: the checksum of {damaged} does not fit" if damaged else None


def reason_of(error: Exception) -> str:
    """Returns the first line of what an error says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
