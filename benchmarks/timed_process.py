"""Python programs in processes of their own, with a terminal and an environment.

A program is given a terminal, so that it draws its bar as it would for a user; what it draws is
kept in a file.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_FOREIGN = ("PL_", "LOCAL_RANK", "MASTER_", "NODE_RANK", "WORLD_SIZE", "OMP_", "MKL_")
_CHUNK = 65536


def run(command: list[str], output: Path, threads: int | None) -> None:
    """Runs `python <command>` to its end.

    Args:
        command: a script and its arguments.
        output: file that takes what it draws and prints.
        threads: of torch; None: its default.

    Raises:
        SystemExit: it failed; tells what it printed last.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    paths = [str(_HERE), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm", "COLUMNS": "120"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env=environment,
        cwd=output.parent,
        start_new_session=True,
    )
    os.close(there)
    _keep(here, output)
    if process.wait():
        last = output.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)} failed:\n{last}")


def _keep(terminal: int, output: Path) -> None:
    """Writes to the file until the terminal's last user is gone."""
    with output.open("wb") as file:
        while True:
            try:
                data = os.read(terminal, _CHUNK)
            except OSError:  # Linux's way to say so
                break
            if not data:
                break
            file.write(data)
    os.close(terminal)
