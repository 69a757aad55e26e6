"""A search, `hydra/sweeper=optuna`: Optuna chooses trials, the engine runs them as jobs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.samplers import CmaEsSampler, GridSampler

from forger.app.config.messages import choice, given, quoted
from forger.app.config.type_checks import refusal
from forger.app.run.tables import Table
from forger.app.sweep.engine import Engine
from forger.app.sweep.folder import TRIAL, Job, Outcome
from forger.app.sweep.search_space import Space, check_space, read_space
from forger.app.sweep.study import (
    FOLDER,
    INTERRUPTED,
    OVERRIDES,
    REASON,
    REPEATS,
    SearchStudy,
    build_part,
    state_of,
    storage_url,
)
from forger.bounds import PositiveInt
from forger.errors import ConfigError
from forger.secrets import masked
from forger.whole_files import write_whole

log = logging.getLogger(__name__)

_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("sampler", "pruner"), Any),
    "direction": Literal["minimize", "maximize"],
    "n_trials": PositiveInt,
    "n_jobs": PositiveInt | None,
    **dict.fromkeys(("storage", "study_name"), str | None),
    "params": dict,
}


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
        settings: of `hydra.sweeper`, which configs/hydra/sweeper/optuna.yaml explains.
        overrides: of the command, those for Hydra itself left out.
    """
    wanted: Any = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    for key, value in wanted.items():
        where = given(f"hydra.sweeper.{key}", value)
        if key not in _SETTINGS:
            raise ConfigError(f"{where}: unknown setting{choice(key, _SETTINGS)}")
        if allowed := refusal(value, _SETTINGS[key]):
            raise ConfigError(f"{where}: must be {allowed}")
    space = read_space(overrides, wanted["params"], loader)
    sampler = build_part("sampler", wanted["sampler"], space)  # mistakes, before there is a file
    build_part("pruner", wanted["pruner"], space)  # the same: each trial's own process asks one
    resumed = OmegaConf.select(config, "sweep.resume")
    if resumed and isinstance(sampler, CmaEsSampler) and "cmaes" not in (config.get("trust") or ()):
        raise ConfigError(
            "hydra/sweeper/sampler=cmaes: keeps its state as a pickle in the search's database, and"
            " loading one can run code; if this search is your own, write trust=[cmaes]"
        )
    cfg = check_space(loader, config, space)
    folder = engine.folder.path
    name = wanted["study_name"] or (folder.name if wanted["storage"] else str(cfg.name))
    # what Optuna and its database tools say at every trial is left to our own lines
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = storage_url(wanted["storage"], folder)
    study = SearchStudy(url, name, wanted, space, str(cfg.objective))
    engine.minimise = wanted["direction"] == "minimize"
    trials = wanted["n_trials"]
    if isinstance(sampler, GridSampler):
        trials = min(trials, math.prod(map(len, space.grid().values())))
    with engine.begun(()):
        return _search(engine, study, space, trials, wanted["n_jobs"] or engine.parallel)


def _search(
    engine: Engine, study: SearchStudy, space: Space, trials: int, at_once: int
) -> list[Outcome]:
    """Runs trials until as many have ended by themselves, and reports however that ends.

    What is interrupted is not tried again here, where the same might end it again, but when the
    search goes on. Trials that earlier searches of the study ended count as well.
    """
    engine.await_orphans()
    is_new, repeated, counts = not study.trials, study.settle(), study.counts()
    left = trials - sum(counts.values()) + counts[INTERRUPTED]
    begins = "" if is_new else f"goes on: {max(left, 0)} of "
    log.info("%-15s %s%d trials, %d of them again", "search", begins, trials, repeated)
    if left <= 0:
        more = "write hydra.sweeper.n_trials=<more>, unless a grid is complete"
        log.info("%-15s nothing is left to do: %s", "search", more)
    try:
        while left > 0 and not engine.folder.stopped:
            batch = [_next_job(engine, study, space) for _ in range(min(left, at_once))]
            for outcome in engine.run(batch):
                study.tell(outcome)
            left -= len(batch)
    finally:
        ended = [trial for trial in study.trials if trial.state.is_finished()]
        replaced = {trial.user_attrs.get(REPEATS) for trial in ended}
        known = engine.folder.outcomes()
        shown = [one for number, one in known.items() if number not in replaced]
        outcomes = engine.finish(shown, complete=left <= 0)
        _report(engine, study)
    return outcomes


def _next_job(engine: Engine, study: SearchStudy, space: Space) -> Job:
    """Asks for a trial; returns the job that runs it, which bears its number."""
    trial = study.study.ask(space.distributions)
    overrides, number = space.overrides(trial.params), trial.number
    trial.set_user_attr(FOLDER, str(engine.folder.path / str(number)))
    trial.set_user_attr(OVERRIDES, [*engine.task.command.config_flags, *masked(overrides)])
    url, name = quoted(study.url), quoted(study.study.study_name)
    own = f"storage:{url},study:{name},number:{number},metric:{quoted(study.objective)}"
    return Job(number=number, overrides=(*overrides, f"{TRIAL}={{{own}}}"))


def _report(engine: Engine, study: SearchStudy) -> None:
    """Writes `search.md` and `optuna_results.yaml`, and says what is best."""
    counts, name, folder = study.counts(), study.study.study_name, engine.folder.path
    lines = {"trials": ", ".join(f"{number} {end}" for end, number in counts.items())}
    lines["best"] = "none: no trial has completed"
    results: dict[str, Any] = {"name": "optuna", "study_name": name}
    results |= {"storage": study.url, "trials": counts}
    if counts["complete"]:
        best = study.study.best_trial
        run, score = best.user_attrs[FOLDER], f"{study.objective} = {best.value:.6g}"
        lines["best"] = f"trial {best.number}: {score}, in {run}"
        lines["again"] = engine.task.command.typed("train", *best.user_attrs[OVERRIDES])
        parse = OverridesParser.create().parse_override  # the study keeps a choice as text
        values = {key: parse(f"{key}={text}").value() for key, text in best.params.items()}
        results |= {"best_evaluated_params": values, "best_evaluated_value": best.value}
        results |= {"best_folder": run, "best_command": lines["again"]}
    notes = [f"- {key}: `{text}`" for key, text in (lines | {"storage": study.url}).items()]
    page = "\n".join([f"# Search {name}", "", *notes, "", _table(study).markdown(), ""])
    write_whole(folder / "optuna_results.yaml", OmegaConf.to_yaml(results).encode())
    write_whole(folder / "search.md", page.encode())
    for key, text in (lines | {"search": str(folder / "search.md")}).items():
        log.info("%-15s %s", key, text)


def _table(study: SearchStudy) -> Table:
    """Returns a row per trial."""
    keys, rows = list(dict.fromkeys(key for trial in study.trials for key in trial.params)), []
    for trial in study.trials:
        run, reason = trial.user_attrs.get(FOLDER), trial.user_attrs.get(REASON)
        values = [trial.params.get(key) for key in keys]
        cells = [trial.number, state_of(trial), trial.value, *values]
        rows.append([*cells, run and Path(run).name, reason])
    return Table(["trial", "state", study.objective, *keys, "run", "reason"], rows)
