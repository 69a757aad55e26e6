"""The study of a search in its database: opened, and told what became of trials.

Owns what a trial's end means to Optuna, and which trials count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import TrialState

from forger.app.sweep.outcome import Outcome
from forger.app.sweep.search_parts import make_pruner, make_sampler
from forger.app.sweep.search_settings import Settings
from forger.app.sweep.search_space import Space
from forger.errors import ConfigError, DivergedError

# User attributes of trials, and of the study
INTERRUPTED, REASON, REPEATS = "interrupted", "reason", "repeats"
JOB, FOLDER, WORDS = "job", "folder", "words"
OBJECTIVE, PRUNER, SWEEP = "objective", "pruner", "sweep"


def open_study(
    storage: BaseStorage, name: str, settings: Settings, space: Space, objective: str
) -> Study:
    """Opens the study, or begins it.

    Raises:
        ConfigError: a study of that name searched for something else.
    """
    trials = 0
    if name in optuna.get_all_study_names(storage):
        earlier = optuna.load_study(study_name=name, storage=storage)
        trials = len(earlier.trials)
        _check_same(earlier, settings, space, objective)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=settings.direction,
        sampler=make_sampler(settings.sampler, space, trials),
        pruner=make_pruner(settings.pruner),
        load_if_exists=True,
    )
    study.set_user_attr(OBJECTIVE, objective)
    study.set_user_attr(PRUNER, dict(settings.pruner))
    return study


def _check_same(study: Study, settings: Settings, space: Space, objective: str) -> None:
    other = "; give this search a name of its own: hydra.sweeper.study_name=<name>"
    where = f"hydra.sweeper.study_name={study.study_name}"
    then = study.user_attrs.get(OBJECTIVE, objective)
    if then != objective:
        raise ConfigError(f"{where}: that study has objective={then}, not {objective}{other}")
    direction = study.direction.name.lower()
    if direction != settings.direction:
        raise ConfigError(f"{where}: that study is to {direction}, not {settings.direction}{other}")
    for trial in study.trials:
        for key in trial.distributions.keys() & space.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space.distributions[key])
            except ValueError:
                raise ConfigError(
                    f"{where}: that study chooses {key} from something else{other}"
                ) from None


def tell(study: Study, storage: BaseStorage, number: int, outcome: Outcome) -> None:
    """Tells the study what became of a trial."""
    if outcome.status in ("interrupted", "missing", "running"):
        interrupt(study, storage, number, outcome.reason or outcome.status)
        return
    state, value, reason = _verdict(outcome)
    note(study, storage, number, {FOLDER: str(outcome.folder)})
    if reason is not None:
        note(study, storage, number, {REASON: reason})
    _close(study, number, state, value)


def judged(outcome: Outcome) -> Outcome:
    """Returns a job's end as a search sees it, in its lines, its tables and its study alike.

    A region that diverges is no accident, which the sampler should overlook, but a bad region: its
    trials count as pruned.
    """
    if outcome.error == DivergedError.__name__:
        return replace(outcome, status="pruned")
    if outcome.status == "finished" and not math.isfinite(outcome.value or 0.0):
        return replace(outcome, status="pruned", reason=f"its score is {outcome.value}")
    return outcome


def _verdict(outcome: Outcome) -> tuple[TrialState, float | None, str | None]:
    """Returns what an end is to Optuna: the state, the value, and why there is none."""
    outcome = judged(outcome)
    if outcome.status == "finished":
        if outcome.value is None:
            return TrialState.FAIL, None, "the run returned no score"
        return TrialState.COMPLETE, outcome.value, None
    state = TrialState.PRUNED if outcome.status == "pruned" else TrialState.FAIL
    return state, None, outcome.reason or outcome.error


def interrupt(study: Study, storage: BaseStorage, number: int, reason: str) -> None:
    """Tells that a trial was broken off: it failed, and does not count."""
    note(study, storage, number, {INTERRUPTED: True, REASON: reason})
    _close(study, number, TrialState.FAIL, None)


def _close(study: Study, number: int, state: TrialState, value: float | None) -> None:
    try:
        study.tell(number, value, state)
    except RuntimeError:
        # A grid that is complete asks to stop a loop of Optuna's own, of which there is none here.
        if not study.trials[number].state.is_finished():
            raise


def note(study: Study, storage: BaseStorage, number: int, content: Mapping[str, Any]) -> None:
    """Adds user attributes to a trial that has not ended."""
    owner = storage.get_study_id_from_name(study.study_name)
    trial = storage.get_trial_id_from_study_id_trial_number(owner, number)
    for key, value in content.items():
        storage.set_trial_user_attr(trial, key, value)


def count(study: Study) -> dict[str, int]:
    """Counts trials by how they ended, those apart that a kill interrupted."""
    counts = dict.fromkeys(("complete", "pruned", "failed", "interrupted"), 0)
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    for trial in study.trials:
        if trial.user_attrs.get(INTERRUPTED):
            counts["interrupted"] += 1
        elif trial.state.is_finished():
            counts[names.get(trial.state, "failed")] += 1
    return counts


def ended(study: Study) -> int:
    """Returns how many trials have ended by themselves: those that `n_trials` counts."""
    counts = count(study)
    return sum(counts.values()) - counts["interrupted"]
