"""A search, `hydra/sweeper=optuna`: Optuna chooses trials, the engine runs them as jobs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.samplers import CmaEsSampler, GridSampler

from forger.app.config.messages import choice, given, quoted
from forger.app.run.tables import Table
from forger.app.sweep.jobs import Job, Outcome
from forger.app.sweep.search_space import Space, check_space, read_space
from forger.app.sweep.study import (
    FOLDER,
    INTERRUPTED,
    OVERRIDES,
    REASON,
    REPEATS,
    SearchStudy,
    build,
    judged,
    state_of,
    storage_url,
)
from forger.errors import ConfigError
from forger.secrets import masked
from forger.whole_files import write_whole

if TYPE_CHECKING:
    from forger.app.sweep.engine import Engine

log = logging.getLogger(__name__)

_KEY = "hydra.sweeper"
_SETTINGS = {
    *("sampler", "pruner", "direction", "n_trials", "n_jobs", "storage", "study_name", "params")
}


def read_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that configs/hydra/sweeper/optuna.yaml explains, as plain values.

    Raises:
        ConfigError: one of them is unknown or senseless.
    """
    node: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)  # type: ignore[assignment]

    def refuse(key: str, reason: str) -> ConfigError:
        return ConfigError(f"{given(f'{_KEY}.{key}', node.get(key))}: {reason}")

    for key in node.keys() - _SETTINGS:
        raise refuse(key, "unknown setting" + choice(key, _SETTINGS))
    for key in ("sampler", "pruner"):
        if not isinstance(node[key], dict) or "_target_" not in node[key]:
            raise refuse(key, f"must name a _target_; write hydra/sweeper/{key}=...")
    if node["direction"] not in ("minimize", "maximize"):
        raise refuse("direction", "must be minimize or maximize")
    for key in ("n_trials", "n_jobs"):
        count = 1 if key == "n_jobs" and node[key] is None else node[key]
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise refuse(key, "must be a whole number, at least 1")
    for key in ("storage", "study_name"):
        if node[key] is not None and not (isinstance(node[key], str) and node[key].strip()):
            raise refuse(key, "must be text or null")
    if not isinstance(node["params"] or {}, dict):
        raise refuse("params", "must be settings with what may be chosen")
    return node | {"params": node["params"] or {}}


def search(
    engine: Engine,
    loader: ConfigLoader,
    config: DictConfig,
    settings: Mapping[str, Any],
    overrides: Sequence[str],
) -> list[Outcome]:
    """Searches, and says what is best; goes on with a search that was interrupted.

    Args:
        engine: runs the trials.
        loader: Hydra's config loader.
        config: of the whole sweep.
        settings: of `hydra.sweeper`.
        overrides: of the command, those for Hydra itself left out.

    Raises:
        ConfigError: the search makes no sense; no trial has begun.
    """
    wanted = read_settings(settings)
    space = read_space(overrides, wanted["params"], loader)
    sampler = build("sampler", wanted["sampler"], space)  # mistakes, before there is a file
    build("pruner", wanted["pruner"], space)  # the same: each trial's own process asks one
    resumed = OmegaConf.select(config, "sweep.resume")
    if resumed and isinstance(sampler, CmaEsSampler) and "cmaes" not in (config.get("trust") or ()):
        raise ConfigError(
            "hydra/sweeper/sampler=cmaes: keeps its state as a pickle in the search's database, and"
            " loading one can run code; if this search is your own, write trust=[cmaes]"
        )
    cfg = check_space(loader, config, space)
    folder = engine.folder.path
    url = storage_url(wanted["storage"], folder)
    name = wanted["study_name"] or (folder.name if wanted["storage"] else str(cfg.name))
    # what Optuna and its database tools say at every trial is left to our own lines
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    study = SearchStudy(url, name, wanted, space, str(cfg.objective))
    with engine.begun(()):
        return _Search(engine, study, url, space).run(wanted["n_trials"], wanted["n_jobs"])


