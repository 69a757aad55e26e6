"""Composes the config of a command and checks it; if anything is wrong, says all that is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from forger.app.config.check import Problem, find_problems, is_overruled
from forger.app.config.command import Command
from forger.app.config.messages import choice, given, listed
from forger.app.config.overrides import Overrides, read_overrides, sweep_problems
from forger.app.config.sections import OFF, OFF_WITH, RECIPES, SCRIPTS
from forger.app.config.settings import other_homes, put_settings, what_to_write
from forger.app.config.values import is_within, read_values
from forger.errors import ConfigError

# Lines of OmegaConf's messages that are about its own types
_INTERNAL = ("full_key:", "reference_type=", "object_type=")


def quieten_hydra() -> None:
    """Drops warnings that configs/hydra/launcher/*.yaml fill in the plugins' files of that name."""
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells that it looks for fonts


@contextmanager
def hydra_for(command: Command) -> Iterator[ConfigLoader]:
    """Sets up Hydra for a command's config files, and yields what loads them."""
    quieten_hydra()
    folder = str(command.config_dir)
    with initialize_config_dir(folder, job_name=command.script, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


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
    once, extra = SCRIPTS[command.script].once, command.extra_config_dir
    if command.multirun and once is not None:
        return None, [f"-m: {command.script}.py {once}"]
    if extra is not None and not Path(extra).is_dir():
        return None, [f"--config-dir {extra}: there is no such folder"]
    with hydra_for(command) as loader, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "provider=")  # a folder that is not there: told below
        try:
            overrides = read_overrides(command, loader)
            cfg = _of_sweep(overrides) if command.multirun else _of_run(overrides)
        except HydraException as error:
            return None, [worded(error)]
    return cfg, list(dict.fromkeys([*command.misspelt, *overrides.problems]))


def _of_run(overrides: Overrides) -> DictConfig | None:
    cfg = _with_choices(overrides, [alternatives[0] for alternatives in overrides.choices])
    if cfg is not None and not overrides.problems:
        task = cfg.hydra.overrides.task = list(overrides.task)
        how = cfg.hydra.job.config.override_dirname
        named = sorted(one for one in task if one.partition("=")[0] not in how.exclude_keys)
        cfg.hydra.job.override_dirname = how.item_sep.join(named).replace("=", how.kv_sep)
        cfg.hydra.mode = RunMode.RUN
    return cfg


def _of_sweep(overrides: Overrides) -> DictConfig | None:
    """Composes the config of a sweep, and one for each alternative of a group."""
    first = [alternatives[0] for alternatives in overrides.choices]
    _with_choices(overrides, first)
    for place, alternatives in enumerate(overrides.choices):
        for other in alternatives[1:]:
            _with_choices(overrides, [*first[:place], other, *first[place + 1 :]])
    hydra = GlobalHydra.instance().hydra
    if overrides.problems or hydra is None:
        return None
    name, typed = overrides.command.config_name, [*overrides.for_hydra, *overrides.task]
    cfg = hydra.compose_config(name, typed, RunMode.MULTIRUN, with_log_configuration=False)
    cfg.hydra.mode = RunMode.MULTIRUN
    overrides.problems += sweep_problems(cfg.hydra)
    return cfg


def _with_choices(overrides: Overrides, choices: list[str]) -> DictConfig | None:
    """Composes the chosen files, puts in one setting after another, and notes all problems.

    In a sweep, whose jobs check their values, only what no file and no signature knows is refused.
    """
    command, chosen = overrides.command, [*overrides.for_hydra, *choices]
    try:
        cfg = compose(command.config_name, chosen, return_hydra_config=True)
    except Exception as error:  # YAML that cannot be parsed, too
        overrides.problems.append(worded(error, chosen))
        return None
    _turn_off(cfg, overrides, choices)
    told = {text.partition("=")[0] for text in overrides.problems}
    mistakes, unlisted = put_settings(cfg, overrides.settings)
    found = {problem.key: problem for problem in find_problems(cfg, command.script)}
    texts = {key: p.text for key, p in found.items() if not (command.multirun or key in told)}
    for override in unlisted:
        key, line = override.key_or_group, override.input_line
        problem = next((p for p in found.values() if is_within(key, p.key)), None)
        if problem is None:
            mistakes.append(f"{line}: no file lists this setting; to add it, write +{line}")
        else:
            texts[problem.key] = _helped(command, cfg, problem, override)
    overrides.problems += [*mistakes, *_overruled(cfg, overrides), *texts.values()]
    return cfg


def _turn_off(cfg: DictConfig, overrides: Overrides, choices: list[str]) -> None:
    """Leaves out what recipes set in a group that the command, not they, turned off."""
    recipes = [one for one in choices if one.startswith(("experiment=", "hparams_search="))]
    others = [one for one in choices if one not in recipes]
    names, chosen = {one.partition("=")[0] for one in others}, cfg.hydra.runtime.choices
    off = [group for group, nothing in OFF.items() if chosen.get(group) == nothing]
    if not recipes or not names & {*off, "debug"}:
        return
    of_recipes, without = (
        compose(
            overrides.command.config_name, [*overrides.for_hydra, *some], return_hydra_config=True
        )
        for some in (recipes, others)
    )
    for group in off:
        if of_recipes.hydra.runtime.choices.get(group) != OFF[group]:
            for key in (group, *OFF_WITH.get(group, ())):
                OmegaConf.update(cfg, key, OmegaConf.select(without, key), merge=False)


def _helped(command: Command, cfg: DictConfig, problem: Problem, override: Override) -> str:
    """Adds to the refusal of a setting that no file lists what was meant, or where it belongs."""
    key, line = override.key_or_group, override.input_line
    if homes := other_homes(command, key):
        return f"{problem.text}; it is a setting of {' or '.join(homes)}"
    if problem.unknown and (meant := what_to_write(cfg, key, override.value())):
        return f"{line}: unknown setting; write {meant}"
    if not problem.unknown or "." in key or command.script != "train":
        return problem.text
    return f"{line}: unknown setting{choice(key, [*SCRIPTS['train'].settings, *RECIPES])}"


def _overruled(cfg: DictConfig, overrides: Overrides) -> Iterator[str]:
    """Yields overrides that the others make void: the networks all have values of their own."""
    yield from _unread(cfg, overrides)
    keys = [one.key_or_group.rpartition(".") for one in overrides.settings]
    if not any(owner and overrides.script.section(owner).free for owner, _, _ in keys):
        return
    values = read_values(cfg)
    for override, (owner, _, name) in zip(overrides.settings, keys, strict=True):
        node = values.select(owner)
        if not isinstance(node, dict) or name not in node or values.is_read(f"{owner}.{name}"):
            continue
        if overrides.script.section(owner).free and is_overruled(name, node):
            others = " and ".join(f"{owner}.{one}" for one in node if isinstance(node[one], dict))
            yield f"{override.input_line}: does nothing, {others} have their own; leave it out"


def _unread(cfg: DictConfig, overrides: Overrides) -> Iterator[str]:
    """Yields overrides of a part that no other one reads."""
    for line in overrides.command.overrides:
        part = line.lstrip("+~").partition("=")[0].partition(".")[0]
        needed = overrides.script.section(part).read_with
        if needed and not read_values(cfg).is_read(part):
            yield f"{line}: does nothing without {needed}; leave it out"


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
