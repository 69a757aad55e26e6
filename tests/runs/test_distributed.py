"""Two processes compute what one does, where no batch statistics are involved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_adding_own import own, write_own
from training import command, run_folder


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = run_folder(folder) / "checkpoints" / "last.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("loss", ["wgan_gp"])
def test_two_processes_compute_what_one_does(loss: str, tmp_path: Path) -> None:
    """Order, flips, noise and interpolation depend on the place in the global batch."""
    runs = []
    for trainer in ("cpu", "ddp_cpu"):
        folder = tmp_path / trainer
        write_own(folder)
        words = [f"loss={loss}", "model=linear", "data=stripes", "data.flip=true"]
        words += [f"trainer={trainer}", "trainer.precision=64-true", "trainer.max_steps=20"]
        words += ["trainer.threads=1"]
        done = command(*own(folder, *words), cwd=folder)
        assert done.returncode == 0, done.stderr
        runs.append(final_weights(folder))
    for name, weight in runs[0].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, runs[1][name], rtol=0, atol=1e-6, msg=name)
