"""A command line held against the config files before Hydra acts on it.

All mistakes are found at once: those in words, those in keys, and those that `check` finds in the
values. Hydra itself would stop at the first, and leave a run folder behind.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from forger.app.cli.quiet import quieten_hydra
from forger.app.config.check import Problem, find_problems, is_overruled
from forger.app.config.collector import collector_paused, set_aside_what_is_loaded
from forger.app.config.command import Command
from forger.app.config.deeper import what_to_write
from forger.app.config.hydra_words import missing_launcher, shared_folder
from forger.app.config.mains import MAINS
from forger.app.config.messages import choice, given
from forger.app.config.settings import apply
from forger.app.config.values import read_values
from forger.app.config.words import Reading, read_words

# Lines of OmegaConf's messages that are about its own types
_INTERNAL = ("full_key:", "reference_type=", "object_type=")


def find_mistakes(command: Command) -> list[str]:
    """Returns what is wrong with a command, one line each.

    In a sweep each alternative of a group is tried once; the values are left to each job's check.
    """
    if command.multirun and MAINS[command.script].once is not None:
        return [f"-m: {command.script}.py {MAINS[command.script].once}"]
    if command.config_name in MAINS and command.config_name != command.script:
        reader = f"{command.config_name}.py"
        return [f"--config-name {command.config_name}: is read by {reader}; leave it out"]
    if command.extra_config_dir is not None and not Path(command.extra_config_dir).is_dir():
        return [f"--config-dir {command.extra_config_dir}: there is no such folder"]
    with (
        collector_paused(),
        warnings.catch_warnings(),
        initialize_config_dir(str(command.config_dir), job_name="forger", version_base="1.3"),
    ):
        quieten_hydra()
        try:
            reading = read_words(command, GlobalHydra.instance().config_loader())
        except HydraException as error:  # of the search path
            return [worded(error)]
        first, *others = _variations(reading.chosen)
        problems, sweep = _try(command, reading, first)
        if not sweep:
            problems = reading.several + problems
        for groups in others if sweep else []:
            problems += _try(command, reading, groups)[0]
    set_aside_what_is_loaded()
    problems = reading.problems + problems
    misread = [
        text
        for text, words in command.misspelt
        if not all(any(p.startswith(f"{word}: ") for p in problems) for word in words)
    ]
    return list(dict.fromkeys([*misread, *problems]))


def _variations(chosen: list[list[str]]) -> list[list[str]]:
    """Every group at its first alternative, then each other alternative alone."""
    first = [alternatives[0] for alternatives in chosen]
    others = [
        [*first[:place], word, *first[place + 1 :]]
        for place, alternatives in enumerate(chosen)
        for word in alternatives[1:]
    ]
    return [first, *others]


def _try(command: Command, reading: Reading, groups: list[str]) -> tuple[list[str], bool]:
    """Composes one config and applies the settings: what is wrong, and whether it is a sweep."""
    words = [*groups, *reading.plain]
    try:
        cfg = compose(command.config_name, overrides=words, return_hydra_config=True)
    except Exception as error:  # YAML that cannot be parsed, too
        return [_without_place(error, groups) or worded(error, words)], command.multirun
    sweep = command.multirun or cfg.hydra.mode == RunMode.MULTIRUN
    if sweep and MAINS[command.script].once is not None:
        return [f"hydra.mode=MULTIRUN: {command.script}.py {MAINS[command.script].once}"], False
    wrong = [*shared_folder(cfg.hydra), *missing_launcher(cfg.hydra)] if sweep else []
    with open_dict(cfg):
        del cfg["hydra"]
    meant = partial(what_to_write, cfg, _folder_of_choices(command))
    problems, unlisted = apply(cfg, reading.settings, reading.groups, meant)
    problems += wrong
    told = tuple(text.partition("=")[0] for text in reading.problems + reading.several)
    found = [p for p in find_problems(cfg, command.script) if p.key not in told]
    if sweep:
        found = [problem for problem in found if any(_concerns(problem, o) for o in unlisted)]
    lines = {override.input_line for override in unlisted}
    problems += [text for line, text in _overruled(cfg, reading) if line not in lines]
    for override in unlisted:
        if not any(_concerns(problem, override) for problem in found):
            word = override.input_line
            problems.append(f"{word}: no file lists this setting; to add it, write +{word}")
    typed = {override.key_or_group for override in unlisted}
    problems += [_helped(command, cfg, p) if p.key in typed else p.text for p in found]
    return problems, sweep


def _folder_of_choices(command: Command) -> Path | None:
    return command.config_dir if MAINS[command.script].groups is None else None


def _helped(command: Command, cfg: DictConfig, problem: Problem) -> str:
    """Says of an unlisted setting where it belongs."""
    elsewhere = _elsewhere(command, problem.key)
    if problem.unknown and not elsewhere:
        value = OmegaConf.select(cfg, problem.key)
        meant = what_to_write(cfg, _folder_of_choices(command), problem.key, value)
        if meant is not None:
            return f"{given(problem.key, value)}: unknown setting; write {meant}"
    return problem.text + elsewhere


def _elsewhere(command: Command, key: str) -> str:
    """Names the choices of a setting's group whose file lists it, where the chosen one does not."""
    parts = key.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        files = sorted(command.config_dir.joinpath(*parts[:depth]).glob("*.yaml"))
        group = ".".join(parts[:depth])
        homes = [f"{group}={path.stem}" for path in files if _lists(path, parts[depth:])]
        if homes and MAINS[command.script].has_group(group.replace(".", "/")):
            return f"; it is a setting of {' or '.join(homes)}"
    return ""


