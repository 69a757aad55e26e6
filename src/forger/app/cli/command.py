"""The front door of train.py and its siblings: mistakes are refused early and shown once, plainly.

Owns what a user sees when something is wrong, and the exit code: 2 for a mistake of the user's, 1
for a bug or a run that could not go on, 128 plus its number for a signal (Ctrl-C: 130). Imports
neither torch nor anything that does.
"""

from __future__ import annotations

import io
import secrets
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from dotenv import load_dotenv
from hydra._internal.utils import get_args_parser  # the very flags that Hydra will read
from hydra.errors import HydraException
from omegaconf import OmegaConf

from forger.app.cli.arguments import read_arguments
from forger.app.cli.log_lines import wrapped
from forger.app.cli.program import program
from forger.app.cli.quiet import quieten_hydra
from forger.app.config.command import Command
from forger.app.config.mains import MAINS
from forger.app.config.messages import listed, setting
from forger.app.config.overrides import find_mistakes
from forger.app.config.paths import as_hydra_reads, expanded
from forger.app.config.words import words_for_hydra
from forger.app.distributed import launched, together
from forger.app.run import resume, run_name
from forger.app.run.jobs import StopRun, hydra_errors, message_of, returned
from forger.app.sweep import resumed as resumed_sweeps
from forger.app.sweep.child import answer
from forger.app.sweep.outcome import BAD, ended
from forger.app.sweep.override_words import by_key, chosen, swept
from forger.app.sweep.places import jobs_at_once
from forger.errors import ConfigError, Interrupted, Pruned, UserError

Misread: TypeAlias = list[tuple[str, list[str]]]
"""What was typed in another way than is right and what to write, with the words that it means."""

_INTERRUPTED = 130
_UNEXPLAINED = {"missing": "has not begun"}
_MISTAKES = ("ConfigError", "DataError", "UserError")  # errors that end a command with code 2

# Six characters that keep two runs of one second apart; the same throughout one config.
OmegaConf.register_new_resolver(
    "short_id", lambda: secrets.token_hex(3), use_cache=True, replace=True
)
run_name.register()
# `~` in paths.log_dir, wherever it was written.
OmegaConf.register_new_resolver("expanded", expanded, replace=True)
# For launchers of several processes on this machine.
OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)
# For the texts of --help: `python train.py`, or `forger train`.
OmegaConf.register_new_resolver("typed", program.typed, replace=True)


def run(main: Callable[[], Any], folder: Path, config: str) -> None:
    """Runs a `@hydra.main` function; when something is wrong, says so and ends the process.

    Args:
        main: the decorated function.
        folder: the folder of config files, beside the script.
        config: the name of the main config.
    """
    for home in (Path.cwd(), folder.parent):  # keys of trackers; what the environment holds wins
        load_dotenv(home / ".env")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for classes of the user's own, wherever train.py lies
    code, reason, error = _run(main, folder, config)
    answer(code, reason, error, returned.pop("value", None))
    if code:
        sys.exit(code)


def _run(main: Callable[[], Any], folder: Path, config: str) -> tuple[int, str | None, str | None]:
    """Does so; returns the exit code, and what went wrong: its message and its class."""
    command = None
    ended.clear()
    quieten_hydra()
    try:
        with hydra_errors.raised():
            arguments, misread = _arguments(config, folder)
            command = _newest_named(_command(arguments, folder, config, misread))
            _respell(command)
            if misread and _only_shows(arguments):
                raise ConfigError(listed([text for text, _ in misread]))
            if not _only_shows(arguments):
                together.settle(command, _refuse_mistakes_or_resume)
            with _help_wrapped(arguments):
                main()
    except KeyboardInterrupt:
        return _say("interrupted", _INTERRUPTED), "interrupted by Ctrl-C", "KeyboardInterrupt"
    except Interrupted as interrupted:
        if launched.rank() == 0:  # the first process speaks for all
            _say(f"interrupted by {interrupted.cause}", interrupted.exit_code)
        return interrupted.exit_code, f"interrupted by {interrupted.cause}", "Interrupted"
    except Pruned as pruned:
        if launched.rank() == 0:
            _say(f"pruned: {pruned}", 0)
        return 0, str(pruned), "Pruned"
    except StopRun as stop:
        return _report(stop.error), message_of(stop.error), type(stop.error).__name__
    except Exception as error:
        code, kind = _report(error, command), type(error).__name__
        return code, message_of(error) or f"{kind}: {error}", kind
    return (_summary() if ended else 0), None, None


