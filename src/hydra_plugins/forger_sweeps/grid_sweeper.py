"""`hydra/sweeper=grid`: every combination of the overrides with several values.

Hydra only builds sweepers that lie below `hydra_plugins`, and imports this at every start.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Hydra's basic sweeper, with records, a report and a way to go on.

    Args:
        params: overrides with several values, by key; those of the command come on top.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self._params = [f"{key!s}={value}" for key, value in (params or {}).items()]
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
        """Runs the jobs that the overrides name, and returns what became of each."""
        from forger.app.sweep.engine import Engine, run_grid  # not at every start

        loader = self._given["hydra_context"].config_loader
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides(self._params + arguments)
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        return run_grid(Engine(**self._given), combinations)
