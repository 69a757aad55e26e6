"""The settings of a search, `hydra.sweeper`. Owns what is allowed there, not what Optuna does.

Imports neither torch nor Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from omegaconf import OmegaConf

from forger.app.config.messages import choice, given
from forger.errors import ConfigError

_KEY = "hydra.sweeper"
_DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What configs/hydra/sweeper/optuna.yaml explains.

    Args:
        sampler: with a `_target_`, a class of `optuna.samplers`.
        pruner: with a `_target_`, a class of `optuna.pruners`.
        direction: in which the objective is better.
        n_trials: trials that end by themselves.
        n_jobs: trials chosen and run at a time; `None`: what the launcher runs at once.
        storage: a database's URL; `None`: a file in the sweep's folder.
        study_name: in the storage; `None`: one of the search's own.
        params: what is searched, and fixed words, by setting.
    """

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    direction: Literal["minimize", "maximize"]
    n_trials: int
    n_jobs: int | None
    storage: str | None
    study_name: str | None
    params: Mapping[str, Any]


def read_settings(settings: Mapping[str, Any]) -> Settings:
    """Reads the settings that Hydra hands over.

    Raises:
        ConfigError: one of them is unknown or senseless.
    """
    plain: dict[str, Any] = {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in settings.items()
    }
    known = {field.name for field in fields(Settings)}
    for key in plain.keys() - known:
        raise _refused(key, plain[key], "unknown setting" + choice(key, known))
    for key in sorted(known - plain.keys()):
        raise ConfigError(f"{_KEY}.{key}: is missing; choose hydra/sweeper=optuna")
    for key in ("sampler", "pruner"):
        if not isinstance(plain[key], Mapping) or "_target_" not in plain[key]:
            raise _refused(key, plain[key], f"must name a _target_; write hydra/sweeper/{key}=...")
    if plain["direction"] not in _DIRECTIONS:
        raise _refused("direction", plain["direction"], f"must be {' or '.join(_DIRECTIONS)}")
    _check_count("n_trials", plain["n_trials"])
    if plain["n_jobs"] is not None:
        _check_count("n_jobs", plain["n_jobs"])
    for key in ("storage", "study_name"):
        if plain[key] is not None and not (isinstance(plain[key], str) and plain[key].strip()):
            raise _refused(key, plain[key], "must be text or null")
    if not isinstance(plain["params"] or {}, Mapping):
        raise _refused("params", plain["params"], "must be settings with what may be chosen")
    return Settings(**(plain | {"params": plain["params"] or {}}))


def _check_count(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refused(key, value, "must be a whole number, at least 1")


def _refused(key: str, value: Any, reason: str) -> ConfigError:
    return ConfigError(f"{given(f'{_KEY}.{key}', value)}: {reason}")
