"""Trains docs/own_task.md's task by two processes, once undisturbed and once in two pieces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `helpers`, as a program

from own_task import import_own_task, make
from resuming import squares, train
from torch import distributed


def start_pair(folder: Path, project: Path) -> list[subprocess.Popen[str]]:
    """Starts both processes, which leave `whole/` and `cut/` in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PL_")}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(project)],
            env=own | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def main(folder: Path, project: Path) -> None:
    """Trains as one of the two."""
    own = import_own_task(project)

    def trained(name: str, steps: int, **settings: Any) -> None:
        settings |= {"strategy": "ddp", "devices": 2, "max_steps": steps}
        train(folder / name, make(own), squares(), **settings)

    trained("whole", 6)
    trained("cut", 3)
    trained("cut", 6, ckpt_path=folder / "cut" / "checkpoints" / "last.ckpt")
    distributed.destroy_process_group()  # or its threads may end the process with an error


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
