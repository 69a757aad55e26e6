"""Processes and threads of one job. Owns the command line that Lightning's launcher replays.

Also what it leaves behind in the environment. Lightning starts the other ranks by running
`sys.argv` again. In a multirun that would be the whole sweep: here it is the job's own overrides,
in the job's own folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from forger.app.config.command import SCRIPTS, Command
from forger.app.distributed import launched
from forger.app.run.job_words import job_words

CORES = "FORGER_CORES"  # set by a sweep: how many cores of this machine one job may use
RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "RANK")


@contextmanager
def launched_alone(folder: Path, command: Command) -> Iterator[None]:
    """Makes other ranks run this job alone in `folder`, and leaves no rank variable behind.

    In a process that was itself launched as a rank, it only ends what torch has running; outside
    the command line it does nothing.
    """
    if launched.launch() is not None:
        try:
            yield
        finally:
            _leave_the_others()
        return
    if not HydraConfig.initialized() or "LOCAL_RANK" in os.environ:  # by which Lightning tells
        yield
        return
    argv, before = sys.argv, dict(os.environ)
    words = command.arguments()
    hydra: Any = HydraConfig.instance().cfg
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        words = [*command.config_flags, *job_words()]
    sys.argv = [argv[0], *(s for s in command.program[-1:] if s in SCRIPTS), *words]
    with read_write(hydra.hydra), open_dict(hydra.hydra):
        hydra.hydra.run.dir = str(folder)
    try:
        yield
    finally:
        sys.argv = argv
        _leave_the_others()
        for name in RANK_VARIABLES:
            if name not in before:
                os.environ.pop(name, None)


def _leave_the_others() -> None:
    """Ends the process group, whose threads would abort a process that ends with them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def processes_on_cpu(cfg: DictConfig) -> int:
    """Returns how many processes share this machine's cores."""
    on_cpu = cfg.trainer.accelerator == "cpu" and isinstance(cfg.trainer.devices, int)
    return max(1, cfg.trainer.devices) if on_cpu else 1


@contextmanager
def cpu_threads(cfg: DictConfig) -> Iterator[None]:
    """Gives each process its threads for one job: `trainer.threads`, or its share of the cores."""
    wanted, processes = cfg.trainer.threads, processes_on_cpu(cfg)
    if wanted is None and processes == 1:
        yield
        return
    cores = int(os.environ.get(CORES, 0)) or os.cpu_count() or 1
    threads = wanted or max(1, cores // processes)
    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the processes that Lightning starts
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = variable
