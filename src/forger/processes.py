"""This process among those of one run, as torchrun or SLURM's srun tells by variables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

# Variables by which a sweep tells a job's process of its share
CORES = "FORGER_CORES"  # how many processor cores of this machine it may use
SWEEP = "FORGER_SWEEP"  # the name of the sweep's folder

LOCAL = "forger"  # run id of processes that a command starts on its own machine
_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs in which Lightning takes no part
_VARIABLES = {  # in the order of the attributes below
    "torchrun": (
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE"),
        *("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    ),
    "srun": (
        *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS"),
        *("SLURM_NTASKS_PER_NODE", "SLURM_NNODES"),
    ),
}


@dataclass(frozen=True)
class Process:
    """One of the processes that torchrun, srun or a command of ours started."""

    by: str  # torchrun or srun
    rank: int  # among all
    local_rank: int  # among those of its machine
    machine: int  # number of its machine
    count: int  # processes of the whole run
    per_machine: int | None  # processes of each machine; None: srun does not tell
    machines: int | None  # of the run; None: srun does not tell

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
        by = "torchrun"
    elif "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        by = "srun"
    else:
        return None
    rank, local_rank, machine, count, *of_machines = map(_number, _VARIABLES[by])
    return Process(by, rank or 0, local_rank or 0, machine or 0, count or 1, *of_machines)


def rank() -> int:
    """Returns this process's number among all of its run, before torch knows of any."""
    own = this_process()
    return 0 if own is None else own.rank


def slurm_job(overrides: Iterable[str]) -> str | None:
    """Names the run of a SLURM job by its overrides: the same after the job was requeued."""
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
