"""What the start-up benchmark adds to the product's own run: when its jobs begin, train and end.

The times are the machine's, so that another process can compare them with its own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback


class Moments(Callback):
    """Appends one line of JSON a job: seconds of the machine's clock, and of the processor.

    Args:
        output: the file that takes the lines.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self._found: dict[str, float] = {}

    def on_train_start(self, *_: Any) -> None:
        """Notes when the iterations begin."""
        self._note("began")

    def on_train_batch_end(self, *_: Any) -> None:
        """Notes when the first iteration has ended."""
        if "first" not in self._found:
            self._note("first")

    def on_train_end(self, *_: Any) -> None:
        """Notes when the last one has, and writes."""
        self._note("ended")
        with self.output.open("a") as file:
            file.write(json.dumps(self._found) + "\n")

    def _note(self, moment: str) -> None:
        self._found[moment] = time.monotonic()
        self._found[f"{moment}_processor"] = time.process_time()
