"""Shows who is winning: D's outputs on real and fake images, and its confusion matrix as rates."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from forger.losses import AdversarialLoss
from forger.score_names import RATES, RELATIVE

log = logging.getLogger(__name__)


def scoreboard(
    real_logits: Tensor, fake_logits: Tensor, loss: AdversarialLoss, middle: Tensor | None = None
) -> dict[str, Tensor]:
    """Describes how the discriminator tells real images from fake ones, by its logits `(B,)`.

    Returns:
        Scalars: `d_real` and `d_fake`, the means of D(x) and D(G(z)) as the loss means them
        (probabilities under cross-entropy, else the outputs themselves); and `confusion_rates`.
    """
    outputs = {"d_real": loss.output(real_logits), "d_fake": loss.output(fake_logits)}
    rates = confusion_rates(real_logits, fake_logits, loss.boundary, middle)
    return {name: output.mean() for name, output in outputs.items()} | rates


def confusion_rates(
    real_logits: Tensor, fake_logits: Tensor, boundary: float | None, middle: Tensor | None = None
) -> dict[str, Tensor]:
    """Returns D's confusion matrix as rates, positive meaning real.

    Args:
        real_logits: `(N,)`; a logit above the boundary calls an image real.
        fake_logits: `(M,)`.
        boundary: of the loss; None: it has none, and `middle` takes its place.
        middle: None: `middle_of` these logits.

    Returns:
        Scalars in [0, 1]: `tpr` and `fnr` of real images, `tnr` and `fpr` of fake ones, and
        `accuracy`, the mean of `tpr` and `tnr`: 0.5 for a coin, whatever the counts. Without a
        boundary they are named `relative_tpr` and so on.
    """
    threshold: float | Tensor | None = middle if boundary is None else boundary
    if threshold is None:
        threshold = middle_of(real_logits, fake_logits)
    tpr = (real_logits > threshold).to(real_logits.dtype).mean()
    fpr = (fake_logits > threshold).to(fake_logits.dtype).mean()
    rates = dict(zip(RATES, (tpr, 1 - tpr, 1 - fpr, fpr, (tpr + 1 - fpr) / 2), strict=True))
    return {(RELATIVE if boundary is None else "") + name: rate for name, rate in rates.items()}


def middle_of(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Returns the middle between the mean logit of real images and that of fake ones."""
    return (real_logits.mean() + fake_logits.mean()) / 2


def discriminator_scores(
    train_logits: Tensor, test_logits: Tensor, fake_logits: Tensor, boundary: float | None
) -> dict[str, float]:
    """Scores a discriminator by its logits `(N,)`, on held-out real images and fresh fakes.

    - `d_tpr`, `d_accuracy` and so on, or `d_relative_tpr` without a boundary: `confusion_rates`.
    - `d_auroc`: probability that a held-out real image has a higher logit than a fake.
    - `d_train_logit`, `d_test_logit`, `d_gap`: mean on training images, on held-out ones, and the
      difference.
    - `d_gap_auroc`: probability that a training image has a higher logit than a held-out one: 0.5
      without overfitting, 1 for a discriminator that knows its training images by heart.
    """
    rates = confusion_rates(test_logits.double(), fake_logits.double(), boundary)
    train, test = (logits.double().mean().item() for logits in (train_logits, test_logits))
    means = {"d_train_logit": train, "d_test_logit": test, "d_gap": train - test}
    auroc = {"d_auroc": _auroc(test_logits, fake_logits)}
    gap = {"d_gap_auroc": _auroc(train_logits, test_logits)}
    return {f"d_{name}": rate.item() for name, rate in rates.items()} | auroc | means | gap


def _auroc(higher: Tensor, lower: Tensor) -> float:
    """Returns `P(a > b) + P(a = b) / 2` for a of `higher` and b of `lower`."""
    values, ranks = torch.unique(torch.cat([higher, lower]), return_inverse=True)
    target = torch.cat([torch.ones_like(higher), torch.zeros_like(lower)]).long()
    # Ranks: torchmetrics applies a sigmoid to logits, which makes a critic's large ones equal.
    return binary_auroc(ranks.double() / len(values), target).item()


class ProbabilityWatch:
    """Says once where all of D's outputs look like probabilities: losses expect logits.

    Args:
        updates: of D to look at before it tells; the device is waited for once.
    """

    def __init__(self, updates: int) -> None:
        self._left = updates
        self._ranges: list[Tensor] = []

    def see(self, *logits: Tensor) -> None:
        """Looks at D's outputs in one update."""
        if self._left <= 0:
            return
        self._left -= 1
        self._ranges += [torch.stack(some.detach().aminmax()) for some in logits]
        if self._left == 0:
            low, high = torch.stack(self._ranges).unbind(1)
            # A sigmoid begins around 0.5, and a critic whose weights are clipped near 0.
            if low.min() >= 0 and 0.3 < high.max() <= 1:
                log.warning(
                    "model.discriminator: all its outputs so far lie in [0, 1], as if it ended in a"
                    " sigmoid; it must give logits, which the loss turns into probabilities itself"
                )
