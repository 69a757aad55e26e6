from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composing import CONFIGS
from omegaconf import DictConfig
from reported import COMMAND, SCORES, read_page, write_run, write_sweep
from training import short

from forger.app.cli import job, main
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes
from forger.app.report import write
from forger.errors import DivergedError, Interrupted

Type = Callable[..., int]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Types a command in a folder of its own, and returns its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(script: str, *words: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
        try:
            main.run(script, CONFIGS)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield run
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):  # of a run's log
            handler.close()


def work_that(ends: BaseException | None) -> Callable[..., None]:
    """Returns what writes a run's folder, and ends so, in place of a training."""

    def work(script: str, cfg: DictConfig, agreed: Any) -> None:
        folder = Path(str(agreed.config.hydra.run.dir))
        write_run(folder, status="finished" if ends is None else "failed", reason=str(ends))
        if ends is not None:
            raise ends

    return work


@pytest.mark.parametrize(
    ("ends", "code"),
    [(None, 0), (DivergedError("loss_d is nan"), 1), (Interrupted(15), 143), (OSError("bug"), 1)],
)
def test_a_run_leaves_a_report_however_it_ends(
    ends: BaseException | None,
    code: int,
    typed: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "work", work_that(ends))
    assert typed("train", *short(tmp_path)) == code
    (report,) = tmp_path.rglob("report.html")
    assert ("finished" if ends is None else "failed") in read_page(report.read_text()).text


@pytest.mark.parametrize(("word", "count"), [("report=true", 1), ("report=false", 0)])
def test_a_sweep_that_is_stopped_leaves_one_too(
    word: str, count: int, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(arguments: list[str]) -> None:
        write_sweep(tmp_path / "sweep", {0: ("seed=0",), 1: ("seed=1",)})
        raise Interrupted(15)

    sweeper = SimpleNamespace(instantiate_sweeper=lambda **_: SimpleNamespace(sweep=sweep))
    monkeypatch.setattr(main, "Plugins", SimpleNamespace(instance=lambda: sweeper))
    assert typed("train", "-m", "seed=0,1", "hydra.sweep.dir=sweep", word) == 143
    reports = [path for path in [tmp_path / "sweep" / "report.html"] if path.exists()]
    assert [read_page(one.read_text()).problems for one in reports] == [[]] * count


@pytest.mark.parametrize("word", ["report=false", "dry_run=true"])
def test_none_is_written_where_none_is_wanted(
    word: str, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "work", work_that(None))
    assert typed("train", *short(tmp_path, word)) == 0
    assert list(tmp_path.rglob("report.html")) == []


def test_one_that_is_there_shows_later_scores(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path / name) for name in ("shown", "not")]

    def evaluate(cfg: DictConfig, on_scored: Callable[[Path], None]) -> None:
        for run in runs:
            (run / "scores.json").write_text(json.dumps(SCORES))
            on_scored(run)

    monkeypatch.setattr("forger.app.run.evaluate.evaluate", evaluate)
    for run in runs:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").touch()
    write.write_at_end(runs[0], COMMAND)
    assert typed("evaluate", f"run=[{runs[0]},{runs[1]}]") == 0
    assert "12.25 ± 0.5" in read_page((runs[0] / "report.html").read_text()).text
    assert not (runs[1] / "report.html").exists()


def test_one_that_cannot_be_written_ends_no_run(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forger.app.report.page.write_whole", full)
    run = write_run(tmp_path / "run")
    write.write_at_end(run, COMMAND)
    assert "the report is not written: [Errno 28] No space left" in caplog.text
    write.write_at_end(tmp_path, COMMAND)  # where nothing began
    assert list(tmp_path.rglob("*.html")) == []


def test_a_file_of_the_users_own_is_kept(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    typed: Type,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path / "run")
    mine = run / "report.html"
    mine.write_text("my notes")
    write.write_at_end(run, COMMAND)
    assert mine.read_text() == "my notes"
    assert "is no report, and would be lost" in caplog.text
    for words, told in (
        ([], "error: run/report.html: is no report, and would be lost; write output=<file>\n"),
        ([f"output={run}"], f"output={run}: is a folder; write output=<file>.html\n"),
        (["output=run/status.json"], "output=run/status.json: is no report, and would be lost"),
    ):
        assert typed("report", "run=run", *words) == 2
        assert told in capsys.readouterr().err
    assert typed("report", "run=run", "output=new/x.html") == 0
    assert typed("report", "run=run", "output=new/x.html") == 0, "an earlier one is replaced"
    assert (tmp_path / "new" / "x.html").is_file()


def test_reports_by_command(typed: Type, tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / "runs" / name) for name in ("a", "b"))
    sweep = write_sweep(tmp_path / "sweep", {0: ("seed=0",), 1: ("seed=1",)})
    assert typed("report", f"run={one}") == 0
    assert typed("report", f"run={sweep}") == 0
    assert typed("report", f"run=[{one},{other}]") == 0
    for file in (one / "report.html", sweep / "report.html", tmp_path / "runs/comparison.html"):
        assert read_page(file.read_text()).problems == []
    (sweep / "sweep.json").write_text('{"jobs": 3}')
    assert typed("report", f"run={sweep}") == 2


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("no", "run=no: there is no such folder"),
        ("rum", "run=rum: there is no such folder; did you mean 'run'?"),
        ("empty", "run=empty: is no folder of a run or a sweep; write run=<run folder>"),
        ("[]", "run=[]: must name a run; write run=<run folder>"),
        ("[run,run]", "run=[run,run]: names a run twice"),
        ("[run,sweep]", "sweep: is a sweep; write run=<sweep>, or name its runs"),
    ],
)
def test_refusals(run: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    write_sweep(tmp_path / "sweep", {})
    (tmp_path / "empty").mkdir()
    command = Command(CONFIGS, "report", (f"run={run}",), script="report")
    (problem,) = find_mistakes(command)
    assert told in problem
