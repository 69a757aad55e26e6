"""What a config asks of this machine and of its launcher that is not there; see `rules`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from forger import hardware
from forger.app.config.values import CheckedValues, Findings
from forger.processes import this_process

_FEW = 8  # processes that any machine may run, slowly, to try things out
_TORCHRUN = ("--nnodes", "--nproc-per-node")
_MOST_THREADS = 256  # beyond it, and beyond the cores, threads may not even start


def processes_per_machine(trainer: Mapping[str, Any]) -> int | None:
    """Returns how many processes a config's `trainer` asks for on each machine; None: unclear."""
    devices = trainer.get("devices")
    on_gpus = hardware.accelerator(trainer.get("accelerator")) == "gpu"
    if isinstance(devices, list):
        return len(devices) if on_gpus else None
    if devices in (None, -1, "auto"):
        return hardware.gpu_count() or None if on_gpus else 1
    return int(devices)


def process_count(trainer: Mapping[str, Any]) -> int | None:
    """Returns how many processes share a batch; None: the settings do not tell."""
    each = processes_per_machine(trainer)
    return None if each is None else each * (trainer.get("num_nodes") or 1)


def _trainer_of(select: CheckedValues) -> Mapping[str, Any] | None:
    """Returns `trainer` where all that decides its devices has passed."""
    keys = ("trainer.devices", "trainer.num_nodes", "trainer.accelerator")
    trainer: Mapping[str, Any] | None = select("trainer") if select.sound(*keys) else None
    return trainer


def _accelerator(select: CheckedValues) -> Findings:
    """Yields devices that are not there."""
    if not select.sound("trainer.accelerator"):
        return
    asked, wanted = select("trainer.accelerator"), select("trainer.devices")
    accelerator = hardware.accelerator(asked)
    if accelerator == "cpu":
        cores = os.cpu_count() or 1
        if wanted == -1 or isinstance(wanted, list):
            yield (
                "trainer.devices",
                "on the CPU it is the number of processes; write trainer.devices=1",
            )
        elif isinstance(wanted, int) and wanted > max(_FEW, cores):
            yield "trainer.devices", f"processes are more than the {cores} cores here can serve"
    elif accelerator == "gpu":
        yield from _gpus(wanted, hardware.gpu_count())
    elif hardware.has_mps():
        yield from _gpus(wanted, 1)
    else:
        yield "trainer.accelerator", "there is no Apple GPU here; write trainer=cpu or trainer=auto"


def _gpus(wanted: Any, count: int) -> Findings:
    listed = wanted if isinstance(wanted, list) else []
    too_many = wanted > count if isinstance(wanted, int) else any(gpu >= count for gpu in listed)
    if count == 0:
        yield "trainer.accelerator", "no GPU is visible here; write trainer=cpu or trainer=auto"
    elif wanted == [] or len(set(listed)) < len(listed):
        yield "trainer.devices", "must be different GPUs, such as [0,1]"
    elif too_many:
        yield "trainer.devices", f"{visible(count)} here" + ("; write 1" if count == 1 else "")


def visible(count: int) -> str:
    """Says how many GPUs there are."""
    return f"{count or 'no'} GPU{'s are' if count > 1 else ' is'} visible"


def _strategy(select: CheckedValues) -> Findings:
    trainer = _trainer_of(select)
    count = process_count(trainer) if trainer is not None else None
    if select("trainer.strategy") == "single_device" and count is not None and count > 1:
        yield (
            "trainer.strategy",
            f"trains in one process, and {count} are asked for; write trainer.strategy=ddp",
        )


def _cpu(select: CheckedValues) -> Findings:
    """Yields what a CPU cannot do."""
    threads, cores = select("trainer.threads"), os.cpu_count() or 1
    if threads is not None and threads > max(_MOST_THREADS, cores):
        yield "trainer.threads", f"there are {cores} cores here; write trainer.threads={cores}"
    if hardware.accelerator(select("trainer.accelerator")) != "cpu":
        return
    if select("trainer.precision") == "16-mixed":
        yield "trainer.precision", "needs a GPU; write bf16-mixed or 32-true"
    if select("trainer.sync_batchnorm") is True:
        yield (
            "trainer.sync_batchnorm",
            "torch's SyncBatchNorm refuses CPU tensors; write trainer.sync_batchnorm=false",
        )
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if select("compile") is True and shutil.which(compiler) is None:
        yield (
            "compile",
            f"there is no C++ compiler {compiler} here, which torch needs for that on a CPU;"
            " install g++, name another one in the variable CXX, or write compile=false",
        )


def _batch(select: CheckedValues) -> Findings:
    """Yields a batch that the processes cannot share evenly."""
    trainer, size = _trainer_of(select), select("data.batch_size")
    count = process_count(trainer) if trainer is not None else None
    if isinstance(size, int) and count and size % count:
        below = size // count * count
        fitting = " or ".join(str(fit) for fit in (below, below + count) if fit > 0)
        yield "data.batch_size", f"is shared evenly by {count} processes; write {fitting}"


def _launch(select: CheckedValues) -> Findings:
    """Yields settings that ask for other processes than torchrun or srun started."""
    trainer, own = _trainer_of(select), this_process()
    if trainer is None:
        return
    each, nodes = processes_per_machine(trainer), trainer.get("num_nodes") or 1
    if own is None:
        if nodes > 1 and "LOCAL_RANK" not in os.environ:
            yield (
                "trainer.num_nodes",
                f"asks for {nodes} machines, and this process was started alone; type on each of"
                f" them torchrun --nnodes={nodes} --nproc-per-node={each or 1}"
                f" --node-rank=<0 to {nodes - 1}> --master-addr=<the first one's address>"
                " --master-port=29500 train.py <overrides>, or submit a job to SLURM:"
                " docs/clusters.md",
            )
    elif own.by == "srun" and own.count > 1 and own.per_machine is None:
        yield (
            "trainer.devices",
            "srun must be told the processes of each machine; write srun --ntasks-per-node=<n>",
        )
    elif each is not None:
        machines = own.machines or max(1, own.count // (own.per_machine or own.count))
        started = own.per_machine or max(1, own.count // machines)
        if (each, nodes, each * nodes) != (started, machines, own.count):
            flags = ("--nodes", "--ntasks-per-node") if own.by == "srun" else _TORCHRUN
            yield (
                "trainer.devices" if each != started else "trainer.num_nodes",
                f"trainer.num_nodes={nodes} trainer.devices={each} are not what {own.by} started,"
                f" which is {started} processes on each of {machines} machines; write"
                f" trainer.num_nodes={machines} trainer.devices={started}, or {own.by}"
                f" {flags[0]}={nodes} {flags[1]}={each}",
            )


DEVICE_RULES = (_accelerator, _strategy, _cpu, _batch, _launch)
