"""Devices, processes, threads and precisions that this machine does not have. See `rules`.

Owns what the settings ask of the hardware; `hardware` counts what there is.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from forger import hardware
from forger.app.config.accepted import Findings, Select

_FEW = 8  # processes that any machine may run, slowly, to try things out
_MOST_THREADS = 256  # beyond it, and beyond the cores, threads may not even start


def accelerator_of(select: Select) -> str:
    """Returns `cpu`, `gpu` or `mps`: what `auto` will be on this machine too."""
    accelerator = select("trainer.accelerator")
    if accelerator in (None, "auto"):
        return "mps" if hardware.has_mps() else "gpu" if hardware.gpu_count() else "cpu"
    if accelerator in ("gpu", "cuda"):
        return "mps" if accelerator == "gpu" and hardware.has_mps() else "gpu"
    return str(accelerator)


def processes(select: Select) -> int | None:
    """Returns how many processes share a batch, where the settings tell."""
    if not select.sound("trainer.devices", "trainer.num_nodes", "trainer.accelerator"):
        return None
    devices, nodes = select("trainer.devices"), select("trainer.num_nodes") or 1
    if isinstance(devices, list):
        devices = len(devices) if accelerator_of(select) == "gpu" else None
    elif devices in (None, -1, "auto"):
        on = accelerator_of(select)
        devices = hardware.gpu_count() if on == "gpu" else 1
    return devices * nodes if devices else None


def devices(select: Select) -> Findings:
    """Yields devices that are not there."""
    if not select.sound("trainer.accelerator"):
        return
    asked, wanted = select("trainer.accelerator"), select("trainer.devices")
    if asked in (None, "auto") and wanted == 1:
        return
    accelerator = accelerator_of(select)
    if accelerator == "cpu":
        yield from _processes_on_cpu(wanted)
    elif accelerator == "gpu":
        yield from _gpus(wanted, hardware.gpu_count())
    elif not hardware.has_mps():
        yield "trainer.accelerator", "there is no Apple GPU here; write trainer=cpu or trainer=auto"
    else:
        yield from _gpus(wanted, 1)


def _processes_on_cpu(wanted: Any) -> Findings:
    cores = os.cpu_count() or 1
    if wanted == -1 or isinstance(wanted, list):
        yield "trainer.devices", "on the CPU it is the number of processes; write trainer.devices=1"
    elif isinstance(wanted, int) and wanted > max(_FEW, cores):
        yield "trainer.devices", f"processes are more than the {cores} cores here can serve"


def _gpus(wanted: Any, count: int) -> Findings:
    if count == 0:
        yield "trainer.accelerator", "no GPU is visible here; write trainer=cpu or trainer=auto"
    elif isinstance(wanted, list) and (not wanted or len(set(wanted)) < len(wanted)):
        yield "trainer.devices", "must be different GPUs, such as [0,1]"
    elif any(index >= count for index in (wanted if isinstance(wanted, list) else ())) or (
        isinstance(wanted, int) and wanted > count
    ):
        yield "trainer.devices", _visible(count)


def _visible(count: int) -> str:
    return "1 GPU is visible here; write 1" if count == 1 else f"{count} GPUs are visible here"


def precision(select: Select) -> Findings:
    """Yields half precision where there is no GPU for it."""
    if select("trainer.precision") == "16-mixed" and accelerator_of(select) == "cpu":
        yield "trainer.precision", "needs a GPU; write bf16-mixed or 32-true"


def compiler(select: Select) -> Findings:
    """Yields networks to be compiled for a CPU where there is no C++ compiler to do it."""
    if select("compile") is not True or accelerator_of(select) != "cpu":
        return
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    name = os.environ.get("CXX", usual)
    if shutil.which(name) is None:
        yield (
            "compile",
            f"there is no C++ compiler {name} here, which torch needs for that on a CPU; install"
            " g++, name another one in the variable CXX, or write compile=false",
        )


def threads(select: Select) -> Findings:
    """Yields more threads than a machine could start; more than its cores are allowed."""
    wanted, cores = select("trainer.threads"), os.cpu_count() or 1
    if isinstance(wanted, int) and wanted > max(_MOST_THREADS, cores):
        yield "trainer.threads", f"there are {cores} cores here; write trainer.threads={cores}"
