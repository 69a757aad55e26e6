"""A search from its words to its report: `hydra/sweeper=optuna`. Owns the order of things.

What is senseless is refused here, before the first trial. Imports Optuna where it searches, not
before.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from forger.app.sweep.search_settings import read_settings
from forger.errors import ConfigError, install_command

if TYPE_CHECKING:
    from forger.app.sweep.search_check import Loader
    from forger.app.sweep.search_engine import Engine


def search(
    engine: Engine,
    loader: Loader,
    config: DictConfig,
    settings: Mapping[str, Any],
    arguments: Sequence[str],
) -> None:
    """Searches, and says what is best; goes on with a search that was interrupted.

    Args:
        engine: runs the trials.
        loader: Hydra's config loader.
        config: of the whole sweep.
        settings: of `hydra.sweeper`.
        arguments: words of the command, those for Hydra itself left out.

    Raises:
        ConfigError: the search makes no sense; no trial has begun.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"hydra/sweeper=optuna: needs Optuna; {install_command('optuna')}")
    from optuna.samplers import CmaEsSampler

    from forger.app.sweep.search_check import check_space
    from forger.app.sweep.search_loop import Search, wanted_trials
    from forger.app.sweep.search_parts import make_pruner, make_sampler, open_storage, storage_url
    from forger.app.sweep.search_space import read_space
    from forger.app.sweep.search_study import open_study

    wanted = read_settings(settings)
    space = read_space(arguments, wanted.params, loader)
    sampler = make_sampler(wanted.sampler, space, 0)  # mistakes, before there is a file
    record = OmegaConf.select(config, "sweep.resume")
    if record and isinstance(sampler, CmaEsSampler) and "cmaes" not in (config.get("trust") or ()):
        raise ConfigError(
            "hydra/sweeper/sampler=cmaes: keeps its state as a pickle in the search's database, and"
            " loading one can run code; if this search is your own, write trust=[cmaes]"
        )
    make_pruner(wanted.pruner)
    cfg = check_space(loader, config, space)
    url = storage_url(wanted.storage, engine.folder)
    name = wanted.study_name or (str(cfg.name) if wanted.storage is None else engine.folder.name)
    _quieten()
    storage = open_storage(url)
    study = open_study(storage, name, wanted, space, str(cfg.objective))
    with engine.begun(()):
        trials = wanted_trials(study, space, wanted.n_trials)
        Search(engine, study, storage, url, space).run(trials, wanted.n_jobs or engine.parallel)


def _quieten() -> None:
    """Leaves what Optuna and its database tools say at every trial to our own lines."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
