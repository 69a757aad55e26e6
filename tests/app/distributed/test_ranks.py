"""The processes of a run watch one another, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forger.app.distributed import rank_errors, ranks
from forger.errors import RunError

GLOO = RuntimeError("[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:46751")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_errors, "PATIENCE", 0.0)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_process_that_heeds_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "TERMINATING", 0.2)
    with python(STUBBORN) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ranks.end({1: process}, patience=0.1)
        assert process.returncode == -signal.SIGKILL


def test_processes_that_end_by_themselves_are_left_to_it() -> None:
    with python("import time; time.sleep(0.5)") as process:
        ranks.end({1: process}, patience=30)
        assert process.returncode == 0


def fake_trainer(world_size: int = 2, processes: tuple[Any, ...] = ()) -> Any:
    launcher = SimpleNamespace(procs=list(processes))
    strategy = SimpleNamespace(launcher=launcher)
    return SimpleNamespace(world_size=world_size, global_rank=0, strategy=strategy)


def test_a_rank_that_ends_badly_after_training_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while trackers upload, for minutes."""
    monkeypatch.setattr(ranks, "POLL", 0.05)
    monkeypatch.setattr(ranks, "START_GRACE", 0.1)
    monkeypatch.setattr(ranks, "_end_by_force", lambda *_, **__: deaths.append("by force"))
    deaths: list[str] = []
    with (
        python("input()") as process,
        ranks.watched(tmp_path, fake_trainer(processes=(process,)), deaths.append) as no_more,
    ):
        no_more()
        process.kill()
        process.wait()
        time.sleep(0.5)
    assert not deaths


def fail(error: Exception, told: str | None) -> None:
    """Raises the error where the processes to be started are told so much."""
    assert os.environ.get(rank_errors.VARIABLE) == told
    raise error


def test_one_process_alone_is_left_alone(tmp_path: Path) -> None:
    trainer = fake_trainer(world_size=1)
    with (
        pytest.raises(ValueError, match="boom"),
        ranks.watched(tmp_path, trainer, print),
        ranks.explained(tmp_path, trainer),
    ):
        fail(ValueError("boom"), None)
    assert list(tmp_path.iterdir()) == []


def test_the_failed_collective_becomes_the_dead_ranks_error(tmp_path: Path) -> None:
    with python("import sys; sys.exit(3)") as process:
        process.wait()
        trainer = fake_trainer(processes=(process,))
        with (
            pytest.raises(RunError, match="rank 1 ended with exit code 3") as caught,
            ranks.watched(tmp_path, trainer, print),
            ranks.explained(tmp_path, trainer),
        ):
            fail(GLOO, f"{os.getpid()} {tmp_path}")
    assert caught.value.exit_code == 1
    assert caught.value.__cause__ is GLOO
    assert rank_errors.VARIABLE not in os.environ


def test_an_own_error_is_written_for_the_other_ranks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"), ranks.explained(tmp_path, fake_trainer()):
        raise ValueError("boom")
    assert rank_errors.causes(tmp_path) == ["rank 0: ValueError: boom"]
