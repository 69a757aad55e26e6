"""The task of docs/own_task.md, as written there: a project of its own in a folder."""

from __future__ import annotations

import importlib
import re
import sys
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import torch
from helpers import SHAPE

from forger.gan import GAN
from forger.losses import LeastSquares
from forger.updates import Updates

NAME = "my_tasks"
POOL = 20  # full after three iterations of 8 images
_PAGE = Path(__file__).parents[1] / "docs" / "own_task.md"


def write_own_task(folder: Path) -> None:
    """Writes `my_tasks.py`, and the config files that the page tells of."""
    (code,) = re.findall(r"^ *```python\n(.*?)^ *```", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    files = {
        f"{NAME}.py": dedent(code),
        "configs/task/negatives.yaml": f"_target_: {NAME}.Cycle\ncycle_weight: 5\n",
        "configs/model/translators.yaml": (
            f"generator:\n  _target_: {NAME}.Translators\n  width: 4\n"
            f"discriminator:\n  _target_: {NAME}.Patches\n  width: 4\n"
        ),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def import_own_task(folder: Path) -> ModuleType:
    """Imports `my_tasks` from a folder, which is on the path from then on."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(NAME)


def make(own: ModuleType, **arguments: Any) -> GAN:
    torch.manual_seed(0)
    generator, discriminator = own.Translators(SHAPE, 4), own.Patches(SHAPE, 4)
    task = own.Cycle(generator, discriminator, LeastSquares(), pool=POOL)
    adam = Updates(optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9)))
    arguments = {"generator_updates": adam, "discriminator_updates": adam} | arguments
    return GAN(task, ema_decay=0.9, seed=3, **arguments)
