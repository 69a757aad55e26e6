"""Turns this clone into a project of your own: `make rename NAME=<name>`."""

from __future__ import annotations

import ast
import keyword
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLD, DISTRIBUTION = "forger", "forger-gan"
KEPT = "LICENSE"  # its notice stays in every copy
# The name alone or as a part of another one; also after an escape, as in "\nname".
PATTERN = re.compile(
    rf"(?:(?<![a-z0-9])|(?<=\\[a-z]))({DISTRIBUTION}|{DISTRIBUTION.replace('-', '_')}|{OLD})"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
LINE_LENGTH = 100  # of pyproject.toml


def main() -> None:
    """Checks the name and the clone, renames, and says what comes next."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    problem = refusal(name)
    if problem is not None:
        sys.exit(f"error: NAME={name}: {problem}")
    rename(name)
    formatted = find_spec("ruff") is not None and format_code()
    print(f"{OLD} is now {name}: git diff shows all of it.")
    print(f"Next: {'' if formatted else 'make format, '}make check, git add --all, git commit.")


def refusal(name: str) -> str | None:
    """Returns what is wrong with a name, or with the clone."""
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", name) or keyword.iskeyword(name):
        return (
            "must be the name of a Python package; write make rename NAME=<name> with small"
            " letters, digits and underscores, a letter first"
        )
    if name == OLD:
        return "is its name already"
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        return "is the name of a module that Python finds already; choose another"
    if git("rev-parse", "--show-toplevel") != str(ROOT):
        return "needs a git clone, so that you see and can undo it; git init, git add, git commit"
    if git("status", "--porcelain"):
        return "the clone has changes that are not committed; commit or stash them first"
    if git("check-ignore", f"src/{name}/") is not None:
        return f"git would ignore src/{name}, see .gitignore; choose another"
    for path in tracked():
        if path.suffix == ".py" and name in (taken := names_in(path)):
            return f"{path.relative_to(ROOT)} {taken[name]} {name}; choose another"
    return None


def names_in(path: Path) -> dict[str, str]:
    """Returns names that a file's renamed imports would meet: what it imports, or else uses."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0]: "imports" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module.partition(".")[0]] = "imports"
        elif isinstance(node, (ast.Name, ast.arg)):
            used.add(node.id if isinstance(node, ast.Name) else node.arg)
    return found | dict.fromkeys(used, "has a variable") if OLD in used else found


def rename(name: str) -> None:
    """Writes the new name in all files that git knows, and in the names of their folders."""

    def new(match: re.Match[str]) -> str:
        return name.upper() if match[0].isupper() else name

    for path in tracked():
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:  # a picture
            continue
        renamed = PATTERN.sub(new, text)
        if renamed != text and path.name != KEPT:
            path.write_bytes(renamed.encode())
    folders = {folder for path in tracked() for folder in path.parents if folder > ROOT}
    for path in sorted(folders.union(tracked()), key=lambda path: -len(path.parts)):
        if PATTERN.search(path.name):
            path.rename(path.with_name(PATTERN.sub(new, path.name)))


def format_code() -> bool:
    """Formats what a name of another length has moved; tells whether that went well."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--fix-only", "--quiet", "."], ["format", "--quiet", "."]):
        if subprocess.run([*ruff, *command], cwd=ROOT).returncode != 0:
            return False
    lines = [line for path in tracked() if path.suffix == ".py" for line in read(path).splitlines()]
    if max(map(len, lines)) > LINE_LENGTH:  # comments and texts, which no formatter folds
        settings, ignored = ROOT / "pyproject.toml", '  "E501", # the formatter folds the code\n'
        settings.write_text(read(settings).replace("ignore = [\n", f"ignore = [\n{ignored}", 1))
    return True


def read(path: Path) -> str:
    """Returns the text of a file."""
    return path.read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """Returns the files of the clone, those that `rename` has moved included."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def git(*arguments: str) -> str | None:
    """Returns what git answers in this clone; `None` where it says no, or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    main()
