"""What a GPU does in an iteration: how many kernels it runs, by how many launches, and how long."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

PROFILED = 20  # iterations, after those that are timed: looking at them takes time
_LAUNCH = re.compile(r"cu(da)?(LaunchKernel|GraphLaunch)")


class Kernels:
    """Looks at a GPU from its making on."""

    def __init__(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()

    def of_each(self, iterations: int) -> dict[str, float]:
        """Ends looking, and returns the numbers of one of so many iterations."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._profile.stop()
        events: Any = self._profile.events()  # type: ignore[no-untyped-call]
        return figures(events or [], iterations)


def figures(events: Iterable[Any], iterations: int) -> dict[str, float]:
    """Returns what the events of a profile tell of one iteration.

    - `kernels`: pieces of work that the GPU did, copies and fillings among them;
    - `launches`: how often the processor had it begin some, a graph being one;
    - `busy_ms`: for how long it did any.
    """
    spans, launches = list[tuple[float, float]](), 0
    for event in events:
        if event.device_type.name == "CPU":
            launches += _LAUNCH.match(event.name) is not None
        elif not getattr(event, "is_user_annotation", False):
            spans.append((event.time_range.start, event.time_range.end))
    busy, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    each = {"kernels": len(spans), "launches": launches, "busy_ms": busy / 1000}
    return {name: number / iterations for name, number in each.items()}
