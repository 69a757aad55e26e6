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


def visible(count: int) -> str:
    """Says how many GPUs there are."""
    return f"{count or 'no'} GPU{'s are' if count > 1 else ' is'} visible"


def device_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with the hardware and the processes of a config of train.py."""
    if select.sound("trainer.accelerator"):
        yield from _devices(select)
    yield from _cpu(select)
    if select.sound("trainer.devices", "trainer.num_nodes", "trainer.accelerator"):
        yield from _processes(select, select("trainer"))


def _devices(select: CheckedValues) -> Findings:
    accelerator = hardware.accelerator(select("trainer.accelerator"))
    wanted: Any = select("trainer.devices")
    listed = wanted if isinstance(wanted, list) else []
    if accelerator == "cpu":
        most = max(_FEW, os.cpu_count() or 1)
        if wanted not in (None, "auto") and not (isinstance(wanted, int) and 0 < wanted <= most):
            yield (
                "trainer.devices",
                f"is the number of processes on a CPU; write 1 to {most}",
            )
        return
    count = int(hardware.has_mps()) if accelerator == "mps" else hardware.gpu_count()
    if count == 0:
        kind = "Apple GPU is" if accelerator == "mps" else "GPU is visible"
        yield "trainer.accelerator", f"no {kind} here; write trainer=cpu or trainer=auto"
    elif wanted == [] or len(set(listed)) < len(listed):
        yield "trainer.devices", "must be different GPUs, such as [0,1]"
    elif (wanted if isinstance(wanted, int) else max(listed, default=-1) + 1) > count:
        yield "trainer.devices", f"{visible(count)} here"


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
        yield "trainer.sync_batchnorm", "torch's SyncBatchNorm refuses CPU tensors; leave it out"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if select("compile") is True and shutil.which(compiler) is None:
        reason = f"there is no C++ compiler {compiler} here, which torch needs for that on a CPU"
        yield "compile", f"{reason}; install it, set CXX to another, or write compile=false"


def _processes(select: CheckedValues, trainer: Mapping[str, Any]) -> Findings:
    """Yields a batch or a strategy that does not fit the processes, and a launcher's others."""
    each, nodes = processes_per_machine(trainer), trainer.get("num_nodes") or 1
    count, size, own = (each or 0) * nodes, select("data.batch_size"), this_process()
    if select("trainer.strategy") == "single_device" and count > 1:
        reason = f"trains in one process, and {count} are asked for"
        yield "trainer.strategy", f"{reason}; write trainer.strategy=ddp"
    if isinstance(size, int) and count and size % count:
        below = size // count * count
        fitting = " or ".join(str(fit) for fit in (below, below + count) if fit > 0)
        yield "data.batch_size", f"is shared evenly by {count} processes; write {fitting}"
    if own is None and nodes > 1 and "LOCAL_RANK" not in os.environ:
        yield (
            "trainer.num_nodes",
            f"asks for {nodes} machines, and this process was started alone; type torchrun"
            f" --nnodes={nodes} --nproc-per-node={each or 1} --node-rank=<0 to {nodes - 1}>"
            " --master-addr=<address of the first> train.py <overrides> on each: docs/clusters.md",
        )
    elif own is not None and each is not None:
        machines = own.machines or own.count // (own.per_machine or own.count)
        started = own.per_machine or own.count // machines
        if own.by == "srun" and own.count > 1 and own.per_machine is None:
            yield "trainer.devices", "srun does not tell it; write srun --ntasks-per-node=<n>"
        elif (each, nodes, count) != (started, machines, own.count):
            yield (
                "trainer.devices" if each != started else "trainer.num_nodes",
                f"trainer.num_nodes={nodes} trainer.devices={each} are not what {own.by} started,"
                f" which is {started} processes on each of {machines} machines; write"
                f" trainer.num_nodes={machines} trainer.devices={started}, or {own.by} with others",
            )
