"""The network of the classifier extractor, and how it is trained: inside another training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forger.metrics.cache import progress
from forger.metrics.extractor import Features
from forger.sampling.sampler import CHUNK
from forger.seeds import Purpose, seed_for, stream

NETWORK_VERSION = 1  # raise when the same weights would give other features
NUM_FEATURES = 128
_SMALLEST = 4  # pixels: stages halve the map until it is no larger
_LARGE = 64  # pixels: a larger map is halved by its convolution, to bound memory and time


@dataclass(frozen=True)
class Recipe:
    """All that decides what is learned from given data; it is part of the cached file's name.

    AdamW (arXiv 1711.05101) with the one-cycle schedule (arXiv 1708.07120).
    """

    seed: int = 0  # of the initial weights, the order and the shifts
    grey_width: int = 16  # channels of the first convolution for images of one channel
    colour_width: int = 24  # the same for colour images, which have more to tell apart
    batch_size: int = 128  # images per update
    images: int = 300_000  # seen in the whole training, in whole passes over the data
    most_epochs: int = 12  # passes over a small set
    least_updates: int = 200  # for a tiny one
    learning_rate: float = 0.01  # the highest
    weight_decay: float = 0.01
    threads: int = 1  # of the CPU; another number gives other last bits: another classifier
    shift: float = 1 / 14  # by which part of its side each image is moved at most, either way

    def updates(self, count: int) -> int:
        """Number of updates for `count` training images."""
        epochs = min(self.most_epochs, max(1, round(self.images / count)))
        return max(self.least_updates, epochs * (count // self.batch_size))


class ClassifierNetwork(nn.Module):
    """Convolutions that halve the map down to 4 x 4 pixels or less, then 128 features, then logits.

    Each stage is a 3 x 3 convolution, a 2 x 2 maximum, BatchNorm and ReLU. The last three stages
    have `width`, 2 `width` and 4 `width` channels, earlier ones `width`.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        # The mean and deviation of all training pixels: zero padding then has the mean colour.
        layers: list[nn.Module] = [nn.BatchNorm2d(channels, affine=False, momentum=None)]
        maps = _map_sizes(sides)
        for stage, (before, _) in enumerate(pairwise(maps)):
            out = width * 2 ** max(0, stage + 4 - len(maps))
            steps, strided = [1 + (side > _SMALLEST) for side in before], max(before) > _LARGE
            stride = (steps[0], steps[1]) if strided else 1
            layers.append(nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False))
            if not strided:
                layers.append(nn.MaxPool2d((steps[0], steps[1])))
            layers += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
        self.stages = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * maps[-1][0] * maps[-1][1], NUM_FEATURES)
        self.output = nn.Linear(NUM_FEATURES, num_classes)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, images: Tensor) -> Features:
        """Sees uint8 `(B, C, H, W)` as features `(B, 128)`, none negative, and logits `(B, K)`."""
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        features = torch.relu(self.hidden(self.stages(pixels).flatten(1)))
        return Features(features, self.output(features))


def _map_sizes(sides: list[int]) -> list[list[int]]:
    """Returns the sides of the map before the first stage and behind each."""
    maps = [sides]
    while max(sides := maps[-1]) > _SMALLEST:
        odd = int(max(sides) > _LARGE)  # a stride keeps the odd last row, a maximum does not
        maps.append([(side + odd) // 2 if side > _SMALLEST else side for side in sides])
    return maps


def untrained(
    image_shape: tuple[int, int, int], num_classes: int, recipe: Recipe
) -> ClassifierNetwork:
    """Builds the network with the recipe's initial weights, on the CPU."""
    width = recipe.grey_width if image_shape[0] == 1 else recipe.colour_width
    with initial_weights(recipe):
        return ClassifierNetwork(image_shape, num_classes, width)


@contextmanager
def initial_weights(recipe: Recipe) -> Iterator[None]:
    """Draws the weights of what is built inside from the recipe's seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reset the streams of every GPU.
        torch.default_generator.manual_seed(seed_for(Purpose.CLASSIFIER_WEIGHTS, recipe.seed))
        yield


def train_network(
    network: ClassifierNetwork, images: Tensor, labels: Tensor, recipe: Recipe
) -> None:
    """Trains in place, on its device, and leaves the network in eval mode without gradients.

    Args:
        network: fresh from `untrained`.
        images: uint8 `(N, C, H, W)`, possibly memory-mapped.
        labels: int64 `(N,)`.
        recipe: the settings.
    """
    device = next(network.parameters()).device
    total, rate = recipe.updates(len(images)), recipe.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=total, pct_start=0.2
    )
    network.train()
    steps = batches(images, recipe, total)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        with torch.enable_grad():
            for chosen, moves in progress(steps, "training the classifier of the scores", total):
                batch = shifted(images.index_select(0, chosen).to(device), moves.to(device))
                targets = labels.index_select(0, chosen).to(device)
                optimizer.zero_grad()
                F.cross_entropy(network(batch).logits, targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    network.requires_grad_(False).eval()
    network.zero_grad()


def batches(images: Tensor, recipe: Recipe, total: int) -> Iterator[tuple[Tensor, Tensor]]:
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
    """Moves each `(C, H, W)` down and right by whole pixels, `(B, 2)`; its border is repeated."""
    height, width = images.shape[2:]
    positions = torch.arange(max(height, width), device=images.device)
    rows = (positions[:height] - moves[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (positions[:width] - moves[:, 1:]).clamp(0, width - 1)  # (B, W)
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
