"""Words refusals: the setting, its value, what is allowed, and the nearest match."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from forger.secrets import looks_secret

AGAINST_DIVERGENCE = (
    "the same settings would diverge again; lower optimizer.lr, clip gradients with"
    " model.gradient_clip.discriminator=1 and .generator=1, or choose another loss"
)
_SIMILAR = 0.5  # of 1: below this a guess would mislead
_SHOWN = 24
_STARTED = Path.cwd()  # a sweep that goes on does so in the folder where it was begun
_OTHER = re.compile(r"null|true|false|nan|[+-]?inf|[+-]?[\d.][\d_.]*(e[+-]?\d+)?", re.IGNORECASE)


def given(key: str, value: Any) -> str:
    """Writes a setting as the command line would, an API key's value left out."""
    return f"{key}={'***' if looks_secret(key) else written(value)}"


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


def quoted(value: object, *, literal: bool = True) -> str:
    """Returns text as a value that Hydra's grammar reads, whatever it contains.

    Args:
        value: the text, or a path.
        literal: whether `${` means these two characters, and no interpolation.
    """
    text = str(value).replace("${", r"\${") if literal else str(value)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def setting(key: str, value: object) -> str:
    """Writes a setting as Hydra reads it, quoted where its grammar needs that."""
    text = str(value)
    plain = re.fullmatch(r"[\w./@%+:-]*[A-Za-z./][\w./@%+:-]*", text, re.ASCII) is not None
    return f"{key}={text if plain and not _OTHER.fullmatch(text) else quoted(text)}"


def as_overrides(key: str, node: Any) -> Iterator[str]:
    """Yields an override for each setting in a mapping: `optimizer.lr=0.1` for `{"lr": 0.1}`."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from as_overrides(f"{key}.{name}" if key else str(name), value)
    else:
        yield f"{key}={written(node)}"


def typed(*arguments: str) -> str:
    """Writes arguments as one types them, quoted for the shell."""
    quotable = [("'" in one and not re.search(r'["$`\\!\n]', one), one) for one in arguments]
    return " ".join(f'"{one}"' if plain else shlex.quote(one) for plain, one in quotable)


def type_setting(key: str, value: object) -> str:
    """Writes a setting as one types it: quoted for Hydra's grammar and for the shell."""
    return typed(setting(key, value))


def near(path: Path) -> Path:
    """Returns a path relative to where the command was given, where it lies in there."""
    here = Path.cwd()
    inside = here == _STARTED and path.is_relative_to(here) and path != here
    return path.relative_to(here) if inside else path


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that `name` was most likely meant to be, if any is like it."""
    best = next(iter(_likest(name, known)), None)
    return best if best is not None and _likeness(name, best) > _SIMILAR else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known name closest to `name`, or nothing."""
    best = closest(name, known)
    return "" if best is None else f"; did you mean '{best}'?"


def several(names: Iterable[str]) -> str:
    """Writes names in a row."""
    *row, last = sorted(names)
    return f"{', '.join(row)} and {last}" if row else last


def choice(name: str, known: Iterable[str]) -> str:
    """Returns the nearest match and what is allowed, the closest few where that is a long list."""
    names = sorted(set(known))
    shown = names if len(names) <= _SHOWN else sorted(_likest(name, names)[: _SHOWN // 2])
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    allowed = f"{nearest(name, names) or '.'} Allowed: {', '.join(shown)}{more}"
    return allowed if names else ""


def _likest(name: str, known: Iterable[str]) -> list[str]:
    return sorted(sorted(known), key=lambda one: -_likeness(name, one))


def _likeness(name: str, known: str) -> float:
    import difflib  # takes milliseconds, and most messages need no guess

    return difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio()


def listed(problems: list[str]) -> str:
    """Joins problems into one message, each on a line of its own, a repeated one once."""
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        return unique[0]
    return "\n".join([f"{len(unique)} problems:", *(f"  {problem}" for problem in unique)])
