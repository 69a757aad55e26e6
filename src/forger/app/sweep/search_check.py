"""Is every value of a search one that a run takes? Owns asking before the first job.

Each is composed alone with the fixed words: what only contradicts another choice fails its own
trial later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.check import find_problems
from forger.app.config.messages import listed
from forger.app.config.overrides import worded
from forger.app.sweep.search_space import Space
from forger.errors import ConfigError


class Loader(Protocol):
    """Hydra's config loader, as far as it is needed here."""

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Composes the config of one job."""


def check_space(loader: Loader, master: DictConfig, space: Space) -> DictConfig:
    """Composes the config of a trial from the first value of every setting, and returns it.

    Args:
        loader: composes.
        master: the config of the whole sweep.
        space: what is searched.

    Raises:
        ConfigError: a setting does not exist, a value is not allowed, or `objective` is missing.
    """
    first, last = ({p.key: p.extremes[at] for p in space.parameters} for at in (0, -1))
    problems: list[str] = []
    for alone, among in _variations(space, first):
        found = _problems(loader, master, alone)
        # a choice that needs another one is right among others
        problems += found if found and _problems(loader, master, among) else []
    if not problems:  # what two trials share that have nothing else in common, all would have
        others = _problems(loader, master, space.words(last))
        problems = [p for p in _problems(loader, master, space.words(first)) if p in others]
    if problems:
        raise ConfigError(listed(problems))
    cfg = loader.load_sweep_config(master, list(space.words(first)))
    if cfg.objective is None:
        raise ConfigError(
            "objective=null: a search needs a score; write for example objective=val/classifier_fid"
        )
    if any(parameter.key == "objective" for parameter in space.parameters):
        raise ConfigError("objective: a search has one; name one metric")
    return cfg


def _variations(space: Space, first: dict[str, Any]) -> Iterator[tuple[list[str], list[str]]]:
    """Yields for each value the words of it alone, and those with the others at their first."""
    for parameter in space.parameters:
        for value in parameter.extremes:
            word = parameter.word(value)
            yield [*space.fixed, word], list(space.words(first | {parameter.key: value}))


def _problems(loader: Loader, master: DictConfig, words: Sequence[str]) -> list[str]:
    try:
        cfg = loader.load_sweep_config(master, list(words))
    except (HydraException, OmegaConfBaseException) as error:
        return [worded(error, words)]
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return [problem.text for problem in find_problems(cfg)]
