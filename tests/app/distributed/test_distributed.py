"""Two processes compute what one does, where no batch statistics are involved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import combinations
import pytest
import torch
from combinations import PROCESSES, Combination
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
    assert all(value.dtype == torch.float64 for value in begun.values())
    for network in ("generator", "discriminator", "ema_generator"):
        moved = [
            (alone[name][k] - v).abs().max() for k, v in begun.items() if k.startswith(network)
        ]
        assert max(moved) > 1e-4
    assert largest_difference(alone[name], first[name]) <= 1e-6
    assert largest_difference(first[name], second[name]) == 0


def notes_of(one: Combination, folder: Path, **settings: Any) -> str:
    return "; ".join(notes(one.make_gan(), make_trainer(folder, **settings)))


@pytest.mark.parametrize("name", WITH)
def test_batch_statistics_of_a_process_train_and_the_plan_tells(
    name: str, trained: Any, tmp_path: Path
) -> None:
    _, (first, _) = trained
    begun = WITH[name].make_gan().state_dict()
    assert all(value.isfinite().all() for value in first[name].values())
    assert any((first[name][key] - value).abs().max() > 1e-4 for key, value in begun.items())
    assert "stay per process" not in notes_of(WITH[name], tmp_path)
    processes = {"strategy": "ddp", "devices": PROCESSES}
    assert "stay per process" in notes_of(WITH[name], tmp_path, **processes)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = run_folder(folder) / "checkpoints" / "last.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def test_two_processes_of_the_command_line_compute_what_one_does(tmp_path: Path) -> None:
    """Order, flips, noise and interpolation depend on the place in the global batch.

    So do the scores' samples, which all processes share out.
    """
    runs, scores = [], []
    for trainer in ("cpu", "ddp_cpu"):
        folder = tmp_path / trainer
        write_own(folder)
        words = ["loss=wgan_gp", "model=linear", "data=stripes", "data.flip=true"]
        words += [f"trainer={trainer}", "trainer.precision=64-true", "trainer.max_steps=20"]
        words += ["trainer.threads=1", *SCORES, "metrics.num_fake=600", "metrics.every_n_steps=8"]
        last = {word.partition("=")[0]: word for word in own(folder, *words)}  # each key once
        done = command(*last.values(), cwd=folder)
        assert done.returncode == 0, done.stderr
        runs.append(final_weights(folder))
        scores.append([row for row in rows(run_folder(folder)) if row["val/corners_fid"]])
    for name, weight in runs[0].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, runs[1][name], rtol=0, atol=1e-6, msg=name)
    assert [row["step"] for row in scores[0]] == ["8", "16", "20"]
    for one, other in zip(*scores, strict=True):
        for name in [name for name in one if name.startswith("val/")]:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-6), name


def test_a_score_of_two_processes_is_that_of_the_saved_network(tmp_path: Path) -> None:
    """Each has its own BatchNorm statistics; those of rank 0 are saved."""
    write_own(tmp_path)
    words = ["model=vanilla", "data=mnist_sample", "trainer=ddp_cpu", "trainer.threads=1"]
    words += ["trainer.max_steps=8", *SCORES, "metrics.every_n_steps=8", "metrics.num_fake=600"]
    last = {word.partition("=")[0]: word for word in own(tmp_path, *words)}
    done = command(*last.values(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path)
    words = [f"run={run}", "trust=[own_features]", "checkpoint=last", *SCORES[1:]]
    words.append("metrics.num_fake=600")
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
    assert {"val/corners_fid", "val/d_auroc", "val/corners_coverage"} <= set(names)
    for name in names:
        assert float(row[name]) == pytest.approx(scores[name.removeprefix("val/")], rel=1e-6), name
