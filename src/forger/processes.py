"""This process among those of one run, as torchrun or SLURM's srun tells by variables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

LOCAL = "forger"  # run id of processes that a command starts on its own machine
_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs in which Lightning takes no part


@dataclass(frozen=True)
class Process:
    """One of the processes that torchrun, srun or a command of ours started.

    Attributes:
        by: `torchrun` or `srun`.
        rank: of this process among all.
        local_rank: among those of its machine.
        machine: number of its machine.
        count: processes of the whole run.
        per_machine: processes of each machine; `None`: srun does not tell.
        machines: of the run; `None`: srun does not tell.
    """

    by: str
    rank: int
    local_rank: int
    machine: int
    count: int
    per_machine: int | None
    machines: int | None

    @property
    def is_local(self) -> bool:
        """Whether a command of ours started it, and says in the end how the run ended."""
        return os.environ.get("TORCHELASTIC_RUN_ID") == LOCAL

    @property
    def speaks(self) -> bool:
        """Whether it is the first of a machine whose output is apart from rank 0's."""
        return self.local_rank == 0 and self.machine != 0


def this_process() -> Process | None:
    """Returns this process among those of its run; `None`: it was started alone.

    Lightning looks at the same variables in the same order: torchrun may itself be run by srun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Process(
            "torchrun",
            rank=int(os.environ["RANK"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            machine=int(os.environ["GROUP_RANK"]),
            count=int(os.environ["WORLD_SIZE"]),
            per_machine=_number("LOCAL_WORLD_SIZE"),
            machines=_number("GROUP_WORLD_SIZE"),
        )
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        return Process(
            "srun",
            rank=_number("SLURM_PROCID") or 0,
            local_rank=_number("SLURM_LOCALID") or 0,
            machine=_number("SLURM_NODEID") or 0,
            count=int(os.environ["SLURM_NTASKS"]),
            per_machine=_number("SLURM_NTASKS_PER_NODE"),
            machines=_number("SLURM_NNODES"),
        )
    return None


def rank() -> int:
    """Returns this process's number among all of its run, before torch knows of any."""
    own = this_process()
    return 0 if own is None else own.rank


def slurm_job(overrides: Iterable[str]) -> str | None:
    """Names the run of a SLURM job: the same for the same command after the job was requeued.

    Args:
        overrides: as typed; a job may run several commands.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return None
    command = sha256("\0".join(overrides).encode()).hexdigest()[:8]
    return f"slurm {number}.{os.environ.get('SLURM_STEP_ID', 'batch')} {command}"


def was_requeued() -> bool:
    """Tells whether SLURM starts this job for a second time, or a later one."""
    return (_number("SLURM_RESTART_COUNT") or 0) > 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None
