"""Tests for a GPU: `make test-gpu`; `make test-gpu DEVICE=cpu` runs their logic on the CPU."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

# Torch looks at it once, at the first product of matrices, and Lightning sets it later.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
sys.path.insert(0, str(Path(__file__).parents[1] / "app"))  # for `combinations` and `training`


def pytest_configure() -> None:
    """Ends at SIGTERM as at Ctrl-C where time is limited: what has passed is still reported."""
    if "FORGER_TEST_UNTIL" in os.environ:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            # What CUDA's libraries warn of is no matter of ours.
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_setup() -> None:
    """Begins no test once the time is up that scripts/gpu_check.sh has given to all."""
    if time.time() > float(os.environ.get("FORGER_TEST_UNTIL", "inf")):
        pytest.skip("its time was up")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device that the tests are for; the variable lets it be the CPU."""
    found = torch.device(os.environ.get("FORGER_TEST_DEVICE", "cuda"))
    if found.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return found


@pytest.fixture
def on(device: torch.device) -> dict[str, Any]:
    """What puts a Trainer of `helpers.make_trainer` on the device."""
    return {"accelerator": {"cuda": "gpu"}.get(device.type, device.type)}


@pytest.fixture(autouse=True)
def _put_back() -> Any:
    yield
    torch.use_deterministic_algorithms(False)
