"""Composes each set of config files once: most tests choose the same, and Hydra takes its time."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, flag_override

CONFIGS = Path(__file__).parents[2] / "configs"
OURS = {str(CONFIGS), "pkg://hydra.conf", "structured://"}  # and no folder of a test's own
_pickled: dict[tuple[str, ...], bytes] = {}  # soon copied


def compose_once(
    config_name: str, overrides: list[str], return_hydra_config: bool = False
) -> DictConfig:
    """Hydra's compose; what it made of our own files alone is kept, and mistakes are not."""
    path = GlobalHydra.instance().config_loader().get_search_path().get_path()
    is_ours = {one.path for one in path} <= OURS and "searchpath" not in str(overrides)
    key = (config_name, *overrides, str(return_hydra_config))
    if is_ours and key in _pickled:
        config: DictConfig = pickle.loads(_pickled[key])
        return config
    config = hydra.compose(config_name, overrides, return_hydra_config)
    if is_ours:
        _pickled[key] = pickle.dumps(config)
    return config


def compose_config(name: str, *overrides: str) -> DictConfig:
    """The config of a script, as a notebook would compose it; values are put in as Hydra does."""
    own = {"generate": ("text=",)}.get(name, ())  # settings that are called as a group of train.py
    values = [word for word in overrides if _is_value(word) or word.startswith(own)]
    with alone(), hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose_once(name, [word for word in overrides if word not in values])
    with flag_override(config, "struct", True):
        for override in OverridesParser.create().parse_overrides(values):
            adds = override.is_add() or override.is_force_add()
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=adds)
    return config


def _is_value(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+")
    return not key.startswith(("~", "hydra.")) and not (CONFIGS / key).is_dir()


@contextmanager
def alone() -> Iterator[None]:
    """Puts aside the Hydra that a test may have set up."""
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer
