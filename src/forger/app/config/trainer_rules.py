"""Trainer flags that contradict each other, the training loop or this machine. See `rules`.

Owns them all but the precision and the count of devices, which `device_rules` hold against the
hardware.
"""

from __future__ import annotations

from typing import Any

from forger.app.config.accepted import Findings, Select
from forger.app.config.device_rules import accelerator_of, processes
from forger.app.config.messages import nearest

STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_true")
"""Lightning's words for those that train here; any other Strategy is named by its `_target_`."""


def strategies(select: Select) -> Findings:
    """Yields strategies that leave nothing in this process, or cannot have so many processes."""
    key, strategy, count = "trainer.strategy", select("trainer.strategy"), processes(select)
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        if strategy.startswith("ddp"):
            yield key, "is not one that train.py runs; write trainer.strategy=ddp"
        else:
            hint = nearest(strategy, STRATEGIES)
            yield key, f"must be one of {', '.join(STRATEGIES)}, or name a _target_{hint}"
    elif strategy == "single_device" and count is not None and count > 1:
        yield (
            key,
            f"trains in one process, and {count} are asked for; write trainer.strategy=ddp",
        )


def ours_instead(select: Select) -> Findings:
    """Yields flags that manual optimization refuses, and the settings that do their work."""
    clip = select("trainer.gradient_clip_val")
    if clip is not None or select("trainer.gradient_clip_algorithm") is not None:
        key = "trainer.gradient_clip_val" if clip is not None else "trainer.gradient_clip_algorithm"
        norm = "<norm>" if clip is None else clip
        yield (
            key,
            f"the Trainer cannot clip two networks; write model.gradient_clip.generator={norm} or "
            f"model.gradient_clip.discriminator={norm}",
        )
    batches = select("trainer.accumulate_grad_batches")
    if batches not in (None, 1):
        yield (
            "trainer.accumulate_grad_batches",
            f"the Trainer cannot accumulate for two networks; write "
            f"model.accumulate.generator={batches} or model.accumulate.discriminator={batches}",
        )


def limits(select: Select) -> Findings:
    """Yields limits of a run that leave nothing of it, or of which one makes another void."""
    for kind in ("steps", "epochs"):
        least, most = select(f"trainer.min_{kind}"), select(f"trainer.max_{kind}")
        if _number(least) and _number(most) and most != -1 and least > most:
            yield f"trainer.min_{kind}", f"is above trainer.max_{kind}={most}"
    share, overfit = select("trainer.limit_train_batches"), select("trainer.overfit_batches")
    if share == 0:
        yield "trainer.limit_train_batches", "would train nothing; null is all of an epoch"
    elif share is not None and overfit:
        yield "trainer.limit_train_batches", "is ignored with trainer.overfit_batches; leave it out"


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def flags(select: Select) -> Findings:
    """Yields flags that Lightning would answer with a warning, or with an error of its own."""
    if select("trainer.sync_batchnorm") is True and accelerator_of(select) == "cpu":
        yield (
            "trainer.sync_batchnorm",
            "torch's SyncBatchNorm refuses CPU tensors; write trainer.sync_batchnorm=false",
        )
    if select("trainer.benchmark") is True and select("trainer.deterministic") is True:
        yield "trainer.benchmark", "makes trainer.deterministic=true void; leave one of them out"
