"""Image to image: losses by hand, what each game needs, warm-ups, and the state that is kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, Squares, make_trainer
from lightning import Callback
from resuming import assert_resumes, last
from same import differences
from torch import Tensor
from torch.nn.functional import softplus
from translating import (
    TASKS,
    Dark,
    Labelled,
    Named,
    Patches,
    Unpaired,
    batch_of,
    dark,
    make_gan,
    make_task,
    started,
    states,
)
from translating_pair import start_pair

from forger.augment import DiffAugment
from forger.augment.base import uniform
from forger.compiling import compile_networks
from forger.errors import ConfigError, DataError
from forger.gan import GAN
from forger.losses import Hinge, LeastSquares, NonSaturating, RelativisticPairing
from forger.patch_nce import patch_nce
from forger.seeds import Purpose
from forger.tasks import Task
from forger.updates import Updates

COLOUR = (3, 16, 16)


def both_terms(task: Task, batch: dict[str, Tensor], iteration: int = 1) -> tuple[Any, Any]:
    """D's and G's terms of a batch, each by fakes of its own."""
    draws = started(iteration)
    fakes = task.fakes(batch, draws)
    of_discriminator = task.discriminator_terms(batch, fakes, draws, 1)
    draws = started(iteration)
    return of_discriminator, task.generator_terms(batch, task.fakes(batch, draws), draws)


def test_paired_is_the_loss_of_pix2pix() -> None:
    task, batch = make_task("paired", NonSaturating()), batch_of()
    discriminator, generator = both_terms(task, batch)
    fake = task.generator(batch["source"])
    real_pair = torch.cat([batch["source"], batch["image"]], 1)
    fake_pair = torch.cat([batch["source"], fake], 1)
    real, judged = task.discriminator(real_pair), task.discriminator(fake_pair)
    halved = 0.5 * (softplus(-real).mean() + softplus(judged).mean())
    torch.testing.assert_close(discriminator.total, halved)
    wanted = softplus(-judged).mean() + 100 * (fake - batch["image"]).abs().mean()
    torch.testing.assert_close(generator.total, wanted)
    assert torch.equal(task.judge(task.discriminator, batch), real.flatten(1))


def test_cycle_is_the_loss_of_cyclegan() -> None:
    task, batch = make_task("cycle", pool=0), batch_of()
    there, back = task.generator.there, task.generator.back
    of_images, of_sources = task.discriminator.of_images, task.discriminator.of_sources
    image, source = batch["image"], batch["source"]
    discriminator, generator = both_terms(task, batch)

    def halved(critic: Any, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((critic(real) - 1).square().mean() + critic(fake).square().mean())

    wanted = halved(of_images, image, there(source)) + halved(of_sources, source, back(image))
    torch.testing.assert_close(discriminator.total, wanted)
    adversarial = (of_images(there(source)) - 1).square().mean()
    adversarial += (of_sources(back(image)) - 1).square().mean()
    cycle = (back(there(source)) - source).abs().mean() + (there(back(image)) - image).abs().mean()
    identity = (there(image) - image).abs().mean() + (back(source) - source).abs().mean()
    torch.testing.assert_close(generator.loss, adversarial)
    torch.testing.assert_close(generator.added["cycle"], 10 * cycle)
    torch.testing.assert_close(generator.added["identity"], 0.5 * 10 * identity)


def test_both_critics_of_a_cycle_see_old_fakes() -> None:
    task, batch = make_task("cycle", pool=400), batch_of(400)
    levels = {"image": 0.5, "source": -0.5}
    task.load_process_state({name: torch.full((400, *SHAPE), x) for name, x in levels.items()})
    seen: dict[str, list[Tensor]] = {"image": [], "source": []}
    for name, shown in seen.items():
        critic = getattr(task.discriminator, f"of_{name}s")
        critic.register_forward_pre_hook(lambda _, given, shown=shown: shown.append(given[0]))
    draws = started()
    task.discriminator_terms(batch, {"image": batch["image"], "source": batch["source"]}, draws, 1)
    for name, (real, fake) in seen.items():
        assert torch.equal(real, batch[name])
        share = (fake[:, 0, 0, 0] == levels[name]).float().mean()
        assert 0.4 < share < 0.6


def test_each_network_of_a_cycle_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are called by themselves, past the module that holds them."""
    task, compiled = make_task("cycle"), list[Any]()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(self))
    compile_networks(task.generator, task.discriminator)
    assert compiled == [*task.generator.children(), *task.discriminator.children()]


