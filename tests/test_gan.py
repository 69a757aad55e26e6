"""The training itself: who changes when, in bits, and what an iteration is."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import translating
from helpers import SHAPE, Squares, fit, make_dcgan, make_gan, make_trainer
from lightning import Callback, LightningDataModule
from lightning.pytorch.plugins import MixedPrecision
from same import differences
from test_losses import CASES
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector as vector
from torch.utils.data import DataLoader, TensorDataset

from forger import losses as L
from forger.batches import RealBatches
from forger.errors import ConfigError
from forger.gan import GAN
from forger.networks import dcgan
from forger.noise import Draws, normal
from forger.schedules import Linear
from forger.seeds import Purpose
from forger.updates import Updates

LOSSES = {name: loss for name, (loss, *_) in CASES.items() if "smoothed" not in name}
LOSSES["wgan_gp"] = L.Wasserstein(gradient_penalty=10.0, n_critic=2)


def sgd(lr: float = 0.1, **settings: Any) -> Updates:
    return Updates(optimizer=partial(torch.optim.SGD, lr=lr), **settings)


def inputs_of(network: nn.Module) -> list[Tensor]:
    """What the network is given from now on."""
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


class Spy(GAN):
    """Keeps the bits of both players around each update."""

    def snapshot(self, player: str) -> dict[str, Tensor]:
        network = getattr(self, player)
        bits = {f"weight {n}": p.detach().clone() for n, p in network.named_parameters()}
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                bits[f"gradient {name}"] = parameter.grad.clone()
        optimizer = self.trainer.optimizers[0 if player == "generator" else 1]
        for index, state in enumerate(optimizer.state.values()):
            for key, value in state.items():
                bits[f"state {index} {key}"] = torch.as_tensor(value).clone()
        return bits

    def watched(self, update: Any, mover: str, other: str, *arguments: Any) -> Any:
        before, own = self.snapshot(other), self.snapshot(mover)
        result = update(*arguments)
        assert not differences(before, self.snapshot(other))
        moved = self.snapshot(mover)
        assert any(not torch.equal(own[n], moved[n]) for n in own if n.startswith("weight"))
        self.updates = (*getattr(self, "updates", ()), mover)
        return result

    def _update_discriminator(self, *arguments: Any) -> Any:
        update = super()._update_discriminator
        return self.watched(update, "discriminator", "generator", *arguments)

    def _update_generator(self, *arguments: Any) -> Any:
        update = super()._update_generator
        return self.watched(update, "generator", "discriminator", *arguments)


@pytest.mark.parametrize("make", [make_gan, make_dcgan])
@pytest.mark.parametrize("name", [*LOSSES, "shared fakes"])
def test_each_update_moves_one_network_and_no_bit_of_the_other(name, make, tmp_path: Path) -> None:
    loss = LOSSES.get(name, L.NonSaturating())
    gan = make(loss=loss, share_fakes=name == "shared fakes")
    gan.__class__ = Spy
    trainer = fit(gan, tmp_path)
    assert list(gan.updates) == [*["discriminator"] * loss.n_critic, "generator"] * 3
    rows = trainer.callback_metrics
    assert torch.isfinite(torch.stack([rows["train/loss_g"], rows["train/loss_d"]])).all()


class CountingSGD(torch.optim.SGD):
    """SGD that counts its steps."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)


@pytest.mark.parametrize("n_critic", [1, 3])
def test_max_steps_counts_generator_updates(n_critic: int, tmp_path: Path) -> None:
    updates = Updates(optimizer=partial(CountingSGD, lr=1e-3))
    gan = make_gan(
        loss=L.Hinge(n_critic=n_critic), generator_updates=updates, discriminator_updates=updates
    )
    trainer = fit(gan, tmp_path, max_steps=50)
    assert [optimizer.steps for optimizer in trainer.optimizers] == [50, 50 * n_critic]
    assert trainer.global_step == gan.iteration == 50
    assert gan.images_seen == 50 * n_critic * 8


