"""Scores of the discriminator from its logits: is it beaten, is it overfitting?"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics.functional.classification import binary_auroc

from forger.scoreboard import confusion_rates


def discriminator_scores(
    real_train_logits: Tensor,
    real_test_logits: Tensor,
    fake_logits: Tensor,
    boundary: float | None = 0.0,
) -> dict[str, float]:
    """Scores a discriminator on held-out real images, its positives, against fresh fakes.

    - `d_tpr`, `d_fnr`, `d_tnr`, `d_fpr`: shares of held-out real images, and of fakes, that it
      calls real (logit above the boundary) or fake.
    - `d_accuracy`: `(d_tpr + d_tnr) / 2`, balanced: 0.5 for a coin whatever the counts.
    - `d_relative_tpr` and so on in their place without a boundary, see `confusion_rates`.
    - `d_auroc`: probability that a held-out real image has a higher logit than a fake.
    - `d_train_logit`, `d_test_logit`, `d_gap`: mean on training images, on held-out ones, and the
      difference, in logits.
    - `d_gap_auroc`: probability that a training image has a higher logit than a held-out one: 0.5
      without overfitting, 1 for a discriminator that knows its training images by heart.

    Args:
        real_train_logits: `(N,)`, of images that it was trained on.
        real_test_logits: `(M,)`, of images that it never saw.
        fake_logits: `(L,)`.
        boundary: the logit at which it decides; `None`: its loss has none.
    """
    rates = confusion_rates(real_test_logits.double(), fake_logits.double(), boundary)
    train = real_train_logits.double().mean().item()
    test = real_test_logits.double().mean().item()
    return {
        **{f"d_{name}": rate.item() for name, rate in rates.items()},
        "d_auroc": _auroc(real_test_logits, fake_logits),
        "d_train_logit": train,
        "d_test_logit": test,
        "d_gap": train - test,
        "d_gap_auroc": _auroc(real_train_logits, real_test_logits),
    }


def _auroc(higher: Tensor, lower: Tensor) -> float:
    """Returns `P(a > b) + P(a = b) / 2` for a of `higher` and b of `lower`."""
    values, ranks = torch.unique(torch.cat([higher, lower]), return_inverse=True)
    target = torch.cat([torch.ones_like(higher), torch.zeros_like(lower)]).long()
    # Ranks: torchmetrics applies a sigmoid to logits, which makes a critic's large ones equal.
    return binary_auroc(ranks.double() / len(values), target).item()


@torch.no_grad()
def logits_of(discriminator: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Returns a discriminator's logits `(N,)` of real or fake images, and leaves no trace in it.

    It runs in eval mode and in float32, whatever its weights or an autocast around are.
    Afterwards the mode of each of its modules, its weights, its buffers and the random state are
    what they were, in bits.

    Args:
        discriminator: images `(B, C, H, W)` in [-1, 1] to logits, one each.
        batches: uint8 `(B, C, H, W)`.
    """
    device = next(discriminator.parameters()).device
    tensors = {**dict(discriminator.named_parameters()), **dict(discriminator.named_buffers())}
    # A forward that writes to a buffer writes to these copies.
    copies = {
        name: tensor.detach().clone().float() if tensor.is_floating_point() else tensor.clone()
        for name, tensor in tensors.items()
    }
    modes = {module: module.training for module in discriminator.modules()}
    cuda = [device] if device.type == "cuda" else []
    try:
        discriminator.eval()
        with torch.random.fork_rng(cuda), torch.autocast(device.type, enabled=False):
            logits = [
                functional_call(discriminator, copies, images.to(device, torch.float32) / 127.5 - 1)
                .reshape(len(images))
                .float()
                for images in batches
            ]
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.cat(logits)
