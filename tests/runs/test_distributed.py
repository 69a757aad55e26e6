"""Two processes compute what one does, where no batch statistics are involved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_adding_own import SCORES, own, write_own
from training import command, rows, run_folder


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = run_folder(folder) / "checkpoints" / "last.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("loss", ["wgan_gp"])
def test_two_processes_compute_what_one_does(loss: str, tmp_path: Path) -> None:
    """Order, flips, noise and interpolation depend on the place in the global batch.

    So do the scores' samples, which all processes share out.
    """
    runs, scores = [], []
    for trainer in ("cpu", "ddp_cpu"):
        folder = tmp_path / trainer
        write_own(folder)
        words = [f"loss={loss}", "model=linear", "data=stripes", "data.flip=true"]
        words += [f"trainer={trainer}", "trainer.precision=64-true", "trainer.max_steps=20"]
        words += ["trainer.threads=1", *SCORES, "metrics.num_fake=600", "metrics.every_n_steps=8"]
        done = command(*own(folder, *words), cwd=folder)
        assert done.returncode == 0, done.stderr
        runs.append(final_weights(folder))
        scores.append([row for row in rows(run_folder(folder)) if row["val/fid"]])
    for name, weight in runs[0].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, runs[1][name], rtol=0, atol=1e-6, msg=name)
    assert [row["step"] for row in scores[0]] == ["8", "16", "20"]
    for one, other in zip(*scores, strict=True):
        for name in [name for name in one if name.startswith("val/")]:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-6), name
