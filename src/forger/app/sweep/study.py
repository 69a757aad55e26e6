"""A search's study in Optuna's database: what chooses its trials, and how these ended."""

from __future__ import annotations

import importlib.util
import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from forger.app.config.messages import choice
from forger.app.run.folder import read_status
from forger.app.sweep.jobs import Outcome
from forger.app.sweep.search_space import Space
from forger.errors import ConfigError, DivergedError
from forger.trials import PRUNER, open_storage

# User attributes of trials, and of the study
INTERRUPTED, REASON, REPEATS = "interrupted", "reason", "repeats"
FOLDER, OVERRIDES, OBJECTIVE = "folder", "words", "objective"
PATIENCE = 60.0  # seconds in which what a killed search left behind may save and end
_POLL = 0.5
_STORAGE = "hydra.sweeper.storage"


def build(part: str, node: Mapping[str, Any], space: Space, trials: int = 0) -> Any:
    """Builds one of Optuna's samplers or pruners.

    Args:
        part: `sampler` or `pruner`.
        node: its class and settings, of the config.
        space: what is searched; a sampler that asks for a grid is given it.
        trials: that the study has; they move the seed, which would draw the same again.
    """
    module, target = getattr(optuna, f"{part}s"), str(node["_target_"])
    known = [f"{module.__name__}.{name}" for name in module.__all__ if part.title() in name]
    if target not in known:
        raise ConfigError(
            f"hydra.sweeper.{part}._target_={target}: is no class of {module.__name__}"
            f"{choice(target, known)}"
        )
    if target.endswith("CmaEsSampler") and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("hydra/sweeper/sampler=cmaes: needs the package; pip install cmaes")
    kind = getattr(module, target.rpartition(".")[2])
    settings = {key: value for key, value in node.items() if not key.startswith("_")}
    parameters = inspect.signature(kind).parameters
    for key in settings.keys() - parameters.keys():
        raise ConfigError(
            f"hydra.sweeper.{part}.{key}: {kind.__name__} has no such setting"
            f"{choice(key, parameters)}; hydra/sweeper/{part}=<choice> brings its own"
        )
    if "search_space" in parameters:
        settings["search_space"] = space.grid()
    elif isinstance(settings.get("seed"), int):
        settings["seed"] += trials
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**settings)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"hydra.sweeper.{part}: {str(error).splitlines()[0]}") from None


def storage_url(url: str | None, folder: Path) -> str:
    """Returns the URL of the storage, which means the same from every folder.

    Without a `url` it is a file in `folder`, the sweep's.
    """
    try:
        parsed = make_url(url or f"sqlite:///{folder / 'optuna.db'}")
    except SQLAlchemyError:
        raise ConfigError(
            f"{_STORAGE}={url}: must be a database's URL, for example sqlite:///search.db"
        ) from None
    if parsed.password is not None:
        raise ConfigError(
            f"{_STORAGE}={parsed.render_as_string(hide_password=True)}: the password would stand in"
            " every run's folder; leave it out, and use what the database reads itself, ~/.pgpass"
            " for PostgreSQL"
        )
    if parsed.get_backend_name() != "sqlite":
        return str(url)
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"{_STORAGE}={url}: is in memory, where no other process finds it; name a file:"
            " sqlite:///search.db"
        )
    return f"sqlite:///{Path(str(parsed.database)).expanduser().absolute()}"


