"""Adversarial losses on logits: pure functions of tensors, one class each.

In the formulas `r = D(x)` and `f = D(G(z))` are logits, `sp` is softplus and `E` the mean over the
batch. The two halves of the discriminator's loss are summed, not averaged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu
from torch.nn.functional import softplus as sp

from forger.bounds import FractionBelowOne, NonNegativeFloat, PositiveFloat, PositiveInt
from forger.errors import ConfigError
from forger.penalties import R1, R2, AroundReal, Interpolates, Penalty
from forger.regularizers import Regularizers


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss(Regularizers, ABC):
    """Base of all losses: what the discriminator and the generator minimise.

    A loss of your own derives from it and defines `discriminator` and `generator`; `boundary` and
    `output` too where its D decides at a certain logit, or means a probability. `Regularizers` are
    the settings of terms beside.

    Args:
        n_critic: discriminator updates per generator update.
        weight_clip: after each discriminator update its weights are clamped to `[-c, c]`.

    Raises:
        ConfigError: an argument is out of its range, or belongs to a term that is off.
    """

    n_critic: PositiveInt = 1
    weight_clip: PositiveFloat | None = None

    generator_sees_real: ClassVar[bool] = False
    """Whether the generator's loss compares with logits of (fresh) real images."""
    batch_statistics: ClassVar[bool] = False
    """Whether a sample's term depends on the other samples of its process, as on a batch's mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty_interval > 1 and not any(p.interval > 1 for p in self.penalties.values()):
            raise ConfigError(
                f"loss.penalty_interval={self.penalty_interval}: is for R1 and R2, and both are"
                " off; set loss.r1_gamma or loss.r2_gamma too"
            )

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Returns what D minimises, a scalar; both arguments are `(B,)`."""

    @abstractmethod
    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        """Returns what G minimises, a scalar; `real_logits` is `None` unless G sees real images."""

    @property
    def boundary(self) -> float | None:
        """The logit at which the best D finds real and fake equally likely; `None`: it has none."""
        return None

    def output(self, logits: Tensor) -> Tensor:
        """Returns D(x) as the loss means it: a probability where it is one, else the logit."""
        return logits

    @property
    def penalties(self) -> dict[str, Penalty]:
        """The penalties of the discriminator's loss by the name they are logged under."""
        interval = self.penalty_interval
        both = {"r1": R1(self.r1_gamma, interval), "r2": R2(self.r2_gamma, interval)}
        return {name: penalty for name, penalty in both.items() if penalty.weight > 0}


