"""Runs a command line to its end: says once what went wrong, and returns the exit code.

The exit code is 2 for a mistake of the user's, 1 for a bug or a run that could not go on, and 128
plus its number for a signal (Ctrl-C: 130). Imports neither torch nor anything that does.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from dotenv import load_dotenv
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks  # run_job asks for them
from hydra._internal.utils import _run_hydra  # what --help, --cfg and --info do
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

import forger
from forger.app.cli.arguments import Typed, program_again, read_command
from forger.app.cli.log_lines import wrapped
from forger.app.cli.quiet import quieten_hydra
from forger.app.config.command import Command, type_program
from forger.app.config.compose import compose_checked, find_mistakes, hydra_for
from forger.app.config.messages import choice, given, listed, quoted
from forger.app.config.paths import expanded
from forger.app.config.sections import SCRIPTS
from forger.app.distributed.local import write_error_file
from forger.app.distributed.watch import OtherProcessError, explained, reason_of
from forger.app.run import resume
from forger.app.run.folder import run_name
from forger.app.run.jobs import message_of
from forger.app.run.several_processes import (
    Agreed,
    agree,
    local_processes,
    run_in_processes,
)
from forger.app.sweep.jobs import BAD, Outcome, by_key, differing_keys, label
from forger.app.sweep.process import JobTask, answer, end_with_parent
from forger.app.sweep.resume import is_resumed, resumed_command
from forger.app.sweep.slots import jobs_at_once
from forger.errors import ConfigError, Interrupted, Pruned, UserError
from forger.processes import rank, this_process

log = logging.getLogger(__name__)

_UNEXPLAINED = {"missing": "has not begun"}
_MISTAKES = ("ConfigError", "DataError", "UserError")  # errors that end a command with code 2

# What the config files call by `${name:arguments}`.
# Six characters that keep two runs of one second apart; the same throughout one config.
OmegaConf.register_new_resolver(
    "short_id", lambda: secrets.token_hex(3), use_cache=True, replace=True
)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
# `~` in paths.log_dir, wherever it was written.
OmegaConf.register_new_resolver("expanded", expanded, replace=True)
# For launchers of several processes on this machine.
OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)


def run(script: str, configs: Path, subcommand: Sequence[str] = ()) -> None:
    """Runs what was typed after a command's name; ends the process where that fails.

    Args:
        script: `train`, `evaluate` or `generate`, and so the main config that is read.
        configs: the folder of config files.
        subcommand: what was typed between the program and the arguments: `train` after `forger`.
    """
    for home in (Path.cwd(), configs.parent):  # keys of trackers; what the environment holds wins
        load_dotenv(home / ".env")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for classes of the user's own, wherever train.py lies
    program = program_again(subcommand)
    # For the texts of --help: `python train.py`, or `forger train`.
    named = partial(type_program, program[-1:] if program[-1] in SCRIPTS else ())
    OmegaConf.register_new_resolver("typed", named, replace=True)
    quieten_hydra()
    end_with_parent()
    code, reason, error, value = _run(script, configs, sys.argv[1 + len(subcommand) :], program)
    answer(code, reason, error, value)
    if code:
        sys.exit(code)


def own_configs() -> Path:
    """Returns the folder of config files that comes with this package."""
    package = Path(forger.__file__).parent
    installed = package / "configs"  # where the wheel has what lies at the top of a clone
    return installed if installed.is_dir() else package.parents[1] / "configs"


def _run(
    script: str, configs: Path, arguments: Sequence[str], program: tuple[str, ...]
) -> tuple[int, str | None, str | None, float | None]:
    """Runs a command; returns exit code, what went wrong, its class, and the objective's value."""
    typed: Typed | None = None
    outcome: float | list[Outcome] | None = None
    try:
        typed = read_command(script, configs, arguments, program)
        if typed.only_shows:
            _show(typed)
        else:
            outcome = _carry_out(typed.command)
    except (KeyboardInterrupt, Interrupted) as error:
        interrupted = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        cause, code = f"interrupted by {interrupted.cause}", interrupted.exit_code
        write_error_file(cause, code, follows=True)
        if _speaks():
            _say(cause, code)
        return code, cause, "Interrupted", None
    except Pruned as pruned:
        if rank() == 0:
            _say(f"pruned: {pruned}", 0)
        return 0, str(pruned), "Pruned", None
    except Exception as error:
        code = _report(error, None if typed is None else typed.command)
        kind = getattr(error, "kind", type(error).__name__)
        return code, message_of(error) or f"{kind}: {error}", kind, None
    if isinstance(outcome, list):
        return _summarise(outcome), None, None, None
    return 0, None, None, outcome