@pytest.mark.parametrize("fast", [False, True])
def test_cut_contrasts_the_same_patches_of_output_and_source(fast: bool) -> None:
    own = {"nce_identity": False, "lambda_nce": 10.0} if fast else {}
    task = make_task("cut", flip_equivariance=fast, nce_patches=4 * 256, **own)
    batch = batch_of()
    image, source, side = batch["image"], batch["source"], task.generator
    _, generator = both_terms(task, batch)
    flip = torch.zeros(3, dtype=torch.bool)
    if fast:
        flip = started().rows(Purpose.OWN_TASK, uniform, 3) < 0.5
        assert flip.any()
        assert not flip.all()

    def mirrored(images: Tensor) -> Tensor:
        return torch.stack([one.flip(2) if f else one for one, f in zip(images, flip, strict=True)])

    def contrast(given: Tensor, output: Tensor) -> Tensor:
        """Of all places: their order does not matter."""
        losses = []
        for layer, head in zip((0, 2), side.heads, strict=True):
            (query,) = side.translator.features(output, [layer])
            (key,) = side.translator.features(given, [layer])
            rows = [one.flatten(2).transpose(1, 2) for one in (mirrored(query), key)]
            losses.append(patch_nce(head(rows[0]), head(rows[1]).detach()))
        return (losses[0] + losses[1]) / 2

    fake = side(mirrored(source))
    weight = 10.0 if fast else 0.5
    adversarial = (task.discriminator(fake) - 1).square().mean()
    torch.testing.assert_close(generator.loss, adversarial)
    torch.testing.assert_close(generator.added["nce"], weight * contrast(source, fake))
    if fast:
        assert set(generator.added) == {"nce"}
    else:
        kept = weight * contrast(image, side(image))
        torch.testing.assert_close(generator.added["nce_identity"], kept)


def test_few_patches_are_others_of_each_image_and_the_mlps_learn_by_the_output_alone() -> None:
    task, batch = make_task("cut", nce_patches=20, flip_equivariance=False), batch_of()
    gathered: list[Tensor] = []
    for head in task.generator.heads:
        head.register_forward_pre_hook(lambda _, given: gathered.append(given[0]))
    terms = both_terms(task, batch)[1]
    assert [one.shape[1] for one in gathered] == [20] * 8
    raw = gathered[1]  # of the sources themselves: layer 0
    pixels = batch["source"].flatten(1)
    for row, patches in enumerate(raw[:, :, 0]):
        assert len(patches.unique()) == 20
        assert torch.isin(patches, pixels[row]).all()
    assert all(one.requires_grad for one in gathered[::2][1::2])
    assert not any(one.requires_grad for one in gathered[1::2])
    terms.total.backward()
    assert all(p.grad is not None and p.grad.any() for p in task.generator.heads[1].parameters())


def test_refine_sums_over_patches_and_pixels() -> None:
    task, batch = make_task("refine", NonSaturating(), history=0), batch_of()
    discriminator, generator = both_terms(task, batch, iteration=9)
    fake = task.generator(batch["source"])
    real, judged = (task.discriminator(one).flatten(1) for one in (batch["image"], fake))
    assert real.shape == (3, 16)
    wanted = (softplus(-real) + softplus(judged)).sum(1).mean()
    torch.testing.assert_close(discriminator.total, wanted)
    change = (fake - batch["source"]).abs().sum((1, 2, 3)).mean()
    torch.testing.assert_close(generator.loss, softplus(-judged).sum(1).mean())
    torch.testing.assert_close(generator.added["self"], 0.01 * change)