@dataclass(frozen=True, kw_only=True)
class NonSaturating(AdversarialLoss):
    """The original GAN with the generator loss that trains (arXiv:1406.2661, section 3).

    D minimises `E sp(-r) + E sp(f)`, which is binary cross-entropy on logits, and G `E sp(-f)`.

    Args:
        label_smoothing: one-sided (arXiv:1606.03498, section 3.4): D's target of real images is
            `1 - label_smoothing`; the targets of fake images stay 0 for D and 1 for G.
    """

    label_smoothing: FractionBelowOne = 0.0

    @property
    def boundary(self) -> float | None:
        a = self.label_smoothing  # the best D is (1 - a) p_real / (p_real + p_fake)
        return math.log((1 - a) / (1 + a))

    def output(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        # With target 1 - a: (1 - a) sp(-r) + a sp(r) = sp(-r) + a r, since sp(r) = sp(-r) + r.
        real = sp(-real_logits) + self.label_smoothing * real_logits
        return real.mean() + sp(fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return sp(-fake_logits).mean()


@dataclass(frozen=True, kw_only=True)
class Minimax(NonSaturating):
    """The original two-player game (arXiv:1406.2661, eq. 1), whose generator saturates.

    D as in `NonSaturating`; G minimises `-E sp(f) = E log(1 - sigmoid(f))`: its gradient vanishes
    where D is sure that an image is fake.
    """

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return -sp(fake_logits).mean()


@dataclass(frozen=True, kw_only=True)
class LeastSquares(AdversarialLoss):
    """LSGAN (arXiv:1611.04076, eq. 9).

    D minimises `E (r - 1)^2 / 2 + E f^2 / 2`, and G `E (f - 1)^2 / 2`.

    Args:
        label_smoothing: as in `NonSaturating`.
    """

    label_smoothing: FractionBelowOne = 0.0

    @property
    def boundary(self) -> float | None:
        return (1 - self.label_smoothing) / 2

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        target = 1 - self.label_smoothing
        return (real_logits - target).square().mean() / 2 + fake_logits.square().mean() / 2

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return (fake_logits - 1).square().mean() / 2


@dataclass(frozen=True, kw_only=True)
class Hinge(AdversarialLoss):
    """The hinge loss (arXiv:1705.02894; as in SNGAN, arXiv:1802.05957, eq. 17).

    D minimises `E relu(1 - r) + E relu(1 + f)`, and G `-E f`.
    """

    boundary = 0.0  # the best D is the sign of p_real - p_fake

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return -fake_logits.mean()


@dataclass(frozen=True, kw_only=True)
class Wasserstein(AdversarialLoss):
    """The Wasserstein critic (arXiv:1701.07875), with a weight clip or a gradient penalty.

    D minimises `E f - E r`, plus `lambda E (||grad D(x^)|| - 1)^2` with a gradient penalty
    (arXiv:1704.00028, eq. 3), and G `-E f`. One of the two is needed to bound D's slope.

    Args:
        gradient_penalty: lambda; 0 is off.

    Raises:
        ConfigError: neither `weight_clip` nor a penalty is set, so that D is unbounded.
    """

    gradient_penalty: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_clip is None and not self.penalties:
            raise ConfigError(
                "loss.weight_clip=null: nothing bounds the Wasserstein critic; write"
                " loss.weight_clip=0.01 or loss.gradient_penalty=10"
            )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return -fake_logits.mean()

    @property
    def penalties(self) -> dict[str, Penalty]:
        between = {"interpolates": Interpolates(self.gradient_penalty)}
        return super().penalties | (between if self.gradient_penalty > 0 else {})


@dataclass(frozen=True, kw_only=True)
class Dragan(NonSaturating):
    """DRAGAN (arXiv:1705.07215): the original loss with a penalty around real images.

    Args:
        gradient_penalty: lambda, the penalty's weight.
    """

    batch_statistics: ClassVar[bool] = True  # the standard deviation of the real images

    gradient_penalty: PositiveFloat = 10.0

    @property
    def penalties(self) -> dict[str, Penalty]:
        return super().penalties | {"around_real": AroundReal(self.gradient_penalty)}


@dataclass(frozen=True, kw_only=True)
class RelativisticAverage(AdversarialLoss):
    """Relativistic average GAN (arXiv:1807.00734): is it more real than the average of the others?

    D minimises `E sp(-(r - E f)) + E sp(f - E r)`; G the same with the targets swapped.
    """

    generator_sees_real: ClassVar[bool] = True
    batch_statistics: ClassVar[bool] = True  # the mean logits

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = sp(fake_logits.mean() - real_logits).mean()
        return real + sp(fake_logits - real_logits.mean()).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        assert real_logits is not None
        return self.discriminator(fake_logits, real_logits)


@dataclass(frozen=True, kw_only=True)
class RelativisticPairing(AdversarialLoss):
    """Relativistic pairing GAN (arXiv:1807.00734; arXiv:2501.05441, eq. 2).

    D minimises `E sp(-(r - f))` over pairs of a real and a fake image, and G `E sp(-(f - r))`.
    """

    generator_sees_real: ClassVar[bool] = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return sp(fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        assert real_logits is not None
        return sp(real_logits - fake_logits).mean()


@dataclass(frozen=True, kw_only=True)
class R3GAN(RelativisticPairing):
    """R3GAN (arXiv:2501.05441): the pairing loss with R1 and R2 of one weight.

    Args:
        gamma: weight of both penalties, `gamma/2 E ||grad D||^2`.

    Raises:
        ConfigError: `r1_gamma` or `r2_gamma` is set beside `gamma`.
    """

    gamma: PositiveFloat = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r1_gamma > 0 or self.r2_gamma > 0:
            raise ConfigError(
                f"loss.r1_gamma={self.r1_gamma}, loss.r2_gamma={self.r2_gamma}: r3gan sets both by"
                " loss.gamma; for two weights write loss=relativistic_pairing"
            )

    @property
    def penalties(self) -> dict[str, Penalty]:
        weight, interval = self.gamma, self.penalty_interval
        return {"r1": R1(weight, interval), "r2": R2(weight, interval)}
