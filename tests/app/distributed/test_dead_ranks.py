"""A rank that dies ends the whole run, soon and with its own error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from training import ROOT, run_folder
from two_processes import is_training, status, two, until

LIMIT = 30.0  # seconds from a death to the end of the last process

BAD = """
import os, pathlib, time
from lightning import Callback

def die():
    pathlib.Path("died").write_text(str(time.time()))
    raise ValueError("boom")

class AtIteration(Callback):
    def __init__(self, rank=1, busy=None):
        self.rank, self.busy = rank, busy

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 3 and trainer.global_rank == self.rank:
            die()
        if trainer.global_step == 3 and trainer.global_rank == self.busy:
            time.sleep(120)

class AtStart(Callback):
    def __init__(self):
        if os.environ.get("LOCAL_RANK") == "1":
            die()
"""


class Run:
    """A training by two processes, all of which bear a mark in their environment."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self._mark = folder, f"FORGER_TEST={folder}"
        (folder / "bad.py").write_text(BAD)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PL_", "LOCAL_RANK"))}
        with (folder / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *two(folder, *words)],
                cwd=folder,
                env=own | {"FORGER_TEST": str(folder)},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def processes(self) -> dict[int, int | None]:
        """Those that are still running, by number, each with its rank; the launcher has none."""
        found: dict[int, int | None] = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = path.read_bytes().decode().split("\0")
            except OSError:
                continue
            if self._mark in variables:  # there is nothing to read of one that only awaits burial
                ranks = [v[len("LOCAL_RANK=") :] for v in variables if v.startswith("LOCAL_RANK=")]
                found[int(path.parent.name)] = int(ranks[0]) if ranks else None
        return found

    def wait_for(self, true: Callable[[], object]) -> None:
        until(lambda: true() or self.process.poll() is not None)
        assert true(), self.stderr()

    def kill(self, rank: int | None) -> float:
        """Kills a rank, or the launcher, in the midst of training, and returns when."""
        self.wait_for(lambda: is_training(self.folder))
        time.sleep(0.5)
        (process,) = (number for number, own in self.processes().items() if own == rank)
        os.kill(process, signal.SIGKILL)
        return time.time()

    def died(self) -> float:
        """Waits for the death of a rank that fails by itself, and returns when it was."""
        self.wait_for((self.folder / "died").exists)
        time.sleep(0.1)
        return float((self.folder / "died").read_text())

    def ends_in_time(self, since: float) -> bool:
        """Waits for the end of all processes."""
        until(lambda: self.process.poll() is not None and not self.processes())
        return time.time() - since < LIMIT

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def ending(self) -> tuple[int | None, str, str]:
        """Exit code, status and reason."""
        said = status(self.folder)
        return self.process.returncode, said["status"], said["reason"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs, and ends what they leave."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc, which only Linux has")
    runs: list[Run] = []

    def begin(*words: str) -> Run:
        runs.append(Run(tmp_path, *words))
        return runs[-1]

    yield begin
    for run in runs:
        for process in run.processes():
            os.kill(process, signal.SIGKILL)
        run.process.wait()


def test_an_error_of_another_rank_ends_the_run_as_its_reason(start: Callable[..., Run]) -> None:
    run = start("+callbacks.bad._target_=bad.AtIteration")
    assert run.ends_in_time(run.died())
    assert run.ending() == (1, "failed", "rank 1: ValueError: boom")
    assert run.stderr().splitlines()[-1] == "error: rank 1: ValueError: boom"
    assert run.stderr().count("Traceback") == 1
    assert "gloo" not in run.stderr()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run(rank: int, start: Callable[..., Run]) -> None:
    run = start()
    assert run.ends_in_time(run.kill(rank))
    line = run.stderr().splitlines()[-1]
    assert line.startswith(f"error: rank {rank} was killed by SIGKILL")
    assert run.ending() == (1, "failed", line.removeprefix("error: "))


@pytest.mark.slow
def test_no_rank_outlives_the_process_that_started_it(start: Callable[..., Run]) -> None:
    run = start()
    assert run.ends_in_time(run.kill(None))
    assert run.ending()[1:] == ("interrupted", "SIGTERM")


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "busy"), [(0, 1), (1, 0)])
def test_a_busy_rank_is_ended_too(rank: int, busy: int, start: Callable[..., Run]) -> None:
    """No collective fails here: the busy one has to look."""
    run = start(f"+callbacks.bad={{_target_: bad.AtIteration, rank: {rank}, busy: {busy}}}")
    assert run.ends_in_time(run.died())
    reason = "rank 1: ValueError: boom" if rank else "ValueError: boom"
    assert run.ending() == (1, "failed", reason)
    assert run.stderr().splitlines()[-1] == f"error: {reason}"


@pytest.mark.slow
def test_a_rank_that_dies_before_the_processes_meet_ends_the_run(start: Callable[..., Run]) -> None:
    run = start("+callbacks.bad._target_=bad.AtStart")
    assert run.ends_in_time(run.died())
    assert run.process.returncode == 2  # as of one process alone
    assert run.stderr().startswith("error: rank 1: callbacks.bad: ")
    assert "ValueError: boom" in run.stderr()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "cause", "code"),
    [
        ([signal.SIGINT], "Ctrl-C", 130),
        ([signal.SIGINT, signal.SIGINT], "Ctrl-C", 130),
        ([signal.SIGTERM], "SIGTERM", 143),
        ([signal.SIGUSR1], "SIGUSR1", 138),
    ],
)
def test_signals_interrupt_all_ranks(
    signals: list[int], cause: str, code: int, start: Callable[..., Run]
) -> None:
    """Saved, but at a second Ctrl-C, which ends them at once."""
    run = start()
    run.wait_for(lambda: is_training(run.folder))
    for number in signals:
        time.sleep(0.5)
        run.process.send_signal(number)
    run.ends_in_time(time.time())
    assert run.ending() == (code, "interrupted", cause)
    assert run.stderr().splitlines()[-1] == f"interrupted by {cause}"
    assert "Traceback" not in run.stderr()
    saved = (run_folder(run.folder) / "checkpoints" / "last.ckpt").is_file()
    assert saved == (len(signals) == 1)
