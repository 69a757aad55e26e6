"""Full disks, read-only folders, vanished files, two runs at once: clear words, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from disks import read_only, small_disk
from own_project import own, write_own
from training import ROOT, Compose, colour_folder, command, rows, short

from forger.app.config.command import Command
from forger.app.config.overrides import find_mistakes
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import RunError

OWN_FILES = """
    from pathlib import Path
    import torch
    from lightning import LightningDataModule
    from torch.utils.data import DataLoader, Dataset

    class Files(Dataset):
        def __init__(self, folder):
            self.folder = Path(folder)
            self.reads = 0

        def __len__(self):
            return 40

        def __getitem__(self, place):
            self.reads += 1
            if self.reads == 60:  # someone tidies up while the run trains
                (self.folder / "7.pt").unlink()
            return torch.load(self.folder / f"{place}.pt")

    class OnDisk(LightningDataModule):
        image_shape = (1, 8, 8)

        def __init__(self, folder, batch_size=4):
            super().__init__()
            self.files, self.batch_size = Files(folder), batch_size

        def train_dataloader(self):
            return DataLoader(self.files, self.batch_size, shuffle=True)
"""


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
        lines = (run / "metrics.csv").read_text().splitlines()
        assert {line.count(",") for line in lines} == {lines[0].count(",")}
        for picture in (run / "samples").glob("*.png"):
            assert picture.read_bytes().endswith(b"IEND\xaeB`\x82"), picture
        assert not list(run.rglob(".*.tmp"))


def test_a_read_only_log_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with read_only(tmp_path / "logs") as folder:
        words = ("data=mnist_sample", f"paths.log_dir={folder}")
        (found,) = find_mistakes(Command(ROOT / "configs", "train", words))
        assert found.startswith(f"paths.log_dir={folder}: ")
        assert "cannot be written to" in found


def test_a_data_file_that_vanishes_ends_the_run_by_its_name(tmp_path: Path) -> None:
    write_own(tmp_path)
    (tmp_path / "my_files.py").write_text(dedent(OWN_FILES))
    (tmp_path / "configs" / "data" / "files.yaml").write_text(
        f"_target_: my_files.OnDisk\nfolder: {tmp_path / 'images'}\nbatch_size: 4\n"
    )
    (tmp_path / "images").mkdir()
    for place in range(40):
        torch.save(torch.zeros(1, 8, 8), tmp_path / "images" / f"{place}.pt")
    words = ["model=linear", "data=files", "trainer.max_steps=100", "metrics=none"]
    words += ["callbacks.checkpoint.every_n_steps=3", "trainer.max_steps=100"]
    done = command(*own(tmp_path, *words), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"error: {tmp_path / 'images' / '7.pt'}: No such file" in done.stderr
    assert "resume=" in done.stdout
    (status,) = (tmp_path / "logs").rglob("status.json")
    assert json.loads(status.read_text())["status"] == "failed"
    assert read_checkpoint(status.parent / "checkpoints" / "last.ckpt")["global_step"] > 0


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
    assert len(list((tmp_path / "cache").glob("images-*"))) == 1
    assert not list((tmp_path / "cache").glob(".*"))
