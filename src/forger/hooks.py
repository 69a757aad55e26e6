"""Which of Lightning's hooks somebody listens to. Owns the question, asked once per training."""

from __future__ import annotations

from lightning import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from forger.exchange import exchanges_itself

_AROUND_UPDATES = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def updates_are_plain(module: LightningModule) -> bool:
    """Tells whether Lightning would add nothing to `loss.backward()` and `optimizer.step()`.

    So it is in one process, and in those whose gradients `GradientSum` exchanges, without a scaler,
    when neither a callback nor the module hooks into them. Lightning then calls six empty hooks of
    every callback in each iteration, which takes a twentieth of a small network's time.
    """
    trainer = module.trainer
    precision = trainer.precision_plugin
    kind = type(precision)
    return (
        (isinstance(trainer.strategy, SingleDeviceStrategy) or exchanges_itself(trainer.strategy))
        and getattr(precision, "scaler", None) is None
        and kind.pre_backward in (Precision.pre_backward, MixedPrecision.pre_backward)
        and kind.backward is Precision.backward
        and kind.post_backward is Precision.post_backward
        and kind.optimizer_step in (Precision.optimizer_step, MixedPrecision.optimizer_step)
        and not is_overridden("backward", module)
        and not any(
            is_overridden(hook, listener)
            for listener in (module, *trainer.callbacks)  # type: ignore[attr-defined]
            for hook in _AROUND_UPDATES
        )
    )
