"""The loop by hand as CUDA graphs: a whole iteration, both updates and the average, is one launch.

What changes an iteration has a graph of its own: R1 and R2 at every fourth update make two kinds.
Numbers that are not on the GPU are part of a graph, so that schedules stand still, and the average
has its last decay from the start: this loop is for its speed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from reference_loop import Batch, Loop
from torch import Tensor
from workloads import BATCH_SIZE, EMA_DECAY


class GraphLoop(Loop):
    """One training; arguments as in `Loop`. On the CPU iterations run as they are."""

    capturable = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._kinds = dict[tuple[bool, ...], Callable[[], None] | None]()
        super().__init__(*arguments, **named)

    def iterate(self) -> None:
        """Runs an iteration: the first of a kind as it is, later ones by their graph."""
        for place in self._places:
            place.copy_(next(self._order))
        kind = self._kind()
        if kind not in self._kinds:
            self._aside()
            self._kinds[kind] = None  # libraries have made ready what they need
        else:
            replay = self._kinds[kind] or self._recorded()
            self._kinds[kind] = replay
            replay()
        self.iterations += 1

    def _kind(self) -> tuple[bool, ...]:
        """Tells which of the updates have penalties."""
        n_critic, intervals = self.loss.n_critic, [p.interval for p in self.loss.penalties.values()]
        numbers = range(self.iterations * n_critic + 1, (self.iterations + 1) * n_critic + 1)
        return tuple(number % interval == 0 for number in numbers for interval in intervals)

    def _aside(self) -> None:
        """Runs an iteration on another stream than the usual one, as graphs are recorded on."""
        if self.device.type == "cpu":
            self._play(EMA_DECAY)
            return
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        usual = torch.cuda.current_stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            self._play(EMA_DECAY)
        usual.wait_stream(stream)

    def _recorded(self) -> Callable[[], None]:
        """Records an iteration, which does not run it."""
        if self.device.type == "cpu":
            return lambda: self._play(EMA_DECAY)
        for optimizer in (self.optimizer_g, self.optimizer_d):
            optimizer.zero_grad()  # gradients are to lie in the graph's memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._play(EMA_DECAY)
        return graph.replay

    def _batches(self, images: Tensor) -> Iterator[Batch]:
        """Yields batches of rows that are told by numbers in the same places of memory."""
        self._order = super()._rows(len(images))
        count = self.loss.n_critic + self.loss.generator_sees_real
        self._places = [
            torch.zeros(BATCH_SIZE, dtype=torch.int64, device=self.device) for _ in range(count)
        ]
        return super()._batches(images)

    def _rows(self, count: int) -> Iterator[Tensor]:
        while True:
            yield from self._places
