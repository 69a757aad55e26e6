"""What a search may choose: from the overrides of a command and a recipe to Optuna's distributions.

An override means what it means to Hydra: `range(1,4)` is 1, 2 and 3 here as in any sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.distributions import FloatDistribution as Floats
from optuna.distributions import IntDistribution as Integers

from forger.app.config.check import find_problems
from forger.app.config.compose import worded
from forger.app.config.messages import listed, written
from forger.errors import ConfigError

_NOT_OF_JOBS = ("sweep.", "trust", "moved")


@dataclass(frozen=True)
class Space:
    """Fixed overrides and settings that are searched; all that a trial's command is made of."""

    fixed: tuple[str, ...]
    # by setting as it stands in an override, perhaps with a `+`; choices are kept as text
    distributions: dict[str, BaseDistribution]

    def overrides(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the overrides of one trial."""
        return (*self.fixed, *(f"{key}={values[key]}" for key in self.distributions))

    def grid(self) -> dict[str, list[Any]]:
        """Returns all values of every setting, or refuses those that have no end."""
        for key, distribution in self.distributions.items():
            if isinstance(distribution, Floats) and distribution.step is None:
                raise ConfigError(
                    f"hydra/sweeper/sampler=grid: {key} is an interval, which has no end of"
                    " values; write choice(...) or range(...) for it, or another sampler"
                )
        return {key: _all_values(one) for key, one in self.distributions.items()}


def _all_values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (Floats, Integers))
    low, high, step = distribution.low, distribution.high, distribution.step or 1
    return [min(high, low + index * step) for index in range(round((high - low) / step) + 1)]


def _extremes(distribution: BaseDistribution) -> list[Any]:
    """Returns the values between which all others lie: of a choice all, of numbers the ends."""
    if isinstance(distribution, (Floats, Integers)):
        return [distribution.low, distribution.high]
    return _all_values(distribution)


def read_space(arguments: Iterable[str], params: Mapping[str, Any], loader: Any = None) -> Space:
    """Reads what is fixed and what is searched, or says in a ConfigError why that cannot be.

    Args:
        arguments: overrides of the command; they take the place of a recipe's.
        params: of the recipe, by setting.
        loader: Hydra's, which `glob(...)` asks.
    """
    parser = OverridesParser.create(config_loader=loader)
    typed = [_parsed(parser, text) for text in arguments]
    names = {override.get_key_element().lstrip("+~") for override in typed}
    recipe = []
    for key, value in params.items():
        if isinstance(value, (Mapping, list)):
            raise ConfigError(
                f"hydra.sweeper.params.{key}={written(value)}: must be text as in a command; write"
                f" for example {key}: choice(1,2), a dotted name for a setting within another"
            )
        if key.lstrip("+~") not in names:
            text = value if isinstance(value, str) else written(value)
            recipe.append(_parsed(parser, f"{key}={text}", "hydra.sweeper.params: "))
    known = [o for o in (*recipe, *typed) if not o.get_key_element().startswith(_NOT_OF_JOBS)]
    fixed = tuple(str(one.input_line) for one in known if not one.is_sweep_override())
    searched = {o.get_key_element(): _distribution(o) for o in known if o.is_sweep_override()}
    if not searched:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search; write for example"
            " 'optimizer.lr=tag(log,interval(1e-5,1e-2))', or choose a recipe,"
            " hparams_search=<choice>"
        )
    return Space(fixed, searched)


def _parsed(parser: OverridesParser, text: str, where: str = "") -> Override:
    try:
        return parser.parse_override(text)
    except HydraException as error:
        reason = f"{error.__cause__ or error}".splitlines()[0]
        raise ConfigError(f"{where}{text}: cannot be read: {reason}") from None


def _distribution(override: Override) -> BaseDistribution:
    sweep: Any = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            low, high, step = sweep.start, sweep.end, None
        elif isinstance(sweep, RangeSweep):
            numbers: list[Any] = list(override.sweep_iterator())
            low, high, step = min(numbers), max(numbers), abs(sweep.step or 1)
        else:
            return CategoricalDistribution([*dict.fromkeys(override.sweep_string_iterator())])
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int):
            return Integers(low, high, log="log" in sweep.tags, step=int(step or 1))
        return Floats(low, high, log="log" in sweep.tags, step=step)
    except (TypeError, ValueError, HydraException) as error:
        raise ConfigError(f"{override.input_line}: {error}") from None


def check_space(loader: ConfigLoader, master: DictConfig, space: Space) -> DictConfig:
    """Checks every value of a search, and returns a trial's config from the first value of each.

    Each is composed alone with the fixed overrides: what only contradicts another choice fails its
    own trial later. What is wrong is a ConfigError. `master` is the config of the whole sweep.
    """
    problems: list[str] = []
    values = {key: _extremes(one) for key, one in space.distributions.items()}
    for key, some in values.items():
        for value in some:
            problems += _problems(loader, master, [*space.fixed, f"{key}={value}"])
    if "objective" in values:
        problems.append("objective: a search has one; name one metric")
    if problems:
        raise ConfigError(listed(problems))
    first = space.overrides({key: some[0] for key, some in values.items()})
    cfg = loader.load_sweep_config(master, list(first))
    if cfg.objective is None:
        raise ConfigError(
            "objective=null: a search needs a score; write for example objective=val/classifier_fid"
        )
    return cfg


def _problems(loader: ConfigLoader, master: DictConfig, overrides: list[str]) -> list[str]:
    try:
        cfg = loader.load_sweep_config(master, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        return [worded(error, overrides)]
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return [problem.text for problem in find_problems(cfg)]
