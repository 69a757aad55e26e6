"""One job of a command, alone or in a sweep: its check, and what becomes of its failure.

Owns the failed job's log line; `command` shows it and chooses the exit code. Imports neither torch
nor anything that does.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.check import check
from forger.app.config.mains import MAINS
from forger.app.config.messages import choice, given
from forger.app.config.overrides import worded
from forger.app.distributed import launched
from forger.app.distributed.rank_errors import hand_over
from forger.app.run.resume import config_of_job
from forger.errors import ConfigError, Pruned, UserError

log = logging.getLogger(__name__)

_VARIABLE = "HYDRA_FULL_ERROR"


class StopRun(BaseException):
    """Carries a user's mistake past Hydra, which would print it in its own way."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class HydraErrors:
    """Makes Hydra raise its errors, which it would print, while jobs see what the user set."""

    def __init__(self) -> None:
        self._raising = False
        self._users: str | None = None

    @property
    def traceback_wanted(self) -> bool:
        """Whether the user asked for tracebacks."""
        return (self._users if self._raising else os.environ.get(_VARIABLE)) == "1"

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Has Hydra raise, by the variable that it reads for it."""
        self._raising, self._users = True, os.environ.get(_VARIABLE)
        _set_variable("1")
        try:
            yield
        finally:
            self._raising = False
            _set_variable(self._users)

    @contextmanager
    def as_the_user_set(self) -> Iterator[None]:
        """Puts the variable back for a while, so that processes started by a job inherit it."""
        if not self._raising:
            yield
            return
        _set_variable(self._users)
        try:
            yield
        finally:
            _set_variable("1")


hydra_errors = HydraErrors()
returned: dict[str, float] = {}
"""`value`: the metric that `objective` names, of the last job in this process."""


@contextmanager
def job(cfg: DictConfig, main: str = "train") -> Iterator[DictConfig]:
    """Surrounds the work of one job: checks its config, and logs its failure in its own folder.

    Yields the config of the job, which for a resumed run is the run's own.

    Args:
        cfg: the job's config.
        main: name of the main config that the script reads.

    Raises:
        ConfigError: the config is wrong.
    """
    with hydra_errors.as_the_user_set():
        try:
            if cfg.get("resume") is not None:
                cfg = config_of_job(cfg, HydraConfig.get().overrides.task)
            else:
                check(cfg, main)
            if launched.rank() == 0 and "torch" not in sys.modules:
                print("loading PyTorch, which takes some seconds", flush=True)
            yield cfg
            if cfg.get("dry_run") and HydraConfig.get().mode == RunMode.RUN:
                _remove_unused(Path(HydraConfig.get().runtime.output_dir))
        except Pruned:
            raise
        except Exception as error:
            hand_over(error)
            _record(error, has_folder=MAINS[main].once is None)
            raise


def objective(cfg: DictConfig, metrics: Mapping[str, float]) -> float | None:
    """Returns the metric that `objective` names, for a sweeper; `None` when it names none.

    Raises:
        ConfigError: there is no such metric.
    """
    if cfg.objective is None or cfg.dry_run or launched.rank() != 0:
        return None
    if cfg.objective not in metrics:
        known = choice(cfg.objective, metrics)
        raise ConfigError(f"{given('objective', cfg.objective)}: no such metric was logged{known}")
    returned["value"] = float(metrics[cfg.objective])
    return returned["value"]


def message_of(error: BaseException) -> str | None:
    """Words an error that a user can mend; `None` for a bug, which needs its traceback."""
    if isinstance(error, InstantiationException):
        return str(error.__cause__) if isinstance(error.__cause__, UserError) else None
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return worded(error)
    return None


def _record(error: Exception, has_folder: bool) -> None:
    """Writes an error to the job's log; alone, a mistake of the user's ends the command."""
    hydra = HydraConfig.get()
    message = message_of(error)
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        wanted = message is None or hydra_errors.traceback_wanted
        log.error("%s", message or error, exc_info=error if wanted else None)
    elif message is None:
        _log_to_file("".join(traceback.format_exception(error)))
    else:
        if has_folder and not _remove_unused(folder):
            _log_to_file(message)
        raise StopRun(error) from error


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
    if launched.rank() != 0 or not folder.is_dir():
        return False
    if any(path.suffix != ".log" for path in folder.iterdir()):
        return False
    for handler in _file_handlers():
        logging.getLogger().removeHandler(handler)
        handler.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return True


def _set_variable(value: str | None) -> None:
    if value is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = value
