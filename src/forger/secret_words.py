"""Which settings look like secrets. Owns the words, and how a command that holds one is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

SECRET_WORDS = ("api_key", "apikey", "token", "secret", "password")
_INSIDE = re.compile(rf"({'|'.join(SECRET_WORDS)})\w*['\"]?\s*:")  # a key in braces


def looks_secret(key: str) -> bool:
    """Tells whether a setting of this name may hold a secret."""
    return any(word in key.lower() for word in SECRET_WORDS)


def masked(words: Iterable[str]) -> list[str]:
    """Returns the words of a command, with what follows `<secret>=` starred out.

    So is `callbacks.own={api_key: x}` after its `=`.
    """
    return [_masked(word) for word in words]


def _masked(word: str) -> str:
    key, equals, value = word.partition("=")
    secret = bool(value) and (looks_secret(key) or _INSIDE.search(value.lower()))
    return f"{key}{equals}***" if secret else word