def test_an_epoch_is_one_pass_of_the_discriminator(tmp_path: Path) -> None:
    trainer = fit(make_gan(loss=L.Hinge(n_critic=3)), tmp_path, max_steps=-1, max_epochs=2)
    assert trainer.global_step == 2 * (64 // 8 // 3)  # the incomplete last iteration is dropped


def trained(gan: GAN, folder: Path, **settings: Any) -> dict[str, Tensor]:
    """Everything that a GAN has learned, after training."""
    fit(gan, folder, **settings)
    return gan.state_dict()


def test_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    first = trained(make_dcgan(), tmp_path)
    again = make_dcgan()
    torch.rand(1)  # the global random state is none of its business
    assert not differences(first, trained(again, tmp_path))
    assert differences(first, trained(make_dcgan(seed=1), tmp_path))


def test_generator_update_draws_fresh_noise(tmp_path: Path) -> None:
    gan = make_gan()
    seen = inputs_of(gan.generator)
    fit(gan, tmp_path, max_steps=1)
    for_discriminator, for_generator = seen
    assert not torch.equal(for_discriminator, for_generator)


def test_shared_fakes_are_generated_once_and_train_both_networks(tmp_path: Path) -> None:
    """The generator's gradient passes through the very images that D has just been shown."""
    gan = make_gan(share_fakes=True)
    made: list[Tensor] = []
    gan.generator.register_forward_hook(lambda _, __, images: made.append(images))
    shown = inputs_of(gan.discriminator)
    fit(gan, tmp_path, max_steps=1)
    (fakes,) = made
    both, for_g = shown  # real with fake, and fake again
    for_d = both[len(fakes) :]
    assert fakes.requires_grad
    assert not for_d.requires_grad
    assert for_g is fakes
    assert torch.equal(for_d, fakes)


@pytest.mark.parametrize("loss", [L.RelativisticAverage(), L.RelativisticPairing()])
def test_relativistic_generator_compares_with_fresh_real_images(loss, tmp_path: Path) -> None:
    gan = make_gan(loss=loss)
    seen = inputs_of(gan.discriminator)
    fit(gan, tmp_path, max_steps=1)
    both, _, for_generator = seen
    assert gan.batches_per_iteration == 2
    assert not torch.equal(both[: len(for_generator)], for_generator)
    assert set(for_generator.unique().tolist()) == {-1.0, 1.0}  # squares, not what G makes


def test_real_and_fake_pass_through_batchnorm_apart(tmp_path: Path) -> None:
    gan = make_dcgan()
    seen = inputs_of(gan.discriminator)
    fit(gan, tmp_path, max_steps=1)
    assert [len(images) for images in seen] == [8, 8, 8]  # real, fake, and fake for the generator


def test_one_pass_gives_the_update_of_two(tmp_path: Path) -> None:
    """Where D says that its logits are independent, both batches go through at once."""
    states, sizes = [], []
    for at_once in (True, False):
        gan = make_gan().double()
        assert gan.discriminator.independent_samples
        gan.discriminator.independent_samples = at_once
        seen = inputs_of(gan.discriminator)
        states.append(trained(gan, tmp_path, max_steps=2))
        sizes.append([len(images) for images in seen])
    assert sizes == [[16, 8] * 2, [8, 8, 8] * 2]
    torch.testing.assert_close(*states, rtol=0, atol=1e-12)


@pytest.mark.parametrize("hook", ["on_before_backward", "on_before_optimizer_step"])
def test_callbacks_that_listen_to_updates_hear_of_each(hook: str, tmp_path: Path) -> None:
    """Without one Lightning's hooks around them are left out; weights are the same bits."""
    heard: list[Any] = []
    listener = type("Own", (Callback,), {hook: lambda *_: heard.append(1)})()
    weights = trained(make_gan(), tmp_path, callbacks=[listener])
    assert len(heard) == 6
    assert not differences(weights, trained(make_gan(), tmp_path))


def test_optimizer_states_of_another_layout_train_the_same(tmp_path: Path) -> None:
    """A fused Adam on the CPU would take one weight's state for another's."""
    adam = Updates(optimizer=partial(torch.optim.Adam, lr=0.1, fused=True))
    weights = []
    for contiguous in (False, True):
        gan = make_dcgan(generator_updates=adam, discriminator_updates=adam)
        path = tmp_path / f"{contiguous}.ckpt"
        fit(gan, tmp_path, max_steps=2).save_checkpoint(path)
        found = torch.load(path, weights_only=True)
        for state in [s for one in found["optimizer_states"] for s in one["state"].values()]:
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = state[key].contiguous() if contiguous else state[key]
        torch.save(found, path)
        again = make_dcgan(generator_updates=adam, discriminator_updates=adam)
        fit(again, tmp_path, max_steps=4, ckpt_path=path)
        weights.append(list(again.parameters()))
    assert any(p.ndim == 4 and not p.is_contiguous() for p in weights[0])
    assert not differences(*weights)


def test_accumulation_averages_the_gradients_of_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of 4 make the update of one batch of 8: same images, same noise, plain SGD."""
    runs = []
    for batch_size, accumulate in ((8, 1), (4, 2)):
        # A generator of one layer has no BatchNorm, which would see other batches.
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(6, 256), nn.Tanh(), nn.Unflatten(1, SHAPE))
        generator.latent_dim = 6  # type: ignore[assignment]
        updates = sgd(accumulate=accumulate)
        gan = make_gan(
            generator=generator, generator_updates=updates, discriminator_updates=updates
        ).double()
        noise = torch.randn(100, 6, generator=torch.Generator().manual_seed(1)).double()
        parts = iter(noise.split(batch_size))
        monkeypatch.setattr(Draws, "rows", lambda *_, parts=parts: next(parts))
        runs.append(trained(gan, tmp_path, batch_size=batch_size, max_steps=2))
    torch.testing.assert_close(*runs, rtol=1e-9, atol=1e-12)


def test_gradient_clipping_bounds_each_network_apart(tmp_path: Path) -> None:
    """With plain SGD at rate 1 an update's length is the clipped norm."""
    gan = make_gan(
        generator_updates=sgd(1.0, gradient_clip=1e-3),
        discriminator_updates=sgd(1.0, gradient_clip=2e-3),
    )
    before = copy.deepcopy(gan)
    trainer = fit(gan, tmp_path, max_steps=1)
    for name, length in (("generator", 1e-3), ("discriminator", 2e-3)):
        old, new = (vector(getattr(one, name).parameters()) for one in (before, gan))
        assert (new - old).norm().item() == pytest.approx(length, rel=1e-2)
    assert trainer.callback_metrics["train/grad_norm_d"] > 2e-3  # the norm before clipping


def test_schedules_are_stepped_once_per_iteration_and_network(tmp_path: Path) -> None:
    updates = Updates(schedule=Linear(final=0.0))
    gan = make_gan(loss=L.Hinge(n_critic=2), discriminator_updates=updates)
    trainer = fit(gan, tmp_path, max_steps=4)
    for_generator, for_discriminator = trainer.optimizers
    assert for_generator.param_groups[0]["lr"] == 2e-4
    assert for_discriminator.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert trainer.callback_metrics["train/lr_d"].item() == pytest.approx(0.5e-4)


def test_weight_clip_holds_after_every_update(tmp_path: Path) -> None:
    gan = make_gan(loss=L.Wasserstein(weight_clip=0.01, n_critic=2))
    fit(gan, tmp_path)
    assert max(p.abs().max().item() for p in gan.discriminator.parameters()) <= 0.01
    assert max(p.abs().max().item() for p in gan.generator.parameters()) > 0.01


def test_lazy_penalties_are_weighted_and_count_updates_of_the_discriminator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3 updates an iteration, every second one is the 2nd, 4th and 6th of two iterations."""
    gan = make_gan(loss=L.Hinge(r1_gamma=2.0, penalty_interval=2, n_critic=3))
    taken: list[dict[str, Tensor]] = []
    penalties = gan.task._penalties
    monkeypatch.setattr(
        gan.task, "_penalties", lambda *a: (terms := penalties(*a), taken.append(terms))[0]
    )
    fit(gan, tmp_path, max_steps=2)
    assert [set(terms) for terms in taken] == [set(), {"penalty_r1"}] * 3
    real = torch.randn(4, *SHAPE)
    plain = gan.loss.penalties["r1"](gan.discriminator, real, real, torch.rand)
    found = penalties({"image": real}, {"image": real}, Draws(0), 4)
    torch.testing.assert_close(found["penalty_r1"], 2.0 * 2 * plain)


class KeepBatches(Callback):
    """Keeps the real images of each iteration."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        reals = RealBatches(pl_module.batches_per_iteration)(batch, torch.float32)
        self.seen.append([real["image"] for real in reals])


def train_by_hand(gan: GAN, iterations: list[Any], *, seed: int = 0) -> None:
    """Trains in bf16-mixed from float32 weights, which each forward pass casts afresh."""
    optimizer_g, optimizer_d = (
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (gan.generator, gan.discriminator)
    )
    draws = Draws(seed)

    def noise() -> Tensor:
        return draws.rows(Purpose.TRAINING_NOISE, normal, 8, 6)

    def mixed(network: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return network(inputs)

    for iteration, reals in enumerate(iterations, 1):
        draws.start(iteration)
        for real in reals:
            with torch.no_grad():
                fake = mixed(gan.generator, noise())
            judged = [mixed(gan.discriminator, images).float() for images in (real, fake)]
            loss = gan.loss.discriminator(*judged)
            for term in gan.loss.penalties.values():
                penalty = term(gan.discriminator, real, fake.float(), draws.uniform)
                loss = loss + term.weight * penalty
            optimizer_d.zero_grad()
            loss.backward()
            optimizer_d.step()
        optimizer_g.zero_grad()
        logits = mixed(gan.discriminator, mixed(gan.generator, noise()))
        gan.loss.generator(logits.float(), None).backward()
        optimizer_g.step()


@pytest.mark.parametrize("penalty", [0.0, 10.0])
@pytest.mark.parametrize("cache", [True, False])
def test_bf16_mixed_casts_the_weights_as_they_are(
    cache: bool, penalty: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever Lightning's autocast caches, and with penalties in float32, backwards too."""
    monkeypatch.setattr(
        MixedPrecision,
        "autocast_context_manager",
        lambda _: torch.autocast("cpu", torch.bfloat16, cache_enabled=cache),
    )
    clip = {} if penalty else {"weight_clip": 100.0}
    loss = L.Wasserstein(n_critic=3, gradient_penalty=penalty, **clip)
    gan, alone, kept = make_dcgan(loss=loss), make_dcgan(loss=loss), KeepBatches()
    gan.discriminator.independent_samples = False  # two passes, as by hand
    fit(gan, tmp_path, precision="bf16-mixed", callbacks=[kept])
    train_by_hand(alone, kept.seen)
    for name in ("discriminator", "generator"):
        ours, theirs = (dict(getattr(one, name).named_parameters()) for one in (gan, alone))
        assert not differences(ours, theirs)


def test_bf16_true_keeps_the_average_and_penalties_in_float32(tmp_path: Path) -> None:
    decay, loss = 0.99, L.NonSaturating(r1_gamma=10.0)
    gan = make_dcgan(ema_decay=decay, loss=loss)
    expected = copy.deepcopy(gan.ema_generator.module)

    class Follow(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: GAN, *_: Any) -> None:
            step = min(decay, (1 + pl_module.iteration) / (10 + pl_module.iteration))
            pairs = zip(expected.parameters(), pl_module.generator.parameters(), strict=True)
            with torch.no_grad():
                for mean, weight in pairs:
                    mean.lerp_(weight.float(), 1 - step)

    seen = inputs_of(gan.discriminator)
    trainer = fit(gan, tmp_path, precision="bf16-true", max_steps=5, callbacks=[Follow()])
    assert all(p.dtype == torch.bfloat16 for p in gan.generator.parameters())
    averages = list(gan.ema_generator.parameters())
    assert {mean.dtype for mean in averages} == {torch.float32}
    wanted = list(expected.parameters())
    torch.testing.assert_close(averages, wanted, rtol=0, atol=2e-4)  # rounded once at the start
    assert [images.dtype for images in seen].count(torch.float32) == 5  # R1 of each iteration
    path = tmp_path / "half.ckpt"
    trainer.save_checkpoint(path)
    again = make_dcgan(ema_decay=decay, loss=loss)
    fit(again, tmp_path, precision="bf16-true", max_steps=5, ckpt_path=path)
    assert not differences(list(again.ema_generator.parameters()), averages)  # not rounded


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("limit", [None, 1e-3])
def test_scaled_gradients_of_16_bits(optimizer: Any, limit: float | None, tmp_path: Path) -> None:
    """The path of 16-mixed, which is meant for GPUs, with a scaler on the CPU."""
    fused = {"fused": True} if optimizer is torch.optim.Adam else {}  # unscales in its own step
    updates = Updates(optimizer=partial(optimizer, lr=1e-3, **fused), gradient_clip=limit)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norms = []
    for settings in ({}, {"plugins": MixedPrecision("16-mixed", "cpu", scaler)}):
        gan = make_gan(generator_updates=updates, discriminator_updates=updates)
        trainer = fit(gan, tmp_path, max_steps=4, **settings)
        norms.append(trainer.callback_metrics["train/grad_norm_d"].item())
        assert trainer.global_step == 4
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


@pytest.mark.parametrize("fused", [True, False])
def test_a_scaler_lets_a_side_wait(fused: bool, tmp_path: Path) -> None:
    """`Refine` has first one side without gradients, then the other; the iterations count."""
    gan = translating.make_gan("refine")
    adam = Updates(optimizer=partial(torch.optim.Adam, lr=2e-3, fused=fused))
    gan.generator_updates = gan.discriminator_updates = adam
    before = copy.deepcopy(gan)
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    trainer = make_trainer(tmp_path, max_steps=2, plugins=plugin)
    trainer.fit(gan, datamodule=translating.dark())
    assert trainer.global_step == 2
    assert plugin.scaler is not None
    assert not differences(*(list(one.discriminator.parameters()) for one in (before, gan)))
    assert differences(*(list(one.generator.parameters()) for one in (before, gan)))


def test_trained_on_the_game_it_gets_better(tmp_path: Path) -> None:
    """After 400 iterations the squares' mean image is closer than at the start."""
    updates = Updates(optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)))
    gan = make_gan(
        ema_decay=0.98, generator_updates=updates, discriminator_updates=updates, prior="uniform"
    )
    data = Squares(batch_size=32).read("train")["image"].float() / 127.5 - 1
    noise = torch.rand(512, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def distance() -> float:
        images = gan(noise)
        spread = (images.std(0) - data.std(0)).abs().mean()
        return ((images.mean(0) - data.mean(0)).abs().mean() + spread).item()

    start = distance()
    fit(gan, tmp_path, batch_size=32, max_steps=400, log_every_n_steps=100)
    assert distance() < 0.5 * start


class OwnData(LightningDataModule):
    """A data module that knows nothing of forger."""

    def train_dataloader(self) -> DataLoader[Any]:
        images = torch.rand(32, *SHAPE) * 2 - 1
        return DataLoader(TensorDataset(images, torch.zeros(32)), batch_size=8)


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_any_data_module_will_do_or_is_told_how(tmp_path: Path) -> None:
    gan = make_gan()
    trainer = make_trainer(tmp_path)
    trainer.fit(gan, datamodule=OwnData())
    assert (trainer.global_step, gan.images_seen) == (3, 24)
    gan = make_gan(loss=L.Hinge(n_critic=2))
    with pytest.raises(ValueError, match=r"needs 2 batches .*the loader gave 1: wrap"):
        make_trainer(tmp_path).fit(gan, datamodule=OwnData())


BATCH_NORM = dcgan.Discriminator(SHAPE, width=4, norm="batch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": "gamma"}, r"model.prior=gamma: must be one of normal, uniform"),
        ({"loss": L.Hinge(n_critic=2), "share_fakes": True}, r"share_fakes=True: needs one batch"),
        ({"generator_updates": sgd(accumulate=2), "share_fakes": True}, r"share_fakes=True: needs"),
        ({"discriminator": nn.LazyLinear(1)}, r"model\.discriminator: has lazy layers"),
        (
            {"discriminator": BATCH_NORM, "loss": L.Hinge(r1_gamma=1.0)},
            r"BatchNorm under a gradient penalty \(r1\)",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_gan(**arguments)
