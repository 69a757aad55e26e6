"""The user's own images, with captions."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from forger.data.caption_files import find_captions
from forger.data.captions import CaptionTable
from forger.data.folder import ImageFolder
from forger.data.module import Split


class CaptionedFolder(ImageFolder):
    """Images of a folder, with one caption or more each, see `forger.data.caption_files`.

    Arguments and errors: see `ImageFolder`. Splits and classes are found as there.
    """

    @cached_property
    def captions(self) -> CaptionTable:
        """All captions."""
        return CaptionTable()

    def prepare_data(self) -> None:
        """Lists and decodes the images, and reads the captions."""
        super().prepare_data()
        _ = self._texts

    def read(self, split: Split) -> dict[str, Tensor]:
        """Maps the decoded images of one split into memory, and reads their captions."""
        members = super().read(split)
        texts = self._texts[self._listing.rows(split)]
        return members | {"caption": self.captions.add(texts)}

    def describe(self) -> list[str]:
        """Says in words which images are for what, and how many captions there are."""
        count = sum(map(len, self._texts))
        return [*super().describe(), f"{count:,} captions, such as {self._texts[0][0]!r}"]

    @cached_property
    def _texts(self) -> list[list[str]]:
        _ = self._images  # leaves out what cannot be read
        return find_captions(self.root, self._listing.names)
