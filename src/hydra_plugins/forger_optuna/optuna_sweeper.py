"""`hydra/sweeper=optuna`: a search.

Hydra only builds sweepers that lie below `hydra_plugins`, and imports this at every start.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Chooses each job's overrides by the scores of the jobs before it.

    Args:
        settings: of `hydra.sweeper`, see configs/hydra/sweeper/optuna.yaml; the search checks them.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._given: dict[str, Any] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes what Hydra hands to every sweeper."""
        self._given = {
            "hydra_context": hydra_context,
            "task_function": task_function,
            "config": config,
        }

    def sweep(self, arguments: list[str]) -> Any:
        """Searches, and returns what became of each job.

        Raises:
            ConfigError: the search makes no sense, or Optuna is not installed.
        """
        from forger.errors import ConfigError, install_command  # not at every start, as below

        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(f"hydra/sweeper=optuna: needs Optuna; {install_command('optuna')}")
        from forger.app.sweep.engine import Engine
        from forger.app.sweep.search import search

        loader, config = self._given["hydra_context"].config_loader, self._given["config"]
        return search(Engine(**self._given), loader, config, self._settings, arguments)
