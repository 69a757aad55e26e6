"""Times a folder of very many images: its decoding, the start of later runs, and their training.

A folder of real files is decoded. Another folder, of empty
files, has a cache of random images: a run that starts on it lists the files, looks at each and
maps the cache, as it would with real ones. Then `python train.py` trains on that cache and on
60,000 images in memory in turns, and the memory of both is watched. It needs no network.

On two cores a quarter of an hour, and 6 GB of disk:
    python benchmarks/large_folder.py --output large_folder
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import timed_folder
from large_images import Shape, write_cache, write_empty, write_images
from machine import describe_machine
from timed_process import run
from workloads import BATCH_SIZE, WORKLOADS

from forger.data.folder_cache import FolderCache
from forger.data.folder_listing import list_images
from forger.image_files import ImageFormat

HERE = Path(__file__).parent
PHOTO: Shape = (3, 32, 32)
DATA = {"mapped": timed_folder.Mapped, "resident": timed_folder.Resident}


def build(folder: Path, count: int) -> float:
    """Decodes a folder, and returns images per second."""
    root = write_images(folder / "images", count)
    names = list_images(root, test_fraction=0.0).names
    began = time.perf_counter()
    FolderCache(root, names, folder / "decoded", ImageFormat(*PHOTO[:2])).load_or_build()
    found = count / (time.perf_counter() - began)
    print(f"decoding: {found:.0f} images/s", flush=True)
    return found


def start(root: Path, array: Path, folder: Path, times: int) -> dict[str, Any]:
    """Starts on a cache that is there: with its pages in memory, and without."""
    found: dict[str, Any] = {"gigabytes": array.stat().st_size / 1e9}
    output = folder / "start.json"
    for name in ("cached", "not cached"):
        runs = []
        for _ in range(times):
            _put_into_memory(array) if name == "cached" else _take_out_of_memory(array)
            command = [str(HERE / "timed_folder.py"), str(root), str(array.parent), str(output)]
            run([*command, *map(str, PHOTO[:2])], folder / "start.txt", None)
            runs.append(json.loads(output.read_text()))
        found[name] = {key: median(run[key] for run in runs) for key in runs[0]}
        print(f"start, pages {name}: {found[name]['seconds']:.2f} s", flush=True)
    return found


def train(
    name: str, root: Path, array: Path, folder: Path, arguments: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Trains one workload in turns on the cache and on images in memory."""
    pairs = arguments.pairs
    found: dict[str, list[dict[str, Any]]] = {data: [] for data in DATA}
    _put_into_memory(array)
    for pair in range(pairs):
        for data in list(DATA)[:: 1 if pair % 2 else -1]:
            of = folder / f"{name}_{pair}_{data}"
            overrides = _overrides(
                name, data, root if data == "mapped" else array, of, arguments.iterations
            )
            overrides += [f"data.cache_dir={array.parent}"]
            run(
                [str(HERE.parent / "train.py"), *overrides],
                folder / f"{of.name}.txt",
                arguments.threads,
            )
            files = (of.with_suffix(f".{kind}.json") for kind in ("clock", "memory"))
            result = {k: v for file in files for k, v in json.loads(file.read_text()).items()}
            found[data].append(result)
            speed, own = result["images_per_second"], result["own_mib"]
            line = f"{name} {pair + 1}/{pairs} {data:<8} {speed:8.0f} images/s, {own:.0f} MiB"
            print(line, flush=True)
    return found


def _overrides(name: str, data: str, root: Path, of: Path, iterations: int | None) -> list[str]:
    workload = WORKLOADS[name]
    warm_up, iterations = workload.warm_up, iterations or workload.iterations
    channels, size, _ = workload.shape
    clock = (
        f"{{_target_: timed_product.Clock, output: {of}.clock.json, warm_up: {warm_up}"
        f", iterations: {iterations}, images: {workload.images_per_iteration}}}"
    )
    return [
        *(
            *workload.overrides,
            "data=image_folder",
            f"data._target_=timed_folder.{DATA[data].__name__}",
        ),
        *(f"data.root={root}", f"data.channels={channels}", f"data.image_size={size}"),
        *("data.test_fraction=0.0", f"data.batch_size={BATCH_SIZE}", "metrics=none"),
        *(f"+data.output={of}.memory.json", f"+callbacks.clock={clock}"),
        *(f"trainer.max_steps={warm_up + iterations}", f"hydra.run.dir={of}"),
    ]


