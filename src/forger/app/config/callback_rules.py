"""Lightning's callbacks that break here, and what does their work instead. See `rules`.

Owns this list; each was tried in a short training. Callbacks of the user's own are left alone.
"""

from __future__ import annotations

from forger.app.config.accepted import Findings, Select
from forger.app.config.facts import target_of

_INSTEAD = {
    "GradientAccumulationScheduler": "write model.accumulate.generator=<batches>",
    "StochasticWeightAveraging": "write model.ema_decay=0.999 for the generator's average",
    "WeightAveraging": "write model.ema_decay=0.999 for the generator's average",
    "EMAWeightAveraging": "write model.ema_decay=0.999 for the generator's average",
    "BatchSizeFinder": "write data.batch_size=<images>",
    "LearningRateFinder": "sweep instead: -m optimizer.lr=1e-4,2e-4",
    "BackboneFinetuning": "there is no backbone here",
}
_STOPPING = (
    "looks when an epoch ends, where a score is missing or old; write callbacks=early_stopping, and"
    " callbacks.early_stopping.metric=<metric> for another one than the FID"
)
_BEST = (
    "is looked at when an epoch ends, where a score is missing or old; leave this callback out:"
    " checkpoints/best.ckpt is kept by the FID in any case"
)
_BARS = ("TQDMProgressBar", "RichProgressBar")


def callbacks(select: Select) -> Findings:
    """Yields callbacks for one network and one optimizer, and a second progress bar."""
    members = select("callbacks")
    for name in members if isinstance(members, dict) else ():
        key = f"callbacks.{name}"
        home, _, kind = target_of(select, key).rpartition(".")
        if not home.startswith("lightning."):
            continue
        if kind in _INSTEAD:
            yield f"{key}._target_", f"cannot serve two networks; {_INSTEAD[kind]}"
        elif kind == "EarlyStopping":
            yield f"{key}._target_", _STOPPING
        elif kind == "ModelCheckpoint" and str(select(f"{key}.monitor")).startswith("val/"):
            yield f"{key}.monitor", _BEST
        elif kind in _BARS and name != "progress" and select("callbacks.progress") is not None:
            yield f"{key}._target_", "would be a second bar; write callbacks.progress=null too"
