"""The config of a run that goes on: its own, with the overrides of a command that may change it.

Imports neither torch nor anything that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from forger.app.config.check import find_problems
from forger.app.config.messages import given, type_setting
from forger.app.config.records import find_untrusted
from forger.app.config.sections import SCRIPTS
from forger.app.config.settings import put_settings, with_absolute_paths
from forger.app.config.trust import (
    is_in_use,
    is_named,
    links_out_of,
    move,
    named,
    not_where,
    targets_in,
)
from forger.app.config.values import is_within, value_at
from forger.app.run.folder import read_choices
from forger.errors import ConfigError

OF_THE_COMMAND = ("resume", "trust", "moved")  # settings that are not of the run
_HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "sync_batchnorm")
# Settings that change how a run is carried out, not what it computes. A name stands for all in it.
_CHANGEABLE = (
    *(f"trainer.{limit}" for limit in ("max_steps", "max_epochs", "max_time")),
    *(f"trainer.{limit}" for limit in ("min_steps", "min_epochs")),
    *(f"trainer.{how}" for how in ("log_every_n_steps", "profiler", "detect_anomaly", "benchmark")),
    *(f"trainer.{how}" for how in ("threads", "deterministic", *_HARDWARE)),
    *("callbacks", "logger", "metrics.every_n_steps", "metrics.inception_weights"),
    *("data.root", "data.download", "data.cache_dir", "data.device", "paths.cache_dir"),
    *("objective", "dry_run", "compile"),
)


def resumed_config(
    folder: Path, overrides: Iterable[Override], composed: DictConfig
) -> tuple[DictConfig, list[str]]:
    """Returns the run's own config with the overrides applied, and what is wrong, one line each.

    The run may be anybody's: its config is held against `trust`, which what is typed, and what the
    command's own config names, need not be.

    Args:
        folder: of the run.
        overrides: of the command, without those for Hydra.
        composed: the config that the command would have without `resume`, for chosen files.
    """
    cfg = with_absolute_paths(_own_config(folder, composed))
    own, choices = _plain(cfg), read_choices(folder)
    wrong, settings, typed = list[str](), list[Override](), list[str]()
    for override in overrides:
        key, value = override.key_or_group, _value(override)
        if key in OF_THE_COMMAND:
            continue
        if key not in choices or isinstance(value, dict):
            settings.append(override)
            typed += _leaves(key, value)
        elif key in ("trainer", "logger"):
            typed += _take_group(cfg, key, composed)
        elif value != choices[key] and (value, choices[key]) != ("null", None):
            wrong.append(_refusal(override, given(key, choices[key]), folder))
    before = _plain(cfg)
    mistakes, unlisted = put_settings(cfg, settings)
    for override in settings:
        _set_in_loggers(cfg, override.key_or_group)
    cfg = with_absolute_paths(cfg)
    problems = find_problems(_without_unread(cfg, own))
    known = [problem.key for problem in problems]
    new = [one for one in settings if not any(is_within(one.key_or_group, key) for key in known)]
    wrong += [*_refusals(new, unlisted, before, _plain(cfg), folder), *mistakes]
    cfg.resume = str(folder)
    untrusted = _untrusted(cfg, typed, composed, imports=not (wrong or problems))
    told = tuple(text.partition("=")[0] for text in untrusted)
    wrong += [problem.text for problem in problems if problem.key not in told]
    links = [f"resume={folder}: {text}" for text in links_out_of(folder, cfg.trust)]
    return cfg, wrong + untrusted + links


def _refusals(
    settings: Iterable[Override], unlisted: list[Override], before: Any, after: Any, folder: Path
) -> Iterator[str]:
    """Yields what is wrong with settings: what the run is may not change."""
    for override in settings:
        key, line = override.key_or_group, override.input_line
        old, changeable = value_at(before, key), any(is_within(key, one) for one in _CHANGEABLE)
        if old != value_at(after, key) and not changeable:
            yield _refusal(override, None if old is None else given(key, old), folder)
        elif override in unlisted:
            yield f"{line}: no such setting; to add it, write +{line}"


def _own_config(folder: Path, composed: DictConfig) -> DictConfig:
    """Reads a run's config; top-level settings that it does not know yet are the defaults."""
    path = folder / "config.yaml"
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:  # of YAML that is damaged, anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"resume={folder}: {path.name} cannot be read: {reason}") from None
    if not isinstance(cfg, DictConfig) or "trainer" not in cfg:
        raise ConfigError(f"resume={folder}: {path.name} is not the config of a run")
    default = {key: composed[key] for key in ("init_from", "compile", "sweep")}
    of_this_command: dict[str, Any] = {"trust": [], "moved": None}
    return DictConfig(default | move(_plain(cfg), composed.get("moved")) | of_this_command)


