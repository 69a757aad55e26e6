"""The data modules that `large_folder.py` compares, and a watch on the memory of their process.

As a program it starts one of them as a run does, without training: what a run waits for.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stopwatch import resident
from torch import Tensor

from forger.data import ImageFolder

RESIDENT = 60_000  # images that are surely held in memory
_PAUSE = 0.02  # seconds between two looks


class MemoryWatch:
    """Notes the largest memory of this process, from now until it is asked, in a thread.

    Anonymous and shared memory is the process's own; pages of files are the system's cache, which
    takes them back when it needs them.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._first = self._look()
        self._highest = self._first
        threading.Thread(target=self._watch, daemon=True).start()

    def growth(self) -> dict[str, float]:
        """Ends the watch, and returns how many MiB were added at most."""
        self._ended.set()
        own, files = (high - first for high, first in zip(self._highest, self._first, strict=True))
        return {"own_mib": own, "file_mib": files}

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE):
            own, files = self._look()
            self._highest = max(own, self._highest[0]), max(files, self._highest[1])

    @staticmethod
    def _look() -> tuple[float, float]:
        return resident("RssAnon") + resident("RssShmem"), resident("RssFile")


class Mapped(ImageFolder):
    """`data=image_folder`, watched.

    Args:
        output: JSON to write when training has ended.
        settings: of `ImageFolder`.
    """

    def __init__(self, *, output: str, **settings: Any) -> None:
        self._output, self._began = Path(output), time.perf_counter()
        self._watch = MemoryWatch()
        super().__init__(**settings)

    def teardown(self, stage: str) -> None:
        """Writes what the watch saw."""
        self._output.write_text(json.dumps(self._watch.growth()))

    def start(self) -> float:
        """Takes the first batch, and returns the seconds since it was made."""
        self.prepare_data()
        self.setup("fit")
        next(iter(self.train_dataloader()))
        return time.perf_counter() - self._began


class Resident(Mapped):
    """As many images as MNIST has in memory, of the array that is given as `root`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """One, so that there are labels here too."""
        return ("all",)

    def prepare_data(self) -> None:
        """The array is there."""

    def describe(self) -> list[str]:
        """Nothing: there is no folder to list."""
        return []

    def read(self, split: Any) -> dict[str, Tensor]:
        """Reads the first images."""
        images = np.load(self.root, mmap_mode="r")[:RESIDENT]
        labels = torch.zeros(len(images), dtype=torch.int64)
        return {"image": torch.from_numpy(np.array(images)), "label": labels}


def main() -> None:
    """Starts `data=image_folder` once, and writes seconds and memory as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("root", "cache", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("shape", type=int, nargs=2, help="channels, size")
    arguments = parser.parse_args()
    channels, size = arguments.shape
    data = Mapped(
        output=str(arguments.output),
        root=arguments.root,
        cache_dir=arguments.cache,
        channels=channels,
        image_size=size,
        flip=True,
        test_fraction=0.0,
    )
    seconds = data.start()
    memory = data._watch.growth()
    arguments.output.write_text(
        json.dumps({"seconds": seconds, "images": data.num_train_images} | memory)
    )


if __name__ == "__main__":
    main()
