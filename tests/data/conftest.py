from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds MNIST/raw: FORGER_TEST_DATA, or shared/data beside the repository."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    root = Path(os.environ.get("FORGER_TEST_DATA", beside))
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"no MNIST/raw in {root}; set FORGER_TEST_DATA to a folder that holds it")
    return root


@pytest.fixture
def fingerprint() -> Callable[[Path], dict[str, str]]:
    """Returns a function that maps each path below a folder to what it holds."""

    def take(folder: Path) -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(folder.rglob("*"))
        }

    return take
