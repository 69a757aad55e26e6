"""A search's study in Optuna's database: what chooses its trials, and how these ended."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from forger.app.config.messages import choice
from forger.app.sweep.folder import TRIAL, Job, Outcome, SweepFolder
from forger.app.sweep.search_space import Space
from forger.errors import ConfigError
from forger.trials import PRUNER, open_storage

# User attributes of trials, and of the study
INTERRUPTED, REASON, REPEATS = "interrupted", "reason", "repeats"
FOLDER, OVERRIDES, OBJECTIVE = "folder", "words", "objective"


def build_part(part: str, node: Any, space: Space, trials: int = 0) -> Any:
    """Builds one of Optuna's samplers or pruners, `part`, as the config has it.

    The seed is moved by the `trials` that the study has: it would draw the same again.
    """
    module, where = getattr(optuna, f"{part}s"), f"hydra.sweeper.{part}"
    settings = dict(node) if isinstance(node, dict) else {"_target_": node}
    target = str(settings.pop("_target_", None))
    known = [f"{module.__name__}.{name}" for name in module.__all__ if part.title() in name]
    if target not in known:
        raise ConfigError(
            f"{where}._target_={target}: is no class of {module.__name__}{choice(target, known)};"
            f" hydra/sweeper/{part}=<choice> names one"
        )
    if target.endswith("CmaEsSampler") and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("hydra/sweeper/sampler=cmaes: needs the package; pip install cmaes")
    kind = getattr(module, target.rpartition(".")[2])
    parameters = inspect.signature(kind).parameters
    for key in settings.keys() - parameters.keys():
        raise ConfigError(
            f"{where}.{key}: {kind.__name__} has no such setting{choice(key, parameters)};"
            f" hydra/sweeper/{part}=<choice> brings its own"
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
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from None


def storage_url(url: str | None, folder: Path) -> str:
    """Returns the URL of the storage from wherever; without one it is a file in `folder`."""
    where = f"hydra.sweeper.storage={url}"
    try:
        parsed = make_url(url or f"sqlite:///{folder / 'optuna.db'}")
    except SQLAlchemyError:
        example = "sqlite:///search.db"
        raise ConfigError(f"{where}: must be a database's URL, for example {example}") from None
    if parsed.password is not None:
        raise ConfigError(
            f"hydra.sweeper.storage={parsed.render_as_string()}: the password would stand in every"
            " run's folder; leave it out, and use what the database reads itself, ~/.pgpass for"
            " PostgreSQL"
        )
    if parsed.get_backend_name() != "sqlite":
        return str(url)
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError(f"{where}: is in memory, where no other process finds it; name a file")
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
        self.url, self.objective, direction = url, objective, settings["direction"]
        try:
            self.storage = open_storage(url)
        except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            where = f"hydra.sweeper.storage={url}"
            raise ConfigError(f"{where}: cannot be opened: {reason}") from error
        self.study = optuna.create_study(
            storage=self.storage, study_name=name, direction=direction, load_if_exists=True
        )
        self._check_same(direction, space)
        self.study.sampler = build_part("sampler", settings["sampler"], space, len(self.trials))
        self.study.set_user_attr(OBJECTIVE, objective)
        self.study.set_user_attr(PRUNER, dict(settings["pruner"]))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.trials

    def _check_same(self, direction: str, space: Space) -> None:
        """Refuses a study that was there and searches for something else."""
        differs = []
        if (then := self.study.user_attrs.get(OBJECTIVE, self.objective)) != self.objective:
            differs.append(f"has objective={then}, not {self.objective}")
        if (known := self.study.direction.name.lower()) != direction:
            differs.append(f"is to {known}, not {direction}")
        earlier = {key: one for trial in self.trials for key, one in trial.distributions.items()}
        for key in earlier.keys() & space.distributions.keys():
            try:
                check_distribution_compatibility(earlier[key], space.distributions[key])
            except ValueError:
                differs.append(f"chooses {key} from something else")
        if differs:
            raise ConfigError(
                f"hydra.sweeper.study_name={self.study.study_name}: that study {differs[0]}; give"
                " this search a name of its own: hydra.sweeper.study_name=<name>"
            )

    def tell(self, outcome: Outcome) -> None:
        """Tells what became of a job's trial; what was broken off fails and does not count."""
        number = outcome.number
        ends = {"pruned": TrialState.PRUNED, "finished": TrialState.COMPLETE}
        state, reason = ends.get(outcome.status, TrialState.FAIL), outcome.reason or outcome.error
        if state == TrialState.COMPLETE and outcome.value is None:
            state, reason = TrialState.FAIL, "the run returned no score"
        notes: dict[str, Any] = {FOLDER: str(outcome.folder), REASON: reason}
        if outcome.status in ("interrupted", "missing", "running"):
            notes |= {INTERRUPTED: True, REASON: reason or outcome.status}
        owner = self.storage.get_study_id_from_name(self.study.study_name)
        trial = self.storage.get_trial_id_from_study_id_trial_number(owner, number)
        for key, note in notes.items():
            self.storage.set_trial_user_attr(trial, key, note)
        try:
            self.study.tell(number, outcome.value if state == TrialState.COMPLETE else None, state)
        except RuntimeError:  # a complete grid stops a loop of Optuna's, of which there is none
            if not self.trials[number].state.is_finished():
                raise

    def settle(self) -> int:
        """Tells what became of trials that a killed search left; interrupted ones run again.

        Returns how many. Optuna's heartbeats would fail those, too, that had ended before anybody
        told the study.
        """
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            sweep = SweepFolder(Path(trial.user_attrs.get(FOLDER, "")).parent)
            outcome = sweep.outcome(Job(number=trial.number, overrides=(f"{TRIAL}=",)))
            if outcome.status == "running":
                raise ConfigError(
                    f"trial {trial.number} is still being trained in {outcome.folder} by another"
                    " search; stop it, or wait for its end"
                )
            self.tell(outcome)
        known = {trial.user_attrs.get(REPEATS) for trial in self.trials}
        for trial in self.trials:
            if trial.user_attrs.get(INTERRUPTED) and trial.params and trial.number not in known:
                self.study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
        waiting = self.study.get_trials(states=[TrialState.WAITING])
        return sum(REPEATS in trial.user_attrs for trial in waiting)

    def counts(self) -> dict[str, int]:
        """Counts trials by how they ended, those apart that a kill interrupted."""
        ends = Counter(state_of(trial) for trial in self.trials)
        return {end: ends[end] for end in ("complete", "pruned", "failed", INTERRUPTED)}


def state_of(trial: FrozenTrial) -> str:
    """Returns how a trial ended."""
    if trial.user_attrs.get(INTERRUPTED):
        return INTERRUPTED
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
