"""Goes on with a run: finds its folder and the config to go on with.

Imports neither torch nor anything that does: mistakes are found before any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command, expanded, text_of
from forger.app.config.compose import hydra_for
from forger.app.config.messages import listed, quoted
from forger.app.config.overrides import read_overrides
from forger.app.config.trust import locations_in, targets_in
from forger.app.run.folder import LOCK, being_trained, is_locked, is_main_process, read_status
from forger.app.run.resumed_config import OF_THE_COMMAND, ResumedConfig
from forger.errors import ConfigError

_WHERE = ("name", "paths.log_dir")  # settings that tell where `resume=last` looks


def command_for(folder: Path, command: Command) -> Command:
    """Returns the command that resumes the run in `folder`, since `last` may soon mean another."""
    told = _WHERE if _value_of(command) == "last" else ()
    kept = [one for one in command.overrides if _key(one) not in ("resume", *told)]
    return replace(command, overrides=(*kept, f"resume={quoted(folder)}"))


def trusting(names: Iterable[str]) -> list[str]:
    """Returns the override that trusts what is named; none where nothing is."""
    listed = ",".join(quoted(name) if re.search(r"[^\w./:-]", name) else name for name in names)
    return [f"trust=[{listed}]"] if listed else []


def trust_of(cfg: DictConfig, *, own: bool) -> list[str]:
    """Returns the overrides by which a run that goes on is trusted as far as this command is.

    Args:
        cfg: of the command.
        own: whether all that it names is the user's, and not a record's.
    """
    trust, moved = list(cfg.get("trust") or ()), dict(cfg.get("moved") or {})
    if own:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        trust += [*targets_in(plain), *locations_in(plain)]
    overrides = trusting(dict.fromkeys(trust))
    pairs = ",".join(f"{quoted(old)}:{quoted(new)}" for old, new in moved.items())
    return [*overrides, f"moved={{{pairs}}}"] if moved else overrides


def newest_run(configs: Path) -> Path:
    """Returns the newest run of any name, alone or in a sweep, which `run=last` means.

    Args:
        configs: folder of the config files, which say where runs lie.

    Raises:
        ConfigError: there is none.
    """
    with initialize_config_dir(str(configs), job_name="forger", version_base="1.3"):
        folder = Path(expanded(compose("train").paths.log_dir))
    newest = _newest(folder, "*/*", "*/multirun/*/*")
    if newest is None:
        raise ConfigError(f"run=last: there is no run in {folder}; write run=<run folder>")
    return newest


def prepare(command: Command) -> tuple[Command, DictConfig]:
    """Returns a command that names the folder of the run that it resumes, and that run's config.

    The config is the run's own with the overrides applied, and Hydra's part of this command.

    Raises:
        ConfigError: there is no such run, or it cannot go on so; lists all that is wrong.
    """
    value = _value_of(command) or ""
    if command.multirun or not value or ("," in value and not Path(expanded(value)).exists()):
        raise ConfigError(f"resume={value}: goes on with one run, without -m; name its folder")
    with hydra_for(command) as loader:
        typed = read_overrides(command, loader)
        if problems := typed.problems:
            raise ConfigError(listed(problems))
        chosen = [alternatives[0] for alternatives in typed.choices]
        known = [one for one in typed.settings if one.key_or_group in (*OF_THE_COMMAND, *_WHERE)]
        lines = [*typed.for_hydra, *chosen, *(str(one.input_line) for one in known)]
        composed = compose(command.config_name, lines, return_hydra_config=True)
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(chosen)
    folder = _find_run(value, Path(expanded(composed.paths.log_dir), composed.name).absolute())
    told = _WHERE if value == "last" else ()
    overrides += [one for one in typed.settings if one.key_or_group not in told]
    resumed = ResumedConfig(folder, composed)
    if problems := resumed.change(overrides):
        raise ConfigError(listed(problems))
    cfg = resumed.cfg
    OmegaConf.resolve(cfg)  # what was typed: a run's own config holds values alone
    cfg.hydra = composed.hydra
    cfg.hydra.mode, cfg.hydra.run.dir = RunMode.RUN, str(folder)
    cfg.hydra.overrides.task = [str(one.input_line) for one in overrides]
    return command_for(folder, command), cfg


def _value_of(command: Command) -> str | None:
    """Returns what follows `resume=`; `None` for `null` too."""
    found = [text_of(one) for one in command.overrides if _key(one) == "resume"]
    return found[-1] if found else None


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _find_run(value: str, runs: Path) -> Path:
    """Returns the folder that `resume=<value>` means; `last` is the newest one in `runs`."""
    folder = _newest(runs, "*") if value == "last" else Path(expanded(value)).absolute()
    if folder is None:
        raise ConfigError(f"resume=last: there is no run in {runs}; write resume=<run folder>")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"resume={value}: is no run folder; write resume=<run folder> or last")
    if is_main_process() and is_locked(folder / LOCK):  # the others are of the very run
        raise ConfigError(being_trained(folder))
    return folder


def _newest(folder: Path, *patterns: str) -> Path | None:
    runs = [p.parent for pattern in patterns for p in folder.glob(f"{pattern}/config.yaml")]
    started = {run: (read_status(run) or {}).get("started", "") for run in runs}
    return max(runs, key=lambda run: (started[run], run.name), default=None)
