"""The GAN: alternates discriminator and generator updates of any task under manual optimization.

One `training_step` is one iteration: one generator update with its `n_critic` discriminator
updates; Lightning's counters then count iterations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, distributed
from torch.nn.parameter import UninitializedParameter

from forger.batches import RealBatches
from forger.bounds import FractionBelowOne, PositiveFloat
from forger.divergence import FiniteWatch
from forger.ema import DEFAULT_DECAY, EMA
from forger.errors import ConfigError
from forger.gradients import frozen, precision_contexts
from forger.noise import Draws
from forger.reports import Reporter
from forger.scheduled_settings import ScheduledSettings
from forger.schedules import Schedule
from forger.scoreboard import ProbabilityWatch, middle_of, scoreboard
from forger.seeds import STREAMS
from forger.shared_fakes import fakes_are_shared
from forger.tasks.base import Batch, Task
from forger.updates import NetworkUpdate, Updates

_WATCHED = 10  # of D's first updates, to find out whether it gives logits


class GAN(LightningModule):
    """Trains the two sides of a task, such as a generative adversarial network (arXiv:1406.2661).

    Each discriminator update leaves the generator's weights, gradients and optimizer equal in bits,
    and the other way round; only statistics of networks that run forward (BatchNorm, spectral norm)
    move. Each update makes fakes of its own, unless they are shared.

    Args:
        task: the game: its networks, what fakes are and which terms each side minimises.
        generator_updates: optimizer, schedule, clipping and accumulation of the generator.
        discriminator_updates: the same of the discriminator.
        ema_decay: of the generator's moving average, per iteration, in [0, 1); 0 is no averaging.
        ema_half_life: of that average, in images that the discriminator is trained on; it takes the
            place of `ema_decay`.
        share_fakes: whether both updates of an iteration use the same fakes, from one forward pass
            of the generator; the original algorithm makes fresh ones. None: where both take the
            same batch, and the task translates it.
        schedules: of other settings than learning rates, see `ScheduledSettings`.
        seed: of all that training draws.

    Raises:
        ConfigError: an argument is out of range, a network is not complete, fakes are to be
            shared among several updates, or what a schedule is for is off.
    """

    def __init__(
        self,
        task: Task,
        *,
        generator_updates: Updates | None = None,
        discriminator_updates: Updates | None = None,
        ema_decay: FractionBelowOne = DEFAULT_DECAY,
        ema_half_life: PositiveFloat | None = None,
        share_fakes: bool | None = None,
        schedules: Mapping[str, Schedule] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = task.generator, task.discriminator
        for name in ("generator", "discriminator"):
            if any(isinstance(p, UninitializedParameter) for p in getattr(self, name).parameters()):
                raise ConfigError(
                    f"model.{name}: has lazy layers whose sizes are not known yet; write the sizes"
                )
        self.task, self.loss = task, task.loss
        self.ema_generator = EMA(self.generator, ema_decay, ema_half_life)
        self.generator_updates = generator_updates or Updates()
        self.discriminator_updates = discriminator_updates or Updates()
        self.seed, self.images_seen = seed, 0
        self.scheduled = ScheduledSettings(schedules or {}, task, self.ema_generator)
        self.share_fakes = fakes_are_shared(
            share_fakes, task, self.generator_updates, self.discriminator_updates
        )

    @property
    def iteration(self) -> int:
        """Completed iterations: generator updates since the start of the run."""
        return self.global_step

    @property
    def batches_per_iteration(self) -> int:
        """Batches of real examples that one iteration consumes.

        `n_critic` times D's accumulation, and as many as G accumulates if its update takes fresh
        ones.
        """
        for_generator = self.generator_updates.accumulate if self.task.needs_fresh_batch else 0
        return self._batches_of_discriminator + for_generator

    @property
    def _batches_of_discriminator(self) -> int:
        return self.loss.n_critic * self.discriminator_updates.accumulate

    @property
    def images_judged(self) -> float:
        """Real images that D was trained on: those seen, but for fresh ones of G's updates."""
        return self.images_seen * self._batches_of_discriminator / self.batches_per_iteration

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        """Runs the averaged generator, for example on noise, to images in [-1, 1]."""
        return self.ema_generator(*inputs)

    def configure_optimizers(self) -> Any:
        """Makes both optimizers, the generator's first, and their schedules."""
        total = self.trainer.estimated_stepping_batches
        optimizers, schedules = [], []
        for updates, network in (
            (self.generator_updates, self.generator),
            (self.discriminator_updates, self.discriminator),
        ):
            optimizers.append(updates.make_optimizer(network))
            schedules.append(
                updates.make_scheduler(optimizers[-1], total, lambda: self.images_judged)
            )
        self.scheduled.follow(optimizers, total)
        return optimizers, [schedule for schedule in schedules if schedule is not None]

    def setup(self, stage: str) -> None:
        """Tells the task of the data."""
        self.task.setup(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        """Sets up what stays the same from one iteration to the next, and the clock."""
        trainer, rank, device = self.trainer, self.global_rank, self.device
        of_generator, of_discriminator = cast("list[LightningOptimizer]", self.optimizers())
        self._generator_update = NetworkUpdate(
            self, self.generator, self.generator_updates, of_generator, counted=True
        )
        # Not counted: one iteration is one step of the generator.
        self._discriminator_update = NetworkUpdate(
            self, self.discriminator, self.discriminator_updates, of_discriminator, counted=False
        )
        self.task.precision, self._unmixed = precision_contexts(
            trainer.precision_plugin, device.type
        )
        task, expected = self.task, self.batches_per_iteration
        self._reals = RealBatches(expected, task.members, task.check, warns=rank == 0)
        dtype = next(self.generator.parameters()).dtype
        self._draws = Draws(self.seed, rank, trainer.world_size, device, dtype)
        self.reporter = Reporter(self, self.images_seen)
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        self._watch = FiniteWatch(networks, device)
        self._probabilities = ProbabilityWatch(_WATCHED if rank == 0 else 0)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Runs one iteration on `batches_per_iteration` batches of real examples."""
        with self._unmixed:
            self._iterate(self._reals(batch, self._draws.dtype))

    def _iterate(self, reals: Sequence[Batch]) -> None:
        iteration, judged = self.iteration + 1, self.images_judged
        self.scheduled.apply(self.iteration, judged)
        self._draws.start(iteration)
        report = self.reporter.due(iteration)
        accumulate, n_critic = self.discriminator_updates.accumulate, self.loss.n_critic
        shared = self.task.fakes(reals[0], self._draws) if self.share_fakes else None
        for update in range(n_critic):
            number = self.iteration * n_critic + update + 1  # since the start of the run
            own = reals[update * accumulate : (update + 1) * accumulate]
            last = update == n_critic - 1
            metrics = self._update_discriminator(own, shared, number, report and last)
        metrics |= self._update_generator(reals, shared, report)
        self.images_seen += sum(len(real["image"]) for real in reals) * self.trainer.world_size
        self.ema_generator.update(self.generator, iteration, self.images_judged - judged)
        if report:
            self._watch.check(iteration)
            self.reporter.write(metrics, iteration, self.images_seen, self.scheduled.values)
        for schedule in self.trainer.lr_scheduler_configs:
            schedule.scheduler.step()  # type: ignore[call-arg]  # it is a LambdaLR

    def _update_discriminator(
        self, reals: Sequence[Batch], shared: Batch | None, number: int, report: bool
    ) -> dict[str, Tensor]:
        """Makes D's update of that number, from one batch for each accumulated gradient."""
        self._discriminator_update.begin()
        for real in reals:
            if shared is None:
                with torch.no_grad():
                    fakes = self.task.fakes(real, self._draws)
            else:
                fakes = {name: tensor.detach() for name, tensor in shared.items()}
            terms = self.task.discriminator_terms(real, fakes, self._draws, number)
            total = terms.total
            self._watch.see("discriminator", total, self.iteration + 1)
            self._discriminator_update.backward(total, len(reals))
        real_logits, fake_logits = terms.real_logits, terms.fake_logits
        self._probabilities.see(real_logits, fake_logits)
        norm = self._discriminator_update.step(measure=report)
        self.task.after_discriminator_step()
        if norm is None:
            return {}
        middle = middle_of(real_logits, fake_logits)
        middle = self.trainer.strategy.reduce(middle, reduce_op="mean")  # as in one process
        rates = scoreboard(real_logits, fake_logits, self.loss, middle)
        return {"loss_d": terms.loss, "grad_norm_d": norm, **rates, **terms.added, **terms.logged}

    def _update_generator(
        self, reals: Sequence[Batch], shared: Batch | None, report: bool
    ) -> dict[str, Tensor]:
        """Makes one generator update; its gradient passes through the discriminator."""
        self._generator_update.begin()
        accumulate, fresh = self.generator_updates.accumulate, self.task.needs_fresh_batch
        for real in reals[-accumulate:] if fresh else [reals[-1]] * accumulate:
            with frozen(self._discriminator_update.weights):
                fakes = self.task.fakes(real, self._draws) if shared is None else shared
                terms = self.task.generator_terms(real, fakes, self._draws)
                total = terms.total
                self._watch.see("generator", total, self.iteration + 1)
                self._generator_update.backward(total, accumulate)
        norm = self._generator_update.step(measure=report)
        if norm is None:
            return {}
        return {"loss_g": terms.loss, "grad_norm_g": norm, **terms.added, **terms.logged}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the weights do not tell.

        Raises:
            DivergedError: a weight is not finite; the last checkpoint stays a good one.
        """
        if hasattr(self, "_watch"):  # it has trained
            self._watch.check(self.iteration)
        checkpoint["images_seen"] = self.images_seen
        checkpoint["factors"] = dict(self.task.factors)
        checkpoint["task"] = _of_all_processes(self.task.process_state())
        checkpoint["random_streams"] = STREAMS
        checkpoint["earlier_updates"] = self.ema_generator.earlier_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it, and widens the weights before they are loaded: 64 bits are not rounded."""
        self.images_seen = checkpoint["images_seen"]
        self.load_factors(checkpoint)
        self._load_process_state(checkpoint.get("task", []))
        self.ema_generator.earlier_updates = checkpoint.get("earlier_updates", 0)
        weights = checkpoint["state_dict"].values()
        self.to(next(weight.dtype for weight in weights if weight.is_floating_point()))

    def load_factors(self, checkpoint: Mapping[str, Any]) -> None:
        """Sets what follows schedules as it was in the last iteration: D's scores depend on it."""
        saved, known = checkpoint.get("factors", {}), self.task.factor_names
        self.task.factors = {name: float(saved[name]) for name in known if name in saved}

    def _load_process_state(self, states: list[dict[str, Any]]) -> None:
        """Gives each process back what it alone knew."""
        if not any(states):
            return
        if len(states) != self.trainer.world_size:
            raise ConfigError(
                f"trainer.devices: this run's {type(self.task).__name__} keeps a state in each of"
                f" its {len(states)} processes, and goes on in as many alone, not in"
                f" {self.trainer.world_size}"
            )
        self.task.load_process_state(states[self.global_rank])


def _of_all_processes(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the states of all processes, in the order of their ranks, on the CPU."""
    state = move_data_to_device(state, torch.device("cpu"))  # another machine lacks this device
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return states
