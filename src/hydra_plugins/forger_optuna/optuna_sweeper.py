"""`hydra/sweeper=optuna`. Owns what Hydra builds and calls; `forger.app.sweep.search` searches.

Hydra imports this at every start, so nothing heavy may be imported here.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Chooses each job's words by the scores of the jobs before it.

    Args:
        settings: of `hydra.sweeper`, see configs/hydra/sweeper/optuna.yaml; the search checks them.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self._task_function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what the search needs."""
        self.hydra_context, self.config = hydra_context, config
        self._task_function = task_function

    def sweep(self, arguments: list[str]) -> None:
        """Searches.

        Args:
            arguments: words of the command, those for Hydra itself left out.

        Raises:
            ConfigError: the search makes no sense, or Optuna is not installed.
        """
        from forger.app.sweep.engine import Engine
        from forger.app.sweep.search import search

        assert self.hydra_context is not None
        assert self.config is not None
        assert self._task_function is not None
        engine = Engine(
            hydra_context=self.hydra_context,
            task_function=self._task_function,
            config=self.config,
        )
        search(engine, self.hydra_context.config_loader, self.config, self.settings, arguments)
