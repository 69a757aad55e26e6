"""What processes launched from outside tell one another, before and beside torch's process group.

Owns the messages in torch's store, which torchrun or rank 0 serves; what is agreed on is for
`forger.app.distributed.together`. Imports torch only once there is somebody to meet.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from forger.app.distributed.launched import Launch
from forger.errors import RunError

ARRIVAL = timedelta(minutes=10)  # a shared file system may take long to import torch from
REACHABLE = timedelta(seconds=60)  # torchrun's store is up before its processes
_POLL = 0.1  # seconds

_GONE = "rank 0 is gone, or its machine is; its output says why"
_present: Meeting | None = None


def present() -> Meeting | None:
    """Returns the meeting that this process takes part in, if any."""
    return _present


def _leave_agents_store(port: int) -> None:
    """Has torch's process group meet at another port of rank 0's machine."""
    os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


class Meeting:
    """All processes of a run, through a store of torch's.

    Keys of one start hold a token that rank 0 draws: torchrun serves one store through all its
    restarts.

    Args:
        own: this process.
        store: torch's.
    """

    def __init__(self, own: Launch, store: Any) -> None:
        self.own, self._store = own, store
        self._fresh: Any = None  # kept: torch's process group uses its server
        self._token = secrets.token_hex(8)  # of this process; from rank 0's on, of all
        if own.rank == 0:
            for rank in range(1, own.processes):
                store.delete_key(f"hello/{rank}")

    @classmethod
    def of(cls, own: Launch) -> Meeting:
        """Connects this process.

        Raises:
            RunError: nobody answers.
        """
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        if own.by == "srun":
            from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

            cluster = SLURMEnvironment()  # sets the variables that torch reads
            cluster.main_address, cluster.main_port  # noqa: B018
        patience = ARRIVAL if own.by == "srun" else REACHABLE
        try:
            store, _, _ = next(rendezvous("env://", own.rank, own.processes, timeout=patience))
        except RuntimeError:  # torch's own are of it
            where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise RunError(f"rank {own.rank}: nobody answers at {where}; {_GONE}") from None
        store.set_timeout(ARRIVAL)
        global _present
        _present = cls(own, PrefixStore("forger", store))
        return _present

    def read(self, key: str) -> str | None:
        """Returns what was written under a key for all starts of this launch."""
        return self._store.get(key).decode() if self._store.check([key]) else None

    def write(self, key: str, text: str) -> None:
        """Writes something for this and the following starts."""
        self._store.set(key, text)

    def lead(self, plan: Mapping[str, Any]) -> list[str]:
        """Gives every other process rank 0's plan, and returns what they have against it.

        Raises:
            RunError: a process does not come.
        """
        again = self.own.by == "torchrun" and self._store.add("starts", 1) > 1
        port = self._serve_anew() if again else None
        text = json.dumps({**plan, "token": self._token, "port": port})
        missing = set(range(1, self.own.processes))
        complaints, until = [], time.monotonic() + ARRIVAL.total_seconds()
        while missing:
            for rank in sorted(missing):
                nonce = self.read(f"hello/{rank}")
                if nonce is not None and not self._store.check([f"plan/{nonce}"]):
                    self._store.set(f"plan/{nonce}", text)
                verdict = self.read(f"{self._token}/verdict/{rank}")
                if verdict is not None:
                    missing.discard(rank)
                    complaints += [verdict] if verdict else []
            if time.monotonic() > until:
                raise RunError(f"rank {min(missing)} did not arrive within {ARRIVAL}")
            time.sleep(_POLL)
        return complaints

    def _serve_anew(self) -> int:
        """Serves a store for torch's process group, and returns its port.

        After a restart torch would read, in torchrun's store, what the dead processes wrote there,
        and wait for them (seen with torch 2.14).
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self._fresh = TCPStore(
            os.environ["MASTER_ADDR"],
            0,
            is_master=True,
            wait_for_workers=False,
            multi_tenant=True,
        )
        _leave_agents_store(self._fresh.port)
        return int(self._fresh.port)

    def decide(self, go: bool) -> None:
        """Lets the others begin, or ends them."""
        self._store.set(f"{self._token}/go", "go" if go else "")

    def plan(self) -> dict[str, Any]:
        """Returns rank 0's plan."""
        nonce, until = self._token, time.monotonic() + ARRIVAL.total_seconds()
        while not self._store.check([f"plan/{nonce}"]):
            self._store.set(f"hello/{self.own.rank}", nonce)  # rank 0 clears those of old starts
            if time.monotonic() > until:
                raise RunError(f"rank {self.own.rank}: rank 0 did not arrive within {ARRIVAL}")
            time.sleep(_POLL)
        plan: dict[str, Any] = json.loads(self._store.get(f"plan/{nonce}"))
        self._token = plan["token"]
        if plan["port"] is not None:
            _leave_agents_store(plan["port"])
        return plan

    def answer(self, complaint: str | None) -> bool:
        """Tells rank 0 what is wrong here, if anything; returns whether all may begin."""
        said = f"{self.name}: {complaint}" if complaint else ""
        self._store.set(f"{self._token}/verdict/{self.own.rank}", said)
        return bool(self._store.get(f"{self._token}/go"))

    @property
    def name(self) -> str:
        """This process, for the others."""
        return f"rank {self.own.rank} on {socket.gethostname()}"

    def tell(self, reason: str) -> None:
        """Tells the others why this process ends."""
        number = self._store.add(f"{self._token}/deaths", 1)
        self._store.set(f"{self._token}/death/{number}", reason)

    def cause_of_death(self) -> str | None:
        """Returns why the first process ended, of those that could say; `None`: none did."""
        try:
            if not self._store.check([f"{self._token}/death/1"]):
                return None
            return str(self._store.get(f"{self._token}/death/1").decode())
        except RuntimeError:
            return _GONE