def _take_group(cfg: DictConfig, group: str, composed: DictConfig) -> list[str]:
    """Takes the hardware of another trainer file, or other loggers, and returns their keys."""
    if group == "logger":
        cfg.logger = composed.get("logger")
        return [group]
    for name in _HARDWARE:
        cfg.trainer.pop(name, None)
        if name in composed.trainer:
            cfg.trainer[name] = composed.trainer[name]
    return [f"{group}.{name}" for name in _HARDWARE]


def _set_in_loggers(cfg: DictConfig, key: str) -> None:
    """Passes `logger.<name>` on to the loggers, which refer to it: the run's own are resolved."""
    group, _, name = key.partition(".")
    if group != "logger" or not name or "." in name:
        return
    for node in (cfg.get("logger") or {}).values():
        if isinstance(node, DictConfig) and name in node:
            node[name] = cfg.logger[name]


def _refusal(override: Override, own: str | None, folder: Path) -> str:
    return (
        f"{override.input_line}: the run resumed {'lacks it' if own is None else f'has {own}'}, and"
        " keeps it; leave it out, or start a new run from its weights:"
        f" {type_setting('init_from', folder)}"
    )


def _without_unread(cfg: DictConfig, own: Any) -> DictConfig:
    """Leaves out the run's settings that only others referred to: in its config, none do."""
    kept = cfg.copy()
    for key, section in SCRIPTS["train"].sections.items():
        node: Any = OmegaConf.select(kept, key) if key and section.free else None
        known = section.schema
        for name in list(node) if isinstance(node, DictConfig) else ():
            free = name not in known and not isinstance(node[name], DictConfig)
            if free and value_at(own, f"{key}.{name}") is not None:
                del node[name]
    return kept


def _untrusted(cfg: DictConfig, typed: list[str], composed: DictConfig, imports: bool) -> list[str]:
    """Returns what the run may not bring; `cfg.trust` becomes all that the user has named.

    Args:
        cfg: of the run, with the overrides.
        typed: keys whose values are the user's.
        composed: the command's own config, all of which is the user's too.
        imports: whether to import what it names.
    """
    for key in list(typed):  # see `_set_in_loggers`
        group, _, name = key.partition(".")
        if group == "logger":
            typed += [f"logger.{other}.{name}" for other in cfg.get("logger") or ()]
    plain_composed = {key: value for key, value in _plain(composed).items() if key != "hydra"}
    trust = [*named(composed.get("trust"), composed.get("moved")), *targets_in(plain_composed)]
    _keep_in_place(cfg, typed, trust, composed)
    plain = _plain(cfg)
    found = find_untrusted(plain, trust, typed=typed, build=[""], imports=imports)
    storage = OmegaConf.select(cfg, "sweep.trial.storage")
    key, run = "sweep.trial.storage", Path(cfg.resume)
    beside = [f"sqlite:///{folder / 'optuna.db'}" for folder in (run, run.parent)]
    if storage is not None and key not in typed and not is_named(str(storage), [*trust, *beside]):
        found.append(f"{given(key, storage)}: {not_where(str(storage))}")
    targets = [str(value_at(plain, key)) for key in typed if key.endswith("._target_")]
    cfg.trust = [*trust, *targets]
    return found


def _keep_in_place(
    cfg: DictConfig, typed: list[str], trust: list[str], composed: DictConfig
) -> None:
    """Has nothing written where the run's config alone says so, but in caches that are in use."""
    for key in ("paths.cache_dir", "data.cache_dir"):
        folder = OmegaConf.select(cfg, key)
        foreign = isinstance(folder, str) and key not in typed and not is_named(folder, trust)
        if foreign and not is_in_use("cache_dir", folder):
            OmegaConf.update(cfg, key, composed.paths.cache_dir)
    root = str(OmegaConf.select(cfg, "data.root"))
    known = is_named(root, [*trust, composed.paths.data_dir]) or is_in_use("root", root)
    if OmegaConf.select(cfg, "data.download") and not known and "data.root" not in typed:
        cfg.data.download = "data.download" in typed


def _value(override: Override) -> Any:
    return None if override.is_delete() else override.value()


def _leaves(key: str, value: Any) -> Iterator[str]:
    """Yields the keys that an override sets: a mapping is merged into what the run has."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield key


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)
