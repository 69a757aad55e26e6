"""Starts `python train.py`, and kills its processes.

Needs Linux: the processes of a run are found in `/proc`.
"""

from __future__ import annotations

import json
import os
import secrets
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
    """`python train.py`, all processes of which bear a mark in their environment.

    Args:
        overrides: of the command.
        folder: of the run.
        output: file that takes what it prints.
    """

    def __init__(self, overrides: list[str], folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        self._mark = f"FORGER_BENCHMARK={secrets.token_hex(8)}"
        foreign = ("PL_", "LOCAL_RANK", "MASTER_", "NODE_RANK", "WORLD_SIZE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        name, _, mark = self._mark.partition("=")
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *overrides],
                cwd=output.parent,
                env=own | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", name: mark},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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
        return int(status["pid"]) in self._processes()

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
        return sorted((self.folder / FOLDER).glob(".*.ckpt.*.tmp"))

    def kill(self, who: str) -> tuple[str, str]:
        """Kills it without a warning, and waits until all its processes have ended.

        Args:
            who: `all`, `launcher`, `rank 0` or `rank 1`; all, where there is no such process.

        Returns:
            Who was killed, and what went wrong, if anything.
        """
        known = self._processes()
        named = {name: process for process, name in known.items()}
        if who in named and len(named) > 1:
            os.kill(named[who], signal.SIGKILL)
        else:
            who = "all"
            self._kill_all()
        until = time.monotonic() + _ENDING
        while not self.ended or self._processes() or any(map(_lives, known)):
            if time.monotonic() > until:
                left = sorted(self._processes().values())
                self._kill_all()
                self.wait()
                return who, f"{who} was killed, and {' and '.join(left)} ran on for {_ENDING:.0f} s"
            time.sleep(0.05)
        return who, ""

    def _kill_all(self) -> None:
        for process in self._processes():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process, signal.SIGKILL)

    def _processes(self) -> dict[int, str]:
        """Returns those of the run's processes that live, by number: `launcher`, `rank 0` ...

        Of one that only awaits burial there is nothing to read.
        """
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if self._mark in variables:
                ranks = [v.partition("=")[2] for v in variables if v.startswith("LOCAL_RANK=")]
                found[int(path.parent.name)] = f"rank {ranks[0]}" if ranks else "launcher"
        return found


def _lives(process: int) -> bool:
    """Tells whether a process may still hold a lock: one that ends lets go of its memory first."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
