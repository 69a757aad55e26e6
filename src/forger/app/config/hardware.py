"""Which accelerators this machine has, found in milliseconds without importing torch.

Owns the count of devices that a run may ask for. CUDA is never initialised here: that would break
every process forked later.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path

from forger.app.config.modules import find_module


def gpu_count() -> int:
    """Counts the GPUs that torch would see, those of NVIDIA first, then those of AMD."""
    if _torch_has("cuda"):
        return _visible(_nvidia_count(), "CUDA_VISIBLE_DEVICES")
    if _torch_has("hip"):
        return _visible(_amd_count(), "HIP_VISIBLE_DEVICES")
    return 0


def given_gpus() -> list[str] | None:
    """Returns the GPUs that CUDA_VISIBLE_DEVICES names; `None`: it is not set, and all are visible.

    What CUDA cannot read, such as the `-1` or `NoDevFiles` that hide all of them, ends the list.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return None
    readable = (re.fullmatch(r"\d+|(GPU|MIG)-.+", name.strip()) for name in names.split(","))
    return [match[0] for match in takewhile(bool, readable) if match]


def has_mps() -> bool:
    """Tells whether this is a Mac with Apple's own processor."""
    return sys.platform == "darwin" and os.uname().machine == "arm64"


def _torch_has(kind: str) -> bool:
    """Reads torch/version.py: `cuda` or `hip` is `None` in a build without it."""
    module = find_module("torch.version")
    value = module.bindings.get(kind) if module is not None else None
    return not (isinstance(value, ast.Constant) and value.value is None)


def _visible(count: int, variable: str) -> int:
    """Applies CUDA_VISIBLE_DEVICES: what stands before the first device that does not exist."""
    names = os.environ.get(variable)
    if names is None:
        return count
    found = 0
    for name in (part.strip() for part in names.split(",")):
        exists = int(name) < count if name.isdigit() else name.startswith(("GPU-", "MIG-"))
        if not exists:
            break
        found += 1
    return min(found, count)


@cache
def _nvidia_count() -> int:
    """Asks the driver's management library; without it, counts the device files."""
    import ctypes  # takes milliseconds, and few settings ask for the count

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint(0)
        if nvml.nvmlInit_v2() == 0:
            failed = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
            nvml.nvmlShutdown()
            if not failed:
                return count.value
    except (OSError, AttributeError):
        pass
    files = Path("/dev").glob("nvidia*")
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in files)


@cache
def _amd_count() -> int:
    """Counts the nodes of AMD's kernel driver that have compute units, CPUs left out."""
    if not Path("/dev/kfd").exists():
        return 0
    nodes = Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties")
    return sum(re.search(r"simd_count [1-9]", path.read_text()) is not None for path in nodes)
