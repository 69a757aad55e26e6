"""`hydra/sweeper=grid`, every combination of values, and `hydra/sweeper=optuna`, a search.

Hydra only builds sweepers that lie below `hydra_plugins`, and imports this at every start.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # combines values
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper


class _Sweeper(Sweeper):
    def setup(self, **given: Any) -> None:
        """Takes what Hydra hands to every sweeper: context, task and config."""
        self.given = given
        self.loader = given["hydra_context"].config_loader


class GridSweeper(_Sweeper):
    """Runs every combination of the overrides; `params` are more of them, by key."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = [f"{key!s}={value}" for key, value in (params or {}).items()]

    def sweep(self, arguments: list[str]) -> Any:
        """Returns what became of each job."""
        from forger.app.sweep.engine import Engine, run_grid  # not at every start

        parser = OverridesParser.create(config_loader=self.loader)
        overrides = parser.parse_overrides(self.params + arguments)
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        return run_grid(Engine(**self.given), combinations)


class OptunaSweeper(_Sweeper):
    """Chooses jobs by the scores of others; settings: configs/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def sweep(self, arguments: list[str]) -> Any:
        """Returns what became of each job."""
        from forger.errors import ConfigError, install_command  # not at every start, as below

        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(f"hydra/sweeper=optuna: needs Optuna; {install_command('optuna')}")
        from forger.app.sweep.engine import Engine
        from forger.app.sweep.search import search

        config = self.given["config"]
        return search(Engine(**self.given), self.loader, config, self.settings, arguments)
