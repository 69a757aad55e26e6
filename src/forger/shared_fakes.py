"""Whether both updates of an iteration use fakes of one forward pass of the generator."""

from __future__ import annotations

from forger.errors import ConfigError
from forger.tasks.base import Task
from forger.updates import Updates


def fakes_are_shared(
    asked: bool | None, task: Task, generator: Updates, discriminator: Updates
) -> bool:
    """Decides it; None asks for it where the task translates one batch in both updates.

    Raises:
        ConfigError: it is asked for, and the updates need batches or fakes of their own.
    """
    batches = (generator.accumulate, discriminator.accumulate)
    one_each = (task.loss.n_critic, *batches) == (1, 1, 1)
    another = task.translates and task.needs_fresh_batch
    if asked is None:
        return task.translates and one_each and not another
    if asked and not one_each:
        raise ConfigError(
            "model.share_fakes=True: needs one batch for each network, but loss.n_critic is"
            f" {task.loss.n_critic} and model.accumulate {batches}; all must be 1"
        )
    if asked and another:
        raise ConfigError(
            f"model.share_fakes=True: {type(task.loss).__name__} gives G's update a batch of its"
            " own, whose images the shared fakes were not made for; write model.share_fakes=null"
        )
    return asked
