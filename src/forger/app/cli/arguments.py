"""Reads a command line once, and says what to write for settings that were typed otherwise."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra._internal.utils import get_args_parser  # the very flags that Hydra documents

from forger.app.config.command import Command, expanded, with_path_quoted
from forger.app.config.messages import setting, typed
from forger.app.config.sections import SCRIPTS
from forger.app.run import resume
from forger.errors import ConfigError

_KEY = r"(?:\+\+?)?[A-Za-z_]\w*(?:[./][\w-]+)*"
_VALUE = r"(?:-(?=\.?\d))?[^-=][^=]*"
_WHERE = ("config-name", "config-path", "config-dir")  # flags that say which config is meant
_SHOW = ("help", "hydra_help", "cfg", "info", "shell_completion")


class Typed(NamedTuple):
    """A command line as it was read: the command, and Hydra's flags with their parser."""

    command: Command
    flags: Namespace
    parser: ArgumentParser

    @property
    def only_shows(self) -> bool:
        """Whether the flags ask for help or the config alone, and so for Hydra's own answer."""
        return any(getattr(self.flags, flag) for flag in _SHOW)


def read_command(
    script: str, configs: Path, arguments: Sequence[str], program: tuple[str, ...]
) -> Typed:
    """Reads a command line.

    Args:
        script: one of `SCRIPT_NAMES`.
        configs: the folder of config files, which `--config-path` replaces.
        arguments: as the shell gave them.
        program: starts this program again.

    Raises:
        ConfigError: `run=last` names no run, or a flag is refused.
    """
    parser = get_args_parser()
    options = set(parser._option_string_actions) - {"--run"}  # of evaluate.py, too
    meant, misspelt = _read_settings(arguments, options)
    flags = parser.parse_intermixed_args(meant)
    if flags.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun: reads a pickle, and loading one can run code; to go on with a"
            " run, write resume=<run folder>"
        )
    if flags.config_path is not None:
        here = Path(flags.config_path).expanduser().absolute()
        configs = here if here.is_dir() else Path(configs.parent, flags.config_path)
        flags.config_path = str(configs.absolute())
    if flags.config_dir is not None:
        flags.config_dir = expanded(flags.config_dir)
    flags.overrides = [with_path_quoted(one) for one in flags.overrides]
    if "run" in SCRIPTS[script].settings and "run=last" in flags.overrides:
        newest = setting("run", resume.newest_run(configs.absolute()))
        flags.overrides = [newest if one == "run=last" else one for one in flags.overrides]
    where = {f"--{name}": getattr(flags, name.replace("-", "_")) for name in _WHERE}
    command = Command(
        config_dir=configs.absolute(),
        config_name=flags.config_name or script,
        overrides=tuple(flags.overrides),
        multirun=flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides,
        extra_config_dir=flags.config_dir,
        script=script,
        misspelt=tuple(misspelt),
        program=program,
        config_flags=tuple(part for flag in where.items() if flag[1] for part in flag),
    )
    return Typed(command, flags, parser)


def program_again(subcommand: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the command that starts this program again, before its arguments."""
    spec = sys.modules["__main__"].__spec__
    start = [str(Path(sys.argv[0]).absolute())] if spec is None else ["-m", spec.name]
    return (sys.executable, *start, *subcommand)


def _read_settings(arguments: Sequence[str], flags: set[str]) -> tuple[list[str], list[str]]:
    """Returns arguments as they were meant, and what to write for those that are wrong."""
    rest, read, misspelt = list(arguments), list[str](), list[str]()
    while rest:
        count, meant = _meant(rest, flags)
        if meant is not None:
            misspelt.append(f"{' '.join(rest[:count])}: write {typed(meant)}")
        read.append(meant or rest[0])
        del rest[:count]
    return read, misspelt


def _meant(rest: Sequence[str], flags: set[str]) -> tuple[int, str | None]:
    """Returns how many arguments belong together, and the setting that they mean if wrong."""
    first, second, third = [*rest[:3], "", ""][:3]
    name, given, value = first.partition("=")
    has_value = re.fullmatch(_VALUE, second) is not None
    if name.startswith("--") and name not in flags and len(name) > 2:
        key = name.lstrip("-").replace("-", "_")
        if given or not has_value:  # --seed=3, --dry-run
            return 1, f"{key}={value if given else 'true'}"
        return 2, f"{key}={second}"  # --seed 3
    if re.fullmatch(_KEY, first) and second == "=" and third:  # seed = 3
        return 3, f"{first}={third}"
    if re.fullmatch(f"{_KEY}:", first) and has_value:  # seed: 3
        return 2, f"{first[:-1]}={second}"
    return 1, None
