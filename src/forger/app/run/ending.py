"""Tells how a run ended: in the log, in `status.json` and to its trackers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lightning import Callback, Trainer

from forger.app.config.command import Command
from forger.app.config.messages import near, setting
from forger.app.config.trust import locations_in, trust_in
from forger.app.run.folder import RunFolder, is_main_process
from forger.app.run.resume import trusting
from forger.callbacks.early_stopping import EarlyStopping
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.errors import ConfigError, DivergedError, Interrupted, Pruned, RunError, UserError
from forger.loggers import close_trackers, send_checkpoints

log = logging.getLogger(__name__)

_AGAINST_DIVERGENCE = (
    "the same settings would diverge again; lower optimizer.lr, clip gradients with"
    " model.gradient_clip.discriminator=1 and .generator=1, or choose another loss"
)


@contextmanager
def recorded(folder: RunFolder, trainer: Trainer, command: Command) -> Iterator[None]:
    """Writes how the run ended and closes its trackers with the same verdict.

    Args:
        folder: of the run.
        trainer: trains inside.
        command: that was typed.

    Raises:
        RunError: in place of an `OSError`: the disk is full, a file has vanished.
        Interrupted: in place of the `SystemExit` that Lightning makes of Ctrl-C.
        Pruned: the search that the run belongs to ended it.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Interrupted) as error:
        ended = _interruption(error)
        cause = ended.cause if isinstance(ended, Interrupted) else f"SystemExit: {error}"
        _end(folder, trainer, command, "interrupted", cause, ended, getattr(ended, "exit_code", 1))
        raise ended from None
    except Pruned as pruned:
        folder.mark("pruned", str(pruned), trainer.global_step)
        close_trackers(trainer.loggers, exit_code=0)
        raise
    except OSError as error:
        reason = _reason(error)
        _end(folder, trainer, command, "failed", reason, error)
        raise RunError(f"{reason}; the run stopped at iteration {trainer.global_step}") from error
    except BaseException as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _end(folder, trainer, command, "failed", reason, error)
        raise
    folder.mark("finished", ended_early(trainer), trainer.global_step)
    send_checkpoints(trainer.loggers, folder.path, trainer.global_step)
    close_trackers(trainer.loggers, exit_code=0)


def ended_early(trainer: Trainer) -> str | None:
    """Returns why a callback ended the training before its limits; `None`: none did."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c.reason for c in callbacks if isinstance(c, EarlyStopping) and c.reason), None)


def _interruption(error: BaseException) -> BaseException:
    """Returns what ended the run; Lightning makes a `SystemExit` of Ctrl-C."""
    if any(isinstance(e, KeyboardInterrupt) for e in (error, error.__context__)):
        return Interrupted(signal.SIGINT)
    return error


def _end(
    folder: RunFolder,
    trainer: Trainer,
    command: Command,
    status: str,
    reason: str,
    error: BaseException,
    exit_code: int = 1,
) -> None:
    """Records an end that was not wanted; what fails on the way must not hide it."""
    try:
        folder.mark(status, reason, trainer.global_step)
    except OSError as failure:
        log.warning("status.json cannot be written: %s", failure)
    with suppress(OSError):
        close_trackers(trainer.loggers, exit_code)
    if is_main_process():
        _say_what_helps(folder, error, command)


def _say_what_helps(folder: RunFolder, error: BaseException, command: Command) -> None:
    """Names the checkpoint, and the way to go on where the same would not happen again."""
    kept = [name for name in (LAST, PREVIOUS) if (folder.path / FOLDER / name).is_file()]
    if kept:
        log.info("kept            %s", folder.path / FOLDER / kept[0])
    if isinstance(error, DivergedError):
        log.info("what helps      %s", _AGAINST_DIVERGENCE)
    trust = trusting([*trust_in(folder.config), *locations_in(folder.config)])
    if not isinstance(error, (ConfigError, DivergedError)):
        words = [setting("resume", near(folder.path)), *trust]
        log.info("to go on        %s", command.typed("train", *words))
    elif kept:
        words = [setting("init_from", near(folder.path)), *trust]
        log.info("its weights     %s, with what is changed", command.typed("train", *words))


def _reason(error: OSError) -> str:
    """Words an error of the system by the file that it concerns."""
    if error.filename:
        return f"{error.filename}: {error.strerror or error}"
    lines = str(error.strerror or error).strip().splitlines()  # of a worker process: a traceback
    return lines[-1] if lines else type(error).__name__
