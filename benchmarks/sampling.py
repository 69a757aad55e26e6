"""Times sampling beside the bare forward pass of the same generator, in inference mode.

All of it runs in one process, in turns, with the same chunks of noise: the forward pass alone,
`Sampler.sample`, `Sampler.chunk` (pixels, as scores take them) and the PNG files of `generate.py`.
Speed does not depend on the weights: they are random. It needs no network:
    python benchmarks/sampling.py --threads 1 --output sampling
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import describe_machine
from workloads import device_here

from forger.app.run.generate import write_images
from forger.networks import dcgan, mlp
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes

GENERATORS: dict[str, Callable[[], torch.nn.Module]] = {
    "vanilla, 28x28": lambda: mlp.Generator((1, 28, 28)),
    "dcgan, 32x32": lambda: dcgan.Generator((3, 32, 32)),
}
WAYS = ("bare forward", "sample", "pixels", "PNG files")


def ways(sampler: Sampler, n: int) -> dict[str, Callable[[], Any]]:
    """Returns the ways to n images."""
    noise = sampler.noise(n).to(sampler.device)

    def bare() -> None:
        with torch.inference_mode():
            for batch in torch.split(noise, CHUNK):
                sampler.generator(batch)

    def pixels() -> None:
        for number, size in enumerate(chunk_sizes(n)):
            sampler.chunk(number, size)

    def files() -> None:
        with tempfile.TemporaryDirectory(prefix="sampling_") as folder:
            write_images(Path(folder), sampler, n, 0, False)

    return dict(zip(WAYS, (bare, lambda: sampler.sample(n), pixels, files), strict=True))


def speed(work: Callable[[], Any], n: int) -> tuple[float, float]:
    """Returns images per second, and per second of the processor."""
    _wait()
    began, processor = time.perf_counter(), time.process_time()
    work()
    _wait()
    return n / (time.perf_counter() - began), n / (time.process_time() - processor)


def measure(sampler: Sampler, n: int, rounds: int) -> dict[str, Any]:
    """Returns the speed of each way, and its ratio to the bare forward pass of the same round."""
    works = ways(sampler, n)
    for work in works.values():
        work()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for first in range(rounds):
        order = [*WAYS[first % len(WAYS) :], *WAYS[: first % len(WAYS)]]
        for way in order:
            found[way].append(speed(works[way], n))
    bare = found[WAYS[0]]
    return {
        way: {
            "images_per_second": median(s for s, _ in speeds),
            "ratio": median(s / b for (s, _), (b, _) in zip(speeds, bare, strict=True)),
            "processor_ratio": median(s / b for (_, s), (_, b) in zip(speeds, bare, strict=True)),
            "runs": speeds,
        }
        for way, speeds in found.items()
    }


def markdown(found: dict[str, Any]) -> str:
    """Returns the table, and a line about the machine below it."""
    rows = [("generator", *WAYS), ("---", *["---:"] * len(WAYS))]
    for name, of in found["generators"].items():
        cells = [
            f"{of[way]['images_per_second']:,.0f}"
            + ("" if way == WAYS[0] else f" ({of[way]['ratio']:.2f})")
            for way in WAYS
        ]
        rows.append((name, *cells))
    machine = found["machine"]
    about = (
        f"Images per second, medians of {found['rounds']} rounds of {found['images']:,} images in"
        f" chunks of {CHUNK}, float32; in brackets the ratio to the bare forward pass."
        f" {machine['processor']}, accelerator {machine['accelerator']},"
        f" {found['threads']} threads, torch {machine['torch']}."
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{about}\n"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Reads the arguments, and writes the table as Markdown and everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("sampling"), help="without suffix")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    samplers = {
        name: Sampler(build(), "normal").to(device_here()) for name, build in GENERATORS.items()
    }
    found = {
        "machine": describe_machine(),
        "threads": arguments.threads,
        "images": arguments.images,
        "rounds": arguments.rounds,
        "generators": {
            name: measure(sampler, arguments.images, arguments.rounds)
            for name, sampler in samplers.items()
        },
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    table = markdown(found)
    arguments.output.with_suffix(".md").write_text(table)
    print(f"{table}\n{arguments.output}.md, {arguments.output}.json")


if __name__ == "__main__":
    main()
