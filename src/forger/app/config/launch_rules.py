"""Processes that the settings ask for, and those that were launched. See `rules`.

Owns the comparison; `forger.app.distributed.launched` reads what torchrun or SLURM started.
"""

from __future__ import annotations

import os
from typing import Any

from forger import hardware
from forger.app.config.accepted import Findings, Select
from forger.app.config.device_rules import accelerator_of, processes
from forger.app.distributed import launched


def launches(select: Select) -> Findings:
    """Yields settings that ask for other processes than torchrun or srun started."""
    if not select.sound("trainer.devices", "trainer.num_nodes", "trainer.accelerator"):
        return
    own, nodes = launched.launch(), select("trainer.num_nodes") or 1
    count = processes(select)
    if own is None:
        if nodes > 1 and "LOCAL_RANK" not in os.environ:
            yield "trainer.num_nodes", _not_launched(nodes, _each(select))
        return
    if own.by == "srun" and own.processes > 1 and own.per_machine is None:
        yield (
            "trainer.devices",
            "srun must be told the processes of each machine; write srun --ntasks-per-node=<n>",
        )
        return
    each = None if count is None else count // nodes
    if each is None:
        return
    machines, per_machine = _started(own)
    if (each, nodes, count) != (per_machine, machines, own.processes):
        key = "trainer.devices" if each != per_machine else "trainer.num_nodes"
        yield key, _other(own, each, nodes, per_machine, machines)


def _started(own: launched.Launch) -> tuple[int, int]:
    """Returns machines, and processes of each, where the launcher told one of them at least."""
    machines = own.machines or max(1, own.processes // (own.per_machine or own.processes))
    return machines, own.per_machine or max(1, own.processes // machines)


def _other(own: launched.Launch, each: int, nodes: int, per_machine: int, machines: int) -> str:
    asked = f"trainer.num_nodes={nodes} with trainer.devices={each} asks for {_on(each, nodes)}"
    command = (
        f"torchrun --nnodes={nodes} --nproc-per-node={each}"
        if own.by == "torchrun"
        else f"srun --nodes={nodes} --ntasks-per-node={each}"
    )
    return (
        f"{asked}, and {own.by} started {_on(per_machine, machines)}; write"
        f" trainer.num_nodes={machines} trainer.devices={per_machine}, or {command}"
    )


def _on(each: int, nodes: int) -> str:
    machines = "1 machine" if nodes == 1 else f"each of {nodes} machines"
    return f"{each} {'process' if each == 1 else 'processes'} on {machines}"


def _each(select: Select) -> int:
    wanted: Any = select("trainer.devices")
    if isinstance(wanted, list):
        return len(wanted)
    if isinstance(wanted, int) and wanted > 0:
        return wanted
    return max(1, hardware.gpu_count() if accelerator_of(select) == "gpu" else 1)


def _not_launched(nodes: int, each: int) -> str:
    return (
        f"asks for {nodes} machines, and this process was started alone; type on each of them"
        f" torchrun --nnodes={nodes} --nproc-per-node={each} --node-rank=<0 to {nodes - 1}>"
        " --master-addr=<the first one's address> --master-port=29500 train.py <words>, or submit"
        " a job to SLURM: docs/clusters.md"
    )
