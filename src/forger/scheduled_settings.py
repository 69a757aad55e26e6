"""Lets settings other than learning rates follow schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch.optim import Optimizer

from forger.ema import EMA
from forger.errors import ConfigError
from forger.schedules import Constant, Schedule, check_length, factor_at
from forger.tasks.base import Task

_OFF = {  # what a task does not scale, and how to turn it on
    "penalty": "the loss has no gradient penalty; write loss.r1_gamma=1, for example",
    "augment": "no augmentation has a fixed probability; write augment=ada augment.p=<probability>",
    "instance_noise": "is off; write task.instance_noise=0.1, for example",
}


class ScheduledSettings:
    """Sets what follows a schedule, at the start of each iteration, as a function of it alone.

    The factor of a schedule applies to `beta2`: `1 - beta2 <- factor (1 - beta2)` of Adam, for both
    networks; to `ema`: the half-life of the generator's average; to any other name: whatever the
    task means by it (`Task.factor_names`), such as `penalty`, the weights of gradient penalties.

    Args:
        schedules: by the name of what they are for; `Constant` is as good as none.
        task: whose factors are set.
        ema: whose half-life is scaled.

    Attributes:
        values: what is logged, by name: values in this iteration, or factors of the task.

    Raises:
        ConfigError: a schedule is for something that is off.
    """

    def __init__(self, schedules: Mapping[str, Schedule], task: Task, ema: EMA) -> None:
        self._schedules = {k: v for k, v in schedules.items() if not isinstance(v, Constant)}
        self._task, self._ema = task, ema
        self._betas: list[tuple[Optimizer, list[tuple[float, float]]]] = []
        self._total = math.inf
        self.values: dict[str, float] = {}
        for name in self._schedules:
            if refusal := self._refusal(name):
                raise ConfigError(f"schedule.{name}: {refusal}")

    def follow(self, optimizers: Sequence[Optimizer], total: float) -> None:
        """Takes what is known once training begins.

        Args:
            optimizers: of both networks, the generator's first, as they are made, before a
                checkpoint is loaded.
            total: iterations of the run.

        Raises:
            ConfigError: a schedule ends with a run that has no end, or is for betas, and an
                optimizer has none.
        """
        self._total = total
        for name, schedule in self._schedules.items():
            check_length(schedule, total, f"schedule.{name}")
        self._betas = []
        for optimizer in optimizers if "beta2" in self._schedules else ():
            if any("betas" not in group for group in optimizer.param_groups):
                name = type(optimizer).__name__
                raise ConfigError(f"schedule.beta2: {name} has no betas; write optimizer=adam")
            self._betas.append((optimizer, [group["betas"] for group in optimizer.param_groups]))

    def describe(self) -> str:
        """Says in a few words what follows which curve, for the plan of a run."""
        curves = (f"{k} {type(v).__name__.lower()}" for k, v in self._schedules.items())
        return ", ".join(curves)

    @property
    def logged_names(self) -> tuple[str, ...]:
        """The names in `values`."""
        own = {"beta2": ("beta2_g", "beta2_d"), "ema": ("ema_half_life",)}
        return tuple(k for name in self._schedules for k in own.get(name, (f"{name}_factor",)))

    def apply(self, iterations: int, images: float) -> None:
        """Sets everything for the iteration after so many, and after so many images."""
        for name, schedule in self._schedules.items():
            factor = factor_at(schedule, iterations, images, self._total)
            if name == "beta2":
                self._set_beta2(factor)
            elif name == "ema":
                self._ema.factor = factor
                self.values["ema_half_life"] = factor * (self._ema.half_life or 0)
            else:
                self._task.factors[name] = factor
                self.values[f"{name}_factor"] = factor

    def _set_beta2(self, factor: float) -> None:
        for side, (optimizer, betas) in zip("gd", self._betas, strict=True):
            for group, (beta1, beta2) in zip(optimizer.param_groups, betas, strict=True):
                group["betas"] = (beta1, 1 - factor * (1 - beta2))
            self.values[f"beta2_{side}"] = optimizer.param_groups[0]["betas"][1]

    def _refusal(self, name: str) -> str | None:
        """Returns why there is nothing to scale, and what to do about it."""
        if name == "ema" and self._ema.half_life is None:
            return "scales model.ema_half_life, which is off; write model.ema_half_life=<images>"
        if name in {"beta2", "ema", *self._task.factor_names}:
            return None
        known = ", ".join(sorted({"beta2", "ema", *self._task.factor_names}))
        return _OFF.get(name, f"there is no such thing to scale; allowed here: {known}")
