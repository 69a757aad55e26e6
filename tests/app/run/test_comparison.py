"""How runs that are compared are told apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from forger.app.run.tables import compare, differing


def run(folder: Path, choices: dict[str, str], **settings: Any) -> Any:
    folder.mkdir()
    (folder / "environment.json").write_text(json.dumps({"choices": choices}))
    return SimpleNamespace(folder=folder, cfg=OmegaConf.create({"seed": 0} | settings))


def test_a_choice_stands_for_the_settings_below_it(tmp_path: Path) -> None:
    mlp = {"generator": {"_target_": "mlp.Generator", "hidden": [1]}, "ema_decay": 0.9}
    dcgan = {"generator": {"_target_": "dcgan.Generator", "width": 8}, "ema_decay": 0.5}
    runs = [
        run(tmp_path / "a", {"model": "vanilla", "loss": "hinge"}, model=mlp, name="x"),
        run(tmp_path / "b", {"model": "dcgan", "loss": "hinge"}, model=dcgan, name="y"),
    ]
    assert differing(runs) == [{"model": "vanilla"}, {"model": "dcgan"}]


def test_a_shared_setting_stands_for_those_that_take_it(tmp_path: Path) -> None:
    def with_rates(lr: float, of_d: float) -> Any:
        optimizer = {"lr": lr, "generator": {"lr": lr}, "discriminator": {"lr": of_d}}
        return run(tmp_path / f"{lr}-{of_d}", {}, optimizer=optimizer)

    shared = differing([with_rates(0.1, 0.1), with_rates(0.2, 0.2)])
    assert shared == [{"optimizer.lr": "0.1"}, {"optimizer.lr": "0.2"}]
    key = "optimizer.discriminator.lr"
    assert differing([with_rates(0.1, 0.3), with_rates(0.1, 0.4)]) == [{key: "0.3"}, {key: "0.4"}]


def test_without_its_record_a_run_is_told_apart_by_its_settings(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(decay), {}, model={"ema_decay": decay}) for decay in (0.1, 0.2)]
    (runs[0].folder / "environment.json").write_text('{"choices": 3}')
    (runs[1].folder / "environment.json").unlink()
    assert differing(runs) == [{"model.ema_decay": "0.1"}, {"model.ema_decay": "0.2"}]


def test_runs_that_differ_in_their_seed_alone_have_a_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(tmp_path / f"s{seed}", {}, seed=seed) for seed in (0, 1)]
    runs.append(run(tmp_path / "other", {"loss": "hinge"}))
    protocol = {"extractor": {"fingerprint": "a"}, "data": {"hash": "b"}}
    protocol |= {part: {"count": 10} for part in ("generated", "reference")}
    records: list[dict[str, Any]] = [
        {"scores": {"fid": fid, "kid": 0.5}, "protocol": protocol} for fid in (80.0, 84.25, 90.0)
    ]
    page, table = compare(runs, records)
    assert "| - | 2 seeds | 82.12 ± 3 | 0.5 ± 0 | mean ± std |" in page.read_text()
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["loss", "seed", "fid", "kid", "run"]
    assert rows[2] == ["-", "1", "84.25", "0.5", str(tmp_path / "s1")]
    assert [row[1] for row in rows[1:]] == ["0", "1", "0"]
    told = capsys.readouterr().out
    assert told.count("82.12 ± 3") == told.count("mean ± std") == 1
    assert "NOT COMPARABLE" not in told
    records[0]["protocol"] = protocol | {"data": {"hash": "c"}}
    compare(runs, records)
    assert "NOT COMPARABLE: these runs were scored with different data" in capsys.readouterr().out
