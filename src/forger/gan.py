"""The GAN: alternates discriminator and generator updates under manual optimization.

One `training_step` is one iteration: one generator update with its `n_critic` discriminator
updates; Lightning's counters then count iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from forger.batches import RealImages
from forger.bounds import FractionBelowOne
from forger.compiling import uncompiled
from forger.copying import in_float32
from forger.divergence import FiniteWatch
from forger.ema import EMA
from forger.errors import ConfigError
from forger.gradients import clamp_weights, frozen, full_precision, precision_contexts
from forger.losses import AdversarialLoss, NonSaturating
from forger.noise import PRIORS, NoiseSource, Prior
from forger.reports import Reporter
from forger.scoreboard import ProbabilityWatch, middle_of, scoreboard
from forger.seeds import STREAMS
from forger.updates import NetworkUpdate, Updates

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_WATCHED = 10  # of D's first updates, to find out whether it gives logits


class GAN(LightningModule):
    """A generative adversarial network (arXiv:1406.2661).

    Each discriminator update leaves the generator's weights, gradients and optimizer equal in bits,
    and the other way round; only statistics of networks that run forward (BatchNorm, spectral norm)
    move. Real and fake images pass through D apart, so that BatchNorm sees each alone, or in one
    batch where D says that a logit depends on its own image only (`independent_samples`).

    Args:
        generator: noise `(B, latent_dim)` to images `(B, C, H, W)` in [-1, 1]; has the attribute
            `latent_dim`.
        discriminator: images to logits `(B,)`, never probabilities.
        loss: what both minimise, with the penalties, `n_critic` and weight clip that it needs.
        generator_updates: optimizer, schedule, clipping and accumulation of the generator.
        discriminator_updates: the same of the discriminator.
        prior: distribution of the noise, `normal` N(0, 1) or `uniform` U(-1, 1).
        ema_decay: of the generator's moving average, per iteration, in [0, 1); 0 is no averaging.
        share_fakes: whether both updates of an iteration use the same fake images, from one forward
            pass of the generator; the original algorithm draws fresh noise.
        seed: of the noise.

    Raises:
        ConfigError: an argument is out of range, the discriminator has BatchNorm while the loss
            penalises gradients per sample, or fakes are to be shared among several updates.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None = None,
        generator_updates: Updates | None = None,
        discriminator_updates: Updates | None = None,
        prior: Prior = "normal",
        ema_decay: FractionBelowOne = 0.999,
        share_fakes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        loss, for_g, for_d = loss or NonSaturating(), generator_updates, discriminator_updates
        _check_networks(generator, discriminator, loss)
        self.generator, self.discriminator = generator, discriminator
        self.ema_generator = EMA(generator, ema_decay)
        self.loss, self.penalties = loss, loss.penalties
        self.generator_updates, self.discriminator_updates = for_g or Updates(), for_d or Updates()
        self.prior: Prior = prior
        self.share_fakes, self.seed, self.images_seen = share_fakes, seed, 0
        if prior not in PRIORS:
            raise ConfigError(f"model.prior={prior}: must be one of {', '.join(PRIORS)}")
        batches = (self.generator_updates.accumulate, self.discriminator_updates.accumulate)
        if share_fakes and (loss.n_critic, *batches) != (1, 1, 1):
            raise ConfigError(
                "model.share_fakes=True: needs one batch for each network, but loss.n_critic is"
                f" {loss.n_critic} and model.accumulate {batches}; all must be 1"
            )

    @property
    def iteration(self) -> int:
        """Completed iterations: generator updates since the start of the run."""
        return self.global_step

    @property
    def batches_per_iteration(self) -> int:
        """Batches of real images that one iteration consumes; G's, if its loss needs them, too."""
        for_generator = self.generator_updates.accumulate if self.loss.generator_sees_real else 0
        return self.loss.n_critic * self.discriminator_updates.accumulate + for_generator

    @torch.no_grad()
    def forward(self, noise: Tensor) -> Tensor:
        """Generates images in [-1, 1] with the averaged generator."""
        images: Tensor = self.ema_generator(noise)
        return images

    def configure_optimizers(self) -> Any:
        """Makes both optimizers, the generator's first, and their schedules."""
        for_g, for_d = self.generator_updates, self.discriminator_updates
        optimizer_g = for_g.make_optimizer(self.generator)
        optimizer_d = for_d.make_optimizer(self.discriminator)
        total = self.trainer.estimated_stepping_batches
        schedules = (
            for_g.make_scheduler(optimizer_g, total),
            for_d.make_scheduler(optimizer_d, total),
        )
        return [optimizer_g, optimizer_d], [one for one in schedules if one is not None]

    def on_train_start(self) -> None:
        """Sets up what stays the same from one iteration to the next, and the clock."""
        trainer, rank, device = self.trainer, self.global_rank, self.device
        for_g, for_d = cast("list[LightningOptimizer]", self.optimizers())
        self._generator_update = NetworkUpdate(
            self, self.generator, self.generator_updates, for_g, counted=True
        )
        # Not counted: one iteration is one step of the generator.
        self._discriminator_update = NetworkUpdate(
            self, self.discriminator, self.discriminator_updates, for_d, counted=False
        )
        self._mixed, self._unmixed = precision_contexts(trainer.precision_plugin, device.type)
        self._at_once = bool(getattr(self.discriminator, "independent_samples", False))
        self._reals = RealImages(self.batches_per_iteration, warns=rank == 0)
        dtype = next(self.generator.parameters()).dtype
        self._noise = NoiseSource(self.prior, self.seed, rank, trainer.world_size, device, dtype)
        self.reporter = Reporter(self, self.images_seen)
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        self._watch = FiniteWatch(networks, device)
        self._probabilities = ProbabilityWatch(_WATCHED if rank == 0 else 0)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Runs one iteration on `batches_per_iteration` batches of real images."""
        with self._unmixed:
            self._iterate([real.to(self._noise.dtype) for real in self._reals(batch)])

    def _iterate(self, reals: list[Tensor]) -> None:
        iteration = self.iteration + 1
        self._noise.start(iteration)
        report = self.reporter.due(iteration)
        accumulate, n_critic = self.discriminator_updates.accumulate, self.loss.n_critic
        shared = self._fakes(len(reals[0])) if self.share_fakes else None
        for update in range(n_critic):
            number = self.iteration * n_critic + update + 1  # since the start of the run
            own = reals[update * accumulate : (update + 1) * accumulate]
            last = update == n_critic - 1
            metrics = self._update_discriminator(own, shared, number, report and last)
        metrics |= self._update_generator(reals, shared, report)
        self.ema_generator.update(self.generator, iteration)
        self.images_seen += sum(len(real) for real in reals) * self.trainer.world_size
        if report:
            self._watch.check(iteration)
            self.reporter.write(metrics, iteration, self.images_seen)
        for schedule in self.trainer.lr_scheduler_configs:
            schedule.scheduler.step()  # type: ignore[call-arg]  # it is a LambdaLR

    def _update_discriminator(
        self, reals: Sequence[Tensor], shared: Tensor | None, number: int, report: bool
    ) -> dict[str, Tensor]:
        """Makes D's update of that number, from one batch for each accumulated gradient."""
        self._discriminator_update.begin()
        for real in reals:
            with torch.no_grad():
                fake = self._fakes(len(real)) if shared is None else shared.detach()
            if self._at_once:
                real_logits, fake_logits = self._logits(torch.cat((real, fake))).chunk(2)
            else:
                real_logits, fake_logits = self._logits(real), self._logits(fake)
            loss = self.loss.discriminator(real_logits, fake_logits)
            penalties = self._penalties(real, fake, number)
            total = sum(penalties.values(), start=loss)
            self._watch.see("discriminator", total, self.iteration + 1)
            self._discriminator_update.backward(total, len(reals))
        self._probabilities.see(real_logits, fake_logits)
        norm = self._discriminator_update.step(measure=report)
        if self.loss.weight_clip is not None:
            clamp_weights(self.discriminator, self.loss.weight_clip)
        if norm is None:
            return {}
        middle = middle_of(real_logits, fake_logits)
        middle = self.trainer.strategy.reduce(middle, reduce_op="mean")  # as in one process
        rates = scoreboard(real_logits, fake_logits, self.loss, middle)
        terms = {f"penalty_{name}": term for name, term in penalties.items()}
        return {"loss_d": loss, "grad_norm_d": norm, **rates, **terms}

    def _update_generator(
        self, reals: Sequence[Tensor], shared: Tensor | None, report: bool
    ) -> dict[str, Tensor]:
        """Makes one generator update; its gradient passes through the discriminator."""
        self._generator_update.begin()
        accumulate, fresh = self.generator_updates.accumulate, self.loss.generator_sees_real
        for real in reals[-accumulate:] if fresh else [reals[-1]] * accumulate:
            with frozen(self._discriminator_update.weights):
                fake = self._fakes(len(real)) if shared is None else shared
                fake_logits = self._logits(fake)
                real_logits = self._logits(real) if fresh else None
                loss = self.loss.generator(fake_logits, real_logits)
                self._watch.see("generator", loss, self.iteration + 1)
                self._generator_update.backward(loss, accumulate)
        norm = self._generator_update.step(measure=report)
        return {} if norm is None else {"loss_g": loss, "grad_norm_g": norm}

    def _fakes(self, batch: int) -> Tensor:
        """Generates `(batch, C, H, W)` from fresh noise."""
        noise = self._noise.prior(batch, self.generator.latent_dim)  # type: ignore[arg-type]
        with self._mixed:
            fakes: Tensor = self.generator(noise)
        return fakes

    def _logits(self, images: Tensor) -> Tensor:
        """Returns D's logits as `(B,)`: `(B, 1)` would broadcast in relativistic losses."""
        with self._mixed:
            logits = self.discriminator(images)
        return full_precision(logits).reshape(len(images))

    def _penalties(self, real: Tensor, fake: Tensor, number: int) -> dict[str, Tensor]:
        """Returns the weighted penalties due at D's update `number`, in float32: they are norms."""
        due = {name: p for name, p in self.penalties.items() if number % p.interval == 0}
        if not due:
            return {}
        judge, real = in_float32(self.discriminator), full_precision(real)
        fake, uniform = fake.to(real.dtype), self._noise.uniform
        with uncompiled():
            terms = {name: p(judge, real, fake, uniform) for name, p in due.items()}
        return {name: due[name].weight * due[name].interval * term for name, term in terms.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the weights do not tell; refuses weights that are not finite."""
        if hasattr(self, "_watch"):  # it has trained
            self._watch.check(self.iteration)
        checkpoint["images_seen"] = self.images_seen
        checkpoint["random_streams"] = STREAMS
        checkpoint["earlier_updates"] = self.ema_generator.earlier_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it, and widens the weights before they are loaded: 64 bits are not rounded."""
        self.images_seen = checkpoint["images_seen"]
        self.ema_generator.earlier_updates = checkpoint.get("earlier_updates", 0)
        weights = checkpoint["state_dict"].values()
        self.to(next(weight.dtype for weight in weights if weight.is_floating_point()))


def _check_networks(generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss) -> None:
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if any(isinstance(weight, UninitializedParameter) for weight in network.parameters()):
            raise ConfigError(
                f"model.{name}: has lazy layers whose sizes are not known yet; write the sizes"
            )
    if loss.penalties and any(isinstance(m, BATCH_NORMS) for m in discriminator.modules()):
        raise ConfigError(
            f"model.discriminator: BatchNorm under a gradient penalty ({', '.join(loss.penalties)})"
            ", which is taken per sample while BatchNorm mixes samples; allowed:"
            " norm=auto|layer|instance|spectral|none"
        )
