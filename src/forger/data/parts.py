"""Grouping any loader's batches by iterations. Owns the grouping; `forger.parts` owns the type.

An iteration of a GAN uses several batches, one for each discriminator update. Grouping them lets
Lightning count iterations: one `training_step`, one progress tick, one generator update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from forger.bounds import PositiveInt, check_bounds
from forger.parts import Parts


class Grouped:
    """Yields `Parts` of `size` consecutive batches; an incomplete last group is dropped.

    Args:
        loader: any iterable of batches; without a length, neither has this one (`TypeError`, as
            Lightning expects).
        size: batches in a group.
    """

    def __init__(self, loader: Iterable[Any], size: PositiveInt) -> None:
        check_bounds(size, PositiveInt, "size")
        self.loader = loader
        self.size = size

    def __iter__(self) -> Iterator[Parts]:
        batches = iter(self.loader)
        while len(group := Parts(islice(batches, self.size))) == self.size:
            yield group

    def __len__(self) -> int:
        return len(self.loader) // self.size  # type: ignore[arg-type]

    # Lightning calls `set_epoch` on these. Where the loader has none the AttributeError is wanted:
    # `hasattr` is False, as for the loader itself.

    @property
    def sampler(self) -> Any:
        """The wrapped loader's sampler."""
        return self.loader.sampler  # type: ignore[attr-defined]

    @property
    def batch_sampler(self) -> Any:
        """The wrapped loader's batch sampler."""
        return self.loader.batch_sampler  # type: ignore[attr-defined]
