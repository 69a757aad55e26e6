"""Which settings look like secrets, and commands and configs without the values of these."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_SECRET = re.compile(r"api_?key|token|secret|password", re.IGNORECASE)
_INSIDE = re.compile(rf"({_SECRET.pattern})\w*['\"]?\s*:", re.IGNORECASE)  # a key in braces


def looks_secret(key: str) -> bool:
    """Tells whether a setting of this name may hold a secret."""
    return _SECRET.search(key) is not None


def masked(arguments: Iterable[str]) -> list[str]:
    """Returns arguments with stars for what follows `<secret>=`, or `=` with a secret in braces."""
    found = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        secret = value and (looks_secret(key) or _INSIDE.search(value))
        found.append(f"{key}{equals}***" if secret else argument)
    return found


def without_secrets(node: Any) -> Any:
    """Returns a copy of plain config in which values under secret-looking keys are starred out."""
    if isinstance(node, dict):
        return {
            key: "***" if value is not None and looks_secret(str(key)) else without_secrets(value)
            for key, value in node.items()
        }
    return [without_secrets(value) for value in node] if isinstance(node, list) else node
