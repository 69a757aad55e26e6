"""The config of a run that goes on: its own, with what was typed. Owns what may change in it.

Imports neither torch nor anything that does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from forger.app.config.check import find_problems
from forger.app.config.compose import put_settings
from forger.app.config.messages import given, type_setting
from forger.app.config.paths import with_absolute_paths
from forger.app.config.records import find_untrusted
from forger.app.config.sections import SCRIPTS
from forger.app.config.trust import (
    is_in_use,
    is_named,
    links_out_of,
    move,
    named,
    not_where,
    targets_in,
)
from forger.errors import ConfigError

RESUME = "resume"  # the setting

# Settings that change how a run is carried out, not what it computes. A name stands for all in it.
_CHANGEABLE = (
    *(f"trainer.{limit}" for limit in ("max_steps", "max_epochs", "max_time")),
    *(f"trainer.{limit}" for limit in ("min_steps", "min_epochs")),
    *(f"trainer.{how}" for how in ("log_every_n_steps", "profiler", "detect_anomaly", "benchmark")),
    *(f"trainer.{how}" for how in ("threads", "deterministic")),
    *("callbacks", "logger", "metrics.every_n_steps", "metrics.inception_weights"),
    *("data.root", "data.download", "data.cache_dir", "data.device", "paths.cache_dir"),
    *("objective", "dry_run", "compile", "resume", "trust", "moved"),
)
_HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "sync_batchnorm")
_GROUPS = ("trainer", "logger")  # of which another file may be chosen


def resumed_config(
    folder: Path, words: Iterable[Override], composed: DictConfig
) -> tuple[DictConfig, list[str]]:
    """Returns the run's own config with the words applied, and what is wrong, one line each.

    The run may be anybody's: its config is held against `trust`, which what is typed, and what the
    command's own config names, need not be.

    Args:
        folder: of the run.
        words: of the command.
        composed: the config that the command would have without `resume`, for chosen files.
    """
    cfg = with_absolute_paths(_own_config(folder, composed))
    own, choices = _plain(cfg), _own_choices(folder)
    problems, settings, taken = list[str](), list[Override](), list[str]()
    for word in words:
        group = word.key_or_group.replace(".", "/")
        if word.key_or_group in (RESUME, "trust", "moved"):
            continue
        if group not in choices or "={" in str(word.input_line):
            settings.append(word)
        elif group in _GROUPS:
            taken += _take_group(cfg, group, composed)
        elif (problem := _other_choice(word, choices[group], folder)) is not None:
            problems.append(problem)
    before = _plain(cfg)
    wrong, unlisted = put_settings(cfg, settings)
    cfg = with_absolute_paths(cfg)
    after = _plain(cfg)
    for word in settings:
        _spread(cfg, word.key_or_group)
        problems += _forbidden(word, before, after, folder)
    found = find_problems(_without_free_words(cfg, own))
    for word in unlisted:
        if not any(word.key_or_group.startswith(problem.key) for problem in found):
            line = word.input_line
            wrong.append(f"{line}: no such setting; to add it, write +{line}")
    cfg.resume = str(folder)
    wrong = problems + wrong
    untrusted = _untrusted(cfg, settings, taken, composed, imports=not (wrong or found))
    wrong += [p.text for p in found if not any(u.startswith(f"{p.key}=") for u in untrusted)]
    links = [f"resume={folder}: {text}" for text in links_out_of(folder, cfg.trust)]
    return cfg, wrong + untrusted + links


def _untrusted(
    cfg: DictConfig, words: list[Override], taken: list[str], composed: DictConfig, imports: bool
) -> list[str]:
    """Returns what the run may not bring; `cfg.trust` becomes all that the user has named."""
    typed = [*taken, *(key for word in words for key in _leaves(word.key_or_group, _value(word)))]
    for key in list(typed):  # what `_spread` passes on
        group, _, name = key.partition(".")
        typed += [
            f"logger.{other}.{name}" for other in cfg.get("logger") or () if group == "logger"
        ]
    # what is taken from another file stands in the command's own config
    trust = [*named(composed.get("trust"), composed.get("moved")), *targets_in(_plain(composed))]
    _keep_in_place(cfg, typed, trust, composed)
    plain = _plain(cfg)
    found = find_untrusted(plain, trust, typed=typed, build=[""], imports=imports)
    found += _foreign_search(cfg, typed, trust)
    cfg.trust = [*trust, *(str(_at(plain, key)) for key in typed if key.endswith("._target_"))]
    return found


def _keep_in_place(
    cfg: DictConfig, typed: list[str], trust: list[str], composed: DictConfig
) -> None:
    """Has nothing written where the run's config alone says so, but in caches that are in use."""
    for key in ("paths.cache_dir", "data.cache_dir"):
        own, place = composed.paths.cache_dir, OmegaConf.select(cfg, key)
        if isinstance(place, str) and key not in typed and not is_named(place, trust):
            OmegaConf.update(cfg, key, place if is_in_use("cache_dir", place) else own)
    root = str(OmegaConf.select(cfg, "data.root"))
    known = is_named(root, [*trust, composed.paths.data_dir]) or is_in_use("root", root)
    if OmegaConf.select(cfg, "data.download") and not known and "data.root" not in typed:
        cfg.data.download = "data.download" in typed


