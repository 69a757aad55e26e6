"""What a new run takes over from the weights of another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import make_gan
from resuming import squares, train

from forger.app.run.start import Start
from forger.augment import ADA
from forger.gan import GAN
from forger.losses import Hinge


def adaptive() -> GAN:
    return make_gan(
        augment=ADA(target=0.0, interval=1, ramp_images=100), loss=Hinge(lecam=1.0, lecam_start=0)
    )


@pytest.mark.parametrize("make", [make_gan, adaptive])
def test_weights_go_over_and_what_follows_d_begins_anew(
    make: Callable[[], GAN], tmp_path: Path
) -> None:
    """Between runs with and without an augmentation, whose p and averages are of the old D."""
    before = adaptive()
    train(tmp_path, before, squares(), max_steps=2)
    assert (before.task.lecam.anchors != 0).any()
    gan = make()
    Start(init_from=str(tmp_path / "checkpoints" / "last.ckpt")).load_weights(gan)
    for name, value in gan.state_dict().items():
        if name.startswith(("task.augment.", "task.lecam.")):
            assert (value == 0).all(), name
        else:
            assert torch.equal(value, before.state_dict()[name]), name
    after = adaptive()
    train(tmp_path / "plain", make_gan(), squares(), max_steps=1)
    Start(init_from=str(tmp_path / "plain/checkpoints/last.ckpt")).load_weights(after)
