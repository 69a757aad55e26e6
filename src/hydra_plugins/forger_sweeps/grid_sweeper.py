"""`hydra/sweeper=grid`: every combination of the words with several values.

Hydra only builds sweepers that lie below `hydra_plugins`; the work is in `forger.app.sweep`.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Hydra's basic sweeper, with a record, a report and a way to go on.

    Args:
        params: words with several values, by key; those of the command come on top.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self._params = [str(key) + f"={value}" for key, value in (params or {}).items()]
        self._engine: Any = None
        self._context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes what Hydra hands to every sweeper."""
        from forger.app.sweep.engine import Engine

        self._context = hydra_context
        self._engine = Engine(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the jobs that the words name, and reports on them."""
        from forger.app.sweep.grid import run_grid

        assert self._context is not None
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        words = parser.parse_overrides(self._params + arguments)
        (combinations,) = BasicSweeper.split_arguments(words, None)
        return run_grid(self._engine, combinations)
