"""Scores a generator and its discriminator on a data set: what is compared with what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forger.conditions import Condition
from forger.metrics.by_class import ByClass, ClassSums, count_seen
from forger.metrics.cache import cached_features, data_hash
from forger.metrics.extractor import FeatureExtractor, Features, ImageData, float32_only
from forger.metrics.fidelity import Reference, class_counts, fidelity_scores, mode_scores
from forger.metrics.judging import Judge, logits_of
from forger.metrics.prompts import is_measurable, prompt_scores, real_prompt_scores
from forger.metrics.settings import (
    SPLITS,
    ScoreSettings,
    Split,
    check_counts,
    images_of,
    labels_of,
    other_split,
)
from forger.metrics.sharing import in_order
from forger.metrics.translations import HeldOutSources, classes_kept, sources_hash
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.sampling.translator import Translator
from forger.scoreboard import discriminator_scores
from forger.seeds import STREAMS, Purpose, seed_for, stream


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    scores: dict[str, float]  # by name, for example `fid`
    class_shares: list[float] | None  # as the extractor sees them; None where it knows no classes
    prefix: str = ""  # of the names of scores of features: `classifier_` of `classifier_fid`
    by_class: ByClass | None = None  # None: the images were not asked to be of a class

    @property
    def fid(self) -> float:
        """The FID, whatever its name."""
        return self.scores[f"{self.prefix}fid"]


class Evaluator:
    """Scores samples, and the real images of the other split as their floor.

    Args:
        extractor: prepared for `data`, the real images.
        settings: of the scores; `ConfigError` where there are fewer images than they need.
        reference: split that is compared with, `test` or `train`.
        num_real: images of the reference; None: all of them.
        cache_dir: features of real images are kept here.
        device: of extractor and networks.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        data: ImageData,
        settings: ScoreSettings,
        *,
        reference: Split = "test",
        num_real: int | None = None,
        cache_dir: Path,
        device: torch.device,
    ) -> None:
        check_counts(data, settings, reference=reference, num_real=num_real, num_fake=None)
        self.extractor = extractor.to(device)
        self.data, self.settings, self.device = data, settings, device
        self.reference_split, self.floor_split = reference, other_split(reference)
        self.cache_dir = cache_dir
        self._real: dict[Split, Features] = {}
        self._class_reference: ClassSums | None = None  # of runs with classes alone
        self.num_real = num_real or len(images_of(data, reference))
        self.reference = Reference(settings, self._batches(reference, self.num_real))

    def evaluate(
        self,
        sampler: Sampler,
        task: Judge,
        *,
        num_fake: int,
        seed: int = 0,
        boundary: float | None = 0.0,
    ) -> Evaluation:
        """Scores the seed's first `num_fake` images of a generator, and the discriminator.

        Every process of a run calls this and does its share; all return the same. A translator
        is given the held-out sources of the data, each once.

        Args:
            sampler: the generator.
            task: what the discriminator says, who is given what the generator was.
            num_fake: how many images to generate; of sources as many as there are, at most.
            seed: of their noise.
            boundary: the logit at which the discriminator decides; None: its loss has none.
        """
        sampler = sampler.to(self.device)
        task.discriminator.to(self.device)
        sources, classes = self.sources_of(sampler), self.classes_of(sampler)
        names = () if sources is None else sources.names
        num_fake = num_fake if sources is None else min(num_fake, len(sources))
        fake_logits: list[Tensor] = []
        compared: list[Tensor] = []
        asked = ClassSums(classes, self.extractor) if classes else None
        last = 1 + bool(classes) + len(names)  # columns behind those of features
        look = partial(self._look, sampler, task, seed, bool(classes))

        def batches() -> Iterator[Features]:
            width = self.extractor.num_features
            for found in in_order(look, chunk_sizes(num_fake)):
                own = found[:, -last:].cpu()
                seen = Features(found[:, :width].cpu(), found[:, width:-last].cpu())
                fake_logits.append(own[:, 0])
                compared.append(own[:, last - len(names) :])
                if asked is not None:
                    asked.update(seen, own[:, 1].long())
                yield seen

        with float32_only(self.device):
            scores, shares = fidelity_scores(self.reference, batches(), num_fake, self.extractor)
            pairs = sources is not None and self.data.paired
            given = num_fake, pairs, sampler.condition
            train, test = (self._real_logits(task, split, *given) for split in SPLITS)
            scores |= discriminator_scores(train, test, torch.cat(fake_logits), boundary)
            scores |= {} if sources is None else sources.means(compared)
            if sampler.condition.prompts and is_measurable(self.data):
                scores |= prompt_scores(sampler, self.data, self.extractor, num_fake, seed)
            by_class = None if asked is None else asked.compare(self._real_classes(classes))
        return self._evaluation(scores, shares, by_class)

    def evaluate_floor(
        self,
        num_fake: int,
        classes: tuple[str, ...] = (),
        sources: HeldOutSources | None = None,
    ) -> Evaluation:
        """Scores `num_fake` real images of the other split, or all if it has fewer.

        With the `classes` of a run with a condition, also by their own ones. `label_accuracy` is
        that of all test images, since the extractor may have learnt from the others; modes are
        counted in as many test images. With `sources` of pairs, these themselves are compared with
        the images that they should become, where they have their size and are grey or have their
        channels.
        """
        count = self.floor_count(num_fake)
        batches = self._batches(self.floor_split, count)
        scores, shares = fidelity_scores(self.reference, batches, count, self.extractor)
        if self.extractor.counts_modes:
            test = self._batches("test", self.test_count(num_fake))
            scores |= mode_scores(torch.stack([class_counts(seen.logits) for seen in test]).sum(0))
        if is_measurable(self.data):
            scores |= real_prompt_scores(self.data, self.extractor, self.device)
        if sources is not None:
            given = num_fake, self.extractor, self.real("test"), self.device
            scores |= sources.compare_unchanged(*given)
        return self._evaluation(scores, shares, self._floor_by_class(count, classes))

    def sources_of(self, sampler: Sampler) -> HeldOutSources | None:
        """Returns the held-out sources that a translator is scored on; None: it is none."""
        translates = isinstance(sampler, Translator) and self.data.source_shape is not None
        return self._held_out if translates else None

    def classes_of(self, sampler: Sampler) -> tuple[str, ...]:
        """Returns names of the classes that images are asked to be of, or to keep of sources."""
        kept = () if self.sources_of(sampler) is None else classes_kept(self.data)
        return sampler.condition.classes or kept

    def chunk(self, sampler: Sampler, number: int, size: int, seed: int = 0) -> dict[str, Tensor]:
        """Returns what `sampler.chunk` does; of a translator the held-out sources of the data."""
        sources = self.sources_of(sampler)
        return sampler.chunk(number, size, seed, sources.given(number, size) if sources else {})

    def floor_count(self, num_fake: int) -> int:
        """Returns how many real images the floor takes."""
        return min(num_fake, len(images_of(self.data, self.floor_split)))

    def test_count(self, num_fake: int) -> int:
        """Returns in how many test images the floor counts modes."""
        return min(num_fake, len(self.data.test_images))

    def real(self, split: Split) -> Features:
        """Returns the features of a whole split, memory-mapped; computed on first use."""
        if split not in self._real:
            given = self.extractor, self.data, split, self.cache_dir, self.device
            self._real[split] = cached_features(*given)
        return self._real[split]

    @property
    def reference_shares(self) -> list[float] | None:
        """Share of each class in the reference, as the extractor sees it; None: it knows none."""
        counts = self.reference.class_counts
        return None if self.extractor.classes is None else (counts.double() / counts.sum()).tolist()

    @property
    def protocol(self) -> dict[str, Any]:
        """What the scores depend on beside the generator, as plain containers."""
        return {
            "extractor": self.extractor.description,
            "data": {
                "name": type(self.data).__name__,
                "hash": data_hash(self.data),
                "image_shape": list(self.data.train_images.shape[1:]),
                **({} if self.data.source_shape is None else {"sources": sources_hash(self.data)}),
            },
            "reference": {"split": self.reference_split, "count": self.num_real},
            "pixels": "uint8, round(127.5 (x + 1))",
            "precision": "float32",
            "random_streams": STREAMS,
        }

    @cached_property
    def _held_out(self) -> HeldOutSources:
        return HeldOutSources(self.data, self.extractor.prefix, self.settings.seed)

    def _look(
        self, sampler: Sampler, task: Judge, seed: int, classes: bool, number: int, size: int
    ) -> Tensor:
        """Returns what is found in each image of a chunk, in columns.

        Features and logits of the extractor, the discriminator's logit, the class that it is to be
        of where there are `classes`, and of pairs how near it comes to the right image.
        """
        batch, sources = self.chunk(sampler, number, size, seed), self.sources_of(sampler)
        seen = self.extractor(batch["image"])
        judged = logits_of(task, batch, seed_for(Purpose.AUGMENTATION, seed, number))
        columns = [*seen, judged[:, None]]
        if classes:
            labels = batch["label"] if sources is None else sources.labels(number, size)
            # exact: there are fewer than 2^24 classes
            columns.append(labels.to(self.device).float()[:, None])
        if sources is not None and sources.names:
            columns.append(sources.compare(batch["image"], seen, self.real("test"), number))
        return torch.cat(columns, dim=1)

    def _evaluation(
        self, scores: dict[str, float], shares: list[float] | None, by_class: ByClass | None
    ) -> Evaluation:
        prefix = self.extractor.prefix
        of_classes = {} if by_class is None else by_class.scores(prefix)
        return Evaluation(scores | of_classes, shares, prefix, by_class)

    def _floor_by_class(self, count: int, classes: tuple[str, ...]) -> ByClass | None:
        if not classes:
            return None
        floor = self._class_sums(self.floor_split, count, classes)
        found = floor.compare(self._real_classes(classes))
        if found.seen is None:
            return found
        seen = count_seen(self.real("test").logits, self._labels("test"), len(classes))
        return replace(found, seen=seen.tolist())

    def _real_classes(self, classes: tuple[str, ...]) -> ClassSums:
        """Returns what the reference has of each class, by its labels; computed on first use."""
        if self._class_reference is None:
            given = self.reference_split, self.num_real, classes
            self._class_reference = self._class_sums(*given)
        return self._class_reference

    def _class_sums(self, split: Split, count: int, classes: tuple[str, ...]) -> ClassSums:
        chosen, labels = self._chosen(split, count), self._labels(split)
        batches = zip(self._batches(split, count), (labels[rows] for rows in chosen), strict=True)
        return ClassSums(classes, self.extractor, batches)

    def _labels(self, split: Split) -> Tensor:
        labels = labels_of(self.data, split)
        assert labels is not None, "check_labels comes first"
        return labels

    def _batches(self, split: Split, count: int) -> Iterator[Features]:
        """Yields the features of some real images."""
        for rows in self._chosen(split, count):
            yield Features(*(part.index_select(0, rows) for part in self.real(split)))

    def _real_logits(
        self,
        task: Judge,
        split: Split,
        at_most: int,
        pairs: bool = False,
        condition: Condition | None = None,
    ) -> Tensor:
        """Returns the discriminator's logits of some real images, or pairs, on the CPU."""
        labels = labels_of(self.data, split)
        real = {"image": images_of(self.data, split)}
        real |= {} if labels is None else {"label": labels}
        if pairs:
            train = split == "train"
            real["source"] = self.data.train_sources if train else self.data.test_sources
        rows = self.data.trained_rows if split == "train" else torch.arange(len(real["image"]))
        chosen = self._chosen(split, at_most, rows)
        key = self.settings.seed, SPLITS.index(split)

        def look(number: int, _: int) -> Tensor:
            batch = {name: all_[chosen[number]].to(self.device) for name, all_ in real.items()}
            if condition is not None and condition.prompts:
                captioned: Any = self.data
                captions = captioned.captions_of(split, chosen[number])
                batch["text"] = condition.rows_of(captions).to(self.device)
            return logits_of(task, batch, seed_for(Purpose.AUGMENTATION, *key, number))

        return torch.cat([found.cpu() for found in in_order(look, [len(c) for c in chosen])])

    def _chosen(self, split: Split, count: int, among: Tensor | None = None) -> tuple[Tensor, ...]:
        """Returns indices of at most `count` images of a split in random order, in chunks.

        Folders are sorted by class: what only sees the first images must see all classes.
        """
        among = torch.arange(len(images_of(self.data, split))) if among is None else among
        generator = stream(Purpose.SCORED_REAL, self.settings.seed, SPLITS.index(split))
        order = torch.randperm(len(among), generator=generator)
        return torch.split(among[order[:count]], CHUNK)
