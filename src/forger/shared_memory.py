"""Numbers that the processes of a run on one machine share.

Owns how they are made and how processes meet there, not what they are for.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.constants import default_pg_timeout

_FOLDER = Path("/dev/shm")  # memory, where the system has it
_TOKEN = 16  # bytes by which processes know that they see the same file
_PAGE = 4096  # what comes before the numbers: the token
_HERE = b"."  # what a process says when it comes to a meeting


class SharedTensor:
    """A tensor that all processes see, and where they wait for each other.

    Args:
        numbers: the tensor.
        links: rank 0's to each other process, or another's to rank 0.
    """

    def __init__(self, numbers: Tensor, links: Sequence[socket.socket]) -> None:
        self.numbers = numbers
        self._links = links
        self._leads = distributed.get_rank() == 0
        for link in links:
            link.settimeout(default_pg_timeout.total_seconds())

    def meet(self) -> None:
        """Returns once all processes have come; each then reads what any wrote before.

        A barrier of gloo's takes a millisecond more on a busy processor: its messages pass through
        threads of their own, which wait until a process leaves them its core.

        Raises:
            RuntimeError: another process is gone, or has not come within torch's timeout.
        """
        try:
            if self._leads:
                for link in self._links:
                    _hear(link)
            for link in self._links:
                link.sendall(_HERE)
            if not self._leads:
                _hear(self._links[0])
        except OSError as error:  # worded as torch words it, so that it is known for what it is
            raise RuntimeError(f"shared memory: connection closed by peer: {error}") from error


def shared_tensor(shape: Sequence[int], dtype: torch.dtype) -> SharedTensor | None:
    """Makes a tensor of zeros that all processes see; all of them call this.

    The files behind it are gone at once, the memory with the last process that holds it.

    Returns:
        `None` in all processes where one of them lacks such memory, or runs on another machine.
    """
    length = _PAGE + math.prod(shape) * dtype.itemsize
    leads, world = distributed.get_rank() == 0, distributed.get_world_size()
    place = _make(length, world) if leads else None
    told: list[tuple[Path, bytes] | None] = [place and (place.path, place.token)]
    distributed.broadcast_object_list(told, src=0)
    if told[0] is not None and not leads:
        place = _find(*told[0], length)
    everywhere = torch.tensor(float(place is not None))
    distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
    if place is None:
        return None
    if leads:
        _remove(place.path)
    if not everywhere:
        place.link.close()
        return None
    links = [place.link]
    if leads:  # all others have knocked
        links = [place.link.accept()[0] for _ in range(world - 1)]
        place.link.close()
    numbers = torch.frombuffer(place.memory, dtype=dtype, offset=_PAGE, count=math.prod(shape))
    return SharedTensor(numbers.view(*shape), links)


class _Place(NamedTuple):
    """Shared memory as a process holds it; its link is rank 0's door, another's way to it."""

    path: Path
    token: bytes
    memory: mmap.mmap
    link: socket.socket


def _make(length: int, world: int) -> _Place | None:
    """Reserves all of the memory: a write beyond what there is would end the process."""
    token = secrets.token_bytes(_TOKEN)
    path = _FOLDER / f"forger_{token.hex()}"
    try:
        with path.open("xb+") as file:
            os.posix_fallocate(file.fileno(), 0, length)
            memory = mmap.mmap(file.fileno(), length)
        memory[:_TOKEN] = token
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(_door(path)))
        door.listen(world)
    except (OSError, AttributeError):
        _remove(path)
        return None
    return _Place(path, token, memory, door)


def _find(path: Path, token: bytes, length: int) -> _Place | None:
    try:
        with path.open("rb+") as file:
            memory = mmap.mmap(file.fileno(), length)
        if memory[:_TOKEN] != token:
            return None
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(_door(path)))
    except (OSError, ValueError, AttributeError):
        return None
    return _Place(path, token, memory, link)


def _door(path: Path) -> Path:
    return path.with_suffix(".door")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _door(path).unlink(missing_ok=True)


def _hear(link: socket.socket) -> None:
    if not link.recv(len(_HERE)):
        raise ConnectionResetError("it has ended")
