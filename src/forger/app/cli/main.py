"""Runs a command line to its end: says once what went wrong, and returns the exit code.

Imports neither torch nor anything that does.
"""

from __future__ import annotations

import gc
import io
import secrets
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from dotenv import load_dotenv
from hydra._internal.callbacks import Callbacks  # sweepers ask for them
from hydra._internal.utils import _run_hydra  # what --help, --cfg and --info do
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

import forger
from forger.app.cli.arguments import Typed, program_again, read_command
from forger.app.cli.ending import Ending, ending_of, summarise
from forger.app.cli.job import run_job, say_what_takes_long
from forger.app.cli.log_lines import wrapped
from forger.app.config.command import Command, expanded, type_program
from forger.app.config.compose import compose_checked, find_mistakes, hydra_for, quieten_hydra
from forger.app.config.messages import listed
from forger.app.config.sections import SCRIPTS
from forger.app.run import resume
from forger.app.run.folder import run_name
from forger.app.run.several_processes import Agreed, agree, local_processes, run_in_processes
from forger.app.sweep.folder import Outcome
from forger.app.sweep.process import JobTask, answer, end_with_parent, jobs_at_once
from forger.app.sweep.resume import resumed_command
from forger.errors import ConfigError, Interrupted

# What the config files call by `${name:arguments}`. Six characters keep runs of one second apart.
OmegaConf.register_new_resolver(
    "short_id", lambda: secrets.token_hex(3), use_cache=True, replace=True
)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("expanded", expanded, replace=True)
OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)


def run(script: str, configs: Path, subcommand: Sequence[str] = ()) -> None:
    """Runs what was typed after a command's name; ends the process where that fails.

    Args:
        script: `train`, `evaluate`, `generate` or `explore`, and so the main config that is read.
        configs: the folder of config files.
        subcommand: what was typed between the program and the arguments: `train` after `forger`.
    """
    program = program_again(subcommand)
    _set_up_process(configs, program)
    ending = _run(script, configs, sys.argv[1 + len(subcommand) :], program)
    answer(ending.code, ending.reason, ending.error, ending.value)
    if ending.code:
        gc.freeze()  # what is loaded need not be searched for garbage: a refusal is quick
        sys.exit(ending.code)


def _set_up_process(configs: Path, program: tuple[str, ...]) -> None:
    for home in (Path.cwd(), configs.parent):  # keys of trackers; what the environment holds wins
        load_dotenv(home / ".env")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for classes of the user's own, wherever train.py lies
    # For the texts of --help: `python train.py`, or `forger train`.
    named = partial(type_program, program[-1:] if program[-1] in SCRIPTS else ())
    OmegaConf.register_new_resolver("typed", named, replace=True)
    end_with_parent()


def own_configs() -> Path:
    """Returns the folder of config files that comes with this package."""
    package = Path(forger.__file__).parent
    installed = package / "configs"  # where the wheel has what lies at the top of a clone
    return installed if installed.is_dir() else package.parents[1] / "configs"


def _run(script: str, configs: Path, arguments: Sequence[str], program: tuple[str, ...]) -> Ending:
    try:
        typed = read_command(script, configs, arguments, program)
        if typed.only_shows:
            _show(typed)
            return Ending()
        outcome = _carry_out(typed.command)
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        return ending_of(error)
    return summarise(outcome) if isinstance(outcome, list) else Ending(value=outcome)


def _show(typed: Typed) -> None:
    """Prints help, the config or Hydra's information, as Hydra does."""
    command = typed.command
    if command.misspelt:
        raise ConfigError(listed(list(command.misspelt)))
    quieten_hydra()
    shown, said = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(shown), redirect_stderr(said):
            _run_hydra(
                args=typed.flags,
                args_parser=typed.parser,
                task_function=lambda _: None,  # is not called
                config_path=str(command.config_dir),
                config_name=command.config_name,
            )
    except SystemExit as end:
        if end.code:
            raise ConfigError(listed(find_mistakes(command) or [said.getvalue()])) from None
    text = shown.getvalue()
    print(wrapped(text) if typed.flags.help else text, end="")


def _carry_out(command: Command) -> float | list[Outcome] | None:
    """Runs a command; returns its objective's value, or what became of a sweep's jobs."""
    if command.script == "train" and command.has("sweep.resume"):
        command = resumed_command(command)
    agreed = agree(command)
    is_alone = agreed is None
    if agreed is None and command.resumes:
        agreed = Agreed(*resume.prepare(command))
    elif agreed is None:
        agreed = Agreed(command, compose_checked(command))
    if agreed.command.multirun:
        return _sweep(agreed.command, agreed.config)
    if is_alone and (count := local_processes(agreed)) > 1:
        say_what_takes_long()
        run_in_processes(agreed, count)
        raise SystemExit(0)  # rank 0 has told whoever asked
    return run_job(agreed)


def _sweep(command: Command, config: DictConfig) -> list[Outcome]:
    """Runs a sweep; returns what became of each job."""
    config.hydra.mode = RunMode.MULTIRUN
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    with hydra_for(command) as loader:
        sweeper = Plugins.instance().instantiate_sweeper(
            config=config,
            hydra_context=HydraContext(loader, Callbacks(config)),
            task_function=JobTask(command, config),
        )
        outcomes: list[Outcome] = sweeper.sweep(arguments=list(config.hydra.overrides.task))
    return outcomes
