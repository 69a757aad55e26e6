"""Times the product beside the tightest loop by hand and beside the loop of the tutorials.

Each training is a process of its own: `python train.py` as a user starts it, with rows of metrics,
pictures and a bar on a terminal; `reference_loop.py`; and `naive_loop.py`. They take turns, with
the same images and the same number of threads. Images per second count real images, from the end of
one iteration to the end of a later one, by a clock that all share. Product and reference have the
product's default precision, `trainer.precision=auto`; the tutorials' loop computes in float32. It
needs no network.

On two cores three quarters of an hour:
    python benchmarks/throughput.py --output throughput
What classes cost:
    python benchmarks/throughput.py --workloads dcgan --programs product conditional --threads 1
On a GPU the reference loop runs in three ways, see `graph_loop`, and what the GPU does is told.
Product and reference in one process, in turns of a few iterations, where other programs run too:
    python benchmarks/throughput.py --programs turns --pairs 3 --threads 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from throughput_runs import WAYS, Settings, Trainings
from throughput_table import markdown, summarise
from timed_images import TimedImages
from timed_process import run
from workloads import WORKLOADS, device_here

from forger.app.run.devices import FULL, MIXED, multiplies_bfloat16

HERE = Path(__file__).parent
PROGRAMS = ("product", "reference", "naive", "processes")
ON_GPU = ("product", *WAYS)
MORE = ("conditional", "turns")  # only when asked for


def turns(pairs: int, programs: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yields who runs next; each round begins with another, since a machine warms up."""
    for pair in range(pairs):
        first = pair % len(programs)
        yield from ((pair, program) for program in (*programs[first:], *programs[:first]))


def measure(
    trainings: Trainings, workload: str, programs: tuple[str, ...], pairs: int, until: float
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Runs one workload `pairs` times by each program, and yields what there is after each run.

    It begins none that might end too late.
    """
    found, longest = dict[str, list[dict[str, Any]]](), 20.0
    for pair, program in turns(pairs, programs):
        began = time.monotonic()
        if began + longest > until:
            print(f"{workload} {pair + 1}/{pairs} {program:<9} not run: the time is up", flush=True)
            continue
        result = trainings.train(program, workload)
        longest = max(longest, time.monotonic() - began)
        found.setdefault(program, []).append(result)
        speed, seconds = result["images_per_second"], result["seconds"]
        line = f"{workload} {pair + 1}/{pairs} {program:<9} {speed:8.0f} images/s, {seconds:.1f} s"
        print(line, flush=True)
        yield found


def chosen(programs: list[str], workload: str) -> tuple[str, ...]:
    """Returns those that this workload is for: two processes divide a processor's threads."""
    others = {"naive", "processes"} - {*WORKLOADS[workload].more}
    others |= set() if WORKLOADS[workload].game == "noise" else {"reference"}  # turns alone
    others |= {"graph"} if device_here().type == "cpu" else {"processes"}
    if "graph" in programs and "graph" in others:
        print(f"{workload}: graph is for a GPU, and not run")
    return tuple(program for program in programs if program not in others)


def precision_here() -> str:
    """Returns what `trainer.precision=auto` is for the product, on this machine."""
    return MIXED if multiplies_bfloat16(device_here().type) else FULL


def describe(folder: Path, threads: int | None) -> dict[str, Any]:
    """Describes the machine, in a process with the threads of the others."""
    output = folder / "machine.json"
    run([str(HERE / "machine.py"), str(output)], folder / "machine.txt", threads)
    machine: dict[str, Any] = json.loads(output.read_text())
    return machine


def report(
    arguments: argparse.Namespace, folder: Path, write: Callable[[dict[str, Any]], None]
) -> None:
    """Measures it all, and has what there is written after each run."""
    began = time.monotonic()
    settings = Settings(
        arguments.threads,
        arguments.iterations,
        arguments.precision,
        arguments.share_fakes,
        arguments.overrides,
    )
    images = TimedImages(folder, arguments.data_root, arguments.image_folder)
    trainings = Trainings(folder, images, settings)
    machine, until = describe(folder, arguments.threads), began + arguments.seconds
    runs: dict[str, Any] = {}

    def found() -> dict[str, Any]:
        return {
            "machine": machine,
            "precision": arguments.precision,
            "share_fakes": arguments.share_fakes,
            "overrides": arguments.overrides,
            "minutes": (time.monotonic() - began) / 60,
            "workloads": {name: summarise(of, machine) for name, of in runs.items()},
            "runs": runs,
        }

    for workload in arguments.workloads:
        programs = chosen(arguments.programs, workload)
        for of_it in measure(trainings, workload, programs, arguments.pairs, until):
            runs[workload] = of_it
            write(found())
    if runs and time.monotonic() < until:
        later = describe(folder, arguments.threads)  # the first may have met a busy moment
        machine["matrix_rate"] = max(machine["matrix_rate"], later["matrix_rate"])
        write(found())


def main() -> None:
    """Reads the arguments, and writes the table as Markdown and everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    device = device_here().type
    usual = [name for name, workload in WORKLOADS.items() if device in workload.on]
    programs = ON_GPU if device == "cuda" else PROGRAMS
    known = tuple(dict.fromkeys(PROGRAMS + ON_GPU + MORE))
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=usual)
    parser.add_argument("--programs", nargs="+", choices=known, default=list(programs))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of it all, at most")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each program")
    parser.add_argument("--iterations", type=int, help="that are timed; default: by workload")
    parser.add_argument("--threads", type=int, help="of each process; default: torch's")
    parser.add_argument("--share-fakes", action="store_true", help="of product and reference")
    parser.add_argument("--precision", choices=(FULL, MIXED), default=precision_here())
    parser.add_argument(
        "--data-root", type=Path, help="holds MNIST/raw; default: the sample, tiled"
    )
    parser.add_argument("--image-folder", type=Path, help="of 32x32 colour; default: random ones")
    parser.add_argument("--output", type=Path, default=Path("throughput"), help="without suffix")
    parser.add_argument("--overrides", nargs="*", default=[], help="more of the product's settings")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    tables: list[str] = []

    def write(found: dict[str, Any]) -> None:
        tables.append(markdown(found))
        arguments.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        arguments.output.with_suffix(".md").write_text(tables[-1])

    with tempfile.TemporaryDirectory(prefix="throughput_") as folder:
        report(arguments, Path(folder), write)
    if not tables:
        raise SystemExit("nothing was measured")
    print(f"\n{tables[-1]}\n{arguments.output}.md, {arguments.output}.json")


if __name__ == "__main__":
    main()
