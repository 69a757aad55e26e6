"""What the processes of a run tell one another, through torch's store.

torchrun serves the store, or under srun rank 0. Imports torch only once there is somebody to meet.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from forger.errors import RunError
from forger.processes import Process

ARRIVAL = timedelta(minutes=10)  # a shared file system may take long to import torch from
REACHABLE = timedelta(seconds=60)  # torchrun's store is up before its processes
_POLL = 0.1  # seconds
ANOTHER = "another process of the run is gone; the output of what launched it says why"
GONE = "rank 0 is gone, or its machine is; its output says why"


class Rendezvous:
    """All processes of a run.

    torchrun serves one store through all its restarts, so that keys of one start hold a token that
    rank 0 draws. Others learn it by a key of their own making. A `RunError`: somebody is missing.
    """

    def __init__(self, own: Process) -> None:
        if own.by == "srun":
            from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

            cluster = SLURMEnvironment()  # sets the variables that torch reads
            cluster.main_address, cluster.main_port  # noqa: B018
        self.own, self._store = own, _connect(own, "forger")
        self._name = f"rank {own.rank}" + ("" if own.is_local else f" on {socket.gethostname()}")
        self._token = secrets.token_hex(8)  # of this process; from rank 0's plan on, of all
        self._where, self._has_left = f"{own.machine} {os.getpid()}", False

    def read(self, key: str) -> str | None:
        """Returns what was written under a key, by this start or an earlier one."""
        return self._store.get(key).decode() if self._store.check([key]) else None

    def write(self, key: str, text: str) -> None:
        """Writes what this start and the following ones read."""
        self._store.set(key, text)

    def propose(self, plan: Mapping[str, Any]) -> list[str]:
        """Gives every other process rank 0's plan, and returns what they have against it."""
        text = json.dumps({**plan, "token": self._token})
        began, answers = time.monotonic(), dict[int, str]()
        while missing := [rank for rank in range(1, self.own.count) if rank not in answers]:
            if time.monotonic() > began + ARRIVAL.total_seconds():
                raise RunError(f"rank {missing[0]} did not arrive within {ARRIVAL}")
            for rank in missing:
                own = self.read(f"hello/{rank}")  # perhaps of an earlier start, which hurts nobody
                if own is not None and not self._store.check([f"plan/{own}"]):
                    self._store.set(f"plan/{own}", text)
                if (answer := self.read(f"{self._token}/answer/{rank}")) is not None:
                    answers[rank] = answer
            time.sleep(_POLL)
        return [answer for answer in answers.values() if answer]

    def decide(self, go: bool) -> None:
        """Lets the others begin, or ends them."""
        self.write(f"{self._token}/process/{self.own.rank}", self._where)
        self._store.set(f"{self._token}/go", "go" if go else "")

    def plan(self) -> dict[str, Any]:
        """Returns rank 0's plan; torch raises `RuntimeError` where it does not come."""
        self._store.set(f"hello/{self.own.rank}", self._token)
        plan: dict[str, Any] = json.loads(self._store.get(f"plan/{self._token}"))
        self._token = plan["token"]
        return plan

    def answer(self, complaint: str | None) -> bool:
        """Tells rank 0 what is wrong here, if anything; returns whether all may begin."""
        self.write(f"{self._token}/process/{self.own.rank}", self._where)
        said = f"{self._name}: {complaint}" if complaint else ""
        self._store.set(f"{self._token}/answer/{self.own.rank}", said)
        return bool(self._store.get(f"{self._token}/go"))

    @contextmanager
    def process_group(self, backend: str) -> Iterator[None]:
        """Joins torch's process group, which Lightning takes as it is; leaves it in the end.

        By itself torch would read, after a restart by torchrun, what dead processes wrote into the
        same store, and wait for them (seen with torch 2.14).
        """
        from torch import distributed

        store, own = _connect(self.own, self._token), self.own
        distributed.init_process_group(backend, store=store, rank=own.rank, world_size=own.count)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def tell(self, reason: str) -> None:
        """Tells the others why this process fails; the first reason counts."""
        with suppress(RuntimeError):  # as torch raises where the store is gone
            self._store.compare_set(f"{self._token}/death", "", f"{self._name}: {reason}")

    def leave(self) -> None:
        """Waits until all have done their work, so that nobody's end is a failure any more."""
        with suppress(RuntimeError):
            arrived = 0 if self._has_left else self._store.add(f"{self._token}/left", 1)
            while 0 < arrived < self.own.count and self.failure() is None:
                time.sleep(_POLL)
                arrived = self._store.add(f"{self._token}/left", 0)
        self._has_left = True

    def failure(self) -> str | None:
        """Returns why the first process failed, as far as is known; `None`: none has."""
        if self._has_left:
            return None
        try:
            told = self.read(f"{self._token}/death")
            return told or (ANOTHER if any(map(self._is_gone, range(self.own.count))) else None)
        except RuntimeError:
            return GONE

    def _is_gone(self, rank: int) -> bool:
        """Tells whether a process of this machine has ended, where no containers are in between."""
        machine, process = self._store.get(f"{self._token}/process/{rank}").decode().split()
        if self.own.by != "torchrun" or int(machine) != self.own.machine:
            return False
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        return False


def _connect(own: Process, prefix: str) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    patience = ARRIVAL if own.by == "srun" else REACHABLE
    try:
        store, _, _ = next(rendezvous("env://", own.rank, own.count, timeout=patience))
    except RuntimeError:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(f"rank {own.rank}: nobody answers at {where}; {GONE}") from None
    store.set_timeout(ARRIVAL)
    return PrefixStore(prefix, store)