def _foreign_search(cfg: DictConfig, typed: list[str], trust: list[str]) -> Iterator[str]:
    """Yields a complaint where the run reports to a search elsewhere than beside it."""
    storage, folder = OmegaConf.select(cfg, "sweep.trial.storage"), Path(cfg.resume)
    beside = [f"sqlite:///{path / 'optuna.db'}" for path in (folder, folder.parent)]
    if storage is not None and not is_named(str(storage), [*trust, *beside]):
        key = "sweep.trial.storage"
        if key not in typed:
            yield f"{given(key, storage)}: {not_where(str(storage))}"


def _value(word: Override) -> Any:
    return None if word.is_delete() or word.is_sweep_override() else word.value()


def _leaves(key: str, value: Any) -> Iterator[str]:
    """Yields the keys that a word sets: a mapping is merged into what the run has."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield key


def _own_config(folder: Path, composed: DictConfig) -> DictConfig:
    path = folder / "config.yaml"
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:  # of YAML that is damaged, anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"resume={folder}: {path.name} cannot be read: {reason}") from None
    if not isinstance(cfg, DictConfig) or "trainer" not in cfg:
        raise ConfigError(f"resume={folder}: {path.name} is not the config of a run")
    cfg = DictConfig(move(_plain(cfg), composed.get("moved")))
    with open_dict(cfg):
        cfg.trust, cfg.moved = [], None  # for this command to say, not for the run
        cfg.setdefault("init_from", None)  # not yet known to runs of earlier versions
        cfg.model.setdefault("share_fakes", False)
        cfg.setdefault("compile", False)
        if cfg.get("metrics") and "k" in cfg.metrics:  # one for both in earlier versions
            k = cfg.metrics.pop("k")
            cfg.metrics.update(precision_k=k, coverage_k=k)
        cfg.setdefault("sweep", {"fail_fast": False, "resume": None, "trial": None})
    return cfg


def _without_free_words(cfg: DictConfig, own: Any) -> DictConfig:
    """Leaves out the run's words that only interpolation read: in its config that is resolved."""
    kept = cfg.copy()
    for key, place in SCRIPTS["train"].sections.items():
        node: Any = OmegaConf.select(kept, key) if key and place.free else None
        known = place.schema
        for name in list(node) if isinstance(node, DictConfig) else ():
            free = name not in known and not isinstance(node[name], DictConfig)
            if free and _at(own, f"{key}.{name}") is not _NOTHING:
                del node[name]
    return kept


def _own_choices(folder: Path) -> dict[str, Any]:
    try:
        recorded = json.loads((folder / "environment.json").read_text())["choices"]
        return dict(recorded)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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


def _other_choice(word: Override, own: Any, folder: Path) -> str | None:
    chosen = word.value()
    if chosen == own or (own is None and chosen in (None, "null")):
        return None
    return (
        f"{word.input_line}: the run resumed has {given(word.key_or_group, own)}, {_keeps(folder)}"
    )


def _spread(cfg: DictConfig, key: str) -> None:
    """Passes a word of `logger` on to the loggers: the run's own config has it resolved."""
    group, _, name = key.lstrip("+~").partition(".")
    if group != "logger" or not name or "." in name or not cfg.get("logger"):
        return
    for node in cfg.logger.values():
        own = isinstance(node, DictConfig) and name in node
        if own and not OmegaConf.is_interpolation(node, name):
            node[name] = cfg.logger[name]


def _forbidden(word: Override, before: Any, after: Any, folder: Path) -> list[str]:
    key = word.key_or_group
    hardware = tuple(f"trainer.{name}" for name in _HARDWARE)
    if any(key == one or key.startswith(f"{one}.") for one in (*_CHANGEABLE, *hardware)):
        return []
    old, new = _at(before, key), _at(after, key)
    if old == new:
        return []
    text = "lacks it" if old is _NOTHING else f"has {given(key, old)}"
    line = str(word.input_line).removeprefix("++")
    return [f"{line}: the run resumed {text}, {_keeps(folder)}"]


def _keeps(folder: Path) -> str:
    text = type_setting("init_from", folder)
    return f"and keeps it; leave it out, or start a new run from its weights: {text}"


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


_NOTHING = object()


def _at(node: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _NOTHING
        node = node[part]
    return node
