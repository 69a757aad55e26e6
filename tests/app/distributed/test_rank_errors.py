"""Of all errors of a run's processes, the one that began it is told."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forger.app.distributed import rank_errors
from forger.errors import DataError

GLOO = RuntimeError("[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:46751")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_errors, "PATIENCE", 0.0)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.fixture
def as_rank_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretends that this process was started as rank 1."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(rank_errors.VARIABLE, f"{os.getppid()} {tmp_path}")
    return tmp_path


def finished(code: int) -> Any:
    return SimpleNamespace(poll=lambda: code)


RUNNING: Any = SimpleNamespace(poll=lambda: None)


@pytest.mark.parametrize(
    ("reason", "follows"),
    [
        ("RuntimeError: [/gloo/transport/tcp/pair.cc:545] Read error: Connection reset", True),
        ("RuntimeError: Connection closed by peer [127.0.0.1]:1", True),
        ("DistBackendError: NCCL error in: x.cpp:3, remote process exited", True),
        ("DistNetworkError: The client socket has timed out after 1800000ms", True),
        ("rank 2: RuntimeError: NCCL communicator was aborted on rank 2", True),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x2 and 3x1)", False),
        ("ValueError: no such gloo", False),
        ("the discriminator's loss is nan", False),
        ("OutOfMemoryError: CUDA out of memory", False),
    ],
)
def test_what_follows_from_anothers_end_is_told_from_its_own(reason: str, follows: bool) -> None:
    assert rank_errors.is_consequence(reason) is follows


def test_an_own_error_is_the_reason_whatever_others_say(tmp_path: Path) -> None:
    rank_errors.write_error(tmp_path, 1, ValueError("boom"))
    bug, mistake = KeyError("x"), DataError("data.root=x: no such folder")
    assert rank_errors.true_reason(bug, tmp_path, {1: finished(1)}) == "KeyError: 'x'"
    assert rank_errors.true_reason(mistake, tmp_path, {}) == "data.root=x: no such folder"


def test_a_dead_ranks_error_comes_before_the_collectives(tmp_path: Path) -> None:
    rank_errors.write_error(tmp_path, 1, GLOO)
    rank_errors.write_error(tmp_path, 2, DataError("a picture is damaged:\n\n  cat.png"))
    reason = rank_errors.true_reason(GLOO, tmp_path, {1: finished(1), 2: finished(2)})
    assert reason == "rank 2: a picture is damaged:\n\n  cat.png"


def test_a_killed_rank_comes_before_those_that_ended_because_of_it(tmp_path: Path) -> None:
    processes = {1: finished(1), 2: finished(-9), 3: RUNNING}
    reason = rank_errors.true_reason(GLOO, tmp_path, processes)
    assert reason.startswith("rank 2 was killed by SIGKILL")
    assert rank_errors.causes(tmp_path) == [reason]  # for the other ranks


def test_what_is_known_of_a_silent_rank_is_said(tmp_path: Path) -> None:
    reason = rank_errors.true_reason(GLOO, tmp_path, {1: RUNNING, 2: finished(3)})
    assert reason == "rank 2 ended with exit code 3; its output says why"
    assert rank_errors.true_reason(GLOO, tmp_path, {1: RUNNING}) == f"RuntimeError: {GLOO}"


def test_a_folder_that_takes_no_file_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "errors").write_text("a file in the way")
    assert not rank_errors.write_error(tmp_path, 1, ValueError("boom"))
    reason = rank_errors.true_reason(GLOO, tmp_path, {1: finished(-11)})
    assert reason == "rank 1 was killed by SIGSEGV"


def test_reasons_of_an_earlier_start_are_removed(tmp_path: Path) -> None:
    rank_errors.write_error(tmp_path, 1, ValueError("boom"))
    rank_errors.clear_reasons(tmp_path)
    assert rank_errors.causes(tmp_path) == []


def test_rank_0_and_lone_processes_keep_their_errors(tmp_path: Path) -> None:
    rank_errors.hand_over(ValueError("boom"))
    assert list(tmp_path.iterdir()) == []


def test_a_bug_of_another_rank_is_written_and_shown(as_rank_1: Path) -> None:
    rank_errors.hand_over(ValueError("boom"))
    assert rank_errors.causes(as_rank_1) == ["rank 1: ValueError: boom"]


def test_a_mistake_is_left_for_rank_0_to_show(as_rank_1: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        rank_errors.hand_over(DataError("no pictures"))
    assert ended.value.code == 2
    assert rank_errors.causes(as_rank_1) == ["rank 1: no pictures"]


def test_what_followed_from_anothers_end_is_not_shown_again(as_rank_1: Path) -> None:
    rank_errors.hand_over(GLOO)  # nothing explains it: to be shown
    rank_errors.write_error(as_rank_1, 0, ValueError("boom"))
    with pytest.raises(SystemExit):
        rank_errors.hand_over(GLOO)


def test_a_rank_left_alone_says_so(
    as_rank_1: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1_000_000)
    with pytest.raises(SystemExit):
        rank_errors.hand_over(GLOO)
    assert capsys.readouterr().err == "[rank 1] rank 0 is gone, so this one ends too\n"
    rank_errors.hand_over(DataError("no pictures"))  # returns: rank 0 cannot show it
