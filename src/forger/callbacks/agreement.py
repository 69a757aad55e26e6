"""Lets all processes decide alike what depends on the clock or the signals of one."""

from __future__ import annotations

from lightning.pytorch import Trainer

_EVERY = 10  # iterations between two votes: each makes the processes wait for one another


def any_agrees(trainer: Trainer, wanted: bool) -> bool:
    """Tells every process alike whether any of them wants something, at this very iteration.

    Every process must call this at every iteration. Several processes vote every 10 iterations, so
    that what is wanted may come that much later.
    """
    if trainer.world_size == 1:
        return wanted
    if trainer.global_step % _EVERY:
        return False
    return trainer.strategy.reduce_boolean_decision(wanted, all=False)
