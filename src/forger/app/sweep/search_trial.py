"""A run's own trial in the study of its search. Owns how a job finds it.

The search writes `sweep.trial` among the job's words; the pruner stands in the study.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from forger.app.config.records import is_named
from forger.callbacks.pruning import Pruning
from forger.errors import ConfigError, install_command

if TYPE_CHECKING:
    from optuna.trial import Trial

log = logging.getLogger(__name__)

_KEYS = frozenset({"storage", "study", "number", "metric"})


def build_pruning(cfg: DictConfig) -> Pruning | None:
    """Builds what reports to the search; `None` where the run belongs to none.

    Args:
        cfg: of the run.

    Raises:
        ConfigError: `sweep.trial` is not what a search writes, or Optuna is not installed.
    """
    node = OmegaConf.select(cfg, "sweep.trial")
    if node is None:
        return None
    if not isinstance(node, DictConfig) or set(node) != _KEYS:
        raise ConfigError(
            "sweep.trial: is filled in by hydra/sweeper=optuna; leave it out of the command"
        )
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"sweep.trial: needs Optuna; {install_command('optuna')}")
    where = (str(node.storage), str(node.study), int(node.number))
    trust = None if cfg.resume is None else list(cfg.get("trust") or ())
    return Pruning(str(node.metric), partial(open_trial, *where, trust))


def open_trial(
    url: str, study_name: str, number: int, trust: Sequence[str] | None = None
) -> Trial | None:
    """Returns a trial that goes on; `None` where it has ended.

    Args:
        url: of the storage.
        study_name: in it.
        number: of the trial.
        trust: modules besides Optuna that its pruner may be of; `None`: any, of a study of the
            user's own.

    Raises:
        ConfigError: its pruner is of another.
    """
    import optuna

    from forger.app.sweep.search_parts import make_pruner, open_storage
    from forger.app.sweep.search_study import PRUNER

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # a step that is told twice, by a run that was broken off and went on, keeps its first value
    warnings.filterwarnings("ignore", message="The reported value is ignored")
    storage = open_storage(url)
    study = optuna.load_study(
        study_name=study_name, storage=storage, sampler=optuna.samplers.RandomSampler()
    )
    pruner = study.user_attrs[PRUNER]
    if trust is not None and not is_named(str(pruner["_target_"]), ["optuna", *trust]):
        raise ConfigError(
            f"{url}: its pruner is {pruner['_target_']}, which is none of Optuna; if you know what"
            f" this is, write trust=[{pruner['_target_']}]"
        )
    study.pruner = make_pruner(pruner)
    owner = storage.get_study_id_from_name(study_name)
    trial = storage.get_trial_id_from_study_id_trial_number(owner, number)
    if storage.get_trial(trial).state.is_finished():
        log.info("search          trial %d has ended; its search is told nothing more", number)
        return None
    return optuna.Trial(study, trial)
