"""The loader that groups the batches of any other by iterations."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from forger.batches import IterationBatches, images_of
from forger.bounds import PositiveInt, check_bounds
from forger.errors import DataError
from forger.random_state import random_states, set_random_states
from forger.worker_signals import signals_held_back, start_worker

log = logging.getLogger(__name__)


class GroupedLoader:
    """Yields `IterationBatches` of `size` consecutive batches; an incomplete last group is dropped.

    So is a batch of a single image after larger ones, the rest of an epoch, from which BatchNorm
    could learn nothing.

    Args:
        loader: any iterable of batches; without a length, neither has this one (`TypeError`, as
            Lightning expects).
        size: batches in a group.

    Attributes:
        epoch_began: the random states in which the epoch began, where its order depends on them.
    """

    def __init__(self, loader: Iterable[Any], size: PositiveInt) -> None:
        check_bounds(size, PositiveInt, "size")
        self.loader, self.size = loader, size
        self.epoch_began: dict[str, Any] | None = None
        self._skip, self._largest, self._told = 0, 0, False

    def __iter__(self) -> Iterator[IterationBatches]:
        batches = self._batches()
        while len(group := IterationBatches(islice(batches, self.size))) == self.size:
            yield group

    def __len__(self) -> int:
        return len(self.loader) // self.size  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name in ("sampler", "batch_sampler"):  # Lightning calls `set_epoch` on these
            return getattr(self.loader, name)
        raise AttributeError(name)

    @property
    def generator_state(self) -> Tensor | None:
        """The state of the random generator that the loader was given, if it was."""
        generator = getattr(self.loader, "generator", None)
        return generator.get_state() if isinstance(generator, torch.Generator) else None

    def set_generator(self, state: Tensor | None) -> None:
        """Sets the state of the random generator that the loader was given, if it was."""
        if state is not None and self.generator_state is not None:
            self.loader.generator.set_state(state)  # type: ignore[attr-defined]

    def resume(
        self, groups: int, epoch_began: dict[str, Any] | None, generator_state: Tensor | None
    ) -> None:
        """Lets the next epoch begin behind its first groups, as if they had been taken.

        A loader with a method `from_batch(number)` is asked to begin there. Any other goes through
        the batches again, from the random states in which its epoch began, since its order and
        augmentation depend on them.

        `epoch_began` and `generator_state` are those of the loader that the groups came from.
        """
        self._skip, self.epoch_began = groups * self.size, epoch_began
        self.set_generator(generator_state)

    def _batches(self) -> Iterator[Any]:
        """Begins an epoch, at once or, after `resume`, in its middle."""
        skip, self._skip = self._skip, 0
        if hasattr(self.loader, "from_batch"):
            begun: Iterator[Any] = self.loader.from_batch(skip)
            return begun
        now = random_states()
        if not skip:
            self.epoch_began = now | {"generator": self.generator_state}
            return self._without_single(self._begin())
        assert self.epoch_began is not None
        set_random_states(self.epoch_began)
        self.set_generator(self.epoch_began["generator"])
        batches = self._without_single(self._begin())
        for _ in islice(batches, skip):
            pass
        set_random_states(now)
        return batches

    def _begin(self) -> Iterator[Any]:
        """Begins an epoch of the loader, with worker processes that leave signals to this one."""
        loader = self.loader
        if not isinstance(loader, DataLoader) or loader.num_workers == 0:
            return iter(loader)
        own = loader.worker_init_fn
        loader.worker_init_fn = partial(start_worker, own)
        try:
            with signals_held_back():
                return iter(loader)
        finally:
            loader.worker_init_fn = own

    def _without_single(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Leaves out a batch of one image that follows on larger ones."""
        for batch in batches:
            try:
                count = len(images_of(batch))
            except (DataError, TypeError):  # a hook of the data module makes images of it
                count = 0
            if count == 1 < self._largest:
                if not self._told:
                    log.info("a last batch of one image is left out; the others have more")
                self._told = True
                continue
            self._largest = max(self._largest, count)
            yield batch
