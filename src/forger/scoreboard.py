"""Who is winning: the numbers of one iteration. Owns their definitions, not their logging."""

from __future__ import annotations

from torch import Tensor


def scoreboard(real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Describes how the discriminator tells real images from fake ones.

    Args:
        real_logits: `D(x)`, `(B,)`; a logit above 0 calls an image real.
        fake_logits: `D(G(z))`, `(B,)`.

    Returns:
        Scalars in [0, 1]: `d_real` and `d_fake`, the mean probabilities of being real; and D's
        confusion matrix as rates, positive meaning real: `tpr` and `fnr` of real images, `tnr` and
        `fpr` of fake ones, and `accuracy` over both.
    """
    tpr = (real_logits > 0).to(real_logits.dtype).mean()
    fpr = (fake_logits > 0).to(fake_logits.dtype).mean()
    return {
        "d_real": real_logits.sigmoid().mean(),
        "d_fake": fake_logits.sigmoid().mean(),
        "tpr": tpr,
        "fnr": 1 - tpr,
        "tnr": 1 - fpr,
        "fpr": fpr,
        "accuracy": (tpr + 1 - fpr) / 2,
    }
