"""What W&B's offline folders hold of a run. Owns reading their history, and nothing else of them.

A folder's `.wandb` file is a LevelDB log: after a header of 7 bytes, blocks of 32 KiB hold pieces
of records, each with a checksum (4 bytes), a length (2), a kind (1: whole, 2: first, 3: middle, 4:
last) and data; a record is a protocol buffer of the `wandb` package. `wandb` itself reads it in
its own process only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _PIECE = 32 * 1024, 7, 7
_WHOLE, _LAST = 1, 4


@dataclass
class Held:
    """What was found.

    Attributes:
        pairs: each iteration with the name of something logged at it.
        steps: rows of history; W&B numbers them from 0.
    """

    pairs: set[tuple[int, str]] = field(default_factory=set)
    steps: int = 0


def files_of(folder: Path, run_id: str, *, offline: bool) -> list[Path]:
    """Returns the files of one run, oldest first.

    Args:
        folder: the run folder, with `wandb/` below it.
        run_id: W&B's id of the run.
        offline: only those of processes that were offline.
    """
    pattern = f"{'offline-' if offline else '*'}run-*-{run_id}/run-{run_id}.wandb"
    found = (folder / "wandb").glob(pattern)
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def read_held(paths: Iterable[Path], step_key: str) -> Held:
    """Reads the history in files, which a kill may have cut off.

    Args:
        paths: of the files.
        step_key: name of the iteration in a row.

    Raises:
        Exception: W&B writes its files otherwise by now.
    """
    from wandb.proto import wandb_internal_pb2

    found = Held()
    for path in paths:
        for content in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(content)  # type: ignore[attr-defined]
            if record.WhichOneof("record_type") == "history":
                _take(found, record.history, step_key)
    return found


def _take(found: Held, history: Any, step_key: str) -> None:
    row = {_name(item): item.value_json for item in history.item}
    found.steps = max(found.steps, history.step.num + 1)
    if step_key in row:
        step = int(float(json.loads(row[step_key])))
        found.pairs |= {(step, name) for name in row if not name.startswith("_")}


def _name(item: Any) -> str:
    return str(item.nested_key[0] if item.nested_key else item.key)


def _records(content: bytes) -> Iterator[bytes]:
    """Yields the whole records; what comes after a cut is left out."""
    record, at = b"", _HEADER
    while at + _PIECE <= len(content):
        if _BLOCK - at % _BLOCK < _PIECE:  # a block's tail too short for a piece is padding
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + _PIECE])
        at += _PIECE + length
        if at > len(content):
            return
        record += content[at - length : at]
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
