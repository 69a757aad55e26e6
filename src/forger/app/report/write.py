"""Writes reports: what `report.py` does, and what every run and every sweep ends with."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from omegaconf import DictConfig

from forger.app.config.command import Command
from forger.app.config.messages import near
from forger.app.report.one_run import page_of_run
from forger.app.report.page import NAME, Page, check_replaceable, write_page
from forger.app.report.several import page_of_runs, page_of_sweep
from forger.app.run.folder import is_main_process
from forger.errors import UserError

log = logging.getLogger(__name__)


def report(cfg: DictConfig, command: Command) -> Path:
    """Writes the report of a run or a sweep, or one of several runs, and returns the file.

    Args:
        cfg: composed from `configs/report.yaml`.
        command: knows how the commands that the page names are typed here.

    Raises:
        UserError: the file is there and no report, cannot be written, or a record leads elsewhere.
    """
    folders = [Path(one) for one in ([cfg.run] if isinstance(cfg.run, str) else cfg.run)]
    common = os.path.commonpath([folder.absolute().parent for folder in folders])
    usual = folders[0] / NAME if len(folders) == 1 else Path(common, "comparison.html")
    path = usual if cfg.output is None else Path(cfg.output)
    check_replaceable(path, "output" if cfg.output else "")
    try:
        page = _page(folders[0], command) if len(folders) == 1 else page_of_runs(folders, command)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # records may be anybody's
        raise UserError(f"run={folders[0]}: its records are damaged: {error}") from error
    try:
        write_page(page, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    log.info("report          %s, %s KB", near(path), f"{path.stat().st_size // 1000:,}")
    return path


def write_at_end(folder: Path, command: Command) -> None:
    """Writes the report of a run or sweep that has ended; what fails is a warning.

    Nothing is written where nothing was begun.
    """
    known = any((folder / name).is_file() for name in ("config.yaml", "sweep.json"))
    if not known or not is_main_process():
        return
    try:
        write_page(_page(folder, command), folder / NAME)
    except Exception as error:  # a full disk, or a record that nobody foresaw
        log.warning("the report is not written: %s", error)
    else:
        log.info("report          %s", near(folder / NAME))


def renew(folder: Path, command: Command) -> None:
    """Writes a run's report anew, where there is one, as `write_at_end` does."""
    if (folder / NAME).is_file():
        write_at_end(folder, command)


def _page(folder: Path, command: Command) -> Page:
    is_sweep = (folder / "sweep.json").is_file()
    return (page_of_sweep if is_sweep else page_of_run)(folder, command)
