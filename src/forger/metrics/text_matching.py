"""R-precision of images made from texts: whether a matcher finds an image's text among others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forger.metrics.cache import data_hash, progress, written_to
from forger.metrics.classifier import TrainedClassifier, load_classifier
from forger.metrics.classifier_training import (
    NETWORK_VERSION,
    ClassifierNetwork,
    Recipe,
    batches,
    initial_weights,
)
from forger.metrics.extractor import HASH_DIGITS, float32_only
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.seeds import STREAMS, Purpose, stream
from forger.text import Learned, text_facts
from forger.whole_files import whole_file

log = logging.getLogger(__name__)

RECIPE = Recipe(  # not shifted: captions may tell places
    seed=1,
    colour_width=16,
    batch_size=256,
    images=150_000,
    most_epochs=50,
    learning_rate=0.003,
    shift=0.0,
)
VERSION = 1  # raise when the same data would give another score
OTHERS = 99  # captions that an image's own is ranked among
_SIDE = 32  # pixels: larger images are made smaller
_DIM = 128


class MatcherNetwork(nn.Module):
    """Embeddings of images and of captions, which are near where they belong together.

    The image's is the classifier's network with `_DIM` outputs, the caption's a GRU over words.

    Args:
        image_shape: `(C, H, W)`.
        encoder: knows the words.
        recipe: of the training.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], encoder: Learned, recipe: Recipe = RECIPE
    ) -> None:
        super().__init__()
        width = recipe.grey_width if image_shape[0] == 1 else recipe.colour_width
        self.of_images = ClassifierNetwork(image_shape, _DIM, width)
        self.of_words = nn.Sequential(encoder.network(), nn.Linear(encoder.dim, _DIM))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def images(self, images: Tensor) -> Tensor:
        """Embeds uint8 `(B, C, H, W)` as unit vectors `(B, D)`."""
        return F.normalize(self.of_images(images).logits, dim=1)

    def words(self, words: Tensor) -> Tensor:
        """Embeds numbers of words, int64 `(B, L)`, as unit vectors `(B, D)`."""
        return F.normalize(self.of_words(words), dim=1)

    def loss(self, images: Tensor, words: Tensor) -> Tensor:
        """InfoNCE both ways (arXiv:2103.00020); a caption that occurs twice is no wrong one."""
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        logits = scale * self.images(images) @ self.words(words).T
        same = (words[:, None] == words).all(2).fill_diagonal_(False)
        logits = logits.masked_fill(same, -math.inf)
        own = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class TextMatcher:
    """A matcher of images and captions, trained on the training pairs once and kept in the cache.

    Args:
        data: has captions and held-out images.
        cache_dir: where it is kept.
        device: that it is trained and used on.
        seed: of the captions that others are ranked among.
    """

    def __init__(self, data: Any, cache_dir: Path, device: torch.device, seed: int = 0) -> None:
        self.data, self.device, self.seed = data, device, seed
        own, _ = data.test_captions, data.train_captions  # reads both
        self._texts: tuple[str, ...] = data.captions.texts
        self._encoder = Learned(text_facts(data).vocabulary, _DIM)
        channels, height, width = data.train_images.shape[1:]
        shape = channels, min(height, _SIDE), min(width, _SIDE)
        path = cache_dir / f"matcher-{self._digits()}.pt"
        with float32_only(device), initial_weights(RECIPE):
            self._network = MatcherNetwork(shape, self._encoder).to(device)
            self._held_out = own[own >= 0].unique()  # numbers of captions
            trained = load_classifier(path) or self._train(path)
            self._network.load_state_dict(trained.weights)
        self._network.requires_grad_(False).eval()
        self.trained = trained

    @property
    def description(self) -> dict[str, Any]:
        """Plain facts for the protocol."""
        facts = {key: value for key, value in vars(self.trained).items() if key != "weights"}
        return {"fingerprint": self.trained.fingerprint, **facts, "others": OTHERS}

    def of_real(self, count: int) -> float:
        """Returns the R-precision of real held-out images with their own captions."""
        rows, own = self._asked(count)
        return self._share(lambda part: self.data.test_images[rows[part]], own)

    def of_generated(self, sampler: Sampler, count: int) -> float:
        """Returns that of images that are generated of these captions."""
        _, own = self._asked(count)

        def made(part: slice) -> Tensor:
            texts = [self._texts[number] for number in own[part].tolist()]
            given = {"text": sampler.condition.rows_of(texts)}
            return sampler.chunk(part.start // CHUNK, len(texts), self.seed, given)["image"]

        return self._share(made, own)

    def _asked(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns held-out images, at even distances, and a caption of each, in turn."""
        captions = self.data.test_captions
        count = min(count, len(captions))
        rows = torch.arange(count) * len(captions) // count
        turn = torch.arange(count) % (captions[rows] >= 0).sum(1)
        return rows, captions[rows, turn]

    @torch.no_grad()
    def _share(self, images: Callable[[slice], Tensor], own: Tensor) -> float:
        """Returns the share of images to which their own caption is nearer than all others are."""
        with float32_only(self.device):
            words = self._encoder.encode([self._texts[n] for n in self._held_out.tolist()])
            parts = torch.split(words, CHUNK)
            known = torch.cat([self._network.words(part.to(self.device)) for part in parts])
            places = torch.searchsorted(self._held_out, own)
            generator = stream(Purpose.SCORED_REAL, self.seed, 2)
            others = torch.randint(len(known) - 1, (len(own), OTHERS), generator=generator)
            others += others >= places[:, None]
            found = 0
            for number, size in enumerate(chunk_sizes(len(own))):
                part = slice(number * CHUNK, number * CHUNK + size)
                seen = self._network.images(_small(images(part).to(self.device)))
                ranked = torch.cat((places[part, None], others[part]), 1).to(self.device)
                nearness = (known[ranked] @ seen[:, :, None])[:, :, 0]
                found += int((nearness[:, 1:] < nearness[:, :1]).all(1).sum())
        return found / len(own)

    def _train(self, path: Path) -> TrainedClassifier:
        captions, count = self.data.train_captions, len(self.data.train_images)
        log.info(
            "training a matcher of images and captions on %s images; once, then cached at %s",
            *(f"{count:,}", path),
        )
        with written_to(path.parent, "the matcher of texts"), whole_file(path) as file:
            chunks = torch.split(self.data.train_images, CHUNK)
            images = torch.cat([_small(chunk) for chunk in chunks])
            train_matcher(self._network, images, captions, self._encoder.encode(self._texts))
            share = self.of_real(len(self.data.test_images))
            weights = {name: one.cpu() for name, one in self._network.state_dict().items()}
            counts = count, len(self.data.test_images)
            trained = TrainedClassifier(weights, share, *counts, asdict(RECIPE))
            torch.save(asdict(trained) | {"seal": trained.checksum}, file)
        log.info("it finds the text of %.2f %% of real held-out images among 100", 100 * share)
        return trained

    def _digits(self) -> str:
        texts, numbers = "\0".join(self._texts), (self.data.train_captions, self.data.test_captions)
        hashes = [sha256(one.contiguous().numpy().data).hexdigest() for one in numbers]
        facts = (VERSION, NETWORK_VERSION, STREAMS, asdict(RECIPE), data_hash(self.data), hashes)
        return sha256(repr((facts, texts)).encode()).hexdigest()[:HASH_DIGITS]


def train_matcher(network: MatcherNetwork, images: Tensor, captions: Tensor, words: Tensor) -> None:
    """Trains in place by `RECIPE`, on the network's device, and leaves it in eval mode.

    Args:
        network: fresh.
        images: uint8 `(N, C, H, W)`.
        captions: numbers of the captions of each, int64 `(N, K)`, -1 behind the last.
        words: of all captions, int64 `(M, L)`.
    """
    device, total = network.log_scale.device, RECIPE.updates(len(images))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=RECIPE.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RECIPE.learning_rate, total_steps=total, pct_start=0.2
    )
    words = words[:, (words != 0).any(0)]  # none is longer
    counts, generator = (captions >= 0).sum(1), stream(Purpose.CLASSIFIER_BATCHES, RECIPE.seed, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(RECIPE.threads)
    network.train()
    try:
        with torch.enable_grad():
            steps = progress(batches(images, RECIPE, total), "training the matcher of texts", total)
            for chosen, _ in steps:
                drawn = torch.rand(len(chosen), generator=generator) * counts[chosen]
                told = words[captions[chosen, drawn.long()]]
                optimizer.zero_grad()
                loss = network.loss(images[chosen].to(device), told.to(device))
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    network.eval()


def _small(images: Tensor) -> Tensor:
    """Makes uint8 images larger than 32 pixels that small."""
    sides = [min(side, _SIDE) for side in images.shape[2:]]
    if sides == list(images.shape[2:]):
        return images
    scaled = F.interpolate(images.float(), sides, mode="bilinear", antialias=True)
    return scaled.round_().to(torch.uint8)
