"""Decoding in other processes: real ones, of which some are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forger.data import decoding
from forger.data.decoding import decode_in_parallel
from forger.errors import DataError
from forger.image_files import ImageFormat

TARGET = ImageFormat(1, 8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images that two processes decode three at a time."""
    monkeypatch.setattr(decoding, "_MANY", 1)
    monkeypatch.setattr(decoding, "_TASK", 3)
    monkeypatch.setattr(decoding, "_AHEAD", 2)
    monkeypatch.setattr(decoding, "_SOME", 0)  # with the progress bar, on a terminal
    monkeypatch.setattr(decoding, "_processors", lambda: 2)
    root = tmp_path / "images"
    root.mkdir()
    for value in range(20):
        Image.new("L", (12, 12), value).save(root / f"{value:02}.png")
    return root


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize("many", [1, 1000])
def test_images_keep_their_order_in_processes_and_in_threads(
    root: Path, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MANY", many)
    (root / "05a.png").write_bytes(b"no image")
    found = list(decode_in_parallel(root, names(root), TARGET))
    assert np.concatenate([images for images, _ in found])[:, 0, 0, 0].tolist() == list(range(20))
    reason = "not an image, or its beginning is damaged"
    assert [fault for _, bad in found for fault in bad] == [(str(root / "05a.png"), reason)]


def test_what_the_user_allowed_pillow_holds_there_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    (_, faults), *_ = decode_in_parallel(root, names(root), TARGET)
    assert "Image size (144 pixels) exceeds limit" in faults[0][1]


def children() -> list[int]:
    """The processes that decode for this one."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], stdout=-1)
    return [int(number) for number in found.stdout.split()]


def test_a_process_that_dies_is_told_and_none_is_left(root: Path) -> None:
    decoded = decode_in_parallel(root, names(root), TARGET)
    next(decoded)
    for child in children():
        os.kill(child, signal.SIGKILL)
    with pytest.raises(DataError, match=r"was killed, .* of the 12 images before \d\d\.png"):
        list(decoded)
    assert children() == []


def test_a_process_imports_nothing_that_takes_seconds() -> None:
    code = "import sys, forger.image_files; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], stdout=-1, text=True, check=True).stdout
    assert not {"torch", "torchvision", "lightning", "forger.data"} & {*found.split()}


PROGRAM = """
import signal, sys, time
from pathlib import Path

if __name__ == "__main__":  # processes that decode import this file, but not torch
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    from forger.data import decoding
    from forger.image_files import ImageFormat

    decoding._MANY, decoding._TASK = 1, 1
    names = [path.name for path in Path(sys.argv[1]).iterdir()]
    decoded = decoding.decode_in_parallel(Path(sys.argv[1]), names, ImageFormat(1, 8))
    next(decoded)
    print("ready", flush=True)
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Tells whether a process runs; one that only waits to be buried does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_their_parent(root: Path, tmp_path: Path) -> None:
    """Killed alone, and by Ctrl-C, which a terminal sends to all of them."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", str(root)]
    parents = [
        subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, start_new_session=True)
        for _ in range(2)
    ]
    sends = ((os.kill, signal.SIGKILL), (os.killpg, signal.SIGINT))
    for parent, (send, number) in zip(parents, sends, strict=True):
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        found = subprocess.run(["pgrep", "-g", str(parent.pid)], stdout=-1).stdout.split()
        assert len(found) > 2
        send(parent.pid, number)
        _, error = parent.communicate(timeout=60)
        until = time.monotonic() + 30
        while any(is_alive(int(child)) for child in found):
            assert time.monotonic() < until, "they live on"
            time.sleep(0.02)
        assert error.count(b"Traceback") == (number == signal.SIGINT)
