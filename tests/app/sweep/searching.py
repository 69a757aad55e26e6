"""Searches without trainings: an engine that scores a job by its words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from forger.app.sweep.folder import SweepFolder
from forger.app.sweep.jobs import Job, Outcome
from forger.app.sweep.search import search

CONFIGS = Path(__file__).parents[3] / "configs"
Ends = Callable[[Job], dict[str, Any]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing gets to know of it."""


class FakeEngine:
    """Ends each job as `ends` says, and remembers it in the folder's stead."""

    def __init__(self, folder: Path, ends: Ends, parallel: int = 1) -> None:
        self.folder, self.ends, self.parallel = SweepFolder(folder), ends, parallel
        self.task = SimpleNamespace(
            command=Command(CONFIGS, "train", (), program=(str(CONFIGS.parent / "train.py"),))
        )
        self.known: dict[int, Outcome] = {}
        self.judge: Callable[[Outcome], Outcome] = lambda outcome: outcome
        self.resumed = self.stopped = False
        self.batches: list[int] = []
        self.finished: list[Outcome] = []

    @property
    def earlier(self) -> Mapping[int, Outcome]:
        return dict(self.known) if self.resumed else {}

    @contextmanager
    def begun(self, jobs: Sequence[Job]) -> Iterator[None]:
        assert not jobs
        yield

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.batches.append(len(jobs))
        for job in jobs:
            assert job.number not in self.known
            own = {"number": job.number, "overrides": job.overrides}
            own["folder"] = self.folder.path / str(job.number)
            try:
                self.known[job.number] = Outcome(**own, **self.ends(job))
            except Killed:
                self.known[job.number] = Outcome(**own, status="interrupted", reason="killed")
                raise
        return [self.known[job.number] for job in jobs]

    def finish(self, outcomes: Sequence[Outcome], *, complete: bool = False) -> list[Outcome]:
        self.finished, self.complete = list(outcomes), complete
        return self.finished


def word(job: Job, key: str) -> str:
    """The value of a job's word."""
    (found,) = (w.partition("=")[2] for w in job.overrides if w.partition("=")[0] == key)
    return found


def by_rate(job: Job) -> dict[str, Any]:
    """A score that is best at a rate of 0.001."""
    rate = float(word(job, "optimizer.lr"))
    return {"status": "finished", "value": abs(rate - 0.001)}


@cache
def settings_of(*own: str) -> dict[str, Any]:
    """What Hydra hands to the sweeper."""
    with initialize_config_dir(str(CONFIGS), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        node = loader.load_configuration("train", [*own], RunMode.MULTIRUN).hydra.sweeper
        settings = OmegaConf.to_container(node)
    assert isinstance(settings, dict)
    return {str(k): v for k, v in settings.items() if not str(k).startswith("_")}


def run_search(engine: FakeEngine, *words: str) -> None:
    """Runs `python train.py -m hydra/sweeper=optuna <words>`, with little checked."""
    own, task = _sorted(words)
    given = {key: value.strip("'") for key, _, value in (w.partition("=") for w in task)}
    cfg = OmegaConf.create({"name": given.get("name", "default"), "objective": given["objective"]})
    with mock.patch.object(searches, "check_space", return_value=cfg):
        search(engine, None, OmegaConf.create(), settings_of(*own), task)  # type: ignore[arg-type]


def run_checked_search(engine: FakeEngine, *words: str) -> None:
    """The same, with every value held against the config."""
    own, task = _sorted(words)
    settings = settings_of(*own, *(w for w in task if w.startswith("hparams_search")))
    with initialize_config_dir(str(CONFIGS), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [*own, *task], RunMode.MULTIRUN)
        search(engine, loader, master, settings, task)


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    own = [w for w in words if w.lstrip("+").startswith("hydra")]
    if not any(w.startswith("hparams_search") for w in words):
        own.insert(0, "hydra/sweeper=optuna")
    return own, [w for w in words if w not in own]


def study_of(engine: FakeEngine, name: str = "default") -> optuna.Study:
    """The study in the sweep's folder."""
    return optuna.load_study(study_name=name, storage=f"sqlite:///{engine.folder.path}/optuna.db")


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]
