"""The folder of results that a script replaces as a whole, and never somebody else's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from forger.app.config.trust import links_out_of
from forger.errors import UserError

_OF_FILE_MANAGERS = (".DS_Store", "Thumbs.db", "desktop.ini")


def output_folder(cfg: DictConfig, run: Path, kept: str, name: str) -> Path:
    """Returns the folder that `output` means: as set, or `name` in the run's own folder `kept`.

    Raises:
        UserError: links in there would lead the results elsewhere.
    """
    if cfg.output is not None:
        return Path(cfg.output).expanduser().resolve()
    if links := links_out_of(run / kept, cfg.get("trust") or (), run):
        raise UserError(f"run={run}: {links[0]}, or name another output=<folder>")
    return (run / kept / name).resolve()


def check_replaceable(
    folder: Path, script: str, record: str, ours: Callable[[str], object]
) -> None:
    """Refuses a folder with anything in it that a script did not write.

    Args:
        folder: what `output` means; it may be missing.
        script: its name, `generate.py`.
        record: name of the file that stands in every folder of the script, `generated.json`.
        ours: tells whether it writes a file or folder of such a name, relative to `folder`.

    Raises:
        UserError: it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder")
    written = (folder / record).is_file()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.name not in _OF_FILE_MANAGERS and not (written and ours(name)):
            raise UserError(
                f"output={folder}: holds {name}, which {script} did not write, and would be"
                " replaced as a whole; name a new or an empty folder"
            )


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` at the end, if nothing is raised."""
    building, previous = (folder.with_name(f".{folder.name}.{x}") for x in ("partial", "previous"))
    try:
        for left in (building, previous):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        building.mkdir(parents=True)
        yield building
        if folder.exists():
            folder.rename(previous)
        building.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"output={folder}: cannot be written: {reason}") from error
    finally:
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
