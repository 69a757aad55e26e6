"""Adds to checkpoints what Lightning leaves out: the place in the epoch and random states."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from forger.data.grouped_loader import GroupedLoader
from forger.random_state import random_states, set_random_states

KEY = "exact_resume"


class ExactResume(Callback):
    """Lets a run that was cut off anywhere go on to the same bits.

    Lightning's own progress of a checkpoint means something else in the middle of an epoch, at its
    end, and where a run had stopped at its `max_steps`: this callback writes one meaning into all.
    The random states of every process go with it. Where no iteration is left, callbacks see the
    start and the end of training all the same, and write what a run that was cut off lacks.
    """

    def __init__(self) -> None:
        self._epoch, self._batches = 0, 0  # where the next iteration begins
        self._loaded: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the place and the random states of the checkpoint."""
        if self._loaded is None:
            return
        ranks = self._loaded["ranks"]
        mine = ranks[trainer.global_rank % len(ranks)]
        loader = trainer.train_dataloader
        if isinstance(loader, GroupedLoader):
            loader.resume(self._batches, mine["epoch_began"], mine["generator"])
        set_random_states(mine["now"], pl_module.device)
        self._loaded = None

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Notes the place; the last argument is the batch's number in the epoch."""
        self._epoch, self._batches = trainer.current_epoch, arguments[-1] + 1
        if trainer.is_last_batch:
            self._epoch, self._batches = self._epoch + 1, 0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the place and the states; every process takes part."""
        loader: Any = trainer.train_dataloader
        ours = isinstance(loader, GroupedLoader)
        mine: dict[str, Any] = {
            "now": random_states(pl_module.device),
            "epoch_began": loader.epoch_began if ours else None,
            "generator": loader.generator_state if ours else None,
        }
        ranks: list[Any] = [mine]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            distributed.all_gather_object(ranks, mine)
        place = {"epoch": self._epoch, "batches": self._batches}
        checkpoint[KEY] = {**place, "ranks": ranks}
        checkpoint["epoch"] = self._epoch
        _settle(checkpoint["loops"]["fit_loop"], **place, iterations=checkpoint["global_step"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps what the start of training needs."""
        self._loaded = checkpoint[KEY]
        self._epoch, self._batches = (checkpoint[KEY][name] for name in ("epoch", "batches"))
        # Lightning's loop begins and ends even where there is no iteration in between.
        loop: Any = trainer.fit_loop
        loop.__class__ = type(type(loop).__name__, (type(loop),), {"skip": False})


def _settle(loop: dict[str, Any], epoch: int, batches: int, iterations: int) -> None:
    """Writes the place as Lightning's fit loop reads it at a restart.

    `completed` is one behind inside an epoch: so it is in a checkpoint taken at a batch's end, the
    only place in an epoch that Lightning knows how to go on from.
    """
    inside = int(batches > 0)
    loop.pop("combined_loader", None)
    loop["epoch_loop.batch_progress"] = {
        "total": _counts(iterations, iterations - inside),
        "current": _counts(batches, batches - inside),
        "is_last_batch": False,
    }
    epochs = _counts(epoch + inside, epoch) | {"processed": epoch}
    loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
    loop["epoch_loop.state_dict"] = {"_batches_that_stepped": iterations - inside}


def _counts(begun: int, completed: int) -> dict[str, int]:
    return {"ready": begun, "started": begun, "processed": begun, "completed": completed}
