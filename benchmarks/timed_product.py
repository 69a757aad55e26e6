"""What the throughput benchmark adds to the product's own run: a clock, and more digits.

The product is started as a user starts it, with these two named on its command line.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from kernels import PROFILED, Kernels
from lightning.pytorch import Callback, Trainer
from reference_loop import Loop
from stopwatch import Stopwatch
from torch import Tensor
from translation_loop import CycleLoop, PairedLoop
from workloads import WORKLOADS, load_images

from forger.data import MNISTSample

DIGITS = 60_000  # as many as MNIST has: an epoch ends as rarely
LOOPS = {"noise": Loop, "paired": PairedLoop, "cycle": CycleLoop}
TURN = 8  # iterations: penalties of every fourth or eighth fall into each


class Clock(Callback):
    """Reads the clock at the end of each iteration; arguments as in `Stopwatch`.

    Nothing that the product reports is used: its own speed leaves out what is not training. Behind
    the time, what a GPU does is looked at for `PROFILED` iterations.
    """

    _kernels: Kernels | None = None

    def __init__(self, output: str, warm_up: int, iterations: int, images: int) -> None:
        self._stopwatch = Stopwatch(output, warm_up, iterations, images)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts one iteration."""
        if not trainer.is_global_zero:
            return
        self._stopwatch.tick(trainer.global_step)
        beyond = trainer.global_step - self._stopwatch.last
        if beyond == 0 and torch.cuda.is_available():
            self._kernels = Kernels()
        elif beyond == PROFILED and self._kernels is not None:
            self._stopwatch.add(self._kernels.of_each(PROFILED))


class Turns(Callback):
    """Lets the reference loop run in the product's process, in turns of a few iterations each.

    Seconds are the processor's, which leave out what other programs do, or a GPU's by the clock.

    Args:
        output: the JSON to write, again after each turn.
        warm_up: iterations of both before the first turn.
        iterations: of each in its turns.
        images: real images in one iteration.
        workload: its name.
        array: file of the images.
        precision: of the reference loop, as its other argument.
        share_fakes: of the reference loop.
    """

    def __init__(
        self,
        output: str,
        warm_up: int,
        iterations: int,
        images: int,
        workload: str,
        array: str,
        precision: str,
        share_fakes: bool,
    ) -> None:
        self._output, self._warm_up, self._images = Path(output), warm_up, images
        loop = LOOPS[WORKLOADS[workload].game]
        self._loop = loop(WORKLOADS[workload], load_images(array), precision, share_fakes)
        self._began, self._seconds = 0.0, list[tuple[float, float]]()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends the product's turn, and takes the reference loop's."""
        beyond = trainer.global_step - self._warm_up
        if beyond < 0 or beyond % TURN:
            return
        ended = _now()
        for _iteration in range(trainer.global_step - self._loop.iterations):
            self._loop.iterate()
        if beyond:  # the first turns were for warming up
            self._seconds.append((ended - self._began, _now() - ended))
            self._write()
        self._began = _now()

    def _write(self) -> None:
        ours, theirs = zip(*self._seconds, strict=True)
        found = {
            "images_per_second": TURN * self._images / median(ours),
            "reference_images_per_second": TURN * self._images / median(theirs),
            "ratio": median(their / our for our, their in self._seconds),
            "ratio_of_sums": sum(theirs) / sum(ours),
            "seconds": sum(ours) + sum(theirs),
            "turns": self._seconds,
        }
        self._output.write_text(json.dumps(found))


def _now() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class TiledDigits(MNISTSample):
    """The digits of `data=mnist_sample`, again and again up to MNIST's number."""

    def read(self, split: Any) -> dict[str, Tensor]:
        """Reads one split, and repeats that for training."""
        members = super().read(split)
        if split == "test":
            return members
        rows = torch.arange(DIGITS) % len(members["image"])
        return {name: one[rows] for name, one in members.items()}


class Pairs(TiledDigits):
    """Those digits, made from their negatives."""

    native_source_shape = (1, 28, 28)

    def read(self, split: Any) -> dict[str, Tensor]:
        """Reads one split."""
        members = super().read(split)
        return members | {"source": 255 - members["image"]}


class Sides(Pairs):
    """The same, which do not belong together."""

    paired = False
