"""One training of the throughput benchmark: by the product, by the reference or by the naive loop.

Builds the command line of each and reads what its clock wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from kernels import PROFILED
from timed_images import TimedImages
from timed_process import run
from workloads import BATCH_SIZE, WORKLOADS, Workload, device_here

WORDS = {
    "product": [],
    "processes": ["trainer=ddp_cpu"],
    "conditional": ["condition=label"],
    "turns": [],
}
"""What each kind of the product's own runs adds to its command line."""

WAYS = {"reference": "eager", "compiled": "compiled", "graph": "graph"}
"""How the loop by hand runs."""

_HERE = Path(__file__).parent
_AFTER_IMPORT = """
import sys, json
import lightning, torch, torchvision, forger.app.run.train
from stopwatch import resident
open(sys.argv[1], "w").write(json.dumps(resident()))
"""


@dataclass(frozen=True)
class Settings:
    """What holds for all trainings.

    Args:
        threads: of each process; None: torch's default.
        iterations: that are timed; None: by workload.
        precision: of product and reference.
        share_fakes: of product and reference, where there is one discriminator update.
        overrides: more of the product's settings.
    """

    threads: int | None
    iterations: int | None
    precision: str
    share_fakes: bool
    overrides: list[str]


class Trainings:
    """Trains: by the product in one process or in two of half the threads each, or by a loop.

    Args:
        folder: for everything.
        images: to train on.
        settings: of all.
    """

    def __init__(self, folder: Path, images: TimedImages, settings: Settings) -> None:
        self.folder, self.images, self.settings = folder, images, settings
        self._numbers = count(1)

    def train(self, program: str, name: str) -> dict[str, Any]:
        """Trains one workload by one program, and returns what its clock found."""
        workload, number = WORKLOADS[name], next(self._numbers)
        output, printed = self.folder / f"{number}.json", self.folder / f"{number}.txt"
        array, overrides = self.images.of(workload.images)
        if program in WORDS:
            folder = self.folder / "runs" / str(number)
            clock: dict[str, object] = {"_target_": "timed_product.Clock", "output": output}
            if program == "turns":
                clock |= {"_target_": "timed_product.Turns", "workload": name, "array": array}
                clock |= {"precision": self.settings.precision}
                clock |= {"share_fakes": self._shares(workload)}
            command = [*self._product(workload, overrides, clock, folder), *WORDS[program]]
        else:
            loop = "reference" if program in WAYS else program
            command = [str(_HERE / f"{loop}_loop.py"), name, array, str(output)]
            command += self._loop(program, workload)
        run(command, printed, self.settings.threads)
        found: dict[str, Any] = json.loads(output.read_text())
        if program in WORDS:
            found["after_import_mib"] = self._after_import
        return found

    def _loop(self, program: str, workload: Workload) -> list[str]:
        iterations = self.settings.iterations
        flags = ["--iterations", str(iterations)] if iterations else []
        if program in WAYS:
            flags += ["--precision", self.settings.precision, "--way", WAYS[program]]
            flags += ["--share-fakes"] if self._shares(workload) else []
        return flags

    def _shares(self, workload: Workload) -> bool:
        return self.settings.share_fakes and workload.loss.n_critic == 1

    def _product(
        self, workload: Workload, data: list[str], clock: dict[str, object], folder: Path
    ) -> list[str]:
        warm_up, iterations = workload.warm_up, self.settings.iterations or workload.iterations
        looked_at = PROFILED if device_here().type == "cuda" else 0
        clock |= {"warm_up": warm_up, "iterations": iterations}
        clock |= {"images": workload.images_per_iteration}
        return [
            *(str(_HERE.parent / "train.py"), *workload.overrides, *data, "metrics=none"),
            f"data.batch_size={BATCH_SIZE}",
            f"trainer.max_steps={warm_up + iterations + looked_at}",
            f"trainer.precision={self.settings.precision}",
            *([f"model.share_fakes={self._shares(workload)}"] if workload.game == "noise" else []),
            *(f"paths.cache_dir={self.images.cache}", f"hydra.run.dir={folder}"),
            f"+callbacks.clock={{{', '.join(f'{k}: {v}' for k, v in clock.items())}}}",
            *self.settings.overrides,
        ]

    @cached_property
    def _after_import(self) -> float:
        """MiB of a process that has only imported what a training imports."""
        output, script = self.folder / "import.json", self.folder / "imports.py"
        script.write_text(_AFTER_IMPORT)
        run([str(script), str(output)], self.folder / "imports.txt", self.settings.threads)
        return float(json.loads(output.read_text()))
