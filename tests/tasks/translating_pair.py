"""Trains the games of images to images by two processes, as one trains them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `helpers`, as a program

import torch
from translating import TASKS, states


def start_pair(folder: Path) -> list[subprocess.Popen[str]]:
    """Starts both processes, which leave `rank_<rank>.pt` in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PL_")}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=own | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def main(folder: Path) -> None:
    """Trains as one of the two."""
    found = {name: states(folder, name, strategy="ddp", devices=2) for name in TASKS}
    torch.save(found, folder / f"rank_{os.environ['LOCAL_RANK']}.pt")
    torch.distributed.destroy_process_group()  # or its threads may end the process with an error


if __name__ == "__main__":
    main(Path(sys.argv[1]))
