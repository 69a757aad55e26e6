"""What contradicts in a config of a script that reads finished runs, see `rules`."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from forger import hardware
from forger.app.config.device_rules import visible
from forger.app.config.messages import choice, nearest, type_setting
from forger.app.config.values import CheckedValues, Findings
from forger.errors import install_command

_EXPORTERS = {  # of formats: the packages that they need
    **dict.fromkeys(("onnx", "html"), ("onnx", "onnxscript", "onnxruntime")),
    "safetensors": ("safetensors",),
}
_ZIP = b"PK\x03\x04"  # how every file of torch.save begins


def generate_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of generate.py as a whole."""
    yield from _run_and_device(select)
    for key in ("label", "walk.labels"):
        if select(key) == []:
            yield key, "names no class; leave it out"
    for key in ("text", "walk.texts"):
        if select(key) == []:
            yield key, "names no text; leave it out"
    text_file = select("text_file")
    if isinstance(text_file, str) and not Path(text_file).expanduser().is_file():
        yield "text_file", "there is no such file; write text_file=<file with a text on each line>"
    if select("film") == "mp4" and find_spec("av") is None:
        yield "film", "needs av, which is missing; write pip install av, or film=gif"
    output = select("output")
    if isinstance(output, str) and Path(output).expanduser().is_file():
        yield "output", "is a file; write output=<folder>"


def _run_and_device(select: CheckedValues) -> Findings:
    """Yields runs that cannot be read, and a device that is not there."""
    run, checkpoint, device = select("run"), select("checkpoint") or "last", select("device")
    if run is not None:
        runs = [run] if isinstance(run, str) else run
        refusals = [(one, run_refusal(one, checkpoint)) for one in runs]
        found = [text if run == one else f"{one}: {text}" for one, text in refusals if text]
        if not runs:
            found = ["must name a run; write run=<run folder>"]
        elif not found and len({Path(one).expanduser().resolve() for one in runs}) < len(runs):
            found = ["names a run twice"]
        yield from (("run", "; ".join(found)) for _ in found[:1])
    numbered = re.fullmatch(r"cuda(?::(\d+))?", device or "")
    if numbered and int(numbered[1] or 0) >= hardware.gpu_count():
        reason = f"{visible(hardware.gpu_count())} here"
        yield "device", f"{reason}; write device=cpu or device=auto"
    elif device == "mps" and not hardware.has_mps():
        yield "device", "there is no Apple GPU here; write device=cpu or device=auto"
    elif device not in (None, "auto", "cpu", "mps") and numbered is None:
        hint = nearest(device, ("auto", "cpu", "cuda", "mps"))
        yield "device", f"must be one of auto, cpu, cuda, cuda:<number>, mps{hint}"


def report_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of report.py as a whole."""
    run = select("run")
    runs = [run] if isinstance(run, str) else run or []
    found = [_folder_refusal(one, alone=len(runs) == 1) for one in runs]
    if run is not None and not runs:
        yield "run", "must name a run; write run=<run folder>"
    for name, text in zip(runs, found, strict=True):
        if text:
            yield "run", text if name == run else f"{name}: {text}"
            return
    if len({Path(one).expanduser().resolve() for one in runs}) < len(runs):
        yield "run", "names a run twice"


def _folder_refusal(run: str, alone: bool) -> str | None:
    """Returns what is wrong with a folder that is to be shown, `alone` or beside others."""
    path = Path(run).expanduser()
    if not path.is_dir():
        siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        return f"there is no such folder{nearest(path.name, siblings)}"
    if (path / "config.yaml").is_file():
        return None
    if not (path / "sweep.json").is_file():
        return "is no folder of a run or a sweep; write run=<run folder>"
    return None if alone else "is a sweep; write run=<sweep>, or name its runs"


def export_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of export.py as a whole."""
    yield from generate_rules(select)
    kind = select("format")
    missing = [one for one in _EXPORTERS.get(kind, ()) if find_spec(one) is None]
    if missing:
        install = install_command("export")
        are = "is" if len(missing) == 1 else "are"
        yield "format", f"needs {', '.join(missing)}, which {are} missing; write {install}"
    if kind in ("safetensors", "html") and select("pixels") is not None:
        yield "pixels", "is for format=onnx and format=torch_export; leave it out"
    if kind == "safetensors" and select("truncation") not in (None, 1):
        yield "truncation", "is no part of the weights; leave it out, or write format=onnx"
    if kind not in (None, "html") and select("web_runtime") is not None:
        yield "web_runtime", "is for format=html; leave it out"


def explore_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of explore.py as a whole."""
    yield from generate_rules(select)
    if find_spec("gradio") is None:
        yield "the page", f"needs gradio, which is missing; write {install_command('explore')}"


def run_refusal(run: str, checkpoint: str, key: str = "run") -> str | None:
    """Returns what is wrong with the run folder or checkpoint file that a setting `key` names."""
    path = Path(run).expanduser()
    if not run.strip():
        return f"must name a run; write {key}=<run folder>"
    if path.is_file():
        if not os.access(path, os.R_OK):
            return "cannot be read"
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return f"is not a checkpoint; write {key}=<run folder> or {key}=<file>.ckpt"
        chosen = (
            f"is a file, which checkpoint={checkpoint} cannot choose from; leave checkpoint out"
        )
        return chosen if checkpoint != "last" else None
    if not path.is_dir():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        return f"there is no such folder or file{nearest(path.name, siblings)}"
    kept = sorted(file.stem for file in (path / "checkpoints").glob("*.ckpt"))
    if checkpoint in kept:
        return None
    if checkpoint == "best":
        return "has no checkpoints/best.ckpt, which scores write; write checkpoint=last"
    if path.name == "checkpoints":
        return f"is not a run folder; write {type_setting(key, path.parent)}"
    kind = "" if (path / "config.yaml").is_file() else "is not a run folder: "
    return f"{kind}it has no checkpoints/{checkpoint}.ckpt{choice(checkpoint, kept)}"
