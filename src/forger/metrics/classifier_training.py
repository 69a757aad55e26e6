"""How the classifier of the scores is trained. Owns the recipe, the batches and the accuracy.

Plain torch rather than a Lightning Trainer: it runs inside another training, whose random streams,
callbacks and loggers it must not touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from forger.metrics.classifier_network import ClassifierNetwork
from forger.metrics.waiting import shown
from forger.sampling.sampler import CHUNK
from forger.seeds import Purpose, seed_for, stream


@dataclass(frozen=True)
class Recipe:
    """All that decides what is learned from given data; it is part of the cached file's name.

    AdamW (arXiv 1711.05101) with the one-cycle schedule (arXiv 1708.07120).

    Attributes:
        seed: of the initial weights, the order and the shifts.
        grey_width: channels of the first convolution for images of one channel.
        colour_width: the same for colour images, which have more to tell apart.
        batch_size: images per update.
        images: seen in the whole training, in whole passes over the data.
        most_epochs: passes over a small set.
        least_updates: for a tiny one.
        learning_rate: the highest.
        weight_decay: of AdamW.
        threads: of the CPU; another number would give other last bits, and another classifier.
        shift: by which part of its side each image is moved at most, either way.
    """

    seed: int = 0
    grey_width: int = 16
    colour_width: int = 24
    batch_size: int = 128
    images: int = 300_000
    most_epochs: int = 12
    least_updates: int = 200
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    threads: int = 1
    shift: float = 1 / 14

    def updates(self, count: int) -> int:
        """Number of updates for `count` training images."""
        epochs = min(self.most_epochs, max(1, round(self.images / count)))
        return max(self.least_updates, epochs * (count // self.batch_size))


def untrained(
    image_shape: tuple[int, int, int], num_classes: int, recipe: Recipe
) -> ClassifierNetwork:
    """Builds the network with the recipe's initial weights, on the CPU."""
    width = recipe.grey_width if image_shape[0] == 1 else recipe.colour_width
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reset the streams of every GPU.
        torch.default_generator.manual_seed(seed_for(Purpose.CLASSIFIER_WEIGHTS, recipe.seed))
        return ClassifierNetwork(image_shape, num_classes, width)


def train_network(
    network: ClassifierNetwork, images: Tensor, labels: Tensor, recipe: Recipe
) -> None:
    """Trains in place with a bar, and leaves the network in eval mode without gradients.

    Args:
        network: fresh from `untrained`, on the device to train on.
        images: uint8 `(N, C, H, W)`, possibly memory-mapped.
        labels: int64 `(N,)`.
        recipe: the settings.
    """
    device = next(network.parameters()).device
    total = recipe.updates(len(images))
    rate = recipe.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=total, pct_start=0.2
    )
    network.train()
    bar = shown("training the classifier of the scores", total)
    with torch.enable_grad(), _threads(recipe.threads), bar as step:
        for chosen, moves in _batches(images, recipe, total):
            batch = shifted(images.index_select(0, chosen).to(device), moves.to(device))
            targets = labels.index_select(0, chosen).to(device)
            optimizer.zero_grad()
            F.cross_entropy(network(batch).logits, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step()
    network.requires_grad_(False).eval()
    network.zero_grad()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(images: Tensor, recipe: Recipe, total: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields, update by update, which images `(B,)` and how far each is moved `(B, 2)`."""
    generator = stream(Purpose.CLASSIFIER_BATCHES, recipe.seed)
    size = min(recipe.batch_size, len(images))
    reach = [round(side * recipe.shift) for side in images.shape[2:]]
    done = 0
    while done < total:
        order = torch.randperm(len(images), generator=generator)
        whole = order[: len(order) // size * size]
        for chosen in torch.split(whole, size)[: total - done]:
            moves = [torch.randint(-far, far + 1, (size,), generator=generator) for far in reach]
            yield chosen, torch.stack(moves, dim=1)
            done += 1


def shifted(images: Tensor, moves: Tensor) -> Tensor:
    """Moves each image down and to the right by whole pixels; its border is repeated.

    Args:
        images: `(B, C, H, W)`.
        moves: int64 `(B, 2)`, negative for up and left.
    """
    height, width = images.shape[2:]
    places = torch.arange(max(height, width), device=images.device)
    rows = (places[:height] - moves[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (places[:width] - moves[:, 1:]).clamp(0, width - 1)  # (B, W)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    last = images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return last.permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(network: ClassifierNetwork, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images that a network in eval mode names rightly."""
    device = next(network.parameters()).device
    right = 0
    for some, targets in zip(torch.split(images, CHUNK), torch.split(labels, CHUNK), strict=True):
        right += int((network(some.to(device)).logits.argmax(1) == targets.to(device)).sum())
    return right / len(images)
