"""What `rules` is for training, for scores, evaluate.py and generate.py. Owns no ranges.

Whether a run can be read back is for `checkpoints` to say.
"""

from __future__ import annotations

import re
from pathlib import Path

from forger import hardware
from forger.app.config.accepted import Findings, Select
from forger.app.config.checkpoints import run_refusal
from forger.app.config.facts import PREFIXES, target_of
from forger.app.config.messages import nearest
from forger.metrics.names import is_fid
from forger.metrics.settings import too_few

EARLY_STOPPING = "forger.callbacks.early_stopping.EarlyStopping"
_DEVICES = ("auto", "cpu", "cuda", "mps")


def evaluation(select: Select) -> Findings:
    """Yields what is wrong with a config of evaluate.py."""
    yield from _runs(select)
    yield from _device(select)
    for key in ("metrics.when", "metrics.every_n_steps"):
        if select(key) is not None:
            yield key, "is for scores while training; leave it out"
    protocol = select("protocol")
    if protocol is not None and not Path(protocol).expanduser().is_file():
        yield "protocol", "there is no such file; write protocol=<run folder>/scores.json"


def generation(select: Select) -> Findings:
    """Yields what is wrong with a config of generate.py."""
    yield from _runs(select)
    yield from _device(select)
    yield from _seed(select, "seed")
    output = select("output")
    if isinstance(output, str) and Path(output).expanduser().is_file():
        yield "output", "is a file; write output=<folder>"


def training(select: Select) -> Findings:
    """Yields scores that something in a config of train.py waits for, and that nobody takes."""
    awaited = {"objective": select("objective")}
    if target_of(select, "callbacks.early_stopping") == EARLY_STOPPING:
        key = "callbacks.early_stopping.metric"
        awaited[key] = select(key) or "val/fid" if select.sound(key) else None
    for key, metric in awaited.items():
        if not isinstance(metric, str) or not metric.startswith("val/"):
            continue
        if not select("metrics"):
            yield key, "is a score, and metrics=none has none; write metrics=quick"
        elif (
            select(key) is not None and is_fid(metric) and metric != (fid := fid_of(select, metric))
        ):
            yield key, f"these metrics.features give the FID another name; write {key}={fid}"


def fid_of(select: Select, default: str) -> str:
    """Returns the name of the FID by the features that are chosen, where they are known."""
    prefix = PREFIXES.get(target_of(select, "metrics.features"))
    layer = select("metrics.features.layer")
    if prefix is None or layer not in (None, "2048", 2048):
        return default
    return f"val/{prefix}fid"


def scores(select: Select) -> Findings:
    """Yields what is wrong with `metrics`."""
    yield from _seed(select, "metrics.seed")
    weights = select("metrics.inception_weights")
    if weights is not None and not Path(weights).expanduser().is_file():
        yield "metrics.inception_weights", "there is no such file; null: download it once"
    names = ("precision_k", "coverage_k", "splits", "neighbour_images")
    settings = {name: select(f"metrics.{name}") for name in names}
    num_real, num_fake = select("metrics.num_real"), select("metrics.num_fake")
    for name, reason in too_few(settings, num_real, num_fake):
        yield f"metrics.{name}", reason
    if select("metrics.kid_subset_size") == 1:
        yield "metrics.kid_subset_size", "must be at least 2"


def _seed(select: Select, key: str) -> Findings:
    seed = select(key)
    if isinstance(seed, int) and seed >= 2**32:
        yield key, "must be below 2**32"


def _runs(select: Select) -> Findings:
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


def _device(select: Select) -> Findings:
    device = select("device")
    if not isinstance(device, str) or device in ("auto", "cpu"):
        return
    numbered = re.fullmatch(r"cuda(?::(\d+))?", device)
    if device == "mps":
        if not hardware.has_mps():
            yield "device", "there is no Apple GPU here; write device=cpu or device=auto"
    elif numbered is None:
        hint = "; write device=cuda" if device == "gpu" else nearest(device, _DEVICES)
        yield "device", f"must be one of auto, cpu, cuda, cuda:<number>, mps{hint}"
    elif int(numbered[1] or 0) >= (count := hardware.gpu_count()):
        seen = f"{count} GPU{'s are' if count > 1 else ' is'}" if count else "no GPU is"
        yield "device", f"{seen} visible here; write device=cpu or device=auto"
