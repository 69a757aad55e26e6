"""Texts that images are told to be of: words, encoders, and the condition that gives them."""

from __future__ import annotations

from forger.text.condition import Text
from forger.text.encoders import Learned, TextEncoder
from forger.text.facts import TextFacts, text_facts
from forger.text.pretrained import Local, Pretrained, Sentence

__all__ = [
    "Learned",
    "Local",
    "Pretrained",
    "Sentence",
    "Text",
    "TextEncoder",
    "TextFacts",
    "text_facts",
]
