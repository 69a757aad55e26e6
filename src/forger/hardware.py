"""Counts the cores and accelerators that torch can use here, quickly and without importing it.

CUDA is never initialised: that would break every process forked later.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

_NVIDIA, _AMD = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


def core_count() -> int:
    """Returns the number of processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def accelerator(asked: str | None = "auto") -> str:
    """Returns what an accelerator means here, that of a Trainer: `cpu`, `gpu` or `mps`."""
    if asked in (None, "auto"):
        return "mps" if has_mps() else "gpu" if gpu_count() else "cpu"
    if asked in ("gpu", "cuda"):
        return "mps" if asked == "gpu" and has_mps() else "gpu"
    return str(asked)


def gpu_count() -> int:
    """Returns the number of GPUs that torch would see."""
    return len(visible_gpus())


def visible_gpus() -> list[str]:
    """Returns the GPUs that torch would see, by the names that CUDA_VISIBLE_DEVICES takes.

    CUDA counts from 0 whatever the device files are called: a container may have /dev/nvidia2
    alone, which is its GPU 0.
    """
    build = _torch_build()
    if not (build.get("cuda") or build.get("hip")):
        return []
    count = _nvidia_count() if build.get("cuda") else _amd_count()
    names = given_gpus(_NVIDIA if build.get("cuda") else _AMD)
    if names is None:
        return [str(index) for index in range(count)]
    existing = takewhile(lambda name: not name.isdigit() or int(name) < count, names)
    return list(existing)[:count]


def given_gpus(variable: str = _NVIDIA) -> list[str] | None:
    """Returns the GPUs that an environment variable names; `None`: not set, all are visible.

    What CUDA cannot read, such as the `-1` or `NoDevFiles` that hide all of them, ends the list.
    """
    names = os.environ.get(variable)
    if names is None:
        return None
    readable = (re.fullmatch(r"\d+|(GPU|MIG)-.+", name.strip()) for name in names.split(","))
    return [match[0] for match in takewhile(bool, readable) if match]


def has_mps() -> bool:
    """Tells whether this is a Mac with Apple's own processor."""
    return sys.platform == "darwin" and os.uname().machine == "arm64"


@cache
def _torch_build() -> dict[str, str | None]:
    """Runs torch/version.py alone, whose `cuda` and `hip` are versions, or None without it."""
    torch = find_spec("torch")
    folders = torch.submodule_search_locations if torch is not None else None
    return runpy.run_path(str(Path(folders[0], "version.py"))) if folders else {}


@cache
def _nvidia_count() -> int:
    """Asks the driver's management library; without it, counts the device files."""
    import ctypes  # takes milliseconds, and few settings ask for the count

    count = ctypes.c_uint(0)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        nvml.nvmlInit_v2()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        pass
    return count.value or len([*Path("/dev").glob("nvidia[0-9]*")])


@cache
def _amd_count() -> int:
    """Counts the nodes of AMD's kernel driver that have compute units, CPUs left out."""
    nodes = Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties")
    return sum(re.search(r"simd_count [1-9]", path.read_text()) is not None for path in nodes)
