"""`python train.py` in processes of its own, to be killed. Owns them, not when they are killed.

Needs Linux: the processes of a run are found in `/proc`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from forger.checkpoints import FOLDER

ROOT = Path(__file__).parents[1]
_ENDING = 60.0  # seconds in which the other processes of a killed run must end


class Training:
    """`python train.py` in a session of its own.

    Args:
        words: of the command.
        folder: of the run.
        output: file that takes what it prints.
    """

    def __init__(self, words: list[str], folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        foreign = ("PL_", "LOCAL_RANK", "MASTER_", "NODE_RANK", "WORLD_SIZE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *words],
                cwd=output.parent,
                env=own | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self) -> int:
        """Returns the exit code once it has ended."""
        return self._process.wait()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def training(self) -> bool:
        """Whether it has begun to train: the status is its own."""
        try:
            status = json.loads((self.folder / "status.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(status["pid"] == self.pid)

    @property
    def row(self) -> int:
        """The iteration of the last whole row of `metrics.csv`; 0: there is none."""
        try:
            lines = (self.folder / "metrics.csv").read_bytes().split(b"\n")[:-1]
        except OSError:
            return 0
        return int(lines[-1].partition(b",")[0]) if len(lines) > 1 else 0

    def unfinished_checkpoints(self) -> list[Path]:
        """Returns the checkpoint that it is writing, if any."""
        return sorted((self.folder / FOLDER).glob(f".*.ckpt.*.{self.pid}.*.tmp"))

    def kill(self, who: str) -> tuple[str, str]:
        """Kills it without a warning, and waits until all its processes have ended.

        Args:
            who: `all`, `rank 0` or `rank 1`; all, where there is no rank 1.

        Returns:
            Who was killed, and what went wrong, if anything.
        """
        others = [pid for pid in self._processes() if pid != self.pid] if who != "all" else []
        if others:
            os.kill(self.pid if who == "rank 0" else others[0], signal.SIGKILL)
        else:
            who = "all"
            self._kill_all()
        until = time.monotonic() + _ENDING
        while not self.ended or self._processes():
            if time.monotonic() > until:
                left = [f"rank {int(pid != self.pid)}" for pid in self._processes()]
                self._kill_all()
                self.wait()
                return who, f"{who} was killed, and {' and '.join(left)} ran on for {_ENDING:.0f} s"
            time.sleep(0.05)
        return who, ""

    def _kill_all(self) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.pid, signal.SIGKILL)

    def _processes(self) -> list[int]:
        """Returns those of the run's processes that live; one that is only unburied does not."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.pid and state not in "ZX":
                found.append(int(path.parent.name))
        return found
