"""How strongly to augment, by what the discriminator makes of real images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forger.reducing import sum_over_processes


class Controller(nn.Module):
    """Raises p while D is too sure of real images, else lowers it (arXiv:2006.06676, sec. 3.1).

    After every `interval` updates of D, p moves by `images seen since / ramp_images` towards

        r_t = E sign(D(x) - boundary) = target,

    within [0, 1]. Its state is in whole numbers, which no precision rounds, and the same in all
    processes.

    Args:
        target: of r_t, in [0, 1].
        interval: updates of D.
        ramp_images: in which p would go from 0 to 1.
    """

    level: Tensor
    signs: Tensor
    logits: Tensor
    images: Tensor
    updates: Tensor

    def __init__(self, target: float, interval: int, ramp_images: int) -> None:
        super().__init__()
        self.target, self.interval, self.ramp_images = target, interval, ramp_images
        # p in images of the ramp; then sums since it last moved
        for name in ("level", "signs", "logits", "images", "updates"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self._new: list[tuple[Tensor, int, int]] = []  # of this process, in this update

    @property
    def p(self) -> Tensor:
        """The probability, a scalar in float32."""
        return self.level / self.ramp_images

    def see(self, real_logits: Tensor, boundary: float) -> None:
        """Counts the signs of logits `(B,)` or `(B, parts)`, of one batch of this process."""
        signs = (real_logits - boundary).sign().sum().long()
        self._new.append((signs, real_logits.numel(), len(real_logits)))

    def adapt(self) -> None:
        """Adds up what all processes saw in an update, and moves p where that is due.

        No number is waited for: all is computed where the logits are.
        """
        if not self._new:
            return
        signs = torch.stack([one for one, _, _ in self._new]).sum()
        processes = sum_over_processes(signs)
        self.signs += signs
        self.logits += processes * sum(count for _, count, _ in self._new)
        self.images += processes * sum(count for _, _, count in self._new)
        self.updates += 1
        self._new.clear()
        due = self.updates >= self.interval
        direction = (self.signs / self.logits - self.target).sign().long()
        self.level += due * direction * self.images
        self.level.clamp_(0, self.ramp_images)
        for since in (self.signs, self.logits, self.images, self.updates):
            since *= ~due
