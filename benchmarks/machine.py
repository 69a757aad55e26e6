"""The machine that a benchmark ran on: what it is, and how fast it multiplies matrices."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from statistics import median

import torch
from workloads import device_here

_SIZES = (512, 1024, 2048)
_SECONDS = 1.0  # of multiplying, for each size


def describe_machine() -> dict[str, str | int]:
    """Returns processor, cores, accelerator and the versions that matter."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerator": accelerator,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def matrix_rate() -> float:
    """Returns float32 operations per second of square matrix products, of the best size.

    Of each size the median repetition counts, as the median run does of a training.
    """
    return max(map(_rate, _SIZES))


def _rate(size: int) -> float:
    a, b = (torch.randn(size, size, device=device_here()) for _ in range(2))
    out = torch.mm(a, b)
    seconds, until = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        _wait()
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / median(seconds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def main() -> None:
    """Writes what it finds as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = describe_machine() | {"matrix_rate": matrix_rate(), "threads": torch.get_num_threads()}
    arguments.output.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
