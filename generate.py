"""Generates images from a finished run: `python generate.py --help`."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from forger.runs import command, jobs


@hydra.main(version_base="1.3", config_path="configs", config_name="generate")
def main(cfg: DictConfig) -> None:
    """Generates from what `run` names."""
    with jobs.job(cfg, "generate"):
        from forger.runs.generate import generate  # imports torch: after the check

        generate(cfg)


if __name__ == "__main__":
    command.run(main, Path(__file__).parent / "configs", "generate")
