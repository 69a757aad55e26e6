"""Moments at which a training is killed: how they are awaited and proved.

How a training is started and killed is in `training_process`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training_process import Training

from forger.checkpoints import FOLDER, LAST


@dataclass(frozen=True)
class Length:
    """How long a run is, by the files that it writes.

    Attributes:
        iterations: of the whole run.
        epoch: iterations of one.
        row: iterations between rows of `metrics.csv`.
        save: iterations between checkpoints.
        seconds: from the start of the process to its end.
        startup: seconds of these before training.
    """

    iterations: int
    epoch: int
    row: int
    save: int
    seconds: float = 0.0
    startup: float = 0.0

    def seconds_from(self, iteration: int) -> float:
        """Returns how long a run lasts that starts at an iteration."""
        return self.seconds - (self.seconds - self.startup) * iteration / self.iterations


class Moment:
    """Any time between the start of a process and its end."""

    def wait(self, training: Training, length: Length, start: int, random: Random) -> bool:
        """Returns at the moment.

        Args:
            training: has just been started.
            length: of the run.
            start: iteration that it starts from.
            random: what is drawn from.

        Returns:
            Whether the moment came before the process ended.
        """
        until = time.monotonic() + random.uniform(0, length.seconds_from(start))
        return self._until(training, lambda: time.monotonic() > until)

    def proof(self, training: Training, length: Length) -> str:
        """Tells what shows that a process was killed at the moment; nothing does where empty."""
        return "at any time"

    def _until(self, training: Training, come: Callable[[], bool], pause: float = 0.005) -> bool:
        while not come():
            if training.ended:
                return False
            time.sleep(pause)
        return True


class BeforeCheckpoint(Moment):
    """While a run trains and has no checkpoint."""

    def wait(self, training: Training, length: Length, start: int, random: Random) -> bool:
        """Waits for one of the first rows of metrics, or for none."""
        row = random.randrange(0, length.save - length.row)
        return self._until(training, lambda: training.training and training.row >= row)

    def proof(self, training: Training, length: Length) -> str:
        """There is no checkpoint."""
        return "" if (training.folder / FOLDER / LAST).exists() else "no checkpoint yet"


class InWrite(Moment):
    """While a checkpoint is being written."""

    def wait(self, training: Training, length: Length, start: int, random: Random) -> bool:
        """Waits for any of the writes to come, and into it, by the time that those before took."""
        number = random.randint(1, max(1, (length.iterations - start) // length.save - 1))
        began: dict[str, float] = {}
        took = [0.0]

        def come() -> bool:
            now = time.monotonic()
            for path in training.unfinished_checkpoints():
                took.append(now - began.setdefault(path.name, now))
            return len(began) == number

        if not self._until(training, come, pause=0.0005):
            return False
        time.sleep(random.uniform(0, 0.9 * max(took)))
        return True

    def proof(self, training: Training, length: Length) -> str:
        """The file that was being written is left behind, and its last name not taken."""
        for path in training.unfinished_checkpoints():
            return f"{path.name[1:10]} cut off at {path.stat().st_size:,} bytes"
        return ""


class InEpoch(Moment):
    """In an iteration of an epoch that is neither its first nor its last, or between two."""

    def wait(self, training: Training, length: Length, start: int, random: Random) -> bool:
        """Waits for any of the rows of metrics to come."""
        rows = [row for row in range(start + 1, length.iterations) if self._inside(row, length)]
        if not rows:
            training.wait()
            return False
        row = random.choice(rows)
        if not self._until(training, lambda: training.training and training.row >= row):
            return False
        time.sleep(random.uniform(0, 0.1))
        return True

    def proof(self, training: Training, length: Length) -> str:
        """The last row of metrics is of the middle of an epoch, and the next row is not there."""
        epoch, iteration = divmod(training.row, length.epoch)
        inside = self._inside(training.row, length)
        return f"epoch {epoch + 1}, iteration {iteration}" if inside else ""

    def _inside(self, row: int, length: Length) -> bool:
        """Tells whether no iteration from this row to the next one ends an epoch."""
        return all(iteration % length.epoch for iteration in range(row, row + length.row))


class AtEnd(Moment):
    """After the last iteration: in the last picture, scores and checkpoint, or right after them."""

    def wait(self, training: Training, length: Length, start: int, random: Random) -> bool:
        """Waits for the last row of metrics, and in half of the cases for the last checkpoint."""
        path, last = training.folder / FOLDER / LAST, length.iterations
        if not self._until(training, lambda: training.training and training.row == last):
            return False
        if random.random() < 0.5:
            time.sleep(random.uniform(0, 0.4))
            return True
        before = path.stat().st_mtime_ns
        return self._until(training, lambda: path.stat().st_mtime_ns != before, pause=0.0005)

    def proof(self, training: Training, length: Length) -> str:
        """The last row is there; the status, which was not written, is the caller's."""
        return "after the last iteration" if training.row == length.iterations else ""


MOMENTS: dict[str, Moment] = {
    "checkpoint write": InWrite(),
    "within an epoch": InEpoch(),
    "before a checkpoint": BeforeCheckpoint(),
    "at the end": AtEnd(),
    "random": Moment(),
}