def _show(typed: Typed) -> None:
    """Prints help, the config or Hydra's information, as Hydra does."""
    if typed.command.misspelt:
        raise ConfigError(listed([text for text, _ in typed.command.misspelt]))
    if typed.flags.cfg:
        with _composed(typed.command):  # raises where Hydra would print an error of its own
            pass
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            _run_hydra(
                args=typed.flags,
                args_parser=typed.parser,
                task_function=lambda _: None,  # is not called
                config_path=str(typed.command.config_dir),
                config_name=typed.command.config_name,
            )
    finally:  # lists of choices may be long
        text = shown.getvalue()
        print(wrapped(text) if typed.flags.help else text, end="")


def _carry_out(command: Command) -> float | list[Outcome] | None:
    """Checks a command, composes its config once, and runs its one job or its sweep.

    Returns:
        The value of the job's objective, or what became of the sweep's jobs.
    """
    if command.script == "train" and is_resumed(command):
        command = resumed_command(command)
    own = this_process() if command.script == "train" else None
    agreed = Agreed(*_prepared(command)) if own is None else agree(own, command, _prepared)
    if agreed.command.multirun:
        return _sweep(agreed.command, agreed.config)
    if own is None and (count := local_processes(agreed)) > 1:
        _say_what_takes_long()
        run_in_processes(agreed, count)
        raise SystemExit(0)  # rank 0 has told whoever asked
    return _run_job(agreed)


