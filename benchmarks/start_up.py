"""Times what a user waits for before the work: help, a refused config, and the first iteration.

Each command takes turns with the bare imports that it is compared with, each in a process of its
own. Beside seconds it counts those of the processor, which a busy machine changes less. A sweep of
jobs shows what a later job pays beside its iterations. It needs no network:
    python benchmarks/start_up.py --output start_up
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe_machine

from forger.app.config.command import SCRIPT_NAMES

_HERE = Path(__file__).parent
_HYDRA = "import hydra"
_LIBRARIES = "import torch, torchvision, lightning"
_JOBS = 5
Seconds = tuple[float, float]  # of the clock and of the processor


@dataclass(frozen=True)
class Case:
    """One command, what it is compared with, and how many times that it may take.

    Args:
        words: of the command.
        baseline: the program of the bare imports.
        allowed: ratio of both.
        more: seconds allowed above that.
        code: with which the command ends.
    """

    words: tuple[str, ...]
    baseline: str = _HYDRA
    allowed: float = 3.0
    more: float = 0.0
    code: int = 0

    @property
    def name(self) -> str:
        """As the table shows it."""
        return " ".join(self.words)


SHORT = [
    case
    for script in (f"{name}.py" for name in SCRIPT_NAMES)
    for case in (
        Case((script, "--cfg", "job", *(() if script == "train.py" else ("run=x",)))),
        Case((script, "--help"), allowed=5.0),
        Case((script, "sed=1"), code=2),
    )
]
FIRST = Case(("train.py",), _LIBRARIES, allowed=1.25, more=1.0)


def timed(words: list[str], code: int = 0) -> Seconds:
    """Runs `python <words>` to its end."""
    before = _processor()
    began = time.monotonic()
    paths = [str(_HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    seconds = time.monotonic() - began
    if done.returncode != code:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, _processor() - before


def training(folder: Path, words: list[str], *, jobs: int = 1, steps: int = 1) -> dict[str, Any]:
    """Trains, and returns when it was launched and the moments of each job."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "moments"
    sweep = ["-m", f"seed={','.join(map(str, range(jobs)))}"] if jobs > 1 else []
    began = time.monotonic()
    timed(
        [
            *(str(_HERE.parent / "train.py"), *sweep, *words, f"trainer.max_steps={steps}"),
            f"+callbacks.moments={{_target_: timed_start.Moments, output: {output}}}",
            *(f"hydra.{mode}.dir={output.parent / mode}" for mode in ("run", "sweep")),
        ]
    )
    return {"launched": began, "jobs": [json.loads(line) for line in output.open()]}


def pair(case: Case, folder: Path, words: list[str]) -> dict[str, Seconds]:
    """Runs a command, and what it is compared with."""
    if case is FIRST:
        found = training(folder, words)
        first = found["jobs"][0]
        ours = (first["first"] - found["launched"], first["first_processor"])
    else:
        ours = timed([str(_HERE.parent / case.words[0]), *case.words[1:]], case.code)
    return {"command": ours, "baseline": timed(["-c", case.baseline])}


def summarise(case: Case, pairs: list[dict[str, Seconds]]) -> dict[str, Any]:
    """Returns medians; a ratio is that of a pair, the seconds allowed above it taken off."""
    found: dict[str, Any] = {"name": case.name, "allowed": case.allowed, "more": case.more}
    for place, clock in enumerate(("clock", "processor")):
        ratios = [(p["command"][place] - case.more) / p["baseline"][place] for p in pairs]
        both = {of: median(p[of][place] for p in pairs) for of in ("command", "baseline")}
        spread = {"ratio": median(ratios), "smallest": min(ratios), "largest": max(ratios)}
        found[clock] = both | spread
    return found


def later_jobs(folder: Path, words: list[str], steps: int) -> dict[str, float]:
    """Returns what a sweep's jobs after the first take, by the clock, and what of it trains."""
    jobs = training(folder, words, jobs=_JOBS, steps=steps)["jobs"]
    whole = [b["ended"] - a["ended"] for a, b in pairwise(jobs)]
    fits = [job["ended"] - job["began"] for job in jobs[1:]]
    beside = [b["began_processor"] - a["ended_processor"] for a, b in pairwise(jobs)]
    return {
        "jobs": _JOBS,
        "iterations": steps,
        "job": median(whole),
        "training": median(fits),
        "beside": median(w - f for w, f in zip(whole, fits, strict=True)),
        "beside_processor": median(beside),
    }


def markdown(found: dict[str, Any]) -> str:
    """Returns the table, with the sweep and the machine below it."""
    head = ("command", "seconds", "bare imports", "ratio", "of processor time", "allowed")
    rows = [_row(of) for of in found["commands"]]
    table = [head, ("---", *["---:"] * 5), *rows]
    later, machine = found["later_jobs"], found["machine"]
    about = (
        "Medians; in brackets the smallest and the largest ratio of the pairs. A later job of a"
        f" sweep takes {later['job']:.2f} s, {later['training']:.2f} s of it for its"
        f" {later['iterations']} iterations and what is written at their end, the rest"
        f" {later['beside']:.2f} s ({later['beside_processor']:.2f} s of the processor)."
        f" {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}."
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in table) + f"\n\n{about}\n"


def _row(of: dict[str, Any]) -> tuple[str, ...]:
    name = "train.py, to its first iteration" if of["name"] == "train.py" else of["name"]
    clock, processor = of["clock"], of["processor"]
    allowed = f"{of['allowed']:g}" + (f", and {of['more']:g} s" if of["more"] else "")
    return (
        *(f"`{name}`", f"{clock['command']:.2f}", f"{clock['baseline']:.2f}"),
        *(_spread(clock), _spread(processor), allowed),
    )


def _spread(of: dict[str, float]) -> str:
    return f"{of['ratio']:.2f} ({of['smallest']:.2f}-{of['largest']:.2f})"


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Reads the arguments, and writes the table as Markdown and everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="iterations of a sweep's job")
    parser.add_argument("--output", type=Path, default=Path("start_up"), help="without suffix")
    parser.add_argument(
        "--words", nargs="*", default=["data=mnist_sample", "metrics=none"], help="of the training"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start_up_") as name:
        folder = Path(name)
        words = [*arguments.words, f"paths.cache_dir={folder / 'cache'}"]
        for case in (*SHORT, FIRST):  # once for nothing: files are read, bytecode is written
            pair(case, folder, words)
        pairs: dict[Case, list[dict[str, Seconds]]] = {case: [] for case in (*SHORT, FIRST)}
        for _ in range(arguments.pairs):
            for case, found in pairs.items():
                found.append(pair(case, folder, words))
        later = later_jobs(folder, words, arguments.steps)
    result = {
        "machine": describe_machine(),
        "commands": [summarise(case, found) for case, found in pairs.items()],
        "later_jobs": later,
        "pairs": {case.name: found for case, found in pairs.items()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    table = markdown(result)
    arguments.output.with_suffix(".md").write_text(table)
    print(f"{table}\n{arguments.output}.md, {arguments.output}.json")


if __name__ == "__main__":
    main()
