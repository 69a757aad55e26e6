"""A study as a killed search left it. Owns which trials are told of late, which are repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from forger.app.run.folder import read_status
from forger.app.sweep.outcome import Outcome
from forger.app.sweep.search_study import FOLDER, INTERRUPTED, JOB, REPEATS, interrupt, tell
from forger.errors import ConfigError

PATIENCE = 60.0  # seconds in which what a killed search left behind may save and end
_POLL = 0.5


def mend(
    study: Study, storage: BaseStorage, earlier: Callable[[], Mapping[int, Outcome]]
) -> list[int]:
    """Settles the trials that a killed search left, and has interrupted ones done again.

    Args:
        study: the study.
        storage: that it lies in.
        earlier: returns what is known of jobs of this sweep's folder, by number.

    Returns:
        Numbers of the trials that will be repeated.

    Raises:
        ConfigError: one of them is still being trained.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        outcome = _once_ended(trial, earlier)
        if outcome is not None:
            tell(study, storage, trial.number, outcome)
        else:
            interrupt(study, storage, trial.number, "the search was killed")
    repeated = {trial.user_attrs.get(REPEATS) for trial in study.trials}
    for trial in study.trials:
        again = trial.user_attrs.get(INTERRUPTED) and trial.number not in repeated
        if again and trial.params:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
    waiting = study.get_trials(states=[TrialState.WAITING])
    return [trial.user_attrs[REPEATS] for trial in waiting if REPEATS in trial.user_attrs]


def _once_ended(trial: FrozenTrial, earlier: Callable[[], Mapping[int, Outcome]]) -> Outcome | None:
    """Returns what became of a trial; what a killed search left behind needs a while to end."""
    until = time.monotonic() + PATIENCE
    folder = trial.user_attrs.get(FOLDER)
    while True:
        outcome = earlier().get(trial.user_attrs.get(JOB, -1))
        alive = outcome is not None and outcome.status == "running"
        if folder is not None and outcome is None:
            alive = (read_status(Path(folder)) or {}).get("status") == "running"
        if not alive:
            return outcome
        if time.monotonic() > until:
            raise ConfigError(
                f"trial {trial.number} is still being trained in {folder}, by another search or by"
                " what is left of a killed one; stop it, or wait for its end"
            )
        time.sleep(_POLL)
