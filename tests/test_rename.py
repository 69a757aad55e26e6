"""`make rename`: a clone becomes a project of another name, in all its files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forger

ROOT = Path(__file__).parents[1]
OLD, NEW = forger.__name__, "pottery_barn"


def git(*arguments: str, cwd: Path) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *author, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout


def rename(clone: Path, name: str) -> subprocess.CompletedProcess[str]:
    script = clone / "scripts" / "rename.py"
    return subprocess.run([sys.executable, script, name], cwd=clone, capture_output=True, text=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git clone")
    folder = tmp_path_factory.mktemp("clones") / "clone"
    for name in git("ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "-q", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "-qm", "All", cwd=folder)
    return folder


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "must be the name of a Python package; write make rename NAME=<name>"),
        ("my-gan", "must be the name of a Python package"),
        ("class", "must be the name of a Python package"),
        ("torchmetrics", "is the name of a module that Python finds already"),
        ("helpers", " imports helpers; choose another"),
        ("gan", " has a variable gan; choose another"),
        ("dist", "git would ignore src/dist"),
        (OLD, "is its name already"),
    ],
)
def test_a_name_that_cannot_be(clone: Path, name: str, told: str) -> None:
    done = rename(clone, name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: NAME={name}: ")
    assert told in done.stderr
    assert git("status", "--porcelain", cwd=clone) == ""


def test_uncommitted_changes_are_not_mixed_with_it(clone: Path) -> None:
    (clone / "notes.txt").write_text(OLD)
    done = rename(clone, NEW)
    (clone / "notes.txt").unlink()
    assert "changes that are not committed" in done.stderr


def test_the_renamed_clone_works(clone: Path, tmp_path: Path) -> None:
    new = tmp_path / "clone"
    shutil.copytree(clone, new)
    done = rename(new, NEW)
    assert done.returncode == 0, done.stderr
    left = [
        path.relative_to(new)
        for path in new.rglob("*")
        if path.is_file() and ".git" not in path.parts and OLD.encode() in path.read_bytes().lower()
    ]
    assert left == [Path("LICENSE")]
    assert not [path for path in new.rglob(f"*{OLD}*") if ".git" not in path.parts]
    assert (new / "README.md").read_text().startswith(f"# {NEW}\n")
    assert f'\nname = "{NEW}"' in (new / "pyproject.toml").read_text()
    words = ["-m", "data=mnist_sample", "loss=hinge", "dry_run=true"]
    done = subprocess.run(
        [sys.executable, "train.py", *words],
        cwd=new,
        env=os.environ | {"PYTHONPATH": str(new / "src")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert f"{NEW}.networks.mlp" in done.stdout
    for command in (["check", "."], ["format", "--check", "."]):
        lint = [sys.executable, "-m", "ruff", *command, "--no-cache"]
        done = subprocess.run(lint, cwd=new, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
