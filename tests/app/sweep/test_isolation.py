"""Jobs that follow each other in one process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
import weakref

import pytest
import torch

from forger.app.sweep.isolation import isolated, release


def leave_a_mess() -> None:
    os.environ["LOCAL_RANK"] = "1"
    os.environ.pop("HOME", None)
    sys.argv.append("leftover")
    sys.path.insert(0, "/nowhere")
    warnings.simplefilter("always")
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise RuntimeError("in the middle")


def state() -> tuple[object, ...]:
    return (
        dict(os.environ),
        list(sys.argv),
        list(sys.path),
        list(warnings.filters),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
        signal.getsignal(signal.SIGTERM),
    )


def test_a_failed_job_leaves_the_process_as_it_was() -> None:
    before = state()
    with pytest.raises(RuntimeError), isolated():
        leave_a_mess()
    assert state() == before


def fail_with(big: torch.nn.Module) -> None:
    held = big
    try:
        raise ValueError("inner")
    except ValueError as error:
        raise RuntimeError(f"{type(held).__name__}") from error


def test_a_kept_exception_holds_no_network() -> None:
    network = torch.nn.Linear(2, 2)
    seen = weakref.ref(network)
    kept: list[BaseException] = []
    try:
        fail_with(network)
    except RuntimeError as error:
        kept.append(error)
        release(error)
    del network
    gc.collect()
    assert seen() is None
    assert str(kept[0]) == "Linear"
