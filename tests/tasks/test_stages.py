"""Images of a text in stages: terms by hand, what each side learns by, resume, and refusals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned import CaptionedSquares, make_stages, make_task, make_text
from helpers import make_trainer
from resuming import assert_resumes
from test_gan import Spy
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as divergence_of
from torch.nn.functional import interpolate

from forger.errors import ConfigError
from forger.gan import GAN
from forger.losses import AdversarialLoss, Hinge, NonSaturating, RelativisticPairing
from forger.noise import Draws
from forger.tasks import FromNoise, Stages
from forger.tasks.stages import kl_divergence

SIDES = (8, 16)


def data() -> CaptionedSquares:
    return CaptionedSquares(batch_size=8, seed=5)


def first_batch(of: CaptionedSquares) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = of.on_after_batch_transfer(next(iter(of.train_dataloader())), 0)[0]
    return batch


def started(rank: int = 0, world: int = 1, dtype: torch.dtype = torch.float32) -> Draws:
    draws = Draws(0, rank, world, dtype=dtype)
    draws.start(1)
    return draws


def test_the_divergence_is_that_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 7, generator=random)
    wanted = divergence_of(Normal(mean, log_variance.exp().sqrt()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), wanted.sum(1).mean())
    each = (mean**2 + log_variance.exp() - log_variance - 1) / 2
    torch.testing.assert_close(kl_divergence(mean, log_variance), each.sum() / 5)
    assert kl_divergence(torch.zeros(3, 2), torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("loss", [NonSaturating(), Hinge()])
def test_terms_equal_the_computation_by_hand(loss: AdversarialLoss) -> None:
    own = data()
    task, batch = make_stages(own, loss, kl=0.5), first_batch(own)
    fakes = task.fakes(batch, started())
    detached = {name: one.detach() for name, one in fakes.items()}
    found = task.discriminator_terms(batch, detached, started(), 1)
    texts = task.condition.captions
    wrong = task.condition.mismatch(batch, started())["caption"]
    of_d, of_g = [], []
    for side in SIDES:
        image = interpolate(batch["image"], size=(side, side), mode="area")
        made = detached[f"image_{side}"]
        given = (image, batch["caption"]), (made, fakes["caption"]), (image, wrong)
        real, fake, other = (task.discriminator(x, texts[c])[:, :, 0, 0] for x, c in given)
        pairs = loss.discriminator(real[:, 0], fake[:, 0])
        pairs = pairs / 2 + loss.discriminator(real[:, 0], other[:, 0]) / 2
        of_d.append(pairs + loss.discriminator(real[:, 1], fake[:, 1]))
        of_g.append(loss.generator(fake[:, 0], None) + loss.generator(fake[:, 1], None))
    torch.testing.assert_close(found.total, (of_d[0] + of_d[1]) / 2)
    terms = task.generator_terms(batch, fakes, started())
    torch.testing.assert_close(terms.loss, (of_g[0] + of_g[1]) / 2)
    mean, log_variance = task.generator.network.conditioning(
        task.generator.embed(texts[fakes["caption"]])
    )
    each = mean**2 + log_variance.exp() - log_variance - 1
    torch.testing.assert_close(terms.added["kl"], 0.5 * each.sum(1).mean() / 2)
    judged = task.judge(task.discriminator, batch)
    torch.testing.assert_close(judged, found.real_logits[:, -1])
    assert {"kl", "d_mismatched"} <= {*task.logged_names}
    assert {*terms.added, *found.logged} == {"kl", "d_mismatched"}


def test_a_penalty_is_a_mean_over_stages_of_what_both_logits_change_by() -> None:
    own, loss = data(), NonSaturating(r1_gamma=3.0, r2_gamma=0.5, penalty_interval=2)
    task, batch = make_stages(own, loss, norm="none"), first_batch(own)
    fakes = {name: one.detach() for name, one in task.fakes(batch, started()).items()}
    texts = task.condition.captions
    expected = {"penalty_r1": torch.zeros(()), "penalty_r2": torch.zeros(())}
    for side in SIDES:
        real = interpolate(batch["image"], size=(side, side), mode="area")
        for name, image, given in (
            ("penalty_r1", real, batch["caption"]),
            ("penalty_r2", fakes[f"image_{side}"], fakes["caption"]),
        ):
            image = image.detach().requires_grad_()
            total = task.discriminator(image, texts[given]).sum()
            (gradient,) = torch.autograd.grad(total, image)
            weight = {"penalty_r1": 3.0, "penalty_r2": 0.5}[name] * 2  # every second update
            expected[name] += weight / 2 * gradient.square().sum() / len(image) / len(SIDES)
    found = task.discriminator_terms(batch, fakes, started(), 2).added
    assert found.keys() == expected.keys() <= {*task.logged_names}
    for name, one in expected.items():
        torch.testing.assert_close(found[name], one)
    assert not task.discriminator_terms(batch, fakes, started(), 1).added


def test_real_images_are_read_once_for_both_of_their_texts() -> None:
    own = data()
    task, batch = make_stages(own, NonSaturating(), norm="none"), first_batch(own)
    fakes = {name: one.detach() for name, one in task.fakes(batch, started()).items()}
    network, rows = task.discriminator.network, list[int]()
    for judge in network.judges:
        judge.features.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    found = task.discriminator_terms(batch, fakes, started(), 1)
    assert rows == [16, 16], "eight real images and as many fakes, at each stage"
    network.independent_samples = task.discriminator.independent_samples = False
    apart = task.discriminator_terms(batch, fakes, started(), 1)
    torch.testing.assert_close(found.total, apart.total)
    torch.testing.assert_close(found.logged["d_mismatched"], apart.logged["d_mismatched"])


def test_a_last_stage_is_what_is_sampled() -> None:
    task = make_stages(data())
    sampler = task.sampler(task.generator)
    noise, text = sampler.inputs(0, 3, 1, sampler.given(3, 1))
    images, _, _ = sampler.generator(noise, text, all_stages=True)
    torch.testing.assert_close(sampler.sample(3, 1), images[-1])
    assert images[-1].shape[-1] == SIDES[-1]


def test_images_of_every_stage_teach_the_generator() -> None:
    own = data()
    task, batch = make_stages(own), first_batch(own)
    fakes = task.fakes(batch, started())
    images = [fakes[f"image_{side}"] for side in SIDES]
    total = task.generator_terms(batch, fakes, started()).total
    assert all(one.any() for one in torch.autograd.grad(total, images, retain_graph=True))
    total.backward()
    weights = dict(task.generator.named_parameters())
    assert all(one.grad is not None for one in weights.values())
    for name in ("images.0", "images.1", "further.0.0", "conditioner.0"):
        assert weights[f"network.{name}.weight"].grad.any(), name


def test_each_update_moves_one_side_and_all_its_judges(tmp_path: Path) -> None:
    gan = GAN(make_stages(data()))
    gan.__class__ = Spy
    before = [one.conditional.weight.clone() for one in gan.discriminator.network.judges]
    trainer = make_trainer(tmp_path)
    trainer.fit(gan, datamodule=data())
    assert list(gan.updates) == ["discriminator", "generator"] * 3  # type: ignore[arg-type]
    assert {"train/kl", "train/d_mismatched"} <= trainer.callback_metrics.keys()
    after = [one.conditional.weight for one in gan.discriminator.network.judges]
    assert not any(map(torch.equal, before, after))


def test_it_resumes_to_the_bits_of_an_uninterrupted_run(tmp_path: Path) -> None:
    make = partial(GAN, ema_decay=0.9, seed=3)
    assert_resumes(tmp_path, lambda: make(make_stages(data())), data, (2,), max_steps=3)


def unnormalised(network: nn.Module) -> None:
    """Takes out BatchNorm, whose statistics are those of a process."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(module, name, nn.Identity())


