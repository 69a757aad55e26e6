"""What a job of a search does with its trial."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf

from forger.app.run.build import build_pruning
from forger.errors import ConfigError
from forger.trials import PRUNER, open_trial

MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0}


def begun(url: str) -> tuple[optuna.Study, optuna.trial.Trial]:
    """A study with one good trial that has ended, and one that runs."""
    study = optuna.create_study(storage=url, study_name="s")
    study.set_user_attr(PRUNER, MEDIAN)
    good = study.ask()
    good.report(1.0, 10)
    study.tell(good, 1.0)
    return study, study.ask()


def test_a_job_reports_to_its_own_trial_and_hears_the_search_s_pruner(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    study, running = begun(url)
    assert open_trial(url, "s", 0) is None, "it has ended"
    trial = open_trial(url, "s", running.number)
    assert trial is not None
    trial.report(5.0, 10)
    trial.report(6.0, 10)  # by a run that went on; without a warning
    assert trial.should_prune()
    assert study.trials[1].intermediate_values == {10: 5.0}


def test_only_a_job_of_a_search_is_pruned() -> None:
    assert build_pruning(OmegaConf.create({"sweep": {"trial": None}})) is None
    assert build_pruning(OmegaConf.create({})) is None
    with pytest.raises(ConfigError, match=r"sweep\.trial: is filled in"):
        build_pruning(OmegaConf.create({"sweep": {"trial": {"number": 3}}}))
