"""The short form of benchmarks/kill_and_resume.py, and what its comparison sees."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import ROOT

PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def kill_and_resume(folder: Path, arguments: str) -> str:
    """Runs the script, and returns what it printed."""
    command = [sys.executable, "benchmarks/kill_and_resume.py", "--folder", str(folder)]
    command += arguments.split()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@PROC
@pytest.mark.slow
def test_a_run_killed_anywhere_ends_with_the_same_bits(tmp_path: Path) -> None:
    printed = kill_and_resume(tmp_path, "--kills 6 --models vanilla dcgan")
    assert "6 of 6 identical" in printed
    for kind in ("checkpoint write", "within an epoch", "before a checkpoint", "at the end"):
        assert f"1 {kind}" in printed


@PROC
@pytest.mark.slow
def test_so_does_a_run_of_two_processes_killed_together_or_one_by_one(tmp_path: Path) -> None:
    arguments = "--kills 2 --models vanilla --processes 2 --workers 1"
    assert "2 of 2 identical" in kill_and_resume(tmp_path, arguments)


def test_the_comparison_sees_every_bit_but_the_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from run_difference import differences

    run, reference = tmp_path / "run", tmp_path / "reference"
    content = {"state_dict": {"weight": torch.tensor([0.0, 1.0, float("nan")])}, "steps": [3]}

    def write(folder: Path, pace: float, loss: float = 0.25, **more: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "checkpoints").mkdir(parents=True)
        torch.save(content | {"commit": folder.name} | more, folder / "checkpoints" / "last.ckpt")
        rows = f"step,train/loss_g,train/images_per_second\n1,0.5,{pace}\n2,{loss},{pace}\n"
        (folder / "metrics.csv").write_text(rows)

    write(reference, pace=7)
    write(run, pace=5)
    assert differences(run, reference) == []
    weight = {"weight": torch.tensor([-0.0, 1.0, float("nan")])}
    for more, told in (
        ({"state_dict": weight}, "state_dict.weight: other bits in 1 of 3"),
        ({"state_dict": {}}, "state_dict.weight: missing"),
        ({"steps": [3.0]}, "steps[0]: float for int"),
        ({"more": 1}, "more: not in the reference"),
    ):
        write(run, pace=5, **more)
        (line,) = differences(run, reference)
        assert line.startswith(f"last.ckpt: {told}")
    write(run, pace=5, loss=0.2500001)
    (run / "left.tmp").touch()
    assert differences(run, reference) == [
        "left.tmp: is there, and not in the reference",
        "metrics.csv: train/loss_g of step 2 is 0.2500001 for 0.25",
    ]