def test_a_refiner_that_keeps_classes_learns_by_what_a_classifier_reads() -> None:
    settings = {"lambda_class": 5.0, "classes": ("cat", "dog"), "history": 0}
    task, batch = make_task("refine", NonSaturating(), **settings), batch_of()
    batch["source_label"] = torch.tensor([0, 1, 1])
    discriminator, generator = both_terms(task, batch, iteration=9)
    fake = task.generator(batch["source"])
    logits = {"class": task.generator.classifier(fake)}
    logits["class_source"] = task.generator.classifier(batch["source"])
    for name, each in logits.items():
        right = each.log_softmax(1)[torch.arange(3), batch["source_label"]]
        torch.testing.assert_close(generator.added[name], -5 * right.mean())
    own = torch.autograd.grad(
        generator.added["class"], [*task.generator.translator.parameters()], retain_graph=True
    )
    assert all(gradient.any() for gradient in own)
    classifier = [*task.generator.classifier.parameters()]
    learned = torch.autograd.grad(generator.added["class_source"], classifier, retain_graph=True)
    assert all(gradient.any() for gradient in learned)
    assert not any(torch.autograd.grad(generator.added["class"], classifier, allow_unused=True))
    assert set(discriminator.added) == set()
    batch["source_label"] = torch.tensor([0, 2, 1])
    with pytest.raises(DataError, match=r"task\.lambda_class=5: labels of 2 classes must be"):
        task.check(batch)


@pytest.mark.parametrize("name", TASKS)
def test_a_side_of_several_networks_tells_the_one_that_makes_images(name: str) -> None:
    """By the attribute `translator`, which is exported."""
    own = {"lambda_class": 1.0, "classes": ("cat", "dog")} if name == "refine" else {}
    side = make_task(name, **own).generator
    found = getattr(side, "translator", side)
    assert type(found).__name__ == "Translator"
    source = batch_of()["source"]
    assert torch.equal(found(source), side(source))


class Moves(Callback):
    """Notes which sides' weights change in each iteration."""

    def __init__(self, gan: GAN) -> None:
        self.sides, self.found = (gan.generator, gan.discriminator), list[tuple[bool, ...]]()
        self.before = self.weights()

    def weights(self) -> list[Tensor]:
        return [torch.cat([p.detach().flatten() for p in one.parameters()]) for one in self.sides]

    def on_train_batch_end(self, *_: Any) -> None:
        before, self.before = self.before, self.weights()
        pairs = zip(before, self.before, strict=True)
        self.found.append(tuple(not torch.equal(then, now) for then, now in pairs))


def test_warm_ups_let_one_side_learn_alone_and_d_then_takes_turns(tmp_path: Path) -> None:
    gan = make_gan("refine", generator_warmup=2, discriminator_warmup=3, generator_updates=3)
    moves = Moves(gan)
    make_trainer(tmp_path, max_steps=10, callbacks=[moves]).fit(gan, datamodule=dark())
    alone = [(True, False)] * 2 + [(False, True)] * 3
    turns = [(True, True), (True, False), (True, False)]
    assert moves.found == alone + turns + turns[:2]


def test_a_side_that_waits_keeps_its_optimizer_as_it_was(tmp_path: Path) -> None:
    gan = make_gan("refine", generator_warmup=0, discriminator_warmup=2, generator_updates=2)
    trainer = make_trainer(tmp_path, max_steps=5)
    trainer.fit(gan, datamodule=dark())
    generator, discriminator = (
        {int(state["step"]) for state in one.state.values()} for one in trainer.optimizers
    )
    assert generator == {3}
    assert discriminator == {4}  # 1, 2, then in 3 and 5
    assert gan.iteration == 5


