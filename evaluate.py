"""Scores finished runs: `python evaluate.py --help`."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from forger.runs import command, jobs


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Scores what `run` names."""
    with jobs.job(cfg, "evaluate"):
        from forger.runs.evaluate import evaluate  # imports torch: after the check

        evaluate(cfg)


if __name__ == "__main__":
    command.run(main, Path(__file__).parent / "configs", "evaluate")
