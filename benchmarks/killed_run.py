"""One run that is killed, resumed and compared with one that was left alone.

When it is killed is in `kill_moments`, what is compared in `run_difference`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from kill_moments import MOMENTS, Length
from run_difference import differences
from training_process import Training

from forger.app.run.folder import read_status
from forger.checkpoints.reading import newest_checkpoint


class Planned(NamedTuple):
    """A kill to be: one of `MOMENTS`, and `all`, `launcher`, `rank 0` or `rank 1`."""

    kind: str
    who: str


@dataclass
class Kill:
    """A kill that was.

    Attributes:
        run: name of the run.
        plan: what it was to be.
        who: was killed.
        row: last row of metrics.
        proof: that the moment was hit; empty: it was missed, and this is one more kill.
        resumed_from: iteration of the checkpoint that was there.
        faults: of the whole run; it is shared with the run's other kills.
    """

    run: str
    plan: Planned
    who: str
    row: int
    proof: str
    resumed_from: int
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kind = self.plan.kind if self.who == "all" else f"{self.plan.kind} ({self.who})"
        proof = self.proof or "missed, so one more"
        result = "; ".join(self.faults) or "identical"
        return f"{self.run:<22}{kind:<28}{self.row:>5}{self.resumed_from:>8}  {proof:<40}{result}"


class KilledRun:
    """A run that is trained, killed some times, and compared with one that was left alone.

    Args:
        overrides: of the command that trains it, without its folder.
        folder: of the run, not there yet.
        reference: folder of the run that was left alone.
        length: of that run.
        random: what is drawn from.

    Attributes:
        kills: in which there was something to resume.
        faults: what went wrong.
        nothing_there: kills before there was anything to resume.
    """

    def __init__(
        self, overrides: list[str], folder: Path, reference: Path, length: Length, random: Random
    ) -> None:
        self.overrides, self.folder, self.reference = overrides, folder, reference
        self.length, self.random = length, random
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self.nothing_there = 0
        self._iteration = 0  # of the checkpoint that the present process started from
        self._begin()

    def kill(self, plans: list[Planned]) -> list[Planned]:
        """Kills it as planned, and returns the plans that it ended too early for."""
        left, later = list(plans), []
        while left and not self.faults:
            if left[0].kind == "before a checkpoint" and self._iteration > 0:
                later.append(left.pop(0))
                continue
            killed = self._kill(left[0])
            if killed is None:
                break
            self.kills.append(killed)
            if killed.proof:
                left.pop(0)
            self._train(f"resume={self.folder}")
        return [*left, *later]

    def finish(self) -> None:
        """Waits for its end, compares, and removes it unless something is wrong."""
        code = self._training.wait()
        if _status(self.folder) != "finished":
            lines = self._training.output.read_text(errors="replace").splitlines()[-8:]
            self.faults.append(f"ended with code {code}: {' / '.join(lines)}")
        if not self.faults:
            self.faults += self._wrong_start()
            self.faults += differences(self.folder, self.reference)
        if not self.faults:
            shutil.rmtree(self.folder)

    def _kill(self, plan: Planned) -> Kill | None:
        """Kills it once there is something to resume; `None`: it ended before its moment."""
        moment = MOMENTS[plan.kind]
        while moment.wait(self._training, self.length, self._iteration, self.random):
            who, fault = self._training.kill(plan.who)
            status = _status(self.folder)
            if status == "finished":
                return None
            if (self.folder / "config.yaml").is_file():
                break
            self.nothing_there += 1
            shutil.rmtree(self.folder, ignore_errors=True)
            self._begin()
        else:
            return None
        self.faults += [fault] if fault else []
        wanted = ("interrupted",) if who == "all" else ("interrupted", "failed")
        if (self.folder / "status.json").exists() and status not in wanted:
            self.faults.append(f"its status reads as {status}")
        found = newest_checkpoint(self.folder)
        self._iteration = 0 if found is None else int(found[1]["global_step"])
        proof, row = moment.proof(self._training, self.length), self._training.row
        return Kill(self.folder.name, plan, who, row, proof, self._iteration, self.faults)

    def _begin(self) -> None:
        self._train(*self.overrides, f"hydra.run.dir={self.folder}")

    def _train(self, *overrides: str) -> None:
        output = self.folder.parent / f"{self.folder.name}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        self._training = Training(list(overrides), self.folder, output)

    def _wrong_start(self) -> list[str]:
        path = self.folder / "resumes.json"
        if not self.kills or self._iteration == self.length.iterations:
            return []  # then there was nothing left to train, and so nothing to record
        began = json.loads(path.read_text())["resumes"][-1]["iteration"]
        wanted = self._iteration
        return [] if began == wanted else [f"went on from {began}, not from {wanted}"]


def _status(folder: Path) -> str | None:
    status = read_status(folder)
    return None if status is None else str(status["status"])