def _put_into_memory(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _take_out_of_memory(path: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns the medians of one workload; the ratio is that of pairs."""
    speeds = {data: [run["images_per_second"] for run in found] for data, found in runs.items()}
    pairs = zip(speeds["mapped"], speeds["resident"], strict=True)
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    return {
        "images_per_second": {data: median(found) for data, found in speeds.items()},
        "ratio": median(ratios),
        "ratios": ratios,
        "memory": {
            data: {key: median(run[key] for run in found) for key in ("own_mib", "file_mib")}
            for data, found in runs.items()
        },
    }


def markdown(found: dict[str, Any]) -> str:
    """Returns two tables, and a line about the machine below them."""
    speed, started, machine = found["decoding"], found["start"], found["machine"]
    cached, count = started["cached"], f"{found['cached_images']:,}"
    size = f"{started['gigabytes']:.1f} GB"
    rows = [
        ("", ""),
        ("---", "---:"),
        (f"decoding {found['images']:,} PNG files", f"{speed:,.0f} images/s"),
        (f"start on a cache of {count}, {size}", f"{cached['seconds']:.1f} s"),
        ("the same, not in the page cache", f"{started['not cached']['seconds']:.1f} s"),
        ("memory that the start takes", f"{cached['own_mib']:.0f} MiB"),
    ]  # fmt: skip
    head = (
        *("workload", f"{count} mapped", "60,000 resident", "mapped / resident"),
        *("own memory", "pages of files"),
    )
    training = [
        head,
        ("---", *["---:"] * 5),
        *map(_row, *zip(*found["workloads"].items(), strict=True)),
    ]
    about = (
        "Images per second of training, medians; in brackets the smallest and the largest ratio of"
        " the pairs. Memory: highest growth from before the data is listed, mapped / resident."
        f" {machine['processor']}, {machine['cores']} cores, accelerator {machine['accelerator']},"
        f" torch {machine['torch']}."
    )
    tables = ("\n".join(f"| {' | '.join(row)} |" for row in table) for table in (rows, training))
    return "\n\n".join((*tables, about)) + "\n"


def _row(name: str, of: dict[str, Any]) -> tuple[str, ...]:
    speeds, memory, ratios = of["images_per_second"], of["memory"], of["ratios"]
    return (
        name,
        *(f"{speeds[data]:,.0f}" for data in DATA),
        f"{of['ratio']:.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})",
        *(
            " / ".join(f"{memory[data][key]:.0f}" for data in DATA) + " MiB"
            for key in ("own_mib", "file_mib")
        ),
    )


def report(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures it all."""
    speed = build(folder, arguments.images)
    root = write_empty(folder / "empty", arguments.cached)
    shapes = {name: WORKLOADS[name].shape for name in arguments.workloads}
    arrays = {s: write_cache(root, folder / "cache", s) for s in {PHOTO, *shapes.values()}}
    started = start(root, arrays[PHOTO], folder, arguments.starts)
    runs = {
        name: train(name, root, arrays[shape], folder, arguments) for name, shape in shapes.items()
    }
    return {
        "machine": describe_machine(),
        "images": arguments.images,
        "cached_images": arguments.cached,
        "decoding": speed,
        "start": started,
        "workloads": {name: summarise(of) for name, of in runs.items()},
        "runs": runs,
    }


def main() -> None:
    """Reads the arguments, and writes the tables as Markdown and everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="files to decode")
    parser.add_argument("--cached", type=int, default=1_000_000, help="images in the cache")
    parser.add_argument(
        "--workloads", nargs="+", choices=list(WORKLOADS), default=["vanilla", "dcgan"]
    )
    parser.add_argument("--pairs", type=int, default=5, help="trainings on each")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of each training; default: torch's")
    parser.add_argument("--iterations", type=int, help="that are timed; default: by workload")
    parser.add_argument("--folder", type=Path, help="for what is written; default: temporary ones'")
    parser.add_argument("--output", type=Path, default=Path("large_folder"), help="without suffix")
    arguments = parser.parse_args()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="large_folder_", dir=arguments.folder) as folder:
        found = report(arguments, Path(folder).absolute())
    table = markdown(found)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table)
    print(f"\n{table}\n{arguments.output}.md, {arguments.output}.json")


if __name__ == "__main__":
    main()
