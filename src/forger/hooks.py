"""Which of Lightning's hooks somebody listens to. Owns the question, asked once per training."""

from __future__ import annotations

from lightning import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

_AROUND_BACKWARD = ("on_before_backward", "on_after_backward")


def backward_is_plain(module: LightningModule) -> bool:
    """Tells whether `module.manual_backward(loss)` would do no more than `loss.backward()`.

    So it is in one process, without a scaler, when neither a callback nor the module hooks into it.
    Lightning then calls four empty hooks of every callback in each iteration, which takes a
    twentieth of a small network's time.
    """
    trainer = module.trainer
    precision = trainer.precision_plugin
    kind = type(precision)
    return (
        isinstance(trainer.strategy, SingleDeviceStrategy)
        and getattr(precision, "scaler", None) is None
        and kind.pre_backward in (Precision.pre_backward, MixedPrecision.pre_backward)
        and kind.backward is Precision.backward
        and kind.post_backward is Precision.post_backward
        and not is_overridden("backward", module)
        and not any(
            is_overridden(hook, listener)
            for listener in (module, *trainer.callbacks)  # type: ignore[attr-defined]
            for hook in _AROUND_BACKWARD
        )
    )