def _arguments(config: str, folder: Path) -> tuple[Namespace, Misread]:
    """Returns the arguments as Hydra reads them, and what was typed otherwise.

    A sweep that goes on has its own in `sys.argv`.
    """
    parser = get_args_parser()
    read = read_arguments(sys.argv[1:], parser)
    sys.argv[1:] = read.all
    arguments = parser.parse_args()
    if arguments.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun: reads a pickle, and loading one can run code; to go on with a"
            " run, write resume=<run folder>"
        )
    if arguments.config_path is not None:  # Hydra would look for it beside its own module
        read.flags += ["--config-path", str(_config_path(arguments.config_path, folder))]
    sweep = arguments.multirun or "hydra.mode=MULTIRUN" in read.words
    once = MAINS[config].once is not None
    words = [as_hydra_reads(word, sweep=sweep, once=once) for word in read.words]
    value = resumed_sweeps.wanted(words)
    if value is not None and config == "train":
        words = resumed_sweeps.arguments_for(value, words)
    sys.argv[1:] = [*(read.flags if value is None else []), *words]
    return parser.parse_args(), read.problems


def _config_path(given: str, folder: Path) -> Path:
    """Returns the folder that --config-path names: here, or else beside the script."""
    here = Path(given).expanduser().absolute()
    return here if here.is_dir() else Path(folder.parent, given).absolute()


def _refuse_mistakes_or_resume(command: Command) -> None:
    """Checks a command, and has Hydra go on in the folder of the run that it resumes."""
    value = resume.wanted(command.overrides) if "resume" in MAINS[command.script].settings else None
    if value is None or command.misspelt:
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


def _command(arguments: Namespace, folder: Path, config: str, misread: Misread) -> Command:
    words, given = list(arguments.overrides), arguments.config_path
    return Command(
        config_dir=folder.absolute() if given is None else _config_path(given, folder),
        config_name=arguments.config_name or config,
        overrides=tuple(words),
        multirun=arguments.multirun or "hydra.mode=MULTIRUN" in words,
        extra_config_dir=arguments.config_dir,
        script=config,
        misspelt=tuple((text, tuple(meant)) for text, meant in misread),
    )


def _newest_named(command: Command) -> Command:
    """Names the newest run in place of `run=last`."""
    if "run" not in MAINS[command.script].settings or "run=last" not in command.overrides:
        return command
    word = setting("run", resume.newest_run(command.config_dir))
    sys.argv[1:] = [word if argument == "run=last" else argument for argument in sys.argv[1:]]
    words = tuple(word if one == "run=last" else one for one in command.overrides)
    return replace(command, overrides=words)


def _respell(command: Command) -> None:
    """Has Hydra, and processes started with these arguments, read `metrics.features=x` as a choice.

    For Hydra it would set `metrics.features` to text; a file is chosen by `metrics/features=x`.
    """
    respelt = dict(zip(command.overrides, words_for_hydra(command), strict=True))
    sys.argv[1:] = [respelt.get(argument, argument) for argument in sys.argv[1:]]


def _only_shows(arguments: Namespace) -> bool:
    """Tells whether the flags ask for help or the config alone, and so for Hydra's own answer."""
    flags = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")
    return any(getattr(arguments, flag) for flag in flags)


@contextmanager
def _help_wrapped(arguments: Namespace) -> Iterator[None]:
    """Has Hydra's `--help`, whose lists of words may be long, break them between words."""
    if not arguments.help:
        yield
        return
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            yield
    finally:
        print(wrapped(shown.getvalue()), end="")


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
    """Says which jobs of a sweep did not finish, and returns the exit code."""
    bad = [outcome for _, outcome in sorted(ended.items()) if outcome.status in BAD]
    if not bad and all(outcome.status == "pruned" for outcome in ended.values()):
        return _say(f"error: none of {len(ended)} trials has completed: all were pruned", 1)
    if not bad:
        return 0
    keys = swept(outcome.overrides for outcome in ended.values())
    lines = [f"error: {len(bad)} of {len(ended)} jobs not finished:"]
    for outcome in bad:
        words = chosen(by_key(outcome.overrides), keys)
        first, *rest = (
            outcome.reason or _UNEXPLAINED.get(outcome.status, outcome.status)
        ).splitlines()
        lines += [f"  #{outcome.number} {words}: {first}", *(f"     {line}" for line in rest)]
    begun = [outcome for outcome in bad if outcome.status != "missing"]
    mistakes = bool(begun) and all(outcome.error in _MISTAKES for outcome in begun)
    return _say("\n".join(lines), UserError.exit_code if mistakes else 1)


def _say(text: str, code: int) -> int:
    """Writes to stderr, a process of several with its rank, and returns the code."""
    rank = launched.rank()
    print(f"[rank {rank}] {text}" if rank else text, file=sys.stderr)
    return code
