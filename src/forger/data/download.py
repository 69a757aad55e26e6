"""Downloads through torchvision, in silence and all or nothing. Owns the message when one fails."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torchvision import datasets

from forger.errors import DataError
from forger.whole_files import remove_leftovers

log = logging.getLogger(__name__)


def download(
    dataset: type[datasets.VisionDataset[Any]],
    root: Path,
    folder: str,
    files: Iterable[str],
    fault: Callable[[Path], str | None],
) -> None:
    """Downloads a data set into `root/folder`; files that are already there stay as they are.

    torchvision works in a temporary folder inside `root`. Each whole file is moved in one step, so
    that a download cut off at any moment leaves nothing that looks like data; the folder that a
    killed one leaves is removed by a later one.

    Args:
        dataset: torchvision's class.
        root: is made where it is missing.
        folder: the data set's own folder below `root`.
        files: names that must be there in the end.
        fault: says what is wrong with a file, or None.

    Raises:
        DataError: the download failed or `root` cannot be written to; says what to do offline.
    """
    name, home = dataset.__name__, root / folder
    log.info("downloading %s to %s", name, home)
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root, f"{name}-download")
        with TemporaryDirectory(".tmp", f".{name}-download.", root) as temporary:
            scratch = Path(temporary)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                dataset(str(scratch), download=True)  # type: ignore[call-arg]
            for file in files:
                if words := fault(scratch / folder / file):
                    raise RuntimeError(f"{file}: {words}")
            home.mkdir(parents=True, exist_ok=True)
            for source in (scratch / folder).iterdir():
                if not (home / source.name).exists():
                    source.replace(home / source.name)
    except (OSError, RuntimeError, HTTPException) as error:  # URLError is an OSError
        last_line = (str(error).strip() or repr(error)).splitlines()[-1]
        reason = last_line.strip("<>").removeprefix("urlopen error ")
        raise unavailable(name, root, folder, files, f"the download failed ({reason})") from None


def unavailable(name: str, root: Path, folder: str, files: Iterable[str], reason: str) -> DataError:
    """Builds the one message for a data set that is not there: where, why, what works offline."""
    return DataError(
        f"{name} is not available in {root / folder}: {reason}\n"
        f"  expected there: {', '.join(files)}\n"
        "  without a network, choose one of\n"
        "    data=mnist_sample  (5,000 real digits, no download)\n"
        f"    data.root=<folder that holds {folder}>\n"
        "    data=image_folder data.root=<your images>"
    )
