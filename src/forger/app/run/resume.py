"""A run that goes on: which folder `resume` means, and the command that continues in it.

What may change in its config is for `resumed_config`. Imports neither torch nor anything that does:
mistakes are found before any work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import listed, quoted, type_setting
from forger.app.config.overrides import read_overrides
from forger.app.config.paths import expanded, text_of
from forger.app.run.folder import LOCK, being_trained, is_locked, read_status
from forger.app.run.resumed_config import RESUME, resumed_config
from forger.errors import ConfigError
from forger.processes import rank

_WHERE = ("name", "paths.log_dir")  # settings that tell where `last` looks


def wanted(words: Iterable[str]) -> str | None:
    """Returns what follows `resume=` among the words of a command, `null` taken for nothing."""
    found = None
    for word in words:
        if word.partition("=")[0].lstrip("+") == RESUME:
            found = text_of(word)
    return found


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
            raise ConfigError(
                f"{where}: is inside a run folder; write {type_setting(RESUME, folder.parent)}"
            )
        raise ConfigError(f"{where}: is not a run folder; it has no config.yaml")
    first = rank() == 0  # the others are of the very run
    if first and is_locked(folder / LOCK):
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
    runs = [run for inside in ("*", "*/multirun/*") for run in folder.glob(f"{inside}/*")]
    found = max((run for run in runs if (run / "config.yaml").is_file()), key=_age, default=None)
    if found is None:
        raise ConfigError(f"run=last: there is no run in {folder}; write run=<run folder>")
    return found


def _last(runs: Path) -> Path:
    found = _runs(runs)
    if found:
        return found[-1]
    elsewhere = [run for folder in sorted(runs.parent.glob("*")) for run in _runs(folder)]
    newest = max(elsewhere, key=_age, default=None)
    hint = f"; the newest elsewhere is {type_setting(RESUME, newest)}" if newest else ""
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
    with initialize_config_dir(str(command.config_dir), job_name="forger", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        reading = read_overrides(command, loader)
        if reading.problems or reading.several:
            return reading.problems + reading.several
        of_records = [w for w in command.overrides if w.partition("=")[0] in ("trust", "moved")]
        chosen = _first(reading.choices) + reading.for_hydra
        composed = compose(command.config_name, overrides=chosen + of_records)
        parser = OverridesParser.create(config_loader=loader)
        words = [parser.parse_override(word) for word in command.overrides]
        words = [word for word in words if str(word.input_line) not in reading.for_hydra]
    return resumed_config(folder, words, composed)[1]


def folder_of(command: Command, value: str) -> Path:
    """Returns the run folder that a command's `resume=<value>` means.

    Raises:
        ConfigError: see `find_run`, or the command resumes several.
    """
    if command.multirun:
        raise ConfigError("-m: resume goes on with one run; leave -m out")
    if not value:
        raise ConfigError("resume='': must name a run; write resume=<run folder> or last")
    if "," in value:
        raise ConfigError(f"resume={value}: goes on with one run; name one")
    if value != "last":
        return find_run(value, Path())
    with initialize_config_dir(str(command.config_dir), job_name="forger", version_base="1.3"):
        reading = read_overrides(command, GlobalHydra.instance().config_loader())
        if reading.problems:
            raise ConfigError(listed(reading.problems))
        where = [str(w.input_line) for w in reading.settings if w.key_or_group in _WHERE]
        cfg = compose(
            command.config_name, overrides=_first(reading.choices) + reading.for_hydra + where
        )
        return find_run(value, Path(expanded(cfg.paths.log_dir), cfg.name).absolute())


def command_for(folder: Path, command: Command) -> Command:
    """Returns a resuming command as Hydra, and processes started with it, take it.

    The run is named by its folder, since `last` may soon mean another; Hydra works in that folder;
    settings are added, since the default config may lack the run's own keys.
    """
    kept = [as_added(word) for word in command.overrides if wanted([word]) is None]
    own = (f"resume={quoted(folder)}", f"hydra.run.dir={quoted(folder)}")
    return replace(command, overrides=(*kept, *own))


def _first(chosen: list[list[str]]) -> list[str]:
    return [alternatives[0] for alternatives in chosen]


def config_of_job(cfg: DictConfig, words: Iterable[str]) -> DictConfig:
    """Returns the config of a resumed run, for its job.

    Raises:
        ConfigError: something may not change, or a file and not the command asks for it.
    """
    words = list(words)
    if wanted(words) is None:
        raise ConfigError(f"resume={cfg.resume}: belongs on the command line, not in a file")
    parser = OverridesParser.create()
    parsed = [parser.parse_override(word) for word in words]
    own, problems = resumed_config(Path(cfg.resume), parsed, cfg)
    if problems:
        raise ConfigError(listed(problems))
    OmegaConf.resolve(own)  # what was typed: a run's own config holds values alone
    return own
