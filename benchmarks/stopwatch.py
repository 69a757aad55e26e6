"""Times the iterations of a training from within its process, and writes what it found as JSON.

Product, reference and naive loop use the same clock. Its measure of memory needs Linux.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import torch

MEBIBYTE = 2**20


def resident(kind: str = "VmRSS") -> float:
    """Returns this process's resident memory in MiB: `VmRSS` now, `VmHWM` at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{kind}:"))
    return int(found.split()[1]) / 1024


class Stopwatch:
    """Measures from the end of iteration `warm_up` to the end of iteration `warm_up + iterations`.

    The time goes from one clock reading to another, so all that happens in between counts.

    Args:
        output: the JSON to write when the time is up.
        warm_up: iterations before the clock starts.
        iterations: that are timed.
        images: real images in one iteration.
    """

    def __init__(self, output: str | Path, warm_up: int, iterations: int, images: int) -> None:
        self.output = Path(output)
        self.first, self.last = warm_up, warm_up + iterations
        self.iterations, self.images = iterations, images
        self._ends: list[float] = []
        self._processor_began = 0.0

    def tick(self, iteration: int) -> None:
        """Takes note that an iteration has ended; from 1."""
        if iteration < self.first or iteration > self.last:
            return
        if iteration in (self.first, self.last) and torch.cuda.is_available():
            torch.cuda.synchronize()
        self._ends.append(time.perf_counter())
        if iteration == self.first:
            self._processor_began = time.process_time()
        if iteration == self.last:
            self._write(time.process_time() - self._processor_began)

    def _write(self, processor_seconds: float) -> None:
        seconds = self._ends[-1] - self._ends[0]
        each = [end - start for start, end in zip(self._ends, self._ends[1:], strict=False)]
        on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        found = {
            "images_per_second": self.iterations * self.images / seconds,
            "seconds": seconds,
            "processor_seconds": processor_seconds,
            "mean_iteration_ms": 1e3 * seconds / self.iterations,
            "median_iteration_ms": 1e3 * median(each),
            "iterations": self.iterations,
            "peak_mib": resident("VmHWM"),
            "peak_device_mib": on_device / MEBIBYTE,
            "threads": torch.get_num_threads(),
        }
        self.output.write_text(json.dumps(found))

    def add(self, more: dict[str, float]) -> None:
        """Writes more numbers beside those of the time."""
        self.output.write_text(json.dumps(json.loads(self.output.read_text()) | more))
