"""A run's trial in the Optuna study of the search that it belongs to. Needs Optuna."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from optuna.trial import Trial
from sqlalchemy.engine import make_url

log = logging.getLogger(__name__)

PRUNER = "pruner"  # user attribute of a study: class and settings of its pruner
_PATIENCE = 60  # seconds that a process waits while another one writes to the file


def open_storage(url: str) -> RDBStorage:
    """Opens a database, which is made where it is not there yet."""
    if not url.startswith("sqlite"):
        return RDBStorage(url)
    Path(str(make_url(url).database)).parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _PATIENCE}})


def open_trial(storage: str, study: str, number: int) -> Trial | None:
    """Returns a study's trial that goes on; `None` where it has ended.

    The database, a URL, may be anybody's: its pruner is one of Optuna's own.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A step reported twice, by a run that was broken off and went on, keeps its first value.
    warnings.filterwarnings("ignore", message="The reported value is ignored")
    database, sampler = open_storage(storage), optuna.samplers.RandomSampler()
    found = optuna.load_study(study_name=study, storage=database, sampler=sampler)
    found.pruner = _pruner(dict(found.user_attrs[PRUNER]))
    owner = database.get_study_id_from_name(study)
    trial = database.get_trial_id_from_study_id_trial_number(owner, number)
    if database.get_trial(trial).state.is_finished():
        log.info("search          trial %d has ended; its search is told nothing more", number)
        return None
    return Trial(found, trial)


def _pruner(node: dict[str, object]) -> BasePruner:
    target = str(node.pop("_target_"))
    if target not in [f"optuna.pruners.{name}" for name in optuna.pruners.__all__]:
        raise ValueError(f"{target}: is no pruner of Optuna's")
    pruner: BasePruner = getattr(optuna.pruners, target.rpartition(".")[2])(**node)
    return pruner
