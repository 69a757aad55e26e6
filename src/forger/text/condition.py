"""The text of an image, P(x | t), as a condition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forger.conditions import Batch, Condition
from forger.errors import ConfigError
from forger.noise import Draws
from forger.seeds import Purpose
from forger.text.encoders import TextEncoder

log = logging.getLogger(__name__)

_CANDIDATES = 4  # captions drawn for a mismatch, of which the first other one is taken


class Text(Condition):
    """The text of an image, given as an embedding.

    Batches hold `caption`, the number of one of the data's captions for each image; `text`, encoded
    rows, takes its place where images are asked for. Fakes are made of training captions, drawn as
    often as images have them. D is also shown real images with the caption of another one, which
    it is to find fake; captions that are equal are no mismatch.

    Args:
        encoder: makes rows of texts.
        prompts: held-out captions for samples.
    """

    members = ("caption",)
    logged_names = ("d_mismatched",)
    captions: Tensor
    prompt_rows: Tensor

    def __init__(self, encoder: TextEncoder, prompts: Sequence[str]) -> None:
        super().__init__()
        if not prompts:
            raise ConfigError("condition=text: needs captions to show images of, and has none")
        self.encoder, self.prompts = encoder, tuple(prompts)
        self.text_dim = encoder.dim
        self.register_buffer("prompt_rows", encoder.encode(self.prompts), persistent=False)
        # until the data's are known
        self.register_buffer("captions", self.prompt_rows, persistent=False)
        self.register_buffer("drawn_from", torch.arange(len(prompts)), persistent=False)

    def setup(self, datamodule: Any) -> None:
        """Encodes the data's captions, and takes from it how often each occurs."""
        if datamodule is None:
            return
        own = datamodule.train_captions[datamodule.trained_rows]
        self.captions = self.encoder.encode(datamodule.captions.texts).to(self.prompt_rows.device)
        self.drawn_from = own[own >= 0].to(self.prompt_rows.device)
        if int(self.drawn_from.min()) == int(self.drawn_from.max()):
            raise ConfigError(
                f"condition=text: all images have the caption"
                f" {datamodule.captions.texts[int(self.drawn_from[0])]!r}; write condition=none"
            )

    def describe(self) -> str:
        """Says how large an embedding is."""
        return f", texts of {self.text_dim} numbers ({type(self.encoder).__name__})"

    def text_network(self) -> nn.Module:
        """Returns a new network of the encoder's."""
        return self.encoder.network()

    def rows_of(self, texts: Sequence[str]) -> Tensor:
        """Returns the encoder's rows of texts, int64 `(N, L)` or float32 `(N, text_dim)`."""
        return self.encoder.encode(texts).to(self.prompt_rows.device)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Returns the rows of the texts of a batch."""
        return (batch["text"] if "text" in batch else self.captions[batch["caption"]],)

    def example(self, rows: int) -> dict[str, Tensor]:
        """Returns the numbers of some captions, by which shapes are found out."""
        return {"caption": torch.arange(rows) % len(self.captions)}

    def draw(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """Draws captions of training images, int64 `(rows,)`."""
        places = draws.rows(Purpose.TRAINING_LABELS, self._places, rows)
        return {"caption": self.drawn_from[places]}

    def mismatch(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Draws captions of training images that are not those of a batch."""
        own = batch["caption"]
        places = draws.rows(Purpose.TRAINING_LABELS, self._places, len(own), _CANDIDATES)
        drawn = self.drawn_from[places]
        first = (drawn != own[:, None]).int().argmax(1, keepdim=True)
        other = drawn.gather(1, first)[:, 0]
        # all candidates equal: the next caption of all, without waiting for a GPU to tell
        following = (own + 1) % len(self.captions)
        return {"caption": torch.where(other == own, following, other)}

    def sample(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws from the prompts, as rows."""
        kept = self.prompt_rows
        places = torch.randint(len(kept), (rows,), generator=generator, device=generator.device)
        return {"text": kept[places.to(kept.device)]}

    def read(self, given: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Reads `text`: one or several, of which the rows get one each in turn, or encoded rows.

        Raises:
            ConfigError: a text is empty, or means nothing to the encoder.
        """
        given = {name: value for name, value in given.items() if value is not None}
        super().read({name: value for name, value in given.items() if name != "text"}, rows)
        if "text" not in given:
            return {}
        wanted = given["text"]
        if isinstance(wanted, Tensor):
            encoded = wanted
        else:
            texts = [wanted] if isinstance(wanted, str) else [str(one) for one in wanted]
            encoded = self.encode(texts)
        return {"text": encoded[torch.arange(rows) % len(encoded)]}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Returns the rows of a user's texts; words that mean nothing are told.

        Raises:
            ConfigError: a text is empty, or means nothing to the encoder.
        """
        if not texts or not all(text.strip() for text in texts):
            raise ConfigError('text: is empty; write text="<what to show>", or leave it out')
        for text in texts:
            if unknown := self.check_text(text):
                log.warning("text=%r: training captions had no %s", text, ", ".join(unknown))
        return self.encoder.encode(texts)

    def check_text(self, text: str) -> list[str]:
        """Returns words of a text that mean nothing; `ConfigError` where the whole text does."""
        return self.encoder.check(text)

    def _places(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        count, device = len(self.drawn_from), generator.device
        return torch.randint(count, shape, generator=generator, device=device)
