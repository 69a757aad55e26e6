"""The commands `train`, `evaluate` and `generate`, as Hydra calls them."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

import forger
from forger.app.cli import command
from forger.app.run import jobs


def train(cfg: DictConfig) -> float | None:
    """Runs one job; returns the metric that `objective` names, for a sweeper."""
    with jobs.job(cfg) as cfg:
        from forger.app.run.train import train  # imports torch: after the check

        return jobs.objective(cfg, train(cfg))


def evaluate(cfg: DictConfig) -> None:
    """Scores what `run` names."""
    with jobs.job(cfg, "evaluate"):
        from forger.app.run.evaluate import evaluate  # imports torch: after the check

        evaluate(cfg)


def generate(cfg: DictConfig) -> None:
    """Generates from what `run` names."""
    with jobs.job(cfg, "generate"):
        from forger.app.run.generate import generate  # imports torch: after the check

        generate(cfg)


COMMANDS = {"train": train, "evaluate": evaluate, "generate": generate}


def run(name: str, configs: Path) -> None:
    """Runs a command with the words that were typed after it.

    Args:
        name: of the command, and of the main config that it reads.
        configs: the folder of config files.
    """
    decorate = hydra.main(version_base="1.3", config_path=str(configs.absolute()), config_name=name)
    command.run(decorate(COMMANDS[name]), configs, name)


def own_configs() -> Path:
    """Returns the folder of config files that comes with this package."""
    package = Path(forger.__file__).parent
    installed = package / "configs"  # where the wheel has what lies at the top of a clone
    return installed if installed.is_dir() else package.parents[1] / "configs"
