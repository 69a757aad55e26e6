"""Reads what an offline W&B run has on disk, record by record, with no account and no network.

The file is a LevelDB log: after a header of 7 bytes, blocks of 32 KiB hold pieces of records, each
with a checksum (4 bytes), a length (2), a kind (1: whole, 2: first, 3: middle, 4: last) and data.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

os.environ.setdefault("WANDB_DATA_DIR", tempfile.mkdtemp())  # where W&B copies artifacts to

_BLOCK, _HEADER, _PIECE = 32 * 1024, 7, 7


@dataclass
class OfflineRun:
    """An offline run: rows of history, config, summary, definitions of metrics, artifacts, W&B's
    record of the run, exit code, files.
    """

    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    run: Any = None
    exit_code: int | None = None

    def images(self, key: str) -> dict[int, Path]:
        """Files of the images logged under `key`, by iteration (W&B's step); each is there."""
        rows = [row for row in self.history if key in row]
        files = {
            row["_step"]: self.folder / "files" / name
            for row in rows
            for name in row[key]["filenames"]
        }
        assert all(path.is_file() for path in files.values())
        return files

    def steps(self, key: str) -> list[int]:
        """Iterations that have `key`, in the order of the rows."""
        return [row["_step"] for row in self.history if key in row]


def read_offline_runs(run_folder: Path, patience: float = 20.0) -> list[OfflineRun]:
    """Reads all offline runs below a run folder, oldest first.

    W&B's own process writes the file, a little after `finish` returns: this waits until each run
    has an end, `patience` seconds at most.
    """
    deadline = time.monotonic() + patience
    while True:
        runs = [_read(path) for path in sorted(run_folder.glob("wandb/offline-run-*/*.wandb"))]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(0.05)


def _read(path: Path) -> OfflineRun:
    found = OfflineRun(path.parent)
    for content in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)  # type: ignore[attr-defined]
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found.history.append(_items(record.history.item))
        elif kind == "config":
            found.config |= _items(record.config.update)
        elif kind == "run":
            found.run = record.run
            found.config |= _items(record.run.config.update)
        elif kind == "summary":
            found.summary |= _items(record.summary.update)
        elif kind == "metric":
            found.metrics[record.metric.glob_name or record.metric.name] = record.metric
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    found.config.pop("_wandb", None)  # W&B's own
    return found


def _records(content: bytes) -> Iterator[bytes]:
    record, at = b"", _HEADER
    while at + _PIECE <= len(content):
        if _BLOCK - at % _BLOCK < _PIECE:  # a block's tail too short for a piece is padding
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + _PIECE])
        at += _PIECE + length
        if at > len(content):  # still being written
            return
        record += content[at - length : at]
        if kind in (1, 4):
            yield record
            record = b""


def _items(items: Any) -> dict[str, Any]:
    """Decodes pairs of a key, or a path of nested keys, and JSON."""
    found: dict[str, Any] = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = found
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)
    return found
