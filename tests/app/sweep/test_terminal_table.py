from __future__ import annotations

from pathlib import Path

import pytest
from sweep_folders import job

from forger.app.sweep import report, terminal_table


def test_everything_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    jobs = [
        job(tmp_path, 0, "loss=[bold]a", "seed=0", scores=[90]),
        job(tmp_path, 1, "loss=[bold]a", "seed=1", scores=[94]),
        job(tmp_path, 2, "loss=b", "seed=0", status="failed", reason="diverged\nat 3"),
        job(tmp_path, 3, "loss=b", "seed=1", scores=[80]),
    ]
    text = terminal_table.render(report.write(tmp_path, jobs), 80)
    assert "\x1b" not in text
    assert "3 of 4 jobs finished" in text
    assert text.index("loss=b") < text.index("loss=[bold]a")
    assert "92 ± 2.8" in text
    assert f"#2 loss=b seed=0: failed after 12 s\n  diverged\n  {tmp_path / '2'}\n" in text
    for name in ("sweep.csv", "sweep.md", "samples.png", "scores.png"):
        assert f"  {tmp_path / name}\n" in text


def test_long_overrides_are_folded_and_whole(tmp_path: Path) -> None:
    long = "+callbacks.progress.refresh_every_n_iterations=" + "9" * 60
    words = [long, "model.generator.width=128", "optimizer.generator.lr=0.0002"]
    jobs = [
        job(tmp_path, 0, *words, "seed=0", scores=[123.4]),
        job(tmp_path, 1, "seed=0", scores=[234.56]),
    ]
    found = report.write(tmp_path, jobs)
    table = terminal_table.render(found, 80).partition("written")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    folded = "".join(line.strip().split("  ")[0] for line in table.splitlines())
    assert long in folded
    assert "123.4" in table


def test_the_best_settings_stay_in_sight(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"x={n}", scores=[100 - n]) for n in range(40)]
    text = terminal_table.render(report.write(tmp_path, jobs), 80)
    assert "x=39 " in text
    assert "x=9 " not in text
    assert "and 10 more settings" in text
