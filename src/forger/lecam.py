"""LeCam: keeps the discriminator's outputs near what it said of the other side before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from forger.gradients import HALVES
from forger.reducing import sum_over_processes


class LeCam(nn.Module):
    """The LeCam regularizer (arXiv:2104.03310, eq. 5; its authors' code has the `relu`).

        E relu(r - a_fake)^2 + E relu(a_real - f)^2

    of real logits r and fake ones f; the anchors a are moving averages of their means over all
    processes, up to the update before, and begin at the first one.

    Args:
        weight: factor of the term.
        decay: of the anchors, for each update of D, in [0, 1).
        start: updates of D without the term; the anchors move from the first one on.
    """

    anchors: Tensor

    def __init__(self, weight: float, decay: float, start: int) -> None:
        super().__init__()
        self.weight, self.decay, self.start = weight, decay, start
        self.register_buffer("anchors", torch.zeros(2))  # of real and fake images
        self._new: list[Tensor] = []  # means of this process, of the batches of this update
        self._first = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LeCam:
        """Never goes along to 16 bits, in which the steps of an average would be lost."""

        def wide(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            return tensor.to(applied.device) if applied.dtype in HALVES else applied

        super()._apply(wide, recurse)  # type: ignore[no-untyped-call]
        return self

    def terms(self, real_logits: Tensor, fake_logits: Tensor, update: int) -> dict[str, Tensor]:
        """Returns the weighted term of one batch, where it has begun.

        Args:
            real_logits: `(B,)` or `(B, parts)`.
            fake_logits: the same.
            update: number of D's update, from 1.
        """
        means = torch.stack([real_logits.detach().mean(), fake_logits.detach().mean()])
        self._new.append(means.to(self.anchors.dtype))
        self._first = update <= 1
        if update <= self.start or self._first:
            return {}
        of_real, of_fake = self.anchors.unbind()
        above, below = relu(real_logits - of_fake), relu(of_real - fake_logits)
        return {"lecam": self.weight * (above.square().mean() + below.square().mean())}

    def adapt(self) -> None:
        """Moves the anchors by what was seen; called after an update of D, in all processes."""
        if not self._new:
            return
        means = torch.stack(self._new).mean(0)
        means /= sum_over_processes(means)
        self.anchors.lerp_(means, 1 if self._first else 1 - self.decay)
        self._new.clear()
