"""Several processes, one cache: real processes, of which some are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

COUNT = 60
ODD = range(1, COUNT, 2)  # what the last images of blocks of two are filled with

# Decodes slowly enough to be met in the middle, and prints what it read.
BUILDER = """
import signal, sys, time
from forger import array_format
from forger.data import ImageFolder, decode as module, decoding
from forger.data.decode import decode

def slow(*arguments, **more):
    time.sleep(0.01)
    slow.count += 1
    return decode(*arguments, **more)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
module.decode, slow.count = slow, 0
array_format._BLOCK, decoding._TASK = int(sys.argv[3]), 4
data = ImageFolder(root=sys.argv[1], cache_dir=sys.argv[2], image_size=8, channels=1,
                   test_fraction=0.0)
print("ready", flush=True)
sys.stdin.readline()
data.prepare_data()
data.setup("fit")
print(data.train_images[:, 0, 0, 0].tolist(), slow.count, flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for value in range(COUNT):
        Image.new("L", (12, 12), value).save(root / f"{value:02}.png")
    return root


def start(
    root: Path, cache_dir: Path, count: int, images_in_block: int = COUNT
) -> list[subprocess.Popen[bytes]]:
    """Starts processes, at once since importing takes longest, which wait to build."""
    command = [sys.executable, "-c", BUILDER, str(root), str(cache_dir), str(64 * images_in_block)]
    builders = [subprocess.Popen(command, stdin=-1, stdout=-1) for _ in range(count)]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"ready\n"
    return builders


def go(builder: subprocess.Popen[bytes]) -> None:
    assert builder.stdin is not None
    builder.stdin.write(b"\n")
    builder.stdin.flush()


def result(builder: subprocess.Popen[bytes]) -> bytes:
    output, _ = builder.communicate(timeout=60)
    assert builder.returncode == 0
    return output


def names(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in cache_dir.iterdir()) if cache_dir.exists() else []


def wait_for_temporaries(cache_dir: Path, count: int) -> None:
    for _ in range(1000):
        if sum(name.endswith(".tmp") for name in names(cache_dir)) == count:
            return
        time.sleep(0.005)
    pytest.fail(f"there are not {count} builders at work: {names(cache_dir)}")


def test_two_build_at_once_while_what_a_killed_one_left_is_removed(
    root: Path, tmp_path: Path
) -> None:
    cache_dir = tmp_path / "cache"
    killed, *builders = start(root, cache_dir, count=3)
    go(killed)
    wait_for_temporaries(cache_dir, 1)
    killed.kill()
    killed.communicate()
    (left,) = names(cache_dir)
    assert left.endswith(".tmp")

    for builder in builders:
        go(builder)
    wait_for_temporaries(cache_dir, 2)
    assert left not in names(cache_dir)
    expected = f"{list(range(COUNT))} {COUNT}\n".encode()
    assert [result(builder) for builder in builders] == [expected, expected]
    (path,) = names(cache_dir)
    assert path.endswith(".npy")


def test_a_build_goes_on_where_it_was_killed_and_where_it_was_interrupted(
    root: Path, tmp_path: Path
) -> None:
    cache_dir = tmp_path / "cache"
    *stopped, last = start(root, cache_dir, count=3, images_in_block=2)
    sizes = []
    for builder, number in zip(stopped, (signal.SIGKILL, signal.SIGINT), strict=True):
        begun = sizes[-1] if sizes else 0
        go(builder)
        while blocks(cache_dir) < begun + 3:
            assert builder.poll() is None
            time.sleep(0.002)
        builder.send_signal(number)
        builder.communicate()
        sizes.append(blocks(cache_dir))
    assert 0 < sizes[0] < sizes[1] < COUNT / 2
    go(last)
    assert result(last).decode() == f"{list(range(COUNT))} {COUNT - 2 * sizes[1]}\n"
    (path,) = names(cache_dir)
    assert path.endswith(".npy")


def blocks(cache_dir: Path) -> int:
    """Counts the blocks of two images that an unfinished build has written."""
    found = list(cache_dir.glob(".*.tmp")) if cache_dir.exists() else []
    with suppress(FileNotFoundError):  # another has just taken it over
        return sum(path.read_bytes().count(bytes([value] * 64)) for path in found for value in ODD)
    return 0
