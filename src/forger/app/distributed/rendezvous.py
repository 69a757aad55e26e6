"""What the processes of a run tell one another, through torch's store.

torchrun serves the store, or under srun rank 0. Imports torch only once there is somebody to meet.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from forger.errors import RunError
from forger.processes import Process

ARRIVAL = timedelta(minutes=10)  # a shared file system may take long to import torch from
REACHABLE = timedelta(seconds=60)  # torchrun's store is up before its processes
_POLL = 0.1  # seconds
ANOTHER = "another process of the run is gone; the output of what launched it says why"
_GONE = "rank 0 is gone, or its machine is; its output says why"


class Rendezvous:
    """All processes of a run.

    Keys of one start hold a token that rank 0 draws: torchrun serves one store through all its
    restarts.

    Args:
        own: this process.

    Raises:
        RunError: nobody answers.
    """

    def __init__(self, own: Process) -> None:
        if own.by == "srun":
            from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

            cluster = SLURMEnvironment()  # sets the variables that torch reads
            cluster.main_address, cluster.main_port  # noqa: B018
        self.own, self._store = own, _connect(own)
        self._token = secrets.token_hex(8)  # of this process; from rank 0's on, of all
        if own.rank == 0:
            for rank in range(1, own.count):
                self._store.delete_key(f"hello/{rank}")

    @property
    def name(self) -> str:
        """This process, for the others."""
        where = "" if self.own.is_local else f" on {socket.gethostname()}"
        return f"rank {self.own.rank}{where}"

    def read(self, key: str) -> str | None:
        """Returns what was written under a key for all starts of this launch."""
        return self._store.get(key).decode() if self._store.check([key]) else None

    def write(self, key: str, text: str) -> None:
        """Writes something for this and the following starts."""
        self._store.set(key, text)

    def propose(self, plan: Mapping[str, Any]) -> list[str]:
        """Gives every other process rank 0's plan, and returns what they have against it.

        Raises:
            RunError: a process does not come.
        """
        text = json.dumps({**plan, "token": self._token})
        missing = set(range(1, self.own.count))
        complaints: list[str] = []

        def all_have_answered() -> bool:
            for rank in sorted(missing):
                nonce = self.read(f"hello/{rank}")
                if nonce is not None and not self._store.check([f"plan/{nonce}"]):
                    self._store.set(f"plan/{nonce}", text)
                answer = self.read(f"{self._token}/answer/{rank}")
                if answer is not None:
                    missing.discard(rank)
                    complaints.extend([answer] if answer else [])
            return not missing

        if not _wait_for(all_have_answered, ARRIVAL):
            raise RunError(f"rank {min(missing)} did not arrive within {ARRIVAL}")
        return complaints

    def decide(self, go: bool) -> None:
        """Lets the others begin, or ends them."""
        self._store.set(f"{self._token}/process/0", f"{self.own.machine} {os.getpid()}")
        self._store.set(f"{self._token}/go", "go" if go else "")

    def plan(self) -> dict[str, Any]:
        """Returns rank 0's plan.

        Raises:
            RunError: rank 0 does not come.
        """
        nonce = self._token

        def is_there() -> bool:
            self._store.set(f"hello/{self.own.rank}", nonce)  # rank 0 clears those of old starts
            return bool(self._store.check([f"plan/{nonce}"]))

        if not _wait_for(is_there, ARRIVAL):
            raise RunError(f"{self.name}: rank 0 did not arrive within {ARRIVAL}")
        plan: dict[str, Any] = json.loads(self._store.get(f"plan/{nonce}"))
        self._token = plan["token"]
        return plan

    def answer(self, complaint: str | None) -> bool:
        """Tells rank 0 what is wrong here, if anything; returns whether all may begin."""
        rank, said = self.own.rank, f"{self.name}: {complaint}" if complaint else ""
        self._store.set(f"{self._token}/process/{rank}", f"{self.own.machine} {os.getpid()}")
        self._store.set(f"{self._token}/answer/{rank}", said)
        return bool(self._store.get(f"{self._token}/go"))

    @contextmanager
    def process_group(self, backend: str) -> Iterator[None]:
        """Joins torch's process group, by keys of this start alone; leaves it in the end.

        By itself torch would read, after a restart by torchrun, what dead processes wrote into the
        same store, and wait for them (seen with torch 2.14). Lightning takes the group as it is.
        """
        from torch import distributed
        from torch.distributed.distributed_c10d import PrefixStore

        store = PrefixStore(self._token, _connect(self.own))
        distributed.init_process_group(
            backend, store=store, rank=self.own.rank, world_size=self.own.count
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def tell(self, reason: str) -> None:
        """Tells the others why this process fails."""
        number = self._store.add(f"{self._token}/deaths", 1)
        self._store.set(f"{self._token}/death/{number}", f"{self.name}: {reason}")

    def leave(self) -> None:
        """Tells the others that the work of this process is done, so that its end is no failure."""
        with suppress(RuntimeError):  # torch's own are of it
            self._store.set(f"{self._token}/done/{self.own.rank}", "")

    def wait_for_rank_0(self) -> None:
        """Waits until rank 0 has left; what launched both ends it soon after this process."""
        _wait_for(lambda: self._is_done(0) or self.failure() is not None, ARRIVAL)

    def failure(self) -> str | None:
        """Returns why the first process failed, as far as is known; `None`: none has."""
        try:
            if self._store.check([f"{self._token}/death/1"]):
                return str(self._store.get(f"{self._token}/death/1").decode())
            return ANOTHER if self._is_neighbour_gone() else None
        except RuntimeError:
            return _GONE

    @property
    def is_launcher_gone(self) -> bool:
        """Whether the torchrun is gone that served the store."""
        try:
            self._store.check(["death"])
        except RuntimeError:
            return self.own.by == "torchrun"
        return False

    def _is_done(self, rank: int) -> bool:
        try:
            return bool(self._store.check([f"{self._token}/done/{rank}"]))
        except RuntimeError:
            return False

    def _is_neighbour_gone(self) -> bool:
        """Tells whether a process of this machine has ended before its work was done.

        Asked only of what torchrun starts: no containers stand between these.
        """
        return self.own.by == "torchrun" and any(
            not _is_alive(process) and not self._is_done(rank)
            for rank, process in self._neighbours().items()
        )

    def _neighbours(self) -> dict[int, int]:
        """Returns the numbers of the other processes of this machine, by rank."""
        found = {}
        for rank in range(self.own.count):
            machine, _, process = (self.read(f"{self._token}/process/{rank}") or "").partition(" ")
            if process and rank != self.own.rank and int(machine) == self.own.machine:
                found[rank] = int(process)
        return found


def _connect(own: Process) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    patience = ARRIVAL if own.by == "srun" else REACHABLE
    try:
        store, _, _ = next(rendezvous("env://", own.rank, own.count, timeout=patience))
    except RuntimeError:  # torch's own are of it
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(f"rank {own.rank}: nobody answers at {where}; {_GONE}") from None
    store.set_timeout(ARRIVAL)
    return PrefixStore("forger", store)


def _wait_for(happened: Callable[[], bool], patience: timedelta) -> bool:
    """Returns whether something happened in time."""
    until = time.monotonic() + patience.total_seconds()
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL)
    return True


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
