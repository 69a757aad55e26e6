"""A run that goes on: which folder `resume` means, its own config, and what may change in it.

Imports neither torch nor anything that does: mistakes are found before any work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from forger.errors import ConfigError
from forger.runs.checking.check import find_problems
from forger.runs.checking.mains import MAINS
from forger.runs.checking.messages import given, listed
from forger.runs.checking.settings import apply
from forger.runs.checking.signatures import read
from forger.runs.checking.words import Command, read_words
from forger.runs.status import is_running, read_status, running

# Settings that change how a run is carried out, not what it computes. A name stands for all in it.
_CHANGEABLE = (
    *(f"trainer.{limit}" for limit in ("max_steps", "max_epochs", "max_time")),
    *(f"trainer.{limit}" for limit in ("min_steps", "min_epochs")),
    *(f"trainer.{how}" for how in ("log_every_n_steps", "profiler", "detect_anomaly", "benchmark")),
    *(f"trainer.{how}" for how in ("threads", "deterministic")),
    *("callbacks", "logger", "metrics.every_n_steps", "metrics.inception_weights"),
    *("data.root", "data.download", "data.cache_dir", "paths.cache_dir"),
    *("objective", "dry_run", "resume"),
)
_HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "sync_batchnorm")
_GROUPS = ("trainer", "logger")  # of which another file may be chosen
_SPECIAL = "resume"
_WHERE = ("name", "paths.log_dir")  # settings that tell where `last` looks


def wanted(words: Iterable[str]) -> str | None:
    """Returns what follows `resume=` among the words of a command, `null` taken for nothing."""
    found = None
    for word in words:
        key, _, value = word.partition("=")
        if key.lstrip("+") == _SPECIAL:
            found = value.strip("'\"")
    return None if found in (None, "", "null") else found


def find_run(value: str, runs: Path) -> Path:
    """Returns the folder that `resume=<value>` means, ready to go on.

    Args:
        value: a run folder, or `last`.
        runs: the folder of the experiment's runs, for `last`.

    Raises:
        ConfigError: there is no such run, it cannot go on, or another process trains it.
    """
    folder = _last(runs) if value == "last" else Path(value).expanduser().absolute()
    where = f"resume={value}"
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no such folder; write resume=<run folder> or last")
    if not (folder / "config.yaml").is_file():
        if (folder.parent / "config.yaml").is_file():
            raise ConfigError(f"{where}: is inside a run folder; write resume={folder.parent}")
        raise ConfigError(f"{where}: is not a run folder; it has no config.yaml")
    status = read_status(folder)
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # the others are of the very run
    if status and first and is_running(folder, status):
        raise ConfigError(running(folder))
    return folder


def _last(runs: Path) -> Path:
    found = _runs(runs)
    if found:
        return found[-1]
    elsewhere = [run for folder in sorted(runs.parent.glob("*")) for run in _runs(folder)]
    newest = max(elsewhere, key=_age, default=None)
    hint = f"; the newest elsewhere is resume={newest}" if newest else ""
    raise ConfigError(f"resume=last: there is no run in {runs}{hint}")


def _runs(folder: Path) -> list[Path]:
    """Returns the runs in a folder, the newest last."""
    return sorted((path.parent for path in folder.glob("*/config.yaml")), key=_age)


def _age(run: Path) -> tuple[str, str]:
    return ((read_status(run) or {}).get("started", ""), run.name)


def as_added(word: str) -> str:
    """Returns a word as Hydra takes it whether or not the default config has its key."""
    key = word.partition("=")[0]
    return f"++{word}" if "." in key and not word.startswith(("+", "~", "hydra.")) else word


def find_mistakes(command: Command, folder: Path) -> list[str]:
    """Returns what is wrong with a command that resumes the run in `folder`, one line each."""
    with initialize_config_dir(str(command.folder), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        reading = read_words(command, loader)
        if reading.problems or reading.several:
            return reading.problems + reading.several
        composed = compose(command.config, overrides=_first(reading.chosen) + reading.plain)
        parser = OverridesParser.create(config_loader=loader)
        words = [parser.parse_override(word) for word in command.words]
        words = [word for word in words if str(word.input_line) not in reading.plain]
    return resumed_config(folder, words, composed)[1]


def folder_of(command: Command, value: str) -> Path:
    """Returns the run folder that a command's `resume=<value>` means.

    Raises:
        ConfigError: see `find_run`, or the command resumes several.
    """
    if command.multirun:
        raise ConfigError("-m: resume goes on with one run; leave -m out")
    if "," in value:
        raise ConfigError(f"resume={value}: goes on with one run; name one")
    if value != "last":
        return find_run(value, Path())
    with initialize_config_dir(str(command.folder), job_name="forger", version_base="1.3"):
        reading = read_words(command, GlobalHydra.instance().config_loader())
        if reading.problems:
            raise ConfigError(listed(reading.problems))
        where = [str(w.input_line) for w in reading.settings if w.key_or_group in _WHERE]
        cfg = compose(command.config, overrides=_first(reading.chosen) + reading.plain + where)
        return find_run(value, Path(cfg.paths.log_dir, cfg.name).absolute())


def arguments_for(folder: Path, arguments: list[str]) -> list[str]:
    """Returns a resuming command's arguments as Hydra, and processes started with them, take them.

    The run is named by its folder, since `last` may soon mean another; Hydra works in that folder;
    settings are added, since the default config may lack the run's own keys.
    """
    kept = [as_added(word) for word in arguments if wanted([word]) is None]
    path = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*kept, f"resume='{path}'", f"hydra.run.dir='{path}'"]


def _first(chosen: list[list[str]]) -> list[str]:
    return [alternatives[0] for alternatives in chosen]


def resumed_config(
    folder: Path, words: Iterable[Override], composed: DictConfig
) -> tuple[DictConfig, list[str]]:
    """Returns the run's own config with the words applied, and what is wrong, one line each.

    Args:
        folder: of the run.
        words: of the command.
        composed: the config that the command would have without `resume`, for chosen files.
    """
    cfg = _own_config(folder)
    own, choices = _plain(cfg), _own_choices(folder)
    problems, settings = [], []
    for word in words:
        group = word.key_or_group.replace(".", "/")
        if word.key_or_group == _SPECIAL:
            continue
        if group not in choices or "={" in str(word.input_line):
            settings.append(word)
        elif group in _GROUPS:
            _take_group(cfg, group, composed)
        elif (problem := _other_choice(word, choices[group], folder)) is not None:
            problems.append(problem)
    before = _plain(cfg)
    wrong, unlisted = apply(cfg, settings, list(choices))
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
    return cfg, problems + wrong + [problem.text for problem in found]


def config_of_job(cfg: DictConfig, words: Iterable[str]) -> DictConfig:
    """Returns the config of a resumed run, for its job.

    Raises:
        ConfigError: something may not change.
    """
    parser = OverridesParser.create()
    parsed = [parser.parse_override(word) for word in words]
    own, problems = resumed_config(Path(cfg.resume), parsed, cfg)
    if problems:
        raise ConfigError(listed(problems))
    return own


def _own_config(folder: Path) -> DictConfig:
    path = folder / "config.yaml"
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:  # of YAML that is damaged, anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"resume={folder}: {path.name} cannot be read: {reason}") from None
    if not isinstance(cfg, DictConfig) or "trainer" not in cfg:
        raise ConfigError(f"resume={folder}: {path.name} is not the config of a run")
    with open_dict(cfg):
        cfg.setdefault("init_from", None)
    return cfg


def _without_free_words(cfg: DictConfig, own: Any) -> DictConfig:
    """Leaves out the run's words that only interpolation read: in its config that is resolved."""
    kept = cfg.copy()
    for key, place in MAINS["train"].places.items():
        node: Any = OmegaConf.select(kept, key) if key and place.words else None
        known = read(place.schema).parameters if place.schema else {}
        for name in list(node) if isinstance(node, DictConfig) else ():
            free = name not in known and not isinstance(node[name], DictConfig)
            if free and _at(own, f"{key}.{name}") is not _NOTHING:
                del node[name]
    return kept


def _own_choices(folder: Path) -> dict[str, Any]:
    try:
        recorded = json.loads((folder / "environment.json").read_text())["choices"]
        return dict(recorded)
    except (OSError, ValueError, KeyError):
        return {}


def _take_group(cfg: DictConfig, group: str, composed: DictConfig) -> None:
    """Takes the hardware of another trainer file, or other loggers."""
    if group == "logger":
        cfg.logger = composed.get("logger")
        return
    for name in _HARDWARE:
        cfg.trainer.pop(name, None)
        if name in composed.trainer:
            cfg.trainer[name] = composed.trainer[name]


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
    return f"and keeps it; leave it out, or start a new run from its weights: init_from={folder}"


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


_NOTHING = object()


def _at(node: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _NOTHING
        node = node[part]
    return node
