"""Runs the one job of a command in the folder that Hydra makes; a refused one leaves none."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra.core.utils
from hydra._internal.callbacks import Callbacks  # run_job asks for them
from hydra.types import HydraContext
from omegaconf import DictConfig

from forger.app.cli.ending import message_of
from forger.app.config.command import Command
from forger.app.config.messages import choice, given
from forger.app.config.sections import SCRIPTS
from forger.app.distributed.watch import explained
from forger.app.run.folder import is_empty, is_main_process, missing_folders
from forger.app.run.several_processes import Agreed
from forger.errors import ConfigError, Pruned
from forger.processes import this_process

log = logging.getLogger(__name__)


def run_job(agreed: Agreed) -> float | None:
    """Runs a job; returns the metric that `objective` names, if any."""
    script, config = agreed.command.script, agreed.config
    folder, has_folder = Path(config.hydra.run.dir).absolute(), SCRIPTS[script].once is None
    new, ours = missing_folders(folder), is_empty(folder) or this_process() is not None

    def task(cfg: DictConfig) -> tuple[float | None, Exception | None]:
        try:
            if script != "report":
                say_what_takes_long()
            with explained(agreed.met):
                return work(script, cfg, agreed), None
        except Exception as error:  # Hydra would print it in its own way
            return None, error
        finally:
            if script == "train":
                report_on(folder, cfg, agreed.command)

    context = HydraContext(None, Callbacks(config))  # type: ignore[arg-type]
    returned = hydra.core.utils.run_job(task, config, "hydra.run.dir", None, context)
    value: float | None
    value, error = returned.return_value
    failed = error is not None and not isinstance(error, Pruned)
    message = message_of(error) if error is not None else None
    unused = has_folder and (message is not None if failed else config.get("dry_run"))
    removed = unused and ours and is_main_process() and _remove_unused(folder, new)
    if failed and not removed and (has_folder or message is None):
        _log_to_file(message or "".join(traceback.format_exception(error)))
    if not is_main_process():  # rank 0 makes the folder, which another machine may not see
        _remove_empty(new)
    if error is not None:
        raise error
    return value


def say_what_takes_long() -> None:
    """Says that torch is being imported, once for all processes."""
    own = this_process()
    if "torch" not in sys.modules and (own is None or (own.rank == 0 and not own.is_local)):
        print("loading PyTorch, which takes some seconds", flush=True)


def work(script: str, cfg: DictConfig, agreed: Agreed) -> float | None:
    """Does what a script is for; imports torch, and so only after the check."""
    if script == "train":
        from forger.app.run.train import train

        return objective(cfg, train(cfg, agreed))
    if script == "evaluate":
        from forger.app.report.write import renew
        from forger.app.run.evaluate import evaluate

        evaluate(cfg, on_scored=lambda folder: renew(folder, agreed.command))
    if script == "generate":
        from forger.app.run.generate import generate

        generate(cfg)
    if script == "report":
        from forger.app.report.write import report

        report(cfg, agreed.command)
    if script == "export":
        from forger.app.export.export import export

        export(cfg)
    if script == "explore":
        from forger.app.explore.serve import explore

        explore(cfg)
    return None


def report_on(folder: Path, cfg: DictConfig, command: Command) -> None:
    """Writes the report of a run or a sweep that has ended, however it did."""
    if cfg.report and not cfg.dry_run:
        from forger.app.report.write import write_at_end  # not at every start

        write_at_end(folder, command)


def objective(cfg: DictConfig, metrics: Mapping[str, float]) -> float | None:
    """Returns the metric that `objective` names, for a sweeper; `None` when it names none.

    Raises:
        ConfigError: there is no such metric.
    """
    if cfg.objective is None or cfg.dry_run or not is_main_process():
        return None
    if cfg.objective not in metrics:
        known = choice(cfg.objective, metrics)
        raise ConfigError(f"{given('objective', cfg.objective)}: no such metric was logged{known}")
    return float(metrics[cfg.objective])


def _file_handlers() -> list[logging.FileHandler]:
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, logging.FileHandler)]


def _log_to_file(message: str) -> None:
    """Logs to the run's file alone: the screen gets the message once, at the end."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in _file_handlers():
        handler.handle(record)


def _remove_unused(folder: Path, new: Sequence[Path]) -> bool:
    """Removes the folder of a run that never began, unless it holds more than its log."""
    logs = {Path(handler.baseFilename) for handler in _file_handlers()}
    if not folder.is_dir() or {*folder.iterdir()} - logs:
        return False
    for handler in _file_handlers():
        logging.getLogger().removeHandler(handler)
        handler.close()
        Path(handler.baseFilename).unlink(missing_ok=True)
    _remove_empty([folder, *new])
    return True


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first, up to one in which there is something."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:  # another process was faster
            continue
        except OSError:
            return
