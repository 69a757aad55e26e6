"""Two processes compute what one does, where no batch statistics are involved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import combinations
import pytest
import torch
from combinations import PROCESSES
from helpers import make_trainer
from own_project import SCORES, own, write_own
from torch import Tensor
from training import ROOT, command, latest, rows, run_folder

from forger.app.run.devices import threads
from forger.app.run.plan import notes

WITHOUT = {str(one): one for one in combinations.combinations()}
WITH = {str(one): one for one in combinations.with_batch_statistics()}

States = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[States, list[States]]:
    """The states after each training: of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("pair")
    pair = combinations.start_pair(folder)
    try:
        with threads(1):
            alone = {name: one.train(folder) for name, one in WITHOUT.items()}
        for process in pair:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    return alone, [torch.load(folder / f"rank_{rank}.pt") for rank in range(PROCESSES)]


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("name", WITHOUT)
def test_two_processes_compute_what_one_does(name: str, trained: Any) -> None:
    """Weights, averages and optimizer states, in float64; both processes hold the same bits."""
    alone, (first, second) = trained
    begun = WITHOUT[name].make_gan().double().state_dict()
    for value in begun.values():
        assert value.dtype in (torch.float64, torch.int64)  # or whole numbers
    for network in ("generator", "discriminator", "ema_generator"):
        moved = [
            (alone[name][k] - v).abs().max() for k, v in begun.items() if k.startswith(network)
        ]
        assert max(moved) > 1e-4
    assert largest_difference(alone[name], first[name]) <= 1e-6
    assert largest_difference(first[name], second[name]) == 0


@pytest.mark.parametrize("name", WITH)
def test_batch_statistics_of_a_process_train_and_the_plan_tells(
    name: str, trained: Any, tmp_path: Path
) -> None:
    _, (first, _) = trained
    begun = WITH[name].make_gan().state_dict()
    assert all(value.isfinite().all() for value in first[name].values())
    assert any((first[name][key] - value).abs().max() > 1e-4 for key, value in begun.items())
    told = [
        "; ".join(notes(WITH[name].make_gan(), make_trainer(tmp_path, **settings)))
        for settings in ({}, {"strategy": "ddp", "devices": PROCESSES})
    ]
    assert ["stay per process" in line for line in told] == [False, True]


def trained_by(trainer: str, folder: Path, *words: str) -> Path:
    """The run of a command that scores itself by features of its own."""
    write_own(folder)
    words = (*words, f"trainer={trainer}", "trainer.threads=1", *SCORES, "metrics.num_fake=600")
    done = command(*latest(own(folder, *words, "metrics.every_n_steps=8")), cwd=folder)
    assert done.returncode == 0, done.stderr
    return run_folder(folder)


def test_two_processes_of_the_command_line_compute_what_one_does(tmp_path: Path) -> None:
    """Order, flips, noise and interpolation depend on the place in the global batch.

    So do the scores' samples, which all processes share out.
    """
    words = ["loss=wgan_gp", "model=linear", "data=stripes", "data.flip=true"]
    words += ["trainer.precision=64-true", "trainer.max_steps=20"]
    runs = [trained_by(trainer, tmp_path / trainer, *words) for trainer in ("cpu", "ddp_cpu")]
    one, other = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in runs
    )
    for name, weight in one.items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, other[name], rtol=0, atol=1e-6, msg=name)
    scores = [[row for row in rows(run) if row["val/corners_fid"]] for run in runs]
    assert [row["step"] for row in scores[0]] == ["8", "16", "20"]
    for first, second in zip(*scores, strict=True):
        for name in [name for name in first if name.startswith("val/")]:
            expected = pytest.approx(float(second[name]), rel=1e-4, abs=1e-6)
            assert float(first[name]) == expected, name


def test_a_score_of_two_processes_is_that_of_the_saved_network(tmp_path: Path) -> None:
    """Each has its own BatchNorm statistics; those of rank 0 are saved."""
    words = ["model=vanilla", "condition=label", "data=mnist_sample", "trainer.max_steps=8"]
    run = trained_by("ddp_cpu", tmp_path, *words)
    words = [f"run={run}", "trust=[own_features]", *SCORES[1:], "metrics.num_fake=600"]
    words = [word for word in words if not word.startswith("metrics.every_n_steps")]
    done = command(
        *("--config-dir", str(tmp_path / "configs"), *latest(words)),
        cwd=tmp_path,
        script=ROOT / "evaluate.py",
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((run / "scores.json").read_text())["scores"]
    (row,) = [row for row in rows(run) if row["val/corners_fid"]]
    names = [name for name in row if name.startswith("val/")]
    assert {"val/corners_fid", "val/d_auroc", "val/corners_intra_fid"} <= set(names)
    for name in names:
        assert float(row[name]) == pytest.approx(scores[name.removeprefix("val/")], rel=1e-6), name
