"""One process, many jobs: each begins as the first did. Owns what is put back and let go of.

Seeds are the run's own matter (`train` seeds all generators); here is what a run changes for the
whole process: variables, torch's switches, warnings and signals.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def isolated() -> Iterator[None]:
    """Puts back what a job changes for the whole process."""
    environment, path, argv = dict(os.environ), list(sys.path), list(sys.argv)
    filters, switches = list(warnings.filters), _torch_switches()
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name not in environment]:
            del os.environ[name]
        os.environ.update(environment)
        sys.path[:], sys.argv[:] = path, argv
        warnings.filters[:] = filters  # type: ignore[index]
        _set_torch_switches(switches)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def release(error: BaseException | None) -> None:
    """Lets go of what an exception holds: the networks and data of the failed job."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error.__traceback__, error = None, error.__cause__ or error.__context__


def give_memory_back() -> None:
    """Frees cycles and caches, and has the C library return what it holds for later."""
    gc.unfreeze()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)


def _torch_switches() -> dict[str, Any]:
    torch: Any = sys.modules.get("torch")
    if torch is None:  # the first job imports it
        return {"threads": None, "dtype": None, "deterministic": False, "warn": False}
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "matmul": torch.get_float32_matmul_precision(),
    }


def _set_torch_switches(switches: dict[str, Any]) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    torch.use_deterministic_algorithms(switches["deterministic"], warn_only=switches["warn"])
    torch.set_default_dtype(switches["dtype"] or torch.float32)
    torch.backends.cudnn.benchmark = switches.get("benchmark", False)
    torch.set_float32_matmul_precision(switches.get("matmul", "highest"))
    if switches["threads"] is not None:
        torch.set_num_threads(switches["threads"])
