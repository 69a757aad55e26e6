"""Whether `run` leads to a checkpoint, found out without reading it. Owns the words if it does not.

What the checkpoint holds, and whether it fits this version, only torch can tell.
"""

from __future__ import annotations

from pathlib import Path

from forger.app.config.messages import nearest, type_setting

_ZIP = b"PK\x03\x04"  # how every file of torch.save begins


def run_refusal(run: str, checkpoint: str, key: str = "run") -> str | None:
    """Returns what is wrong with a run folder or checkpoint file, and what to write instead.

    Args:
        run: as given; `~` is the home folder.
        checkpoint: which one of a folder, `last` or `best`.
        key: the setting that names it.
    """
    path = Path(run).expanduser()
    if not run.strip():
        return f"must name a run; write {key}=<run folder>"
    if path.is_file():
        return _file_refusal(path, checkpoint, key)
    if not path.is_dir():
        return f"there is no such folder or file{_similar(path)}"
    if (path / "checkpoints" / f"{checkpoint}.ckpt").is_file():
        return None
    if (path / "checkpoints" / "last.ckpt").is_file():
        return f"has no checkpoints/{checkpoint}.ckpt, which scores write; write checkpoint=last"
    if (path / "config.yaml").is_file():
        return f"has no checkpoints/{checkpoint}.ckpt; this run ended before its first checkpoint"
    return f"is not a run folder{_runs_near(path, key)}"


def _file_refusal(path: Path, checkpoint: str, key: str) -> str | None:
    try:
        with path.open("rb") as file:
            begins = file.read(len(_ZIP))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if begins != _ZIP:
        return f"is not a checkpoint; write {key}=<run folder> or {key}=<file>.ckpt"
    if checkpoint != "last":
        return f"is a file, which checkpoint={checkpoint} cannot choose from; leave checkpoint out"
    return None


def _similar(path: Path) -> str:
    try:
        siblings = [other.name for other in path.parent.iterdir()]
    except OSError:
        return ""
    return nearest(path.name, siblings)


def _runs_near(path: Path, key: str) -> str:
    """Names the run that was meant by its `checkpoints`, or by a folder of runs."""
    if path.name == "checkpoints" and any(path.glob("*.ckpt")):
        return f"; write {type_setting(key, path.parent)}"
    files = [*path.glob("*/checkpoints/last.ckpt"), *path.glob("*/*/checkpoints/last.ckpt")]
    if not files:
        return "; it has no checkpoints/last.ckpt"
    newest = max(files, key=lambda file: file.stat().st_mtime).parents[1]
    return f", but holds {len(files)}; the newest is {type_setting(key, newest)}"