class _Search:
    """One search, or what is left of it; the jobs report to the study at `url`."""

    def __init__(self, engine: Engine, study: SearchStudy, url: str, space: Space) -> None:
        self.engine, self.study, self.url, self.space = engine, study, url, space
        engine.judge = judged
        engine.minimise = study.study.direction.name == "MINIMIZE"

    def run(self, trials: int, at_once: int | None) -> list[Outcome]:
        """Runs trials until as many have ended by themselves, and reports however that ends.

        What is interrupted is not tried again here, where the same might end it again, but when the
        search goes on.

        Args:
            trials: that are to end, earlier ones among them; a grid has no more than it has.
            at_once: chosen and run at a time; `None`: what the launcher runs at once.
        """
        if isinstance(self.study.study.sampler, GridSampler):
            trials = min(trials, math.prod(map(len, self.space.grid().values())))
        before = len(self.study.study.trials)
        repeated = self.study.settle(lambda: self.engine.earlier)
        known, counts = dict(self.engine.earlier), self.study.counts()
        left = trials - sum(counts.values()) + counts[INTERRUPTED]
        goes_on = f"goes on: {max(left, 0)} of " if before else ""
        log.info("%-15s %s%d trials, %d of them again", "search", goes_on, trials, len(repeated))
        if left <= 0:
            more = "write hydra.sweeper.n_trials=<more>, unless a grid is complete"
            log.info("%-15s nothing is left to do: %s", "search", more)
        try:
            while left > 0 and not self.engine.folder.stopped:
                batch = min(left, at_once or self.engine.parallel)
                for outcome in self.engine.run([self._next_job() for _ in range(batch)]):
                    known[outcome.number] = outcome
                    self.study.tell(outcome.number, outcome)
                left -= batch
        finally:
            finished = [trial for trial in self.study.study.trials if trial.state.is_finished()]
            replaced = {trial.user_attrs.get(REPEATS) for trial in finished}
            shown = [judged(known[number]) for number in sorted(known.keys() - replaced)]
            outcomes = self.engine.finish(shown, complete=left <= 0)
            self._report()
        return outcomes

    def _next_job(self) -> Job:
        """Asks for a trial; returns the job that runs it, which bears its number."""
        trial = self.study.study.ask(self.space.distributions)
        overrides, number = self.space.overrides(trial.params), trial.number
        trial.set_user_attr(FOLDER, str(self.engine.folder.path / str(number)))
        command = [*self.engine.task.command.config_flags, *masked(overrides)]
        trial.set_user_attr(OVERRIDES, command)
        told = {
            "storage": quoted(self.url),
            "study": quoted(self.study.study.study_name),
            "number": str(number),
            "metric": quoted(self.study.objective),
        }
        own = "sweep.trial={" + ",".join(f"{key}:{value}" for key, value in told.items()) + "}"
        return Job(number=number, overrides=(*overrides, own))

    def _report(self) -> None:
        """Writes `search.md` and `optuna_results.yaml`, and says what is best."""
        study, counts = self.study.study, self.study.counts()
        best, objective = study.best_trial if counts["complete"] else None, self.study.objective
        lines = {"trials": ", ".join(f"{number} {name}" for name, number in counts.items())}
        results: dict[str, Any] = {"name": "optuna", "study_name": study.study_name}
        results |= {"storage": self.url, "trials": counts}
        if best is None:
            lines["best"] = "none: no trial has completed"
        else:
            command = self.engine.task.command.typed("train", *best.user_attrs[OVERRIDES])
            run = best.user_attrs[FOLDER]
            lines["best"] = f"trial {best.number}: {objective} = {best.value:.6g}, in {run}"
            lines["again"] = command
            parse = OverridesParser.create().parse_override  # the study keeps a choice as text
            values = {key: parse(f"{key}={text}").value() for key, text in best.params.items()}
            results |= {"best_evaluated_params": values, "best_evaluated_value": best.value}
            results |= {"best_folder": run, "best_command": command}
        notes = [f"- {name}: `{text}`" for name, text in (lines | {"storage": self.url}).items()]
        page = [f"# Search {study.study_name}", "", *notes, "", self._table().markdown(), ""]
        folder = self.engine.folder.path
        write_whole(folder / "optuna_results.yaml", OmegaConf.to_yaml(results).encode())
        write_whole(folder / "search.md", "\n".join(page).encode())
        for name, text in (lines | {"search": str(folder / "search.md")}).items():
            log.info("%-15s %s", name, text)

    def _table(self) -> Table:
        """Returns a row per trial."""
        keys, rows = [*self.space.distributions], []
        for trial in self.study.study.trials:
            run = Path(str(trial.user_attrs.get(FOLDER, ""))).name
            values = [trial.params.get(key) for key in keys]
            end = [trial.number, state_of(trial), trial.value]
            rows.append([*end, *values, run, trial.user_attrs.get(REASON)])
        return Table(["trial", "state", self.study.objective, *keys, "run", "reason"], rows)
