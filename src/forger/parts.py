"""The batches of one iteration. Owns the type that data modules hand to the GAN."""

from __future__ import annotations

from typing import Any


class Parts(tuple[Any, ...]):
    """The batches that one iteration consumes, in order.

    Each is `images` or `(images, labels)`, images `(B, C, H, W)` in [-1, 1]. A type of its own,
    since a plain tuple `(images, labels)` is one batch and not two.
    """

    __slots__ = ()
