"""What surrounds the iterations of a training. Owns keeping that cheap, not what they compute.

A small network's iteration takes a few milliseconds, of which Lightning, torch and Python would
otherwise use a noticeable share for things that nobody asked for.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from lightning.pytorch.profilers import PassThroughProfiler

_NOTHING = nullcontext()
_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


class NoProfiler(PassThroughProfiler):
    """Measures nothing, with one context for everything.

    Lightning's own builds a generator for each hook of each callback, several dozen an iteration.
    """

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Returns a context that does nothing."""
        return _NOTHING


@contextmanager
def lean() -> Iterator[None]:
    """Trains without asking for GPUs at each update, and without collecting what stays anyway.

    Lightning lets torch ask NVIDIA's library whether there is a GPU, by a variable that it sets
    when imported. Where there is none every optimizer's step loads that library in vain. And
    Python's collector need not go through the objects of all imported modules again and again.
    """
    asked = os.environ.pop(_CHECK, None)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if asked is not None:
            os.environ[_CHECK] = asked