def _without_place(error: Exception, groups: list[str]) -> str | None:
    """Words a choice of a group such as `metrics/features` that the config does not have."""
    missing = re.match(r"Could not override '(\w+)/[\w/]+'", str(error))
    if missing is None:
        return None
    typed = next((word for word in groups if word.startswith(f"{missing[1]}/")), missing[0])
    whole = next((word for word in groups if word.startswith(f"{missing[1]}=")), missing[1])
    return f"{typed.replace('/', '.', 1)}: {whole} has no such choice; leave one of them out"


def _overruled(cfg: DictConfig, reading: Reading) -> Iterator[tuple[Any, str]]:
    """Yields words that the others make void: the networks all have values of their own."""
    values = read_values(cfg)
    for override in reading.settings:
        parent, _, name = override.key_or_group.rpartition(".")
        node = values.select(parent) if parent else None
        if not isinstance(node, dict) or not MAINS[reading.command.script].place_of(parent).words:
            continue
        void = name in node and is_overruled(name, node)
        if void and not values.is_read(override.key_or_group):
            members = [key for key, member in node.items() if isinstance(member, dict)]
            each = " and ".join(f"{parent}.{member}.{name}" for member in members)
            line = override.input_line
            yield line, f"{line}: does nothing, since {each} are given; leave it out"


def _lists(path: Path, keys: Sequence[str]) -> bool:
    """Tells whether a config file has a setting."""
    node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _concerns(problem: Problem, override: Override) -> bool:
    key = override.key_or_group
    return problem.key == key or key.startswith(f"{problem.key}.")


def worded(error: Exception, typed: Sequence[str] = ()) -> str:
    """Words an error of Hydra's composition, its search path left off; `typed` were the words."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        origin = re.match(r"In '(\w+/[^']+)'", str(error))
        file = f"{origin[1]}.yaml" if origin else "a chosen file"  # what was typed is right by now
        asked = f", which {file} asks for"
        head = f"{group}={name}" if group else f"--config-name {name}"
        if group and head not in typed:
            head += asked
        return f"{head}: no such choice" + choice(name, error.options or ())
    text = f"{error}\n{error.__cause__ or ''}".partition("Config search path")[0]
    lines = (line.strip() for line in text.splitlines())
    told = (line for line in lines if line and not line.startswith(_INTERNAL))
    return " ".join(told) or type(error).__name__
