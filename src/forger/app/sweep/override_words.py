"""Overrides as a reader of a sweep wants them: the words that differ. Owns no table or picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

SEED = "seed"
_HIDDEN = re.compile(r"(sweep|hydra)([./].*)?|resume")


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Sorts words by what they set; a later one replaces an earlier one.

    Args:
        overrides: words as Hydra takes them: `model=dcgan`, `+x=1`, `~callbacks.samples`.

    Returns:
        Key and word, without words for the sweep, Hydra or a resumed run. The key of what a word
        adds is that of what it would change; that of what it removes begins with `~`.
    """
    found: dict[str, str] = {}
    for word in overrides:
        key = word.partition("=")[0].strip().lstrip("+")
        if not _HIDDEN.fullmatch(key.lstrip("~")):
            found[key] = word.strip()
    return found


def swept(jobs: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Returns the keys whose values differ between jobs, in the order of the words."""
    values = [{key: value(word) for key, word in by_key(overrides).items()} for overrides in jobs]
    keys = dict.fromkeys(key for job in values for key in job)
    return tuple(key for key in keys if len({job.get(key) for job in values}) > 1)


def value(word: str) -> str:
    """Returns what a word sets, without quotes; of a word that removes something, the word."""
    _, equals, text = word.partition("=")
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text if equals else word.strip()


def chosen(words: Mapping[str, str], keys: Iterable[str]) -> str:
    """Joins the words of some keys, where the job has them."""
    return " ".join(words[key] for key in keys if key in words)


def brief(words: Mapping[str, str], keys: Sequence[str]) -> str:
    """Words a job for a picture, each key by as many of its last parts as tell it from others.

    Args:
        words: of the job, by key.
        keys: all that differ between the jobs.
    """
    shown = [key for key in keys if key in words]
    return " ".join(
        words[key] if key.startswith("~") else f"{_short(key, keys)}={value(words[key])}"
        for key in shown
    )


def _short(key: str, keys: Iterable[str]) -> str:
    parts = key.split(".")
    others = [other.split(".") for other in keys if other != key]
    for count in range(1, len(parts)):
        if all(other[-count:] != parts[-count:] for other in others):
            return ".".join(parts[-count:])
    return key
