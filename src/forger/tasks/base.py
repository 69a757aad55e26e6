"""What `forger.gan` must know of a game: the base of all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.gradients import clamp_weights
from forger.losses import AdversarialLoss
from forger.noise import Draws
from forger.sampling.sampler import Sampler

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

AnyTask = TypeVar("AnyTask", bound="Task")
Batch: TypeAlias = Mapping[str, Tensor]
"""Named tensors, a row for each example: `image`, `label`, and what else data and task agree on."""


@dataclass(frozen=True)
class Terms:
    """What one side minimises in one update, the sum of `loss` and all of `added`.

    Attributes:
        loss: the adversarial loss, a scalar, logged as `loss_d` or `loss_g`.
        added: other terms, already weighted, by the names they are logged under.
        logged: scalars that are logged and not minimised.
        real_logits: the discriminator's outputs for real examples, of any shape, in its terms.
        fake_logits: the same for fake ones.
    """

    loss: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)
    logged: Mapping[str, Tensor] = field(default_factory=dict)
    real_logits: Tensor = field(default_factory=lambda: torch.empty(0))
    fake_logits: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def total(self) -> Tensor:
        """What is minimised, a scalar."""
        return sum(self.added.values(), start=self.loss)


class Task(nn.Module, ABC):
    """A game of two sides, each one `nn.Module`, which may hold several networks.

    A task says what fakes are and which terms each side minimises. It neither steps optimizers nor
    logs. Buffers of its own are in the checkpoint, and the same in all processes; what differs
    among processes belongs into `process_state`.

    Args:
        generator: the side that makes fakes; its moving average is what is sampled.
        discriminator: the side that tells them from what is real.
        loss: the adversarial terms, with `n_critic` and the weight clip.

    Attributes:
        factors: of settings that follow a schedule, by name, in this iteration.
    """

    members: tuple[str, ...] = ("image",)
    """What a batch must hold."""

    regularizers: tuple[str, ...] = ()
    """Which terms of `loss.regularizers` it adds."""

    starts_anew: tuple[str, ...] = ()
    """How the names of buffers begin that a new run does not take over along with weights."""

    needs_fresh_batch = False
    """Whether the generator's update takes a batch of its own, and not the discriminator's last."""

    translates: ClassVar[bool] = False
    """Whether fakes are made of the batch's own examples."""

    judges_pairs: ClassVar[bool] = False
    """Whether the discriminator sees an image with its source, channels behind channels."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss
    ) -> None:
        super().__init__()
        for name, weight in ({} if loss is None else loss.regularizers).items():
            if name not in self.regularizers:
                told = f"{type(self).__name__} does not add this term; leave it out"
                raise ConfigError(f"loss.{name}={weight}: {told}")
        # In a tuple, since both are modules of the GAN, and not of its task.
        self._sides = generator, discriminator
        self.loss = loss
        self.factors: dict[str, float] = {}
        self.precision: AbstractContextManager[Any] = nullcontext()

    def with_sides(self: AnyTask, generator: nn.Module, discriminator: nn.Module) -> AnyTask:
        """Returns a copy of the game, state and all, for copies of its networks to try it on."""
        sides: dict[int, Any] = {id(self._sides): (generator, discriminator)}
        return deepcopy(self, sides)  # which takes these for copies of its own

    def setup(self, datamodule: Any) -> None:
        """Takes what the game must know of the data, in every process, before training begins."""

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless what a batch holds beside images has a meaning."""

    @property
    def generator(self) -> nn.Module:
        """The side that makes fakes."""
        return self._sides[0]

    @property
    def discriminator(self) -> nn.Module:
        """The side that tells them from what is real."""
        return self._sides[1]

    @property
    def factor_names(self) -> frozenset[str]:
        """What `factors` may hold: names of those settings that are on, and that it scales."""
        return frozenset()

    @property
    def logged_names(self) -> tuple[str, ...]:
        """What `Terms` log beside the losses, by name."""
        return ()

    @abstractmethod
    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Makes what the discriminator is to take for real, with gradients to the generator."""

    @abstractmethod
    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns what the discriminator minimises.

        Args:
            batch: real examples.
            fakes: made for them, without gradients.
            draws: random numbers of the iteration.
            update: number of this update since the start of the run, from 1.
        """

    @abstractmethod
    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns what the generator minimises; the discriminator's weights get no gradients."""

    @abstractmethod
    def judge(self, discriminator: nn.Module, batch: Batch) -> Tensor:
        """Returns what a discriminator, one like this task's, says: logits, a row each."""

    @abstractmethod
    def sampler(self, generator: nn.Module) -> Sampler:
        """Returns what samples a trained generator, one like this task's."""

    def example(self, rows: int, image_shape: tuple[int, int, int]) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        return {"image": torch.zeros(rows, *image_shape)}

    def describe(self) -> str:
        """Says in a few words what fakes are made of, for the plan of a run."""
        return type(self).__name__

    def describe_seen(self) -> str:
        """Says in a few words what becomes of images before D sees them; "" where nothing does."""
        return ""

    def process_state(self) -> dict[str, Any]:
        """Returns what this process alone knows and a resume needs, for example a pool of fakes."""
        return {}

    def load_process_state(self, state: Mapping[str, Any]) -> None:
        """Restores it."""

    def run(self, network: nn.Module, *inputs: Tensor, **named: Any) -> Any:
        """Runs a network in the precision of the training: all forward passes go through here."""
        with self.precision:
            return network(*inputs, **named)

    def after_discriminator_step(self) -> None:
        """Holds the discriminator's weights in the bounds that the loss sets."""
        if self.loss.weight_clip is not None:
            clamp_weights(self.discriminator, self.loss.weight_clip)
