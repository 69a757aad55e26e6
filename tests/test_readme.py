"""The README is true: its words exist, its code runs, it is short and shows our own digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forger.runs import command  # noqa: F401  (registers the short_id resolver)
from forger.runs.checking.overrides import find_mistakes
from forger.runs.checking.words import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_short_and_starting_with_our_own_digits() -> None:
    lines = README.splitlines()
    assert len(lines) < 200
    (picture,) = (line for line in lines[:12] if line.startswith("!["))
    assert (ROOT / re.findall(r"\((.*?)\)", picture)[0]).is_file()


def test_table_lists_every_word_of_every_group() -> None:
    for group, words in re.findall(r"^\| `(\w+)=` \| (.*) \|$", README, re.MULTILINE):
        files = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
        told = set(re.findall(r"`(\w+)`", words))
        assert told == files, group


def test_table_lists_every_group() -> None:
    told = set(re.findall(r"^\| `(\w+)=` \|", README, re.MULTILINE))
    groups = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    assert told == groups - {"callbacks", "hydra", "local", "paths"}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's defaults speak up
def test_notebook_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning's default logger writes here
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    scope: dict[str, object] = {}
    exec(code.replace("max_steps=100", "max_steps=2"), scope)
    assert scope["gan"].iteration == 2  # type: ignore[attr-defined]


def commands() -> list[str]:
    """What the README tells to type after `python train.py`, and the settings of its table."""
    lines = re.findall(r"python train\.py ([^`\n#]+)", README)
    rows = re.findall(r"^\| (?!`|to )[^|]+ \| (`[^|]+) \|$", README, re.MULTILINE)
    typed = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    own = ("quadratic", "mine", "dcgna", "--help")  # the user's files, a mistake shown, a flag
    return [line.strip() for line in [*lines, *typed] if not any(word in line for word in own)]


@pytest.mark.parametrize("line", commands())
def test_every_command_is_accepted(line: str, tmp_path: Path) -> None:
    line = re.sub(r"<[^>]+>", str(tmp_path), line)
    words = [word for word in line.split() if word != "-m"]
    typed = Command(ROOT / "configs", "train", words, multirun="-m" in line.split())
    assert find_mistakes(typed) == []


def test_the_table_of_settings_is_read() -> None:
    assert len(commands()) > 20