class SearchStudy:
    """The study of a search: opened, or begun where it is not there yet.

    Args:
        url: of the storage.
        name: of the study in it; one that searched for something else is refused.
        settings: of `hydra.sweeper`.
        space: what is searched.
        objective: the metric to search by.
    """

    def __init__(
        self, url: str, name: str, settings: Mapping[str, Any], space: Space, objective: str
    ) -> None:
        try:
            self.storage = open_storage(url)
        except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{_STORAGE}={url}: cannot be opened: {reason}") from error
        direction, trials = settings["direction"], 0
        if name in optuna.get_all_study_names(self.storage):
            earlier = optuna.load_study(study_name=name, storage=self.storage)
            trials = len(earlier.trials)
            _check_same(earlier, direction, space, objective)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=name,
            direction=direction,
            sampler=build("sampler", settings["sampler"], space, trials),
            load_if_exists=True,
        )
        self.objective = objective
        self.study.set_user_attr(OBJECTIVE, objective)
        self.study.set_user_attr(PRUNER, dict(settings["pruner"]))

    def tell(self, number: int, outcome: Outcome) -> None:
        """Tells the study what became of a trial; what was broken off fails and does not count."""
        state, value, known = TrialState.FAIL, None, judged(outcome)
        reason = known.reason or known.error
        notes: dict[str, Any] = {FOLDER: str(outcome.folder)}
        if known.status in ("interrupted", "missing", "running"):
            notes[INTERRUPTED], reason = True, known.reason or known.status
        elif known.status == "pruned":
            state = TrialState.PRUNED
        elif known.status == "finished" and known.value is None:
            reason = "the run returned no score"
        elif known.status == "finished":
            state, value, reason = TrialState.COMPLETE, known.value, None
        if reason is not None:
            notes[REASON] = reason
        owner = self.storage.get_study_id_from_name(self.study.study_name)
        trial = self.storage.get_trial_id_from_study_id_trial_number(owner, number)
        for key, note in notes.items():
            self.storage.set_trial_user_attr(trial, key, note)
        try:
            self.study.tell(number, value, state)
        except RuntimeError:  # a complete grid stops a loop of Optuna's, of which there is none
            if not self.study.trials[number].state.is_finished():
                raise

    def settle(self, earlier: Callable[[], Mapping[int, Outcome]]) -> list[int]:
        """Tells what became of trials that a killed search left; interrupted ones run again.

        Optuna's heartbeats would tell after a grace period only; the locks of jobs tell at once.
        One that is still being trained is a ConfigError.

        Args:
            earlier: returns what is known of jobs of this sweep's folder, by number.

        Returns:
            Numbers of the trials that will be repeated.
        """
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            self.tell(trial.number, _outcome_once_ended(trial, earlier))
        trials = self.study.trials
        known = {trial.user_attrs.get(REPEATS) for trial in trials}
        for trial in trials:
            if trial.user_attrs.get(INTERRUPTED) and trial.params and trial.number not in known:
                self.study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
        waiting = self.study.get_trials(states=[TrialState.WAITING])
        return [trial.user_attrs[REPEATS] for trial in waiting if REPEATS in trial.user_attrs]

    def counts(self) -> dict[str, int]:
        """Counts trials by how they ended, those apart that a kill interrupted."""
        counts = dict.fromkeys(("complete", "pruned", "failed", INTERRUPTED), 0)
        for trial in self.study.trials:
            if trial.state.is_finished():
                counts[state_of(trial)] += 1
        return counts


def state_of(trial: FrozenTrial) -> str:
    """Returns how a trial ended."""
    if trial.user_attrs.get(INTERRUPTED):
        return INTERRUPTED
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()


def judged(outcome: Outcome) -> Outcome:
    """Returns a job's end as a search sees it, in its lines, its tables and its study alike.

    A region that diverges is no accident but a bad region: its trials count as pruned.
    """
    if outcome.error == DivergedError.__name__:
        return replace(outcome, status="pruned")
    if outcome.status == "finished" and not math.isfinite(outcome.value or 0.0):
        return replace(outcome, status="pruned", reason=f"its score is {outcome.value}")
    return outcome


def _check_same(study: optuna.Study, direction: str, space: Space, objective: str) -> None:
    def refuse(differs: str) -> ConfigError:
        return ConfigError(
            f"hydra.sweeper.study_name={study.study_name}: that study {differs}; give this search a"
            " name of its own: hydra.sweeper.study_name=<name>"
        )

    then = study.user_attrs.get(OBJECTIVE, objective)
    if then != objective:
        raise refuse(f"has objective={then}, not {objective}")
    if (known := study.direction.name.lower()) != direction:
        raise refuse(f"is to {known}, not {direction}")
    for trial in study.trials:
        for key in trial.distributions.keys() & space.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space.distributions[key])
            except ValueError:
                raise refuse(f"chooses {key} from something else") from None


def _outcome_once_ended(
    trial: FrozenTrial, earlier: Callable[[], Mapping[int, Outcome]]
) -> Outcome:
    """Returns what became of a trial; what a killed search left behind needs a while to end."""
    until = time.monotonic() + PATIENCE
    folder, number = Path(str(trial.user_attrs.get(FOLDER))), trial.number
    killed = Outcome(number=number, overrides=(), folder=folder, status="interrupted")
    killed = replace(killed, reason="the search was killed")
    while True:
        outcome = earlier().get(number)
        status = outcome.status if outcome else (read_status(folder) or {}).get("status")
        if status != "running":
            return outcome or killed
        if time.monotonic() > until:
            raise ConfigError(
                f"trial {number} is still being trained in {folder}, by another search or by"
                " what is left of a killed one; stop it, or wait for its end"
            )
        time.sleep(_POLL)
