"""Settings that are fine alone and senseless together, or on this machine.

Owns the contradictions that can be seen before torch is imported. `check` has read the types and
ranges first; a rule therefore looks only at values that have passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from forger.runs.checking import hardware

Select: TypeAlias = Callable[[str], Any]
"""Returns the value of a dotted key; `None` where there is none or it has been refused."""

Findings: TypeAlias = Iterator[tuple[str, str]]
"""Keys, each with what is wrong with its value and what to write instead."""

_ONE_NETWORK = {"ddp", "ddp_spawn", "ddp_fork", "ddp_notebook"}  # refuse weights without gradients
_FOLDERS = ("forger.data.ImageFolder", "forger.data.folder.ImageFolder")


def contradictions(select: Select) -> Findings:
    """Yields what is wrong with a config as a whole."""
    yield from _run(select)
    yield from _data(select)
    yield from _ours_instead(select)
    yield from _trainer(select)
    yield from _devices(select)
    yield from _precision(select)


def _run(select: Select) -> Findings:
    seed, name = select("seed"), select("name")
    if isinstance(seed, int) and seed >= 2**32:
        yield "seed", "must be below 2**32, or null to draw one"
    if isinstance(name, str):
        path = Path(name)
        if not name.strip() or path.is_absolute() or ".." in path.parts or "\0" in name:
            yield "name", "must name a folder below paths.log_dir; write a word"


def _data(select: Select) -> Findings:
    root = select("data.root")
    if select("data._target_") in _FOLDERS:
        if root is None:
            yield "data.root", "is needed; write data.root=<folder of images>"
        elif isinstance(root, str) and not Path(root).expanduser().is_dir():
            yield "data.root", "there is no such folder; write data.root=<folder of images>"
    batch_size, processes = select("data.batch_size"), _processes(select)
    if isinstance(batch_size, int) and processes and batch_size % processes:
        below = batch_size // processes * processes
        fitting = [str(size) for size in (below, below + processes) if size > 0]
        yield (
            "data.batch_size",
            f"is shared evenly by {processes} processes; write {' or '.join(fitting)}",
        )


def _processes(select: Select) -> int | None:
    """How many processes share a batch, where the settings tell."""
    devices, nodes = select("trainer.devices"), select("trainer.num_nodes") or 1
    on_gpus = select("trainer.accelerator") in ("gpu", "cuda")
    if isinstance(devices, list):
        devices = len(devices)
    elif devices == -1:
        devices = hardware.gpu_count() if on_gpus else None
    return devices * nodes if isinstance(devices, int) and isinstance(nodes, int) else None


def _ours_instead(select: Select) -> Findings:
    """Trainer flags that manual optimization refuses, and the settings that do their work."""
    clip = select("trainer.gradient_clip_val")
    if clip is not None or select("trainer.gradient_clip_algorithm") is not None:
        key = "trainer.gradient_clip_val" if clip is not None else "trainer.gradient_clip_algorithm"
        norm = "<norm>" if clip is None else clip
        yield (
            key,
            f"the Trainer cannot clip two networks; write model.gradient_clip.generator={norm} or "
            f"model.gradient_clip.discriminator={norm}",
        )
    batches = select("trainer.accumulate_grad_batches")
    if batches not in (None, 1):
        yield (
            "trainer.accumulate_grad_batches",
            f"the Trainer cannot accumulate for two networks; write "
            f"model.accumulate.generator={batches} or model.accumulate.discriminator={batches}",
        )


def _trainer(select: Select) -> Findings:
    strategy, max_time = select("trainer.strategy"), select("trainer.max_time")
    if isinstance(strategy, str) and strategy in _ONE_NETWORK:
        yield (
            "trainer.strategy",
            "fails where an update uses the weights of one network only; "
            "write trainer.strategy=ddp_find_unused_parameters_true",
        )
    if isinstance(max_time, str) and not re.fullmatch(r"\d+(:\d\d?){3}", max_time.strip()):
        yield "trainer.max_time", "must be days:hours:minutes:seconds, for example 00:08:00:00"
    if select("trainer.sync_batchnorm") is True and select("trainer.accelerator") == "cpu":
        yield (
            "trainer.sync_batchnorm",
            "torch's SyncBatchNorm refuses CPU tensors; write trainer.sync_batchnorm=false",
        )


def _devices(select: Select) -> Findings:
    accelerator, devices = select("trainer.accelerator"), select("trainer.devices")
    if accelerator in ("gpu", "cuda"):
        count = hardware.gpu_count()
        if accelerator == "gpu" and hardware.has_mps():
            count = 1
        if count == 0:
            yield "trainer.accelerator", "no GPU is visible here; write trainer=cpu or trainer=auto"
        elif _beyond(devices, count):
            yield "trainer.devices", _visible(count)
    elif accelerator == "mps":
        if not hardware.has_mps():
            yield (
                "trainer.accelerator",
                "there is no Apple GPU here; write trainer=cpu or trainer=auto",
            )
        elif _beyond(devices, 1):
            yield "trainer.devices", _visible(1)
    elif accelerator == "cpu" and (devices == -1 or isinstance(devices, list)):
        yield "trainer.devices", "on the CPU it is the number of processes; write trainer.devices=1"


def _beyond(devices: Any, count: int) -> bool:
    if isinstance(devices, list):
        return any(index >= count for index in devices)
    return isinstance(devices, int) and devices > count


def _visible(count: int) -> str:
    return "1 GPU is visible here; write 1" if count == 1 else f"{count} GPUs are visible here"


def _precision(select: Select) -> Findings:
    if select("trainer.precision") != "16-mixed":
        return
    accelerator = select("trainer.accelerator")
    if accelerator == "cpu" or (
        accelerator == "auto" and hardware.gpu_count() == 0 and not hardware.has_mps()
    ):
        yield "trainer.precision", "needs a GPU; write bf16-mixed or 32-true"