def test_the_refiner_learns_alone_by_its_distance_alone() -> None:
    task, batch = make_task("refine", generator_warmup=5, lambda_self=2.0), batch_of()
    terms = both_terms(task, batch, iteration=5)[1]
    found = torch.autograd.grad(terms.total, [*task.generator.parameters()])
    change = (task.generator(batch["source"]) - batch["source"]).abs().sum((1, 2, 3)).mean()
    torch.testing.assert_close(
        found, torch.autograd.grad(2 * change, [*task.generator.parameters()])
    )


def test_paired_without_a_critic_is_regression_that_reaches_its_optimum(tmp_path: Path) -> None:
    """The best single number by L1 is the median of all pixels, whatever the critic says."""

    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(()))

        def forward(self, source: Tensor) -> Tensor:
            return self.level.expand(len(source), *SHAPE)

    class Levels(Dark):
        def read(self, split: str) -> dict[str, Tensor]:
            images = torch.full((16, *SHAPE), 255, dtype=torch.uint8)
            images[:, :, :10] = 153  # 0.2 in most pixels
            return {"image": images, "source": images}

    arguments = {"lambda_gan": 0.0, "lambda_d": 0.0, "lambda_l1": 1.0}
    task = make_task("paired", generator=Constant(), **arguments)
    updates = {
        "generator_updates": Updates(optimizer=partial(torch.optim.SGD, lr=0.01)),
        "discriminator_updates": Updates(optimizer=partial(torch.optim.SGD, lr=0.0)),
    }
    before = [p.clone() for p in task.discriminator.parameters()]
    gan = GAN(task, **updates)
    make_trainer(tmp_path, max_steps=100).fit(gan, datamodule=Levels(batch_size=16))
    assert gan.generator.level.item() == pytest.approx(0.2, abs=0.01)
    assert all(map(torch.equal, before, task.discriminator.parameters()))


@pytest.mark.parametrize("name", TASKS)
def test_resumes_to_the_bits_of_an_uninterrupted_run(name: str, tmp_path: Path) -> None:
    """Pools and warm-ups included."""
    loss = Hinge() if name == "cycle" else NonSaturating()
    make = partial(make_gan, name, loss)
    assert_resumes(tmp_path, make, dark, (1, 3, 5), max_steps=7)
    (state,) = last(tmp_path / "whole")["task"]
    if name == "refine":
        assert state["history"].shape == (6, *SHAPE)
    if name == "cycle":
        assert {key: len(one) for key, one in state.items()} == {"image": 6, "source": 6}


def test_resumes_to_the_same_bits_with_a_classifier_of_sources(tmp_path: Path) -> None:
    settings = {"lambda_class": 1.0, "classes": Labelled.classes}
    make = partial(make_gan, "refine", NonSaturating(), **settings)
    data = partial(Labelled, batch_size=8, seed=5)
    assert_resumes(tmp_path, make, data, (1, 3, 5), max_steps=7)
    before, after = make(), last(tmp_path / "whole")["state_dict"]
    name = "generator.classifier.0.weight"
    assert not torch.equal(before.state_dict()[name], after[name])


def test_two_processes_are_one(tmp_path: Path) -> None:
    pair = start_pair(tmp_path)
    try:
        expected = {name: states(tmp_path / "one", name) for name in TASKS}
        for process in pair:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    found = torch.load(tmp_path / "rank_0.pt")
    for name, weights in expected.items():
        for key, one in weights.items():
            torch.testing.assert_close(found[name][key], one, rtol=1e-8, atol=1e-9)


def test_the_side_of_images_keeps_penalties_and_augmentation(tmp_path: Path) -> None:
    settings = {"loss": LeastSquares(r1_gamma=1.0), "augment": DiffAugment()}
    for name, own in (
        ("cut", settings),
        ("refine", settings),
        ("paired", {"loss": Hinge(r1_gamma=1.0, lecam=1.0)}),
    ):
        terms = both_terms(make_task(name, **own), batch_of(), iteration=9)[0]
        assert terms.added["penalty_r1"] > 0