@contextmanager
def _composed(command: Command) -> Iterator[DictConfig]:
    """Composes the config of a command, Hydra's own part with it."""
    overrides = list(command.overrides)
    if command.extra_config_dir is not None:
        overrides.append(f"hydra.searchpath=[{quoted(Path(command.extra_config_dir).absolute())}]")
    directory = str(command.config_dir)
    with initialize_config_dir(directory, job_name=command.script, version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        mode = RunMode.MULTIRUN if command.multirun else RunMode.RUN
        config = hydra.compose_config(command.config_name, overrides, mode)
        config.hydra.mode = mode
        yield config


def _prepared(command: Command) -> tuple[Command, DictConfig]:
    """Checks a command before Hydra makes a folder for it, and composes its config.

    Returns:
        The command, or that of a run that goes on, and its config, Hydra's own part with it.

    Raises:
        ConfigError: the message lists all that is wrong.
    """
    goes_on = "resume" in SCRIPTS[command.script].settings and not command.misspelt
    if goes_on and resume.resumed_run(command.overrides) is not None:
        return resume.prepare(command)
    config = compose_checked(command)
    if config.get("resume") is not None:
        raise ConfigError(f"{given('resume', config.resume)}: belongs on the command line")
    return command, config


def _sweep(command: Command, config: DictConfig) -> list[Outcome]:
    """Runs a sweep; returns what became of each job."""
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    with hydra_for(command) as loader:
        sweeper = Plugins.instance().instantiate_sweeper(
            config=config,
            hydra_context=HydraContext(loader, Callbacks(config)),
            task_function=JobTask.of(command, config),
        )
        outcomes: list[Outcome] = sweeper.sweep(arguments=list(config.hydra.overrides.task))
    return outcomes


def _run_job(agreed: Agreed) -> float | None:
    """Runs the one job of a command in the folder that Hydra makes for it."""
    command, config = agreed.command, agreed.config
    folder = Path(config.hydra.run.dir).absolute()
    elsewhere = rank() != 0 and not folder.is_dir()  # rank 0 has made it on its file system

    def task(cfg: DictConfig) -> tuple[float | None, BaseException | None]:
        try:
            _say_what_takes_long()
            with explained(agreed.met):
                return WORK[command.script](cfg, agreed), None
        except Exception as error:  # Hydra would print it in its own way
            return None, error

    context = HydraContext(None, Callbacks(config))  # type: ignore[arg-type]
    value: float | None
    value, error = run_job(task, config, "hydra.run.dir", None, context).return_value
    has_folder = SCRIPTS[command.script].once is None
    if error is not None and not isinstance(error, Pruned):
        message = message_of(error)
        removed = message is not None and has_folder and _remove_unused(folder)
        if not removed and (message is None or has_folder):
            _log_to_file(message or "".join(traceback.format_exception(error)))
    elif config.get("dry_run"):
        _remove_unused(folder)
    if elsewhere:
        with suppress(OSError):  # another process of this machine was faster
            folder.rmdir()
            folder.parent.rmdir()
    if error is not None:
        raise error
    return value


def _say_what_takes_long() -> None:
    own = this_process()
    if "torch" not in sys.modules and (own is None or (own.rank == 0 and not own.is_local)):
        print("loading PyTorch, which takes some seconds", flush=True)


def _train(cfg: DictConfig, agreed: Agreed) -> float | None:
    from forger.app.run.train import train  # imports torch: after the check

    return objective(cfg, train(cfg, agreed))


def _evaluate(cfg: DictConfig, _: Agreed) -> None:
    from forger.app.run.evaluate import evaluate  # imports torch: after the check

    evaluate(cfg)


def _generate(cfg: DictConfig, _: Agreed) -> None:
    from forger.app.run.generate import generate  # imports torch: after the check

    generate(cfg)


WORK: dict[str, Callable[[DictConfig, Agreed], float | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "generate": _generate,
}


def objective(cfg: DictConfig, metrics: Mapping[str, float]) -> float | None:
    """Returns the metric that `objective` names, for a sweeper; `None` when it names none.

    Raises:
        ConfigError: there is no such metric.
    """
    if cfg.objective is None or cfg.dry_run or rank() != 0:
        return None
    if cfg.objective not in metrics:
        known = choice(cfg.objective, metrics)
        raise ConfigError(f"{given('objective', cfg.objective)}: no such metric was logged{known}")
    return float(metrics[cfg.objective])


def traceback_wanted() -> bool:
    """Tells whether the user asked for tracebacks, by Hydra's variable for it."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _file_handlers() -> list[logging.FileHandler]:
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, logging.FileHandler)]


def _log_to_file(message: str) -> None:
    """Logs to the run's file alone: the screen gets the message once, at the end."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in _file_handlers():
        handler.handle(record)


def _remove_unused(folder: Path) -> bool:
    """Removes the folder of a run that never began, which holds its log at most."""
    if rank() != 0 or not folder.is_dir():
        return False
    if any(path.suffix != ".log" for path in folder.iterdir()):
        return False
    for handler in _file_handlers():
        logging.getLogger().removeHandler(handler)
        handler.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with suppress(OSError):  # other runs are there
        folder.parent.rmdir()
        folder.parent.parent.rmdir()
    return True


def _report(error: Exception, command: Command | None = None) -> int:
    """Shows an error, and returns the exit code.

    One of another process is told by that one or by what started both.
    """
    message, follows = message_of(error), isinstance(error, OtherProcessError)
    if message is None or (traceback_wanted() and not follows):
        traceback.print_exception(error)
    code = 1 if message is None else int(getattr(error, "exit_code", UserError.exit_code))
    details = "".join(traceback.format_exception(error))
    kind = type(error).__name__
    write_error_file(reason_of(error), code, kind=kind, follows=follows, details=details)
    if message is None:
        return code
    if command is not None and isinstance(error, HydraException):
        message = listed(_mistakes(command) or [message])
    return _say(f"error: {message}", code) if _speaks() else code


def _speaks() -> bool:
    """Tells whether this process says what went wrong: the first one, for all."""
    own = this_process()
    return own is None or (own.rank == 0 and not own.is_local) or own.speaks


def _mistakes(command: Command) -> list[str]:
    try:
        return find_mistakes(command)
    except Exception:  # Hydra's own message is still at hand
        return []


def _summarise(outcomes: Sequence[Outcome]) -> int:
    """Says which jobs of a sweep did not finish, and returns the exit code."""
    bad = [outcome for outcome in outcomes if outcome.status in BAD]
    if outcomes and all(outcome.status == "pruned" for outcome in outcomes):
        return _say(f"error: none of {len(outcomes)} trials has completed: all were pruned", 1)
    if not bad:
        return 0
    keys = differing_keys(outcome.overrides for outcome in outcomes)
    lines = [f"error: {len(bad)} of {len(outcomes)} jobs not finished:"]
    for outcome in bad:
        name = label(by_key(outcome.overrides), keys)
        first, *rest = (
            outcome.reason or _UNEXPLAINED.get(outcome.status, outcome.status)
        ).splitlines()
        lines += [f"  #{outcome.number} {name}: {first}", *(f"     {line}" for line in rest)]
    begun = [outcome for outcome in bad if outcome.status != "missing"]
    mistakes = bool(begun) and all(outcome.error in _MISTAKES for outcome in begun)
    return _say("\n".join(lines), UserError.exit_code if mistakes else 1)


def _say(text: str, code: int) -> int:
    """Writes to stderr, a process of several with its rank, and returns the code."""
    number = rank()
    print(f"[rank {number}] {text}" if number else text, file=sys.stderr)
    return code
