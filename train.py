"""Trains a GAN: `python train.py --help`."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from forger.runs import command, jobs


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Runs one job; returns the metric that `objective` names, for a sweeper."""
    with jobs.job(cfg) as cfg:
        from forger.runs.train import train  # imports torch: after the check

        return jobs.objective(cfg, train(cfg))


if __name__ == "__main__":
    command.run(main, Path(__file__).parent / "configs", "train")
