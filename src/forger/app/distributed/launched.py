"""Processes launched from outside, by torchrun or SLURM's srun. Owns what the environment says.

How they come to one run is for `forger.app.distributed.meeting`. Imports neither
torch nor anything that does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs in which Lightning takes no part


class Launch(NamedTuple):
    """This process as one of those that torchrun or srun started.

    Attributes:
        by: `torchrun` or `srun`.
        rank: of this process among all.
        local_rank: among those of its machine.
        machine: number of its machine.
        processes: of the whole run.
        per_machine: processes of each machine; `None`: the launcher does not tell.
        machines: of the run; `None`: the launcher does not tell.
    """

    by: str
    rank: int
    local_rank: int
    machine: int
    processes: int
    per_machine: int | None
    machines: int | None

    @property
    def speaks(self) -> bool:
        """Whether it is the first of a machine whose output is apart from rank 0's."""
        return self.local_rank == 0 and self.machine != 0


def launch() -> Launch | None:
    """Returns how this process was launched; `None`: as itself, or by a run of ours.

    Lightning looks at the same variables in the same order: torchrun may itself be run by srun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launch(
            "torchrun",
            rank=int(os.environ["RANK"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            machine=int(os.environ["GROUP_RANK"]),
            processes=int(os.environ["WORLD_SIZE"]),
            per_machine=_number("LOCAL_WORLD_SIZE"),
            machines=_number("GROUP_WORLD_SIZE"),
        )
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        return Launch(
            "srun",
            rank=_number("SLURM_PROCID") or 0,
            local_rank=_number("SLURM_LOCALID") or 0,
            machine=_number("SLURM_NODEID") or 0,
            processes=int(os.environ["SLURM_NTASKS"]),
            per_machine=_number("SLURM_NTASKS_PER_NODE"),
            machines=_number("SLURM_NNODES"),
        )
    return None


def rank() -> int:
    """Returns this process's number among all of its run, before torch knows of any."""
    own = launch()
    return int(os.environ.get("LOCAL_RANK", "0")) if own is None else own.rank


def name_job(words: list[str]) -> str | None:
    """Names a SLURM job's run: the same for the same command after the job was requeued.

    Args:
        words: of the command as typed; a job may run several.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is not None:
        command = sha256("\0".join(words).encode()).hexdigest()[:8]
        job.name = f"slurm {number}.{os.environ.get('SLURM_STEP_ID', 'batch')} {command}"
    return job.name


@dataclass
class Job:
    """The run of a SLURM job, once `name_job` was told the command."""

    name: str | None = None


job = Job()


def requeued() -> bool:
    """Tells whether SLURM starts this job for a second time, or a later one."""
    return (_number("SLURM_RESTART_COUNT") or 0) > 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None
