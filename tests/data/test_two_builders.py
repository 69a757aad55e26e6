"""Several processes, one cache: real processes, of which some are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

COUNT = 60

# Decodes slowly enough to be met in the middle, and prints what it read.
BUILDER = """
import sys, time
from forger.data import ImageFolder, decoding
from forger.data.decode import decode

def slow(*arguments, **more):
    time.sleep(0.01)
    return decode(*arguments, **more)

decoding.decode = slow
data = ImageFolder(root=sys.argv[1], cache_dir=sys.argv[2], image_size=8, channels=1,
                   test_fraction=0.0)
print("ready", flush=True)
sys.stdin.readline()
data.prepare_data()
data.setup("fit")
print(data.train_images[:, 0, 0, 0].tolist(), flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for value in range(COUNT):
        Image.new("L", (12, 12), value).save(root / f"{value:02}.png")
    return root


def start(root: Path, cache_dir: Path, count: int) -> list[subprocess.Popen[bytes]]:
    """Starts processes, at once since importing takes longest, which wait to build."""
    command = [sys.executable, "-c", BUILDER, str(root), str(cache_dir)]
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
    expected = f"{list(range(COUNT))}\n".encode()
    assert [result(builder) for builder in builders] == [expected, expected]
    (path,) = names(cache_dir)
    assert path.endswith(".npy")
