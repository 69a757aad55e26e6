"""What both networks are given beside noise or image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from forger.batches import check_labels
from forger.bounds import NonNegativeFloat, PositiveInt, check_bounds, check_choice
from forger.errors import ConfigError
from forger.noise import Draws
from forger.seeds import Purpose, stream

Batch: TypeAlias = Mapping[str, Tensor]
ClassTerms: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor]]
FakeLabels = Literal["data", "uniform"]
HowGenerator = Literal["auto", "batchnorm", "concat"]
HowDiscriminator = Literal["projection", "concat", "auxiliary"]


class Condition(nn.Module):
    """No condition: networks are given noise or images alone. The base of all others.

    Attributes:
        members: names of what a batch must hold beside the images.
    """

    members: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """Names of classes, where it is of those."""

    generator: HowGenerator = "auto"
    discriminator: HowDiscriminator = "projection"
    label_dim: int | None = None
    """How networks are told classes, as in `Labels`."""

    prompts: tuple[str, ...] = ()
    """Texts to show images of, where it is of those."""

    text_dim = 0
    """Size of the embedding of a text, where it is of those."""

    has_class_head = False
    """Whether D tells the class of an image: it returns logits of classes beside its own."""

    logged_names: tuple[str, ...] = ()
    """Names of its terms and scalars."""

    def __init__(self) -> None:  # without arguments, which those of nn.Module would not tell
        super().__init__()

    def setup(self, datamodule: Any) -> None:
        """Takes what it must know of the data, in every process, before training begins."""

    def present(self) -> list[int]:
        """Returns the numbers of the classes that training images had."""
        return []

    def describe(self) -> str:
        """Says in a few words what is given, for the plan of a run."""
        return ""

    def text_network(self) -> nn.Module:
        """Returns a new network that embeds texts for one side, where it is of those."""
        return nn.Identity()

    def check_text(self, text: str) -> list[str]:
        """Returns words of a text that mean nothing, where it is of those."""
        return []

    def rows_of(self, texts: Sequence[str]) -> Tensor:
        """Returns what networks are given of texts, a row for each, where it is of those."""
        raise ConfigError(f"text={list(texts)}: the run was trained without texts; leave it out")

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Returns what a network is given behind noise or images."""
        return tuple(batch[name] for name in self.members)

    def example(self, rows: int) -> dict[str, Tensor]:
        """Returns what a batch of so many rows may hold, by which shapes are found out."""
        return self.sample(rows, stream(Purpose.SAMPLED_LABELS, 0))

    def draw(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """Draws what fakes are made of beside noise, a row for each."""
        return {}

    def mismatch(self, batch: Batch, draws: Draws) -> dict[str, Tensor] | None:
        """Draws what images of a batch are not; None: D is shown no such pairs."""
        return None

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws it for samples of a trained generator, on the random generator's device."""
        return {}

    def read(self, given: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Reads what a user wants samples to be, for each of so many rows.

        Raises:
            ConfigError: networks are not given such a thing, or it has no such value.
        """
        for name, value in given.items():
            raise ConfigError(f"{name}={value}: the run was trained without {name}s; leave it out")
        return {}

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless what a batch holds has a meaning."""

    def discriminator_terms(self, classes: Tensor | None, batch: Batch) -> ClassTerms:
        """Returns weighted terms of D by the classes that it sees in real images, and scalars."""
        return {}, {}

    def generator_terms(self, classes: Tensor | None, fakes: Batch) -> ClassTerms:
        """Returns weighted terms of G by the classes that D sees in fakes, and scalars."""
        return {}, {}


class Labels(Condition):
    """The class of an image, P(x | y).

    Args:
        classes: their names; a label is the number of one.
        generator: how G is told a class: `batchnorm` by a gain and bias of its own in each
            BatchNorm, `concat` by an embedding beside the noise, `auto` by the first where there is
            BatchNorm.
        discriminator: how D is: `projection` of features onto an embedding (arXiv:1802.05637),
            `concat` by an input for each class beside the pixels of an MLP, or a plane beside the
            image (arXiv:1411.1784), `auxiliary` not at all: it has a class head (AC-GAN,
            arXiv:1610.09585).
        labels: of fakes: drawn as often as the `data` has each class, or `uniform` over the classes
            that have images.
        label_dim: size of the embedding beside the noise; None: 32.
        discriminator_weight: of the cross-entropy of real images' classes in D's loss, where D has
            a class head; None: 1.
        generator_weight: of that of fakes in G's; None: 0.1.

    Raises:
        ConfigError: an argument is out of range, or of a choice that is not made.
    """

    members = ("label",)
    frequencies: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        *,
        generator: HowGenerator = "auto",
        discriminator: HowDiscriminator = "projection",
        labels: FakeLabels = "data",
        label_dim: PositiveInt | None = None,
        discriminator_weight: NonNegativeFloat | None = None,
        generator_weight: NonNegativeFloat | None = None,
    ) -> None:
        super().__init__()
        check_choice("condition.generator", generator, HowGenerator)
        check_choice("condition.discriminator", discriminator, HowDiscriminator)
        check_choice("condition.labels", labels, FakeLabels)
        weights = {
            "discriminator_weight": discriminator_weight,
            "generator_weight": generator_weight,
        }
        for name, weight in weights.items():
            if weight is not None and discriminator != "auxiliary":
                raise ConfigError(
                    f"condition.{name}={weight}: is for condition.discriminator=auxiliary; leave it"
                    " out"
                )
            if weight is not None:
                check_bounds(weight, NonNegativeFloat, f"condition.{name}")
        if label_dim is not None:
            check_bounds(label_dim, PositiveInt, "condition.label_dim")
        self.classes = tuple(classes)
        self.generator, self.discriminator = generator, discriminator
        self.labels, self.label_dim = labels, label_dim
        self.has_class_head = discriminator == "auxiliary"
        if self.has_class_head:
            self.logged_names = ("class_loss_d", "class_loss_g", "class_accuracy")
        self.discriminator_weight = 1.0 if discriminator_weight is None else discriminator_weight
        self.generator_weight = 0.1 if generator_weight is None else generator_weight
        counts = torch.ones(len(self.classes), dtype=torch.int64)  # no precision rounds integers
        self.register_buffer("frequencies", counts)

    def setup(self, datamodule: Any) -> None:
        """Takes from the data how often it has each class, where it tells."""
        from forger.data.classes import class_counts_of  # imports Lightning; sampling needs none

        if datamodule is not None:
            counts = class_counts_of(datamodule, len(self.classes))
            self.frequencies.copy_(counts if self.labels == "data" else counts > 0)

    def present(self) -> list[int]:
        """Returns the numbers of the classes that training images had."""
        found: list[int] = self.frequencies.nonzero().flatten().tolist()
        return found

    def describe(self) -> str:
        """Says how many classes there are and what D does with them."""
        return f", {len(self.classes)} classes, {self.discriminator} in D"

    def draw(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """Draws labels `(rows,)` by the frequencies."""
        return {"label": draws.rows(Purpose.TRAINING_LABELS, self._draw, rows)}

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws labels `(rows,)` by the frequencies."""
        return {"label": self._draw((rows,), generator, torch.float32)}

    def read(self, given: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Reads `label`: names or numbers of classes, of which the rows get one each in turn.

        A tensor holds numbers.

        Raises:
            ConfigError: there is no such class.
        """
        given = {name: value for name, value in given.items() if value is not None}
        super().read({name: value for name, value in given.items() if name != "label"}, rows)
        if "label" not in given:
            return {}
        wanted = given["label"]
        if isinstance(wanted, Tensor):  # numbers, also where names look like other ones
            self.check({"label": wanted})
            each = wanted.flatten().tolist()
        else:
            labels = wanted if isinstance(wanted, (list, tuple)) else [wanted]
            each = [self.number_of(one) for one in labels]
        if not each:
            raise ConfigError("label=[]: names no class; leave it out")
        return {"label": torch.tensor([each[row % len(each)] for row in range(rows)])}

    def number_of(self, label: Any) -> int:
        """Returns the number of a class; raises `ConfigError` where there is none.

        Args:
            label: its name; or its number, from 0, where no class has a number as its name.
        """
        text = str(label)
        number = self.classes.index(text) if text in self.classes else None
        if number is None and not any(name.isdecimal() for name in self.classes):
            number = int(text) if text.isdecimal() else None
        if number is None or number >= len(self.classes):
            shown = ", ".join(self.classes[:20]) + ", ..." * (len(self.classes) > 20)
            raise ConfigError(f"label={label}: there is no such class; allowed: {shown}")
        if self.frequencies[number] == 0:
            raise ConfigError(f"label={label}: no training image had this class; choose another")
        return number

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless all labels are of the classes."""
        check_labels(batch["label"], len(self.classes))

    def discriminator_terms(self, classes: Tensor | None, batch: Batch) -> ClassTerms:
        """Returns the cross-entropy of real images' classes, and their accuracy."""
        if classes is None:
            return {}, {}
        label = batch["label"]
        term = self.discriminator_weight * cross_entropy(classes, label)
        accuracy = (classes.argmax(1) == label).to(classes.dtype).mean()
        return {"class_loss_d": term}, {"class_accuracy": accuracy}

    def generator_terms(self, classes: Tensor | None, fakes: Batch) -> ClassTerms:
        """Returns the cross-entropy of the classes that fakes were asked to be."""
        if classes is None:
            return {}, {}
        term = self.generator_weight * cross_entropy(classes, fakes["label"])
        return {"class_loss_g": term}, {}

    def _draw(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        chances = self.frequencies.to(generator.device, torch.float64)
        return torch.multinomial(chances, shape[0], replacement=True, generator=generator)
