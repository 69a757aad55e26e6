"""Searches without trainings: an engine that scores a job by its overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import optuna
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from forger.app.cli import main  # noqa: F401  (registers the short_id resolver)
from forger.app.config.command import Command
from forger.app.sweep import search as searches
from forger.app.sweep.folder import Job, Outcome, SweepFolder

CONFIGS = Path(__file__).parents[3] / "configs"


class Killed(BaseException):
    """Stands for SIGKILL: nothing gets to know of it."""


class FakeEngine:
    """Ends each job as `ends` says."""

    def __init__(
        self, folder: Path, ends: Callable[[Job], dict[str, Any]], parallel: int = 1
    ) -> None:
        self.folder, self.ends, self.parallel = SweepFolder(folder), ends, parallel
        program = (str(CONFIGS.parent / "train.py"),)
        self.task = SimpleNamespace(command=Command(CONFIGS, "train", (), program=program))
        self.batches: list[int] = []
        self.finished: list[Outcome] = []

    @property
    def known(self) -> dict[int, Outcome]:
        return self.folder.outcomes()

    def await_orphans(self) -> None:
        pass

    @contextmanager
    def begun(self, jobs: Sequence[Job]) -> Iterator[None]:
        assert not jobs
        yield

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.batches.append(len(jobs))
        for job in jobs:
            assert job.number not in self.known
            self.folder.note(job.number, overrides=job.overrides, status="running")
            self.folder.note(job.number, **self.ends(job))
        return [self.folder.outcome(job) for job in jobs]

    def finish(self, outcomes: Sequence[Outcome], *, complete: bool = False) -> list[Outcome]:
        self.finished, self.complete = list(outcomes), complete
        return self.finished


def value(job: Job, key: str) -> str:
    """What a job's override sets."""
    (found,) = (o.partition("=")[2] for o in job.overrides if o.partition("=")[0] == key)
    return found


def by_rate(job: Job) -> dict[str, Any]:
    """A score that is best at a rate of 0.001."""
    return {"status": "finished", "value": abs(float(value(job, "optimizer.lr")) - 0.001)}


def run_search(engine: FakeEngine, *overrides: str, checked: bool = False) -> None:
    """Runs `python train.py -m hydra/sweeper=optuna <overrides>`; unchecked in less time."""
    own = tuple(one for one in overrides if one.lstrip("+").startswith("hydra"))
    task = [one for one in overrides if one not in own]
    recipe = tuple(one for one in task if one.startswith("hparams_search"))
    own = own if recipe else ("hydra/sweeper=optuna", *own)
    settings = settings_of(*own, *recipe)
    if not checked:
        given = {key: text.strip("'") for key, _, text in (one.partition("=") for one in task)}
        config = OmegaConf.create({"name": "default"} | given)
        with mock.patch.object(searches, "check_space", return_value=config):
            searches.search(engine, None, config, settings, task)  # type: ignore[arg-type]
        return
    with initialize_config_dir(str(CONFIGS), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [*own, *task], RunMode.MULTIRUN)
        searches.search(engine, loader, master, settings, task)  # type: ignore[arg-type]


@cache
def settings_of(*overrides: str) -> dict[str, Any]:
    """What Hydra hands to the sweeper."""
    with initialize_config_dir(str(CONFIGS), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        node = loader.load_configuration("train", [*overrides], RunMode.MULTIRUN).hydra.sweeper
        settings: Any = OmegaConf.to_container(node)
    return {key: value for key, value in settings.items() if not key.startswith("_")}


def study_of(engine: FakeEngine, name: str = "default") -> optuna.Study:
    """The study in the sweep's folder."""
    return optuna.load_study(study_name=name, storage=f"sqlite:///{engine.folder.path}/optuna.db")


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]
