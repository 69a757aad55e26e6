"""Other processes that decode: real ones, of which some are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forger.data import decoders, decoding
from forger.data.decode import decode_all
from forger.data.decoders import in_processes
from forger.data.decoding import decoded
from forger.errors import DataError

FORM = ((1, 8, 8), None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for value in range(20):
        Image.new("L", (12, 12), value).save(root / f"{value:02}.png")
    return root


def paths(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.iterdir())]


def is_alive(pid: int) -> bool:
    """Tells whether a process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_processes_decode_as_this_process_does(root: Path) -> None:
    (root / "30.png").write_bytes(b"no image")
    with in_processes(FORM, 1) as decode:
        images, faults = decode(paths(root))
    expected, expected_faults = decode_all(paths(root), FORM)
    assert np.array_equal(images, expected)
    assert faults == expected_faults
    assert faults == [(str(root / "30.png"), "not an image, or its beginning is damaged")]


def test_many_images_keep_their_order_in_processes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MANY", 1)
    monkeypatch.setattr(decoding, "_TASK", 3)
    monkeypatch.setattr(decoding, "_processors", lambda: 2)
    monkeypatch.setattr(decoders, "decode_all", None)
    names = [Path(path).name for path in paths(root)]
    images = np.concatenate([found for found, _ in decoded(root, names, FORM, done=4)])
    assert images[:, 0, 0, 0].tolist() == list(range(4, 20))


def test_what_the_user_allowed_pillow_holds_there_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with in_processes(FORM, 1) as decode:
        _, faults = decode(paths(root)[:1])
    assert "Image size (144 pixels) exceeds limit" in faults[0][1]


def test_a_process_that_dies_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )  # type: ignore[call-overload]
    with in_processes(FORM, 1) as decode:
        decode(paths(root)[:1])
        started[0].kill()
        with pytest.raises(DataError, match=r"ended with code -9, at one of 2 .*00\.png .*01\.png"):
            decode(paths(root)[:2])


def test_it_imports_nothing_that_takes_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(decoders._PROGRAM)],
        input=b"",
        capture_output=True,
        check=True,
    )
    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"PIL.Image" in imported
    assert not imported & {b"torch", b"torchvision", b"lightning", b"forger"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("busy", [True, False])
def test_they_end_when_their_parent_is_killed(tmp_path: Path, busy: bool) -> None:
    """The busy one has not been asked for its answer, which is more than a pipe holds."""
    code = (
        "import os, subprocess, sys\n"
        "from forger.data import decoders\n"
        "popen, started = subprocess.Popen, []\n"
        "subprocess.Popen = lambda *a, **k: started.append(popen(*a, **k)) or started[-1]\n"
        "with decoders.in_processes(((3, 512, 512), None), 2):\n"
        "    if len(sys.argv) > 1:\n"
        "        decoder = decoders._Decoder(((3, 512, 512), None))\n"
        "        decoder._send([sys.argv[1]])\n"
        "    print(*(process.pid for process in started), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    image = tmp_path / "a.png"
    Image.new("RGB", (512, 512)).save(image)
    command = [sys.executable, "-c", code, *([str(image)] if busy else [])]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert len(children) == 2 + busy
        assert all(is_alive(child) for child in children)
        os.kill(parent.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while any(is_alive(child) for child in children):
        assert time.monotonic() < until, "they live on"
        time.sleep(0.02)
