"""The words of a refusal: which setting, its value, what is allowed, and the nearest match.

Owns wording alone; `check` and `overrides` decide what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_SIMILAR = 0.5  # of 1: below this a guess would mislead
_SHOWN = 24
_SECRET = re.compile(r"api_?key|token|secret|password", re.IGNORECASE)


def given(key: str, value: Any) -> str:
    """Writes a setting as the command line would, an API key's value left out."""
    return f"{key}={'***' if _SECRET.search(key) else written(value)}"


def written(value: Any) -> str:
    """Writes a value as the command line would."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(written(item) for item in value) + "]"
    text = str(value) if value != "" else "''"
    return text if text.isprintable() else repr(text)[1:-1]


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known word closest to `word`, or nothing."""
    best = _closest(word, sorted(known))[:1]
    return f"; did you mean '{best[0]}'?" if best and _likeness(word, best[0]) > _SIMILAR else ""


def choice(word: str, known: Iterable[str]) -> str:
    """Returns the nearest match and what is allowed, the closest few where that is a long list."""
    names = sorted(set(known))
    if not names:
        return ""
    shown = names if len(names) <= _SHOWN else sorted(_closest(word, names)[: _SHOWN // 2])
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{nearest(word, names) or '.'} Allowed: {', '.join(shown)}{more}"


def _closest(word: str, names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: -_likeness(word, name))


def _likeness(word: str, name: str) -> float:
    import difflib  # takes milliseconds, and most messages need no guess

    return difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()


def listed(problems: list[str]) -> str:
    """Joins problems into one message, each on a line of its own, a repeated one once."""
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        return unique[0]
    return "\n".join([f"{len(unique)} problems:", *(f"  {problem}" for problem in unique)])
