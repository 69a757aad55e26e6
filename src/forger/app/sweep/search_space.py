"""What a search may choose: from the overrides of a command and a recipe to Optuna's distributions.

An override means what it means to Hydra: `range(1,4)` is 1, 2 and 3 here as in any sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from forger.app.config.check import find_problems
from forger.app.config.compose import worded
from forger.app.config.messages import listed, written
from forger.errors import ConfigError

Value: TypeAlias = "str | int | float"
_NOT_OF_JOBS = ("sweep.", "trust", "moved")


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched."""

    key: str  # as it stands in an override, perhaps with a `+`
    distribution: BaseDistribution  # values of `a,b` and `choice(a,b)` are kept as text
    values: tuple[Value, ...] | None = None  # all that there are; `None`: an interval

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values between which all others lie: of a choice all, of numbers the ends."""
        if isinstance(self.distribution, (FloatDistribution, IntDistribution)):
            return (self.distribution.low, self.distribution.high)
        return self.values or ()


@dataclass(frozen=True)
class Space:
    """Fixed overrides and settings that are searched; all that a trial's command is made of."""

    fixed: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna chooses from."""
        return {parameter.key: parameter.distribution for parameter in self.parameters}

    def overrides(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the overrides of one trial."""
        return (*self.fixed, *(f"{p.key}={values[p.key]}" for p in self.parameters))

    def grid(self) -> dict[str, list[Value]]:
        """Returns all values of every setting.

        Raises:
            ConfigError: there is no end of them.
        """
        for parameter in self.parameters:
            if parameter.values is None:
                raise ConfigError(
                    f"hydra/sweeper/sampler=grid: {parameter.key} is an interval, which has no end"
                    " of values; write choice(...) or range(...) for it, or another sampler"
                )
        return {p.key: list(p.values or ()) for p in self.parameters}


def read_space(arguments: Iterable[str], params: Mapping[str, Any], loader: Any = None) -> Space:
    """Reads what is fixed and what is searched.

    Args:
        arguments: overrides of the command; they take the place of a recipe's.
        params: of the recipe, by setting.
        loader: Hydra's, which `glob(...)` asks.

    Raises:
        ConfigError: an override cannot be read, or nothing is searched.
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
    searched = [override for override in known if override.is_sweep_override()]
    if not searched:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search; write for example"
            " 'optimizer.lr=tag(log,interval(1e-5,1e-2))', or choose a recipe,"
            " hparams_search=<choice>"
        )
    fixed = (str(override.input_line) for override in known if not override.is_sweep_override())
    return Space(tuple(fixed), tuple(_parameter(override) for override in searched))


def _parsed(parser: OverridesParser, text: str, where: str = "") -> Override:
    try:
        return parser.parse_override(text)
    except HydraException as error:
        reason = f"{error.__cause__ or error}".splitlines()[0]
        raise ConfigError(f"{where}{text}: cannot be read: {reason}") from None


def _parameter(override: Override) -> Parameter:
    key, sweep = override.get_key_element(), override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            return Parameter(key, _interval(sweep))
        if isinstance(sweep, RangeSweep):
            return _range(key, sweep, list(override.sweep_iterator()))
        choices = tuple(dict.fromkeys(override.sweep_string_iterator()))
        return Parameter(key, CategoricalDistribution(choices), choices)
    except (ValueError, HydraException) as error:
        raise ConfigError(f"{override.input_line}: {error}") from None


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or low > high:
        raise ValueError("the smaller number must come first")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(key: str, sweep: RangeSweep, numbers: Sequence[Any]) -> Parameter:
    if not numbers:
        raise ValueError("holds no number")
    log, step = "log" in sweep.tags, abs(sweep.step or 1)
    if all(isinstance(number, int) for number in numbers):
        low, high = min(numbers), max(numbers)
        whole = IntDistribution(low, high, log=log, step=int(step))
        return Parameter(key, whole, tuple(sorted(numbers)))
    if log:
        raise ValueError("steps have no logarithm; write interval(...)")
    values = tuple(sorted(map(float, numbers)))
    return Parameter(key, FloatDistribution(values[0], values[-1], step=float(step)), values)


def check_space(loader: ConfigLoader, master: DictConfig, space: Space) -> DictConfig:
    """Checks every value of a search, and returns a trial's config from the first value of each.

    Each is composed alone with the fixed overrides: what only contradicts another choice fails its
    own trial later. `master` is the config of the whole sweep.

    Raises:
        ConfigError: a setting does not exist, a value is not allowed, or `objective` is missing.
    """
    problems: list[str] = []
    for parameter in space.parameters:
        for value in parameter.extremes:
            problems += _problems(loader, master, [*space.fixed, f"{parameter.key}={value}"])
    if problems:
        raise ConfigError(listed(problems))
    first = {parameter.key: parameter.extremes[0] for parameter in space.parameters}
    cfg = loader.load_sweep_config(master, list(space.overrides(first)))
    if cfg.objective is None:
        raise ConfigError(
            "objective=null: a search needs a score; write for example objective=val/classifier_fid"
        )
    if any(parameter.key == "objective" for parameter in space.parameters):
        raise ConfigError("objective: a search has one; name one metric")
    return cfg


def _problems(loader: ConfigLoader, master: DictConfig, overrides: Sequence[str]) -> list[str]:
    try:
        cfg = loader.load_sweep_config(master, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        return [worded(error, overrides)]
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return [problem.text for problem in find_problems(cfg)]
