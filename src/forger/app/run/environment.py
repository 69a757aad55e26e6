"""What a run ran on: code, packages, hardware. Owns the record's content, not where it is kept.

What a process has imported stays what it was, so that a sweep's later jobs look it up no more.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import forger
from forger.secrets import masked

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "wandb",
    "mlflow-skinny",
    "numpy",
    "pillow",
)


@cache
def git(*arguments: str) -> str | None:
    """Returns what git says of the folder of this code, or `None` where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def package_versions() -> dict[str, str | None]:
    """Returns the installed version of each package that shapes a result."""
    found: dict[str, str | None] = {"forger": forger.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


@cache
def processor() -> str:
    """Returns the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_environment(seed: int) -> dict[str, Any]:
    """Returns the record: git commit, packages, hardware, command and seed, as plain JSON."""
    dirty = git("status", "--porcelain")
    return {
        "seed": seed,
        "command": masked(sys.argv),
        "folder": str(Path.cwd()),
        "git": {
            "commit": git("rev-parse", "HEAD"),
            "dirty": None if dirty is None else bool(dirty),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }
