"""Memory that the processes of a run on one machine share. Owns its making, not what it is for."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

import torch
from torch import Tensor, distributed

_FOLDER = Path("/dev/shm")  # memory, where the system has it
_TOKEN = 16  # bytes by which processes know that they see the same file
_PAGE = 4096  # what comes before the rows: the token


def shared_rows(size: int, dtype: torch.dtype) -> Tensor | None:
    """Makes one row of numbers for each process, all of which see all rows.

    Every process of the group calls this. The file behind it is gone at once, the memory with the
    last process that holds it.

    Args:
        size: numbers in a row.
        dtype: of the numbers.

    Returns:
        `(processes, size)`; `None` in all processes where one of them lacks such memory, or runs
        on another machine.
    """
    world = distributed.get_world_size()
    length = _PAGE + world * size * dtype.itemsize
    name: list[tuple[str, bytes] | None] = [None]
    made: mmap.mmap | None = None
    if distributed.get_rank() == 0:
        token = secrets.token_bytes(_TOKEN)
        path = _FOLDER / f"forger_{token.hex()}"
        made = _create(path, length, token)
        name = [None if made is None else (str(path), token)]
    distributed.broadcast_object_list(name, src=0)
    if name[0] is not None and made is None:
        made = _open(Path(name[0][0]), length, name[0][1])
    everywhere = torch.tensor(float(made is not None))
    distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
    if distributed.get_rank() == 0 and name[0] is not None:
        Path(name[0][0]).unlink(missing_ok=True)
    if made is None or not everywhere:
        return None
    numbers = torch.frombuffer(made, dtype=dtype, offset=_PAGE, count=world * size)
    return numbers.view(world, size)


def _create(path: Path, length: int, token: bytes) -> mmap.mmap | None:
    """Reserves all of the memory: a write beyond what there is would end the process."""
    try:
        with path.open("xb+") as file:
            os.posix_fallocate(file.fileno(), 0, length)
            memory = mmap.mmap(file.fileno(), length)
    except (OSError, AttributeError):
        path.unlink(missing_ok=True)
        return None
    memory[:_TOKEN] = token
    return memory


def _open(path: Path, length: int, token: bytes) -> mmap.mmap | None:
    try:
        with path.open("rb+") as file:
            memory = mmap.mmap(file.fileno(), length)
    except (OSError, ValueError):
        return None
    return memory if memory[:_TOKEN] == token else None
