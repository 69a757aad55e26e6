"""What is wrong with one word of a command, whatever else was typed. Owns how this is said.

`words` reads a command word by word; which choices there are is for `choices` to say.
"""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.override_parser.types import Override

from forger.app.config.choices import SEVERAL
from forger.app.config.mains import Main
from forger.app.config.messages import quoted, type_setting, typed
from forger.app.config.paths import is_path

# What may stand before the equals sign, an index of a list among it
_KEY = re.compile(r"(\+\+?|~)?[A-Za-z_][\w-]*([./][\w-]+|\[\d+\])*(@[\w.:/]*)?", re.ASCII)


def instead(main: Main, script: str, override: Override, group: str | None) -> str:
    """Says what to write instead of several values."""
    key, _, values = str(override.input_line).partition("=")
    text = typed(f"{key}={quoted(values)}")
    if main.once is not None:
        if group is not None:
            return "write one of them"
        return f"{script}.py {main.once}, or quote a value that holds a comma: {text}"
    if is_path(key):
        return f"add -m for a run of each, or quote it as one: {text}"
    one = group is not None and group not in SEVERAL
    return "add -m for a run of each" + ("" if one else f", or write {key}=[...] for a list")


def ungrammatical(word: str, error: Exception, homes: list[str], main: Main) -> str:
    """Words the refusal of what Hydra's grammar cannot read; `homes` have a file of that name."""
    if homes:
        return f"{word}: is not a setting; write {homes[0]}={word}"
    key, given, value = word.partition("=")
    if not given and "run" in main.settings and Path(word).exists():
        return f"{word}: is not a setting; write {type_setting('run', word)}"
    if not given and re.split(r"[./]", word)[0] in main.settings:
        return f"{word}: has no value; write {word}=<value>"
    if not given and not word.startswith("~"):
        return f"{word}: is not a setting; write <setting>=<value>"
    if not _KEY.fullmatch(key):
        return f"{word}: {key} is not the name of a setting; write <setting>=<value>"
    if "[" in key:
        return f"{word}: a list is set as a whole; write {key.partition('[')[0]}=[...]"
    reason = str(error).strip().splitlines()[0].replace(word, "").strip(" :")
    return (
        f"{word}: cannot be read ({reason}); quote a value with any of ,:[]{{}}()=$~# or spaces,"
        f" {typed(f'{key}={quoted(value)}')}"
    )


def misplaced(override: Override) -> str | None:
    """Refuses a word without a name, and one that would put a file elsewhere than its group."""
    if not override.key_or_group:
        return "is not a setting; write <setting>=<value>"
    if override.package is not None:
        return f"a file goes where its group is; write {override.key_or_group}=<word>"
    return None