def test_a_relativistic_loss_compares_with_pairs_of_its_own_batch() -> None:
    task, batch = make_task("paired", RelativisticPairing()), batch_of()
    assert task.needs_fresh_batch
    terms = both_terms(task, batch)[1]
    fake, real = (
        task.discriminator(torch.cat([batch["source"], one], 1))
        for one in (task.generator(batch["source"]), batch["image"])
    )
    torch.testing.assert_close(terms.loss, softplus(real - fake).mean())


@pytest.mark.parametrize("name", TASKS)
def test_both_updates_share_one_translation_of_a_batch(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"flip_equivariance": False} if name == "cut" else {}
    gan = GAN(make_task(name, LeastSquares(), **settings))
    network = getattr(gan.generator, "translator", gan.generator)
    given: list[Tensor] = []
    network.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    data = Dark() if name == "paired" else Unpaired()
    make_trainer(tmp_path, max_steps=1).fit(gan, datamodule=data)
    sources = [one for one in given if torch.equal(one, given[0])]
    assert len(sources) == 1
    assert GAN(make_task(name, LeastSquares(n_critic=2), **settings)).share_fakes is False


def test_fakes_are_not_shared_with_an_update_of_another_batch() -> None:
    """Their right images are in a batch of their own."""
    task = make_task("paired", RelativisticPairing())
    assert not GAN(task).share_fakes
    with pytest.raises(ConfigError, match="RelativisticPairing gives G's update"):
        GAN(task, share_fakes=True)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("paired", {"shapes": (SHAPE, (1, 16, 32))}, "must be of one height and width"),
        ("cycle", {"loss": Hinge(r1_gamma=1.0)}, "Cycle adds no penalties"),
        ("cycle", {"loss": RelativisticPairing()}, "compares with no real images"),
        ("cycle", {"shapes": (SHAPE, COLOUR)}, r"lambda_identity=0\.5: .*write task\.lambda_id"),
        ("cycle", {"pool": -1}, r"task\.pool=-1: must be a whole number of at least 0"),
        ("cut", {"shapes": (SHAPE, COLOUR)}, "must have as many channels"),
        ("cut", {"generator": Patches(SHAPE)}, r"has no method features\(source"),
        ("refine", {"shapes": (SHAPE, COLOUR)}, "must have one shape"),
        ("refine", {"lambda_class": 2.5}, r"lambda_class=2\.5: the data has no classes"),
        ("refine", {"generator_updates": 0}, r"task\.generator_updates=0: must be a whole"),
        ("paired", {"lambda_l1": -1.0}, r"task\.lambda_l1=-1\.0: must be a number of at least 0"),
        ("paired", {"loss": Hinge(cr=1.0)}, "Paired does not add this term"),
    ],
)
def test_what_a_game_cannot_do_is_refused(name: str, settings: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_task(name, **settings)


def test_data_that_does_not_suit_is_refused() -> None:
    with pytest.raises(DataError, match="needs pairs, and Unpaired has sources and images that do"):
        make_task("paired").setup(Unpaired())
    with pytest.raises(DataError, match="Squares must have test_sources or train_sources, uint8"):
        make_task("cut").setup(Squares())
    keeps_classes = make_task("refine", lambda_class=1.0, classes=("cat", "dog"))
    for data in (Unpaired(), Named()):
        with pytest.raises(
            DataError, match=f"needs sources with labels and .*{type(data).__name__}"
        ):
            keeps_classes.setup(data)


def test_held_out_pairs_are_kept_side_by_side() -> None:
    task, data = make_task("paired"), Dark()
    task.setup(data)
    kept = task.held_out
    assert len(kept.sources) == 64
    assert torch.equal(kept.sources, (255 - kept.images) // 2 + 40)
    assert torch.equal(kept.images[0], data.test_images[0])
    other = make_task("paired")
    other.load_state_dict(task.state_dict())
    assert not differences(other.state_dict(), task.state_dict())
    assert len(make_task("refine", shapes=((3, 512, 512),) * 2).held_out.sources) == 5
