"""The front door of train.py and its siblings: mistakes are refused early and shown once, plainly.

Owns what a user sees when something is wrong, and the exit code: 2 for a mistake of the user's, 1
for a bug or a run that could not go on, 128 plus its number for a signal (Ctrl-C: 130). Imports
neither torch nor anything that does.
"""

from __future__ import annotations

import os
import secrets
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dotenv import load_dotenv
from hydra._internal.utils import get_args_parser  # the very flags that Hydra will read
from hydra.errors import HydraException
from omegaconf import OmegaConf

from forger.errors import ConfigError, Interrupted, UserError
from forger.runs import resume
from forger.runs.checking.messages import listed
from forger.runs.checking.overrides import find_mistakes
from forger.runs.checking.words import Command, words_for_hydra
from forger.runs.jobs import StopRun, failures, hydra_errors, message_of

_INTERRUPTED = 130

# Six characters that keep two runs of one second apart; the same throughout one config.
OmegaConf.register_new_resolver(
    "short_id", lambda: secrets.token_hex(3), use_cache=True, replace=True
)


def run(main: Callable[[], Any], folder: Path, config: str) -> None:
    """Runs a `@hydra.main` function; when something is wrong, says so and ends the process.

    Args:
        main: the decorated function.
        folder: the folder of config files, beside the script.
        config: the name of the main config.
    """
    failures.clear()
    load_dotenv(folder.parent / ".env")  # keys of trackers; what the environment holds wins
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for classes of the user's own, wherever train.py lies
    arguments = get_args_parser().parse_args()
    command = _command(arguments, folder, config)
    code = 0
    try:
        with hydra_errors.raised():
            _respell(command)
            if not _only_shows(arguments):
                _refuse_mistakes_or_resume(command)
            main()
    except KeyboardInterrupt:
        code = _say("interrupted", _INTERRUPTED)
    except Interrupted as interrupted:
        code = interrupted.exit_code
        if os.environ.get("LOCAL_RANK", "0") == "0":  # the first process speaks for all
            _say(f"interrupted by {interrupted.cause}", code)
    except StopRun as stop:
        code = _report(stop.error)
    except Exception as error:
        if not any(failure.error is error for failure in failures):
            code = _report(error, command)
    if failures and not code > 128:
        code = _summary()
    if code:
        sys.exit(code)


def _refuse_mistakes_or_resume(command: Command) -> None:
    """Checks a command, and has Hydra go on in the folder of the run that it resumes."""
    value = resume.wanted(command.words) if "resume" in command.main.settings else None
    if value is None:
        refuse_mistakes(command)
        return
    folder = resume.folder_of(command, value)
    problems = resume.find_mistakes(command, folder)
    if problems:
        raise ConfigError(listed(problems))
    sys.argv[1:] = resume.arguments_for(folder, sys.argv[1:])


def refuse_mistakes(command: Command) -> None:
    """Checks a command before Hydra makes a folder for it.

    Raises:
        ConfigError: the message lists all that is wrong.
    """
    problems = find_mistakes(command)
    if problems:
        raise ConfigError(listed(problems))


def _command(arguments: Namespace, folder: Path, config: str) -> Command:
    words = list(arguments.overrides)
    return Command(
        folder=Path(folder.parent, arguments.config_path or folder.name).absolute(),
        config=arguments.config_name or config,
        words=words,
        multirun=arguments.multirun or "hydra.mode=MULTIRUN" in words,
        extra_folder=arguments.config_dir,
        script=config,
    )


def _respell(command: Command) -> None:
    """Has Hydra, and processes started with these arguments, read `metrics.features=x` as a choice.

    For Hydra it would set `metrics.features` to text; a file is chosen by `metrics/features=x`.
    """
    respelt = dict(zip(command.words, words_for_hydra(command), strict=True))
    sys.argv[1:] = [respelt.get(argument, argument) for argument in sys.argv[1:]]


def _only_shows(arguments: Namespace) -> bool:
    """Tells whether the flags ask for help or the config alone, and so for Hydra's own answer."""
    flags = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")
    return any(getattr(arguments, flag) for flag in flags)


def _report(error: Exception, command: Command | None = None) -> int:
    """Shows an error, and returns the exit code."""
    message = message_of(error)
    if message is None or hydra_errors.traceback_wanted:
        traceback.print_exception(error)
    if message is None:
        return 1
    if command is not None and isinstance(error, HydraException):
        message = listed(_mistakes(command) or [message])
    return _say(f"error: {message}", getattr(error, "exit_code", UserError.exit_code))


def _mistakes(command: Command) -> list[str]:
    try:
        return find_mistakes(command)
    except Exception:  # Hydra's own message is still at hand
        return []


def _summary() -> int:
    """Says which jobs of a sweep failed, and returns the exit code."""
    lines = [f"error: {len(failures)} {'job' if len(failures) == 1 else 'jobs'} failed:"]
    code = UserError.exit_code
    for failure in failures:
        message = message_of(failure.error)
        if message is None:
            message, code = f"{type(failure.error).__name__}: {failure.error}", 1
        code = min(code, getattr(failure.error, "exit_code", code))
        lines += [f"  #{failure.number} {' '.join(failure.overrides)}", f"     {failure.folder}"]
        lines += [f"     {line}" for line in message.splitlines()]
    return _say("\n".join(lines), code)


def _say(text: str, code: int) -> int:
    """Writes to stderr, a process of several with its rank, and returns the code."""
    rank = os.environ.get("LOCAL_RANK", "0")
    print(f"[rank {rank}] {text}" if rank != "0" else text, file=sys.stderr)
    return code
