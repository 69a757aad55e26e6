"""A search's study in Optuna's database: its sampler, pruner and storage, and its trials' ends."""

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
from optuna.samplers import BaseSampler, CmaEsSampler
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
JOB, FOLDER, OVERRIDES = "job", "folder", "words"
OBJECTIVE, SWEEP = "objective", "sweep"
PATIENCE = 60.0  # seconds in which what a killed search left behind may save and end
_POLL = 0.5
_STORAGE = "hydra.sweeper.storage"


def make_sampler(node: Mapping[str, Any], space: Space, trials: int) -> BaseSampler:
    """Builds the sampler.

    Args:
        node: of the config.
        space: what is searched; a sampler that asks for a grid is given it.
        trials: that the study has. A seed alone would draw those again that it drew at the start.

    Raises:
        ConfigError: it is none of Optuna's, or does not take these settings.
    """
    kind = _class_of(node, "sampler")
    own: dict[str, Any] = {}
    if issubclass(kind, CmaEsSampler) and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("hydra/sweeper/sampler=cmaes: needs the package; pip install cmaes")
    if "search_space" in inspect.signature(kind).parameters:
        own["search_space"] = space.grid()
    elif isinstance(node.get("seed"), int):
        own["seed"] = node["seed"] + trials
    sampler: BaseSampler = _make(kind, {**node, **own}, "sampler")
    return sampler


def check_pruner(node: Mapping[str, Any]) -> None:
    """Builds the pruner for its mistakes: the trials' own processes ask one.

    Raises:
        ConfigError: it is none of Optuna's, or does not take these settings.
    """
    _make(_class_of(node, "pruner"), node, "pruner")


def _class_of(node: Mapping[str, Any], part: str) -> type:
    target, module = str(node["_target_"]), getattr(optuna, f"{part}s")
    package, _, name = target.rpartition(".")
    known = [one for one in module.__all__ if one.endswith(part.title()) and one[:4] != "Base"]
    if package != module.__name__ or name not in known:
        raise ConfigError(
            f"hydra.sweeper.{part}._target_={target}: is no class of {module.__name__}"
            f"{choice(name, known)}"
        )
    found: type = getattr(module, name)
    return found


def _make(kind: type, node: Mapping[str, Any], part: str) -> Any:
    settings = {key: value for key, value in node.items() if not key.startswith("_")}
    parameters = inspect.signature(kind).parameters
    for key in settings.keys() - parameters.keys():
        raise ConfigError(
            f"hydra.sweeper.{part}.{key}: {kind.__name__} has no such setting"
            f"{choice(key, parameters)}; hydra/sweeper/{part}=<choice> brings its own"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**settings)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"hydra.sweeper.{part}: {str(error).splitlines()[0]}") from None


def storage_url(url: str | None, folder: Path) -> str:
    """Returns the URL of the storage, which means the same from every folder.

    Args:
        url: as given; `None`: a file in `folder`.
        folder: of the sweep.

    Raises:
        ConfigError: it is no database's URL, lives in memory, or shows a password.
    """
    if url is None:
        return f"sqlite:///{folder.absolute() / 'optuna.db'}"
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigError(
            f"{_STORAGE}={url}: must be a database's URL, for example sqlite:///search.db"
        ) from None
    if parsed.password is not None:
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigError(
            f"{_STORAGE}={shown}: the password would stand in every run's folder; leave it out, and"
            " use what the database reads itself, ~/.pgpass for PostgreSQL"
        )
    if parsed.get_backend_name() != "sqlite":
        return url
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"{_STORAGE}={url}: is in memory, where no other process finds it; name a file:"
            " sqlite:///search.db"
        )
    path = Path(str(parsed.database)).expanduser().absolute()
    return parsed.set(database=str(path)).render_as_string()


class SearchStudy:
    """The study of a search: opened, or begun where it is not there yet.

    Args:
        url: of the storage.
        name: in it.
        settings: of the search, `hydra.sweeper`.
        space: what is searched.
        objective: the metric to search by.

    Raises:
        ConfigError: a study of that name searched for something else, or cannot be opened.
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
            sampler=make_sampler(settings["sampler"], space, trials),
            load_if_exists=True,
        )
        self.study.set_user_attr(OBJECTIVE, objective)
        self.study.set_user_attr(PRUNER, dict(settings["pruner"]))

    @property
    def best(self) -> FrozenTrial | None:
        """The completed trial with the best value, if there is one."""
        try:
            return self.study.best_trial
        except ValueError:  # none has completed
            return None

    def note(self, number: int, content: Mapping[str, Any]) -> None:
        """Adds user attributes to a trial that has not ended."""
        owner = self.storage.get_study_id_from_name(self.study.study_name)
        trial = self.storage.get_trial_id_from_study_id_trial_number(owner, number)
        for key, value in content.items():
            self.storage.set_trial_user_attr(trial, key, value)

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
        self.note(number, notes | ({} if reason is None else {REASON: reason}))
        try:
            self.study.tell(number, value, state)
        except RuntimeError:
            # A complete grid asks to stop a loop of Optuna's own, of which there is none here.
            if not self.study.trials[number].state.is_finished():
                raise

    def settle(self, earlier: Callable[[], Mapping[int, Outcome]]) -> list[int]:
        """Tells what became of trials that a killed search left; interrupted ones run again.

        Args:
            earlier: returns what is known of jobs of this sweep's folder, by number.

        Returns:
            Numbers of the trials that will be repeated.

        Raises:
            ConfigError: one of them is still being trained.
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

    def ended(self) -> int:
        """Returns how many trials have ended by themselves: those that `n_trials` counts."""
        return sum(count for state, count in self.counts().items() if state != INTERRUPTED)


def state_of(trial: FrozenTrial) -> str:
    """Returns how a trial ended."""
    if trial.user_attrs.get(INTERRUPTED):
        return INTERRUPTED
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


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


def _check_same(study: optuna.Study, direction: str, space: Space, objective: str) -> None:
    other = "; give this search a name of its own: hydra.sweeper.study_name=<name>"
    where = f"hydra.sweeper.study_name={study.study_name}: that study"
    then = study.user_attrs.get(OBJECTIVE, objective)
    if then != objective:
        raise ConfigError(f"{where} has objective={then}, not {objective}{other}")
    if (known := study.direction.name.lower()) != direction:
        raise ConfigError(f"{where} is to {known}, not {direction}{other}")
    for trial in study.trials:
        for key in trial.distributions.keys() & space.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space.distributions[key])
            except ValueError:
                raise ConfigError(f"{where} chooses {key} from something else{other}") from None


def _outcome_once_ended(
    trial: FrozenTrial, earlier: Callable[[], Mapping[int, Outcome]]
) -> Outcome:
    """Returns what became of a trial; what a killed search left behind needs a while to end.

    Optuna's heartbeats would only tell after a grace period; the locks of jobs tell at once.
    """
    until = time.monotonic() + PATIENCE
    folder = Path(str(trial.user_attrs.get(FOLDER)))
    while True:
        outcome = earlier().get(trial.user_attrs.get(JOB, -1))
        status = outcome.status if outcome else (read_status(folder) or {}).get("status")
        if status != "running":
            killed = Outcome(
                number=-1,
                overrides=(),
                folder=folder,
                status="interrupted",
                reason="the search was killed",
            )
            return outcome or killed
        if time.monotonic() > until:
            raise ConfigError(
                f"trial {trial.number} is still being trained in {folder}, by another search or by"
                " what is left of a killed one; stop it, or wait for its end"
            )
        time.sleep(_POLL)
