"""Full disks, read-only folders, vanished files, two runs at once: clear words, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from disks import read_only, small_disk
from lightning import LightningDataModule
from omegaconf import open_dict
from torch.utils.data import DataLoader, Dataset
from training import ROOT, Compose, colour_folder, rows, run_folder, short

from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import RunError


class Files(Dataset[torch.Tensor]):
    """Images in files of their own, of which one vanishes while a run trains."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reads = folder, 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> torch.Tensor:
        self.reads += 1
        if self.reads == 60:
            (self.folder / "7.pt").unlink()
        image: torch.Tensor = torch.load(self.folder / f"{place}.pt")
        return image


class OnDisk(LightningDataModule):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(Files(self.folder), batch_size=4, shuffle=True)


def test_a_full_disk_ends_the_run_and_what_was_saved_is_whole(
    composed: Compose, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", kilobytes=3000) as disk:
        words = ["model.generator.hidden=[20]", "model.discriminator.hidden=[20]", "metrics=none"]
        words += ["callbacks.checkpoint.every_n_steps=5", "callbacks.samples.every_n_steps=1"]
        cfg = composed(*short(disk, *words, steps=10_000))
        with pytest.raises(RunError, match="No space left on device"):
            train(cfg)
        (run,) = (disk / "logs" / "default").iterdir()
        status = json.loads((run / "status.json").read_text())
        assert status["status"] == "failed"
        assert "No space left on device" in status["reason"]
        assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] >= 5
        steps = [int(row["step"]) for row in rows(run)]
        assert steps == list(range(1, len(steps) + 1))
        for picture in (run / "samples").glob("*.png"):
            assert picture.read_bytes().endswith(b"IEND\xaeB`\x82"), picture
        assert not list(run.rglob(".*.tmp"))


def test_a_read_only_log_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with read_only(tmp_path / "logs") as folder:
        words = ("data=mnist_sample", f"paths.log_dir={folder}")
        (found,) = find_mistakes(Command(ROOT / "configs", "train", words))
        assert found.startswith(f"paths.log_dir={folder}: ")
        assert "cannot be written to" in found


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_a_data_file_that_vanishes_ends_the_run_by_its_name(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for place in range(40):
        torch.save(torch.zeros(1, 8, 8), tmp_path / f"{place}.pt")
    words = ["metrics=none", "callbacks.checkpoint.every_n_steps=3"]
    cfg = composed(*short(tmp_path, *words, steps=100))
    with open_dict(cfg):
        cfg.data = {"_target_": f"{__name__}.OnDisk", "folder": str(tmp_path)}
    vanished = tmp_path / "7.pt"
    with pytest.raises(RunError, match=rf"^{vanished}: No such file .* stopped at iteration"):
        train(cfg)
    assert "to go on        python train.py resume=" in caplog.text
    run = run_folder(tmp_path)
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["reason"].startswith(str(vanished))
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] > 0


@pytest.mark.slow
def test_two_runs_at_once_share_an_experiment_and_build_one_cache(tmp_path: Path) -> None:
    images = colour_folder(tmp_path / "images")
    words = ["data=image_folder", f"data.root={images}", "data.image_size=32", "name=same"]
    words = short(tmp_path, *words, "metrics=none", "trainer.threads=1", steps=3)
    both = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    runs = list((tmp_path / "logs" / "same").iterdir())
    assert len(runs) == 2
    first, second = ([r["train/loss_d"] for r in rows(run)] for run in runs)
    assert first == second
    assert len(list((tmp_path / "cache").glob("images-*.npy"))) == 1
    assert not list((tmp_path / "cache").glob(".*"))
