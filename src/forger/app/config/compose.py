"""Composes the config of a command and checks it; if anything is wrong, says all that is."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir

# Hydra 1.3 stops at the first mistake unless it is given one override at a time
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from forger.app.config.check import Problem, find_problems, is_overruled
from forger.app.config.command import Command
from forger.app.config.hints import other_homes, what_to_write
from forger.app.config.messages import choice, given, listed
from forger.app.config.overrides import Overrides, read_overrides, sweep_problems
from forger.app.config.sections import SCRIPTS
from forger.app.config.settings import put_settings
from forger.app.config.values import is_within, read_values
from forger.errors import ConfigError

# Lines of OmegaConf's messages that are about its own types
_INTERNAL = ("full_key:", "reference_type=", "object_type=")


def quieten_hydra() -> None:
    """Drops what Hydra and imported packages say before there is a plan.

    Hydra 1.3 warns that configs/hydra/launcher/*.yaml fill in the plugins' own files of that name;
    later versions will have another way. Matplotlib tells that it has looked for fonts.
    """
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


@contextmanager
def hydra_for(command: Command) -> Iterator[ConfigLoader]:
    """Sets up Hydra for a command's config files, and yields what loads them."""
    quieten_hydra()
    folder = str(command.config_dir)
    with initialize_config_dir(folder, job_name=command.script, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Pauses the garbage collector, and hides warnings of folders that are told as mistakes."""
    gc.disable()  # configs and parsed sources are many small objects, and few of them garbage
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _freeze_what_is_loaded()
        gc.enable()


@cache  # once in a process
def _freeze_what_is_loaded() -> None:
    """Spares later collections what has been loaded by now and lives as long as the process."""
    gc.freeze()


def compose_checked(command: Command) -> DictConfig:
    """Returns the config of a command, with Hydra's own part as `hydra`; within `hydra_for` or not.

    In a sweep it is the config of the sweep: overrides with several values are left out. The jobs
    compose theirs; here each alternative of a group is composed and checked once.

    Raises:
        ConfigError: something is wrong; the message lists every problem, one a line.
    """
    cfg, problems = _composed(command)
    if cfg is not None and not problems and cfg.get("resume") is not None:
        problems = [f"{given('resume', cfg.resume)}: belongs on the command line"]
    if cfg is None or problems:
        raise ConfigError(listed(problems))
    return cfg


def find_mistakes(command: Command) -> list[str]:
    """Returns what is wrong with a command, one line each."""
    return _composed(command)[1]


def _composed(command: Command) -> tuple[DictConfig | None, list[str]]:
    script, extra = SCRIPTS[command.script], command.extra_config_dir
    sweep = command.multirun or "hydra.mode=MULTIRUN" in command.overrides
    if sweep and script.once is not None:
        return None, [f"-m: {command.script}.py {script.once}"]
    if command.config_name in SCRIPTS and command.config_name != command.script:
        reader = f"{command.config_name}.py"
        return None, [f"--config-name {command.config_name}: is read by {reader}; leave it out"]
    if extra is not None and not Path(extra).is_dir():
        return None, [f"--config-dir {extra}: there is no such folder"]
    with _quick_and_quiet(), hydra_for(command) as loader:
        try:
            overrides = read_overrides(command, loader)
        except HydraException as error:  # of the search path
            return None, [worded(error)]
        cfg, problems = _of_sweep(overrides) if sweep else _of_run(overrides)
    misspelt = [
        text
        for text, meant in command.misspelt
        if not all(any(p.startswith(f"{one}: ") for p in problems) for one in meant)
    ]
    return cfg, list(dict.fromkeys([*misspelt, *problems]))


def _of_run(overrides: Overrides) -> tuple[DictConfig | None, list[str]]:
    choices = [alternatives[0] for alternatives in overrides.choices]
    cfg, found = _with_choices(overrides, choices)
    problems = [*overrides.problems, *overrides.several, *found]
    if cfg is not None and not problems:
        task = [one for one in overrides.command.overrides if one not in overrides.for_hydra]
        cfg.hydra.overrides.task = task
        how = cfg.hydra.job.config.override_dirname
        named = sorted(one for one in task if one.partition("=")[0] not in how.exclude_keys)
        cfg.hydra.job.override_dirname = how.item_sep.join(named).replace("=", how.kv_sep)
        cfg.hydra.mode = RunMode.RUN
    return cfg, problems


def _of_sweep(overrides: Overrides) -> tuple[DictConfig | None, list[str]]:
    """Composes the config of a sweep, and one for each alternative of a group."""
    first = [alternatives[0] for alternatives in overrides.choices]
    variations = [
        [*first[:place], other, *first[place + 1 :]]
        for place, alternatives in enumerate(overrides.choices)
        for other in alternatives[1:]
    ]
    problems = list(overrides.problems)
    for choices in [first, *variations]:
        problems += _with_choices(overrides, choices, sweep=True)[1]
    hydra = GlobalHydra.instance().hydra
    if problems or hydra is None:
        return None, problems
    name, typed = overrides.command.config_name, overrides.typed
    try:  # hydra.compose knows no sweeps
        cfg = hydra.compose_config(name, typed, RunMode.MULTIRUN, with_log_configuration=False)
    except Exception as error:
        return None, [worded(error)]
    cfg.hydra.mode = RunMode.MULTIRUN
    return cfg, list(sweep_problems(cfg.hydra))


def _with_choices(
    overrides: Overrides, choices: list[str], *, sweep: bool = False
) -> tuple[DictConfig | None, list[str]]:
    """Composes the chosen files, puts in one setting after another, and checks all.

    In a sweep, whose jobs check their values, only what no file and no signature knows is refused.
    """
    command, chosen = overrides.command, [*overrides.for_hydra, *choices]
    try:
        cfg = compose(command.config_name, chosen, return_hydra_config=True)
    except Exception as error:  # YAML that cannot be parsed, too
        return None, [_misplaced_choice(overrides, choices) or worded(error, chosen)]
    folder = command.config_dir if overrides.script.groups is None else None
    problems, unlisted = put_settings(cfg, overrides.settings, folder)
    told = {text.partition("=")[0] for text in overrides.problems + overrides.several}
    found = [p for p in find_problems(cfg, command.script) if p.key not in told]
    if sweep:
        found = [p for p in found if any(is_within(o.key_or_group, p.key) for o in unlisted)]
    lines = {str(override.input_line) for override in unlisted}
    problems += [text for line, text in _overruled(cfg, overrides).items() if line not in lines]
    for override in unlisted:
        if not any(is_within(override.key_or_group, problem.key) for problem in found):
            line = override.input_line
            problems.append(f"{line}: no file lists this setting; to add it, write +{line}")
    keys = {override.key_or_group for override in unlisted}
    problems += [_helped(command, cfg, p, folder) if p.key in keys else p.text for p in found]
    return cfg, problems


def _misplaced_choice(overrides: Overrides, choices: list[str]) -> str | None:
    """Says which choice, such as `metrics/features=pixels`, has no place among the others."""
    for one in choices:
        group, inside, _ = one.partition("=")[0].partition("/")
        others = [other for other in choices if other != one]
        with suppress(Exception):
            if inside and compose(overrides.command.config_name, overrides.for_hydra + others):
                whole = next((other for other in others if other.startswith(f"{group}=")), group)
                return f"{one}: {whole} has no such choice; leave one of them out"
    return None


def _helped(command: Command, cfg: DictConfig, problem: Problem, folder: Path | None) -> str:
    """Says of a setting that no file lists where it belongs."""
    homes = other_homes(command, problem.key)
    if problem.unknown and not homes:
        value = OmegaConf.select(cfg, problem.key)
        meant = what_to_write(cfg, folder, problem.key, value)
        if meant is not None:
            return f"{given(problem.key, value)}: unknown setting; write {meant}"
    return problem.text + (f"; it is a setting of {' or '.join(homes)}" if homes else "")


def _overruled(cfg: DictConfig, overrides: Overrides) -> dict[str, str]:
    """Returns overrides that the others make void: the networks all have values of their own."""
    found: dict[str, str] = {}
    keys = [override.key_or_group.rpartition(".")[0] for override in overrides.settings]
    if not any(parent and overrides.script.section(parent).free for parent in keys):
        return found
    values = read_values(cfg)
    for override in overrides.settings:
        parent, _, name = override.key_or_group.rpartition(".")
        node = values.select(parent) if parent else None
        if not isinstance(node, dict) or not overrides.script.section(parent).free:
            continue
        if name in node and is_overruled(name, node) and not values.is_read(override.key_or_group):
            members = [key for key, member in node.items() if isinstance(member, dict)]
            each = " and ".join(f"{parent}.{member}.{name}" for member in members)
            line = str(override.input_line)
            found[line] = f"{line}: does nothing, since {each} are given; leave it out"
    return found


def worded(error: Exception | None, typed: Sequence[str] = ()) -> str:
    """Words an error of Hydra's composition, its search path left off; `typed` were overrides."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        head = f"{group}={name}" if group else f"--config-name {name}"
        asked = ", which a chosen file asks for" if group and head not in typed else ""
        return f"{head}{asked}: no such choice" + choice(name, error.options or ())
    cause = error.__cause__ if error is not None else None
    text = f"{error}\n{cause or ''}".partition("Config search path")[0]
    lines = (line.strip() for line in text.splitlines())
    told = (line for line in lines if line and not line.startswith(_INTERNAL))
    return " ".join(told) or type(error).__name__
