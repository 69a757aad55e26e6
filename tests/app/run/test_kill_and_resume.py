"""The short form of benchmarks/kill_and_resume.py, and what its comparison sees."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training import ROOT

PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def kill_and_resume(folder: Path, *arguments: str) -> str:
    """Runs the script, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "benchmarks/kill_and_resume.py", "--folder", str(folder), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@PROC
@pytest.mark.slow
def test_a_run_killed_anywhere_ends_with_the_same_bits(tmp_path: Path) -> None:
    printed = kill_and_resume(tmp_path, "--kills", "6", "--models", "vanilla", "dcgan")
    assert "6 of 6 identical" in printed
    for kind in ("checkpoint write", "within an epoch", "before a checkpoint", "at the end"):
        assert f"1 {kind}" in printed


@PROC
@pytest.mark.slow
def test_so_does_a_run_of_two_processes_killed_together_or_one_by_one(tmp_path: Path) -> None:
    arguments = ("--kills", "2", "--models", "vanilla", "--processes", "2", "--workers", "1")
    assert "2 of 2 identical" in kill_and_resume(tmp_path, *arguments)


@pytest.fixture(scope="module")
def differences() -> Callable[[Path, Path], list[str]]:
    path = ROOT / "benchmarks" / "run_difference.py"
    spec = importlib.util.spec_from_file_location("run_difference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compare: Callable[[Path, Path], list[str]] = module.differences
    return compare


def content(**more: Any) -> dict[str, Any]:
    weights = {"weight": torch.tensor([0.0, 1.0, float("nan")])}
    return {"state_dict": weights, "optimizer_states": [{"step": 3}], "commit": "a"} | more


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of runs that made the same, at another pace."""
    for name, pace in (("run", 5.0), ("reference", 7.0)):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        torch.save(content(commit=name), folder / "checkpoints" / "last.ckpt")
        (folder / "last.png").write_bytes(b"picture")
        rows = f"step,train/loss_g,train/images_per_second\n1,0.5,{pace}\n2,0.25,{pace}\n"
        (folder / "metrics.csv").write_text(rows)
    (tmp_path / "run" / "resumes.json").write_text("{}")
    return tmp_path / "run", tmp_path / "reference"


def test_the_pace_may_differ(differences: Any, pair: tuple[Path, Path]) -> None:
    assert differences(*pair) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"state_dict": {"weight": torch.tensor([-0.0, 1.0, float("nan")])}},
            "state_dict.weight: other bits in 1 of 3",
        ),
        ({"state_dict": {"weight": torch.zeros(3).double()}}, "state_dict.weight: torch.float64"),
        ({"state_dict": {}}, "state_dict.weight: missing"),
        ({"optimizer_states": [{"step": 3.0}]}, "optimizer_states[0].step: float for int"),
        ({"optimizer_states": [{"step": 4}]}, "optimizer_states[0].step: 4 for 3"),
        ({"optimizer_states": []}, "optimizer_states: 0 entries for 1"),
        ({"more": 1}, "more: not in the reference"),
    ],
)
def test_any_other_content_of_a_checkpoint_is_told(
    changed: dict[str, Any], told: str, differences: Any, pair: tuple[Path, Path]
) -> None:
    torch.save(content(**changed), pair[0] / "checkpoints" / "last.ckpt")
    (line,) = differences(*pair)
    assert line.startswith(f"last.ckpt: {told}")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("1,0.5,5\n2,0.2500001,5\n", "train/loss_g of step 2 is 0.2500001 for 0.25"),
        ("1,0.5,5\n", "rows too many: [], missing: ['2']"),
        ("1,0.5,5\n2,0.25,5\n2,0.25,5\n", "rows too many: ['2'], missing: []"),
    ],
)
def test_any_other_row_is_told(
    rows: str, told: str, differences: Any, pair: tuple[Path, Path]
) -> None:
    (pair[0] / "metrics.csv").write_text(f"step,train/loss_g,train/images_per_second\n{rows}")
    assert differences(*pair) == [f"metrics.csv: {told}"]


def test_other_pictures_and_files_are_told(differences: Any, pair: tuple[Path, Path]) -> None:
    (pair[0] / "last.png").write_bytes(b"another")
    (pair[0] / ".status.json.tmp").touch()
    shutil.rmtree(pair[0] / "checkpoints")
    assert differences(*pair) == [
        ".status.json.tmp: is there, and not in the reference",
        "checkpoints/last.ckpt: missing",
        "last.png: other bytes",
    ]
