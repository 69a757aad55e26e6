"""A rank that dies ends the whole run, soon and with its own error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training import ROOT, run_folder, short

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
    """A training by two processes, in a session of its own so that both can be found."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        (folder / "bad.py").write_text(BAD)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PL_", "LOCAL_RANK"))}
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *two_processes(folder), *words],
                cwd=folder,
                env=own,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )

    def processes(self) -> list[Path]:
        """Those that are still running, as folders of /proc."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if session == str(self.process.pid) and state != "Z":
                found.append(path)
        return found

    def wait_for(self, true: Callable[[], object]) -> None:
        """Waits for something that the run does."""
        wait_until(lambda: true() or self.process.poll() is not None)
        assert true(), self.stderr()

    def kill(self, rank: int) -> float:
        """Kills a rank in the midst of training, and returns when."""
        self.wait_for(lambda: any((self.folder / "logs").rglob("metrics.csv")))
        time.sleep(0.5)
        wanted = f"LOCAL_RANK={rank}\0".encode()
        pids = [int(p.name) for p in self.processes() if wanted in (p / "environ").read_bytes()]
        os.kill(pids[0] if rank else self.process.pid, signal.SIGKILL)
        return time.time()

    def died(self) -> float:
        """Waits for the death of a rank that fails by itself, and returns when it was."""
        self.wait_for((self.folder / "died").exists)
        time.sleep(0.1)
        return float((self.folder / "died").read_text())

    def end(self, since: float) -> float:
        """Waits for the end of all processes, and returns the seconds that it took."""
        wait_until(lambda: self.process.poll() is not None and not self.processes())
        return time.time() - since

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((run_folder(self.folder) / "status.json").read_text())
        return content


def two_processes(folder: Path) -> list[str]:
    words = [word for word in short(folder, steps=100_000) if word != "trainer=cpu"]
    return [*words, "trainer=ddp_cpu", "trainer.threads=1", "metrics=none"]


def wait_until(true: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


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
        for path in run.processes():
            os.kill(int(path.name), signal.SIGKILL)
        run.process.wait()


def test_an_error_of_another_rank_ends_the_run_as_its_reason(start: Callable[..., Run]) -> None:
    run = start("+callbacks.bad._target_=bad.AtIteration")
    assert run.end(run.died()) < LIMIT
    assert run.process.returncode == 1
    assert run.stderr().splitlines()[-1] == "error: rank 1: ValueError: boom"
    assert run.stderr().count("Traceback") == 1
    assert "gloo" not in run.stderr()
    status = run.status()
    assert (status["status"], status["reason"]) == ("failed", "rank 1: ValueError: boom")
    told = (run_folder(run.folder) / "errors" / "rank_1.txt").read_text()
    assert told.startswith("rank 1: ValueError: boom\n")
    assert "in die" in told


@pytest.mark.slow
def test_a_killed_rank_ends_the_run(start: Callable[..., Run]) -> None:
    run = start()
    assert run.end(run.kill(1)) < LIMIT
    assert run.process.returncode == 1
    assert run.stderr().startswith("error: rank 1 was killed by SIGKILL")
    assert len(run.stderr().splitlines()) == 1
    status = run.status()
    assert status["status"] == "failed"
    assert status["reason"].startswith("rank 1 was killed by SIGKILL")


@pytest.mark.slow
def test_no_rank_outlives_rank_0(start: Callable[..., Run]) -> None:
    run = start()
    assert run.end(run.kill(0)) < LIMIT
    assert run.stderr() == "[rank 1] rank 0 is gone, so this one ends too\n"


@pytest.mark.slow
def test_no_rank_outlives_rank_0_while_it_is_busy(start: Callable[..., Run]) -> None:
    """No collective fails here: rank 1 has to look."""
    run = start("+callbacks.bad={_target_: bad.AtIteration, rank: 0, busy: 1}")
    assert run.end(run.died()) < LIMIT
    assert run.status()["reason"] == "ValueError: boom"


@pytest.mark.slow
def test_a_rank_that_dies_before_the_processes_meet_ends_the_run(start: Callable[..., Run]) -> None:
    run = start("+callbacks.bad._target_=bad.AtStart")
    assert run.end(run.died()) < LIMIT
    assert run.process.returncode == 1
    assert run.stderr().count("Traceback") == 2  # boom, and Hydra's of what it was building
    status = run.status()
    assert status["status"] == "failed"
    assert status["reason"].startswith("rank 1: ")
    assert "boom" in status["reason"]


@pytest.mark.slow
def test_a_busy_rank_0_is_ended_too(start: Callable[..., Run]) -> None:
    """Here, too, no collective fails, and the main thread cannot end by itself."""
    run = start("+callbacks.bad={_target_: bad.AtIteration, busy: 0}")
    assert run.end(run.died()) < LIMIT
    assert run.process.returncode == 1
    assert run.stderr().splitlines()[-1] == "error: rank 1: ValueError: boom"
    assert run.status()["reason"] == "rank 1: ValueError: boom"
