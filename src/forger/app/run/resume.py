"""Goes on with a run: finds the folder that is meant, and the config to go on with.

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
from forger.app.config.messages import listed, quoted, type_setting
from forger.app.config.overrides import read_overrides
from forger.app.config.trust import locations_in, targets_in
from forger.app.run.folder import LOCK, being_trained, is_locked, is_main_process, read_status
from forger.app.run.resumed_config import OF_THE_COMMAND, resumed_config
from forger.errors import ConfigError

_WHERE = ("name", "paths.log_dir")  # settings that tell where `resume=last` looks


def resumed_run(overrides: Iterable[str]) -> str | None:
    """Returns what follows `resume=` among the overrides of a command; `None` for `null` too."""
    found = [text_of(one) for one in overrides if _key(one) == "resume"]
    return found[-1] if found else None


def command_for(folder: Path, command: Command) -> Command:
    """Returns the command that resumes the run in `folder`, since `last` may soon mean another."""
    told = _WHERE if resumed_run(command.overrides) == "last" else ()
    kept = [one for one in command.overrides if _key(one) not in ("resume", *told)]
    return replace(command, overrides=(*kept, f"resume={quoted(folder)}"))


def prepare(command: Command) -> tuple[Command, DictConfig]:
    """Returns a command that names the folder of the run that it resumes, and that run's config.

    The config is the run's own with the overrides applied, and Hydra's part of this command.

    Raises:
        ConfigError: there is no such run, or it cannot go on so; lists all that is wrong.
    """
    value = _one_run(command)
    with hydra_for(command) as loader:
        typed = read_overrides(command, loader)
        if problems := typed.problems + typed.several:
            raise ConfigError(listed(problems))
        chosen = [alternatives[0] for alternatives in typed.choices]
        known = [one for one in typed.settings if one.key_or_group in (*OF_THE_COMMAND, *_WHERE)]
        lines = [*typed.for_hydra, *chosen, *(str(one.input_line) for one in known)]
        composed = compose(command.config_name, lines, return_hydra_config=True)
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(chosen)
    folder = find_run(value, Path(expanded(composed.paths.log_dir), composed.name).absolute())
    told = _WHERE if value == "last" else ()
    overrides += [one for one in typed.settings if one.key_or_group not in told]
    cfg, problems = resumed_config(folder, overrides, composed)
    if problems:
        raise ConfigError(listed(problems))
    OmegaConf.resolve(cfg)  # what was typed: a run's own config holds values alone
    cfg.hydra = composed.hydra
    cfg.hydra.mode, cfg.hydra.run.dir = RunMode.RUN, str(folder)
    cfg.hydra.overrides.task = [str(one.input_line) for one in overrides]
    return command_for(folder, command), cfg


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
    named, moved = list(cfg.get("trust") or ()), dict(cfg.get("moved") or {})
    if own:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        named += [*targets_in(plain), *locations_in(plain)]
    overrides = trusting(dict.fromkeys(named))
    pairs = ",".join(f"{quoted(old)}:{quoted(new)}" for old, new in moved.items())
    return [*overrides, f"moved={{{pairs}}}"] if moved else overrides


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _one_run(command: Command) -> str:
    value = resumed_run(command.overrides)
    if command.multirun:
        raise ConfigError("-m: resume goes on with one run; leave -m out")
    if not value:
        raise ConfigError("resume='': must name a run; write resume=<run folder> or last")
    if "," in value and not Path(expanded(value)).exists():
        raise ConfigError(f"resume={value}: goes on with one run; name one")
    return value


def find_run(value: str, runs: Path) -> Path:
    """Returns the folder that `resume=<value>` means, ready to go on.

    Args:
        value: a run folder, or `last`.
        runs: the folder of the experiment's runs, for `last`.

    Raises:
        ConfigError: there is no such run, it cannot go on, or another process trains it.
    """
    folder = _last(runs) if value == "last" else Path(expanded(value)).absolute()
    where = f"resume={value}"
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no such folder; write resume=<run folder> or last")
    if not (folder / "config.yaml").is_file():
        if (folder.parent / "config.yaml").is_file():
            instead = type_setting("resume", folder.parent)
            raise ConfigError(f"{where}: is inside a run folder; write {instead}")
        raise ConfigError(f"{where}: is not a run folder; it has no config.yaml")
    if is_main_process() and is_locked(folder / LOCK):  # the others are of the very run
        raise ConfigError(being_trained(folder))
    return folder


def newest_run(configs: Path) -> Path:
    """Returns the newest run of any name, alone or in a sweep, which `run=last` means.

    Args:
        configs: folder of the config files, which say where runs lie.

    Raises:
        ConfigError: there is none.
    """
    with initialize_config_dir(str(configs), job_name="forger", version_base="1.3"):
        folder = Path(expanded(compose("train").paths.log_dir))
    runs = [*_runs(folder, "*/*"), *_runs(folder, "*/multirun/*/*")]
    if not runs:
        raise ConfigError(f"run=last: there is no run in {folder}; write run=<run folder>")
    return max(runs, key=_age)


def _last(runs: Path) -> Path:
    if found := _runs(runs, "*"):
        return max(found, key=_age)
    newest = max(_runs(runs.parent, "*/*"), key=_age, default=None)
    hint = f"; the newest elsewhere is {type_setting('resume', newest)}" if newest else ""
    raise ConfigError(f"resume=last: there is no run in {runs}{hint}")


def _runs(folder: Path, pattern: str) -> list[Path]:
    return [path.parent for path in folder.glob(f"{pattern}/config.yaml")]


def _age(run: Path) -> tuple[str, str]:
    return ((read_status(run) or {}).get("started", ""), run.name)
