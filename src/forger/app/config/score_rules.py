"""What contradicts in a config of evaluate.py and generate.py, and in `metrics`; see `rules`.

Whether a run can be read back is found out without reading its checkpoint: what that holds, and
whether it fits this version, only torch can tell.
"""

from __future__ import annotations

import re
from pathlib import Path

from forger import hardware
from forger.app.config.device_rules import visible
from forger.app.config.messages import nearest, type_setting
from forger.app.config.values import CheckedValues, Findings
from forger.metrics.settings import too_few

_DEVICES = ("auto", "cpu", "cuda", "mps")
_ZIP = b"PK\x03\x04"  # how every file of torch.save begins


def evaluate_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of evaluate.py as a whole."""
    yield from _runs(select)
    yield from _device(select)
    for key in ("metrics.when", "metrics.every_n_steps"):
        if select(key) is not None:
            yield key, "is for scores while training; leave it out"
    protocol = select("protocol")
    if protocol is not None and not Path(protocol).expanduser().is_file():
        yield "protocol", "there is no such file; write protocol=<run folder>/scores.json"
    yield from score_rules(select)


def generate_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of generate.py as a whole."""
    yield from _runs(select)
    yield from _device(select)
    output = select("output")
    if isinstance(output, str) and Path(output).expanduser().is_file():
        yield "output", "is a file; write output=<folder>"


def score_rules(select: CheckedValues) -> Findings:
    """Yields settings of scores that need more images than others leave them."""
    names = ("precision_k", "coverage_k", "splits", "neighbour_images")
    settings = {name: select(f"metrics.{name}") for name in names}
    num_real, num_fake = select("metrics.num_real"), select("metrics.num_fake")
    for name, reason in too_few(settings, num_real, num_fake):
        yield f"metrics.{name}", reason


def _runs(select: CheckedValues) -> Findings:
    run, checkpoint = select("run"), select("checkpoint") or "last"
    if isinstance(run, str) and (reason := run_refusal(run, checkpoint)):
        yield "run", reason
    elif run == []:
        yield "run", "must name a run; write run=<run folder>"
    elif isinstance(run, list):
        refusals = {one: run_refusal(one, checkpoint) for one in run}
        found = [f"{one}: {reason}" for one, reason in refusals.items() if reason]
        if found:
            yield "run", "; ".join(found)
        elif len({Path(one).expanduser().resolve() for one in run}) < len(run):
            yield "run", "names a run twice"


def _device(select: CheckedValues) -> Findings:
    device = select("device")
    if not isinstance(device, str) or device in ("auto", "cpu"):
        return
    numbered, count = re.fullmatch(r"cuda(?::(\d+))?", device), hardware.gpu_count()
    if device == "mps":
        if not hardware.has_mps():
            yield "device", "there is no Apple GPU here; write device=cpu or device=auto"
    elif numbered is None:
        hint = "; write device=cuda" if device == "gpu" else nearest(device, _DEVICES)
        yield "device", f"must be one of auto, cpu, cuda, cuda:<number>, mps{hint}"
    elif int(numbered[1] or 0) >= count:
        yield "device", f"{visible(count)} here; write device=cpu or device=auto"


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
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        return f"there is no such folder or file{nearest(path.name, siblings)}"
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


def _runs_near(path: Path, key: str) -> str:
    """Names the run that was meant by its `checkpoints`, or by a folder of runs."""
    if path.name == "checkpoints" and any(path.glob("*.ckpt")):
        return f"; write {type_setting(key, path.parent)}"
    files = [*path.glob("*/checkpoints/last.ckpt"), *path.glob("*/*/checkpoints/last.ckpt")]
    if not files:
        return "; it has no checkpoints/last.ckpt"
    newest = max(files, key=lambda file: file.stat().st_mtime).parents[1]
    return f", but holds {len(files)}; the newest is {type_setting(key, newest)}"
