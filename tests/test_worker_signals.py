"""Signals that a terminal or a scheduler sends to workers, too, reach the main process alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import multiprocessing

PROGRAM = """
import os, signal, subprocess, sys
from pathlib import Path

SEND = '''
import os, signal, time
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
for number in numbers:
    signal.signal(number, signal.SIG_IGN)
while True:
    for number in numbers:
        os.killpg(0, number)
    time.sleep(0.05)
'''

def own(worker):
    Path(f"{sys.argv[1]}_{worker}").touch()

if __name__ == "__main__":  # what is spawned imports this file, and need not import these
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from forger.data import GroupedLoader

    told = set()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: told.add(number))
    data = TensorDataset(torch.arange(400.0))
    loader = DataLoader(
        data, 4, num_workers=1, worker_init_fn=own, multiprocessing_context=sys.argv[1]
    )
    grouped = GroupedLoader(loader, 2)
    with subprocess.Popen([sys.executable, "-c", SEND]) as sender:
        batches = list(grouped)
        sender.kill()
    print(len(batches), len(told))
    left = iter(grouped)  # Python ends its worker
    next(left)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


WAYS = [
    ("fork", "ended"),
    ("forkserver", "killed"),
    pytest.param("forkserver", "ended", marks=pytest.mark.slow),
    pytest.param("spawn", "ended", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("method", "end"), WAYS)
def test_workers_go_on_whichever_way_they_are_started_and_end_with_their_parent(
    method: str, end: str, tmp_path: Path
) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py", method, end],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, error = process.communicate(timeout=300)  # until the last of its processes is gone
    assert out == "50 3\n"
    assert (process.returncode, error) == (0, "") or end == "killed"
    assert (tmp_path / f"{method}_0").exists(), "the own worker_init_fn was called"
