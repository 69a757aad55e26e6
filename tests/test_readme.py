"""The README is true: its words exist, its code runs, it is short and shows our own digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from forger.app.cli import main  # noqa: F401  (registers the short_id resolver)
from forger.app.config.command import SCRIPT_NAMES, Command
from forger.app.config.compose import find_mistakes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_short_and_starting_with_our_own_digits() -> None:
    lines = README.splitlines()
    assert len(lines) < 200
    (picture,) = (line for line in lines[:12] if line.startswith("!["))
    assert (ROOT / re.findall(r"\((.*?)\)", picture)[0]).is_file()


def test_table_lists_every_word_of_every_group() -> None:
    for group, words in re.findall(r"^\| `([\w./]+)=` \| (.*) \|$", README, re.MULTILINE):
        folder = ROOT / "configs" / group
        files = {path.stem for path in folder.glob("*.yaml")}
        told = set(re.findall(r"`(\w+)`", words))
        assert told == files, group


def test_table_lists_every_group() -> None:
    told = set(re.findall(r"^\| `([\w./]+)=` \|", README, re.MULTILINE))
    folders = (path.parent for path in (ROOT / "configs").glob("*/**/*.*"))
    groups = {str(folder.relative_to(ROOT / "configs")) for folder in folders}
    own = {group for group in groups if group.partition("/")[0] != "hydra"}
    assert told == own - {"callbacks", "local", "paths"}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's defaults speak up
def test_notebook_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning's default logger writes here
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    scope: dict[str, object] = {}
    exec(code.replace("max_steps=100", "max_steps=2"), scope)
    assert scope["gan"].iteration == 2  # type: ignore[attr-defined]


def commands() -> list[tuple[str, str]]:
    """What the README tells to type after `python train.py` and its siblings, with the script.

    The settings in the rows of its tables are train.py's.
    """
    scripts = "|".join(SCRIPT_NAMES)
    lines = re.findall(rf"python ({scripts})\.py ([^`\n#]+)", README)
    rows = re.findall(r"^\| (?!`|to )[^|]+ \| (`[^|]+) \|$", README, re.MULTILINE)
    typed = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    settings = [("train", word) for word in typed if not word.startswith("python ")]
    # the user's files, a mistake shown, a flag, and what takes a real run: app/run/test_resume.py
    own = ("quadratic", "mine", "dcgna", "--help", "resume=", "run=last")
    return [
        (script, line.strip())
        for script, line in [*lines, *settings]
        if not any(word in line for word in own)
    ]


def filled_in(line: str, folder: Path) -> str:
    """Puts folders that serve as runs and as data in place of `<run>`, `<folder>` and the like."""

    def fill(name: re.Match[str]) -> str:
        path = folder / str(len(list(folder.iterdir())))
        (path / "checkpoints").mkdir(parents=True)
        for file in ("last.ckpt", "best.ckpt"):
            (path / "checkpoints" / file).write_bytes(b"PK\x03\x04")
        (path / "scores.json").write_text("{}")
        for place in range(80):
            Image.new("L", (4, 4)).save(path / f"{place}.png")
        return str(path / "checkpoints" / "last.ckpt" if "file" in name[0] else path)

    return re.sub(r"<[^>]+>", fill, line)


@pytest.mark.parametrize(("script", "line"), commands())
def test_every_command_is_accepted(script: str, line: str, tmp_path: Path) -> None:
    words = filled_in(line, tmp_path).split()
    typed = Command(
        ROOT / "configs",
        script,
        tuple(word for word in words if word != "-m"),
        multirun="-m" in words,
        script=script,
    )
    assert find_mistakes(typed) == []


def test_the_table_of_settings_is_read() -> None:
    assert len(commands()) > 20