def test_two_processes_are_one() -> None:
    """The means of the gradients of their shares of a batch are those of the whole."""
    own, wide = data(), torch.float64
    task, batch = make_stages(own, NonSaturating()), first_batch(own)
    batch["image"] = batch["image"].to(wide)
    for side in (task.generator, task.discriminator):
        unnormalised(side)
        side.to(wide)

    def gradients(rank: int, world: int) -> list[Tensor]:
        draws = started(rank, world, wide)
        share = {name: one[rank::world] for name, one in batch.items()}
        fakes = task.fakes(share, draws)
        detached = {name: one.detach() for name, one in fakes.items()}
        of_d = task.discriminator_terms(share, detached, draws, 1).total
        of_g = task.generator_terms(share, fakes, draws).total
        found = torch.autograd.grad(of_d, [*task.discriminator.parameters()], retain_graph=True)
        return [*found, *torch.autograd.grad(of_g, [*task.generator.parameters()])]

    whole, one, other = gradients(0, 1), gradients(0, 2), gradients(1, 2)
    assert not torch.allclose(one[0], other[0])
    for mean, a, b in zip(whole, one, other, strict=True):
        torch.testing.assert_close((a + b) / 2, mean, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss": Hinge(r1_gamma=1.0)}, r"BatchNorm under a gradient penalty \(r1\), .* norm=auto"),
        ({"loss": RelativisticPairing()}, "compares with no real images, as RelativisticPairing"),
        ({"loss": Hinge(matching=2.0)}, r"loss\.matching=2\.0: Stages does not add this term"),
        ({"loss": Hinge(lecam=1.0)}, r"loss\.lecam=1\.0: Stages does not add this term"),
        ({"kl": -1.0}, r"task\.kl=-1\.0: must be a number of at least 0"),
        ({"judged": 1}, r"discriminator\.stages: judges images of sides \(16,\), the generator"),
    ],
)
def test_what_it_cannot_do_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_stages(data(), **settings)


def test_stages_and_networks_of_stages_belong_together() -> None:
    plain, staged = make_task(data(), Hinge()), make_stages(data())
    told = "task=stages: needs networks that make and judge images of a text in stages; write"
    condition = make_text(data())
    with pytest.raises(ConfigError, match=told):
        Stages(plain.generator, plain.discriminator, Hinge(), condition)
    with pytest.raises(ConfigError, match=told):
        Stages(staged.generator, staged.discriminator)
    told = "model: its images are made in stages, of which FromNoise judges one; write task=stages"
    for sides in ((staged.generator, plain.discriminator), (plain.generator, staged.discriminator)):
        with pytest.raises(ConfigError, match=told):
            FromNoise(*sides, Hinge(), condition)
