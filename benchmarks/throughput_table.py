"""From timed runs to medians, ratios and a table. Pure functions of what the clocks found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

_WAYS = ("compiled", "graph")  # of the reference loop

Runs = dict[str, list[dict[str, Any]]]


def summarise(runs: Runs, machine: dict[str, Any]) -> dict[str, Any]:
    """Returns the medians of one workload.

    A ratio is the median over pairs of runs that followed each other, with the smallest and the
    largest of them beside it: what slows the machine for a while slows both.
    """
    speeds = {program: _all(found, "images_per_second") for program, found in runs.items()}
    summary: dict[str, Any] = {"images_per_second": {k: median(v) for k, v in speeds.items()}}
    for other in ("reference", "naive", *_WAYS):
        if "product" in speeds and other in speeds:
            pairs = zip(speeds["product"], speeds[other], strict=False)  # its time may be up
            summary[f"product/{other}"] = _spread([ours / theirs for ours, theirs in pairs])
    for other in ("processes", "conditional"):
        if "product" in speeds and other in speeds:
            pairs = zip(speeds[other], speeds["product"], strict=False)
            summary[f"{other}/product"] = _spread([theirs / ours for theirs, ours in pairs])
    if "turns" in runs:
        summary["turns"] = _spread(_all(runs["turns"], "ratio"))
    for program in ("product", "reference"):
        if program in runs:
            above = [found["peak_mib"] - found["after_import_mib"] for found in runs[program]]
            summary[f"{program}_memory_mib"] = median(above)
    on_gpu = {name: found[0] for name, found in runs.items() if "kernels" in found[0]}
    if on_gpu:
        numbers = ("kernels", "launches", "busy_ms", "mean_iteration_ms", "peak_device_mib")
        summary["gpu"] = {k: {name: of[name] for name in numbers} for k, of in on_gpu.items()}
    if "reference" in runs:
        rates = [found["operations"] / found["mean_iteration_ms"] for found in runs["reference"]]
        summary["share_of_matrix_rate"] = 1e3 * median(rates) / machine["matrix_rate"]
    return summary


def markdown(found: dict[str, Any]) -> str:
    """Returns the table, and a line about the machine below it."""
    head = ("workload", "forger", "reference", "naive", "forger / reference", "forger / naive")
    rows = [_row(name, of) for name, of in found["workloads"].items()]
    more = ("in turns", "two processes / one", "with classes / without", "memory")
    table = [(*head, *more, "reference / matrix rate"), ("---", *["---:"] * 10), *rows]
    machine = found["machine"]
    rate = machine["matrix_rate"] / 1e9
    about = (
        "Images per second, medians; in brackets the smallest and the largest ratio of the pairs."
        " In turns: forger / reference in one process, by its processor seconds, medians of turns."
        " Two processes (trainer=ddp_cpu) have half the threads each and share the batch."
        " Memory: peak above imports, forger / reference."
        f" {machine['processor']}, {machine['cores']} cores, accelerator {machine['accelerator']},"
        f" {machine['threads']} threads a process, torch {machine['torch']}, {found['precision']},"
        f" fake images of noise shared: {'yes' if found['share_fakes'] else 'no'},"
        f" {rate:.0f} GFLOP/s of float32 matrix products."
    )
    on_gpu = [row for name, of in found["workloads"].items() for row in _gpu_rows(name, of)]
    return _drawn(table) + f"\n{about}\n" + (f"\n{_gpu_table(on_gpu)}" if on_gpu else "")


def _drawn(table: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in table)


def _gpu_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of what the GPU does in each program."""
    head = ("workload", "program", "images/s", "forger / it", "GPU busy", "kernels", "launches")
    table = [(*head, "memory"), ("---", "---", *["---:"] * 6), *rows]
    about = (
        "Kernels and launches are those of an iteration; GPU busy is the time in which it ran any"
        " kernel, of iterations looked at, as a share of the time of an iteration of the others."
        " compiled: the reference loop with both networks compiled; graph: its iterations as CUDA"
        " graphs, without schedules. Memory: peak on the device."
    )
    return f"{_drawn(table)}\n{about}\n"


def _gpu_rows(name: str, of: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for program, one in of.get("gpu", {}).items():
        busy = one["busy_ms"] / one["mean_iteration_ms"]
        numbers = f"{busy:.0%}", f"{one['kernels']:.0f}", f"{one['launches']:.0f}"
        speed = f"{of['images_per_second'][program]:,.0f}"
        memory = f"{one['peak_device_mib']:,.0f} MiB"
        yield name, program, speed, _ratio(of.get(f"product/{program}")), *numbers, memory


def _row(name: str, of: dict[str, Any]) -> tuple[str, ...]:
    speeds = of["images_per_second"]
    numbers = (
        f"{speeds[k]:,.0f}" if k in speeds else "" for k in ("product", "reference", "naive")
    )
    compared = ("product/reference", "product/naive", "turns", "processes/product")
    ratios = (_ratio(of.get(pair)) for pair in (*compared, "conditional/product"))
    ours, theirs = of.get("product_memory_mib"), of.get("reference_memory_mib")
    memory = f"{ours:.0f} / {theirs:.0f} MiB" if ours and theirs else ""
    share = of.get("share_of_matrix_rate")
    return (name, *numbers, *ratios, memory, "" if share is None else f"{share:.2f}")


def _ratio(spread: dict[str, float] | None) -> str:
    if spread is None:
        return ""
    return f"{spread['median']:.2f} ({spread['smallest']:.2f}-{spread['largest']:.2f})"


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "smallest": min(values), "largest": max(values)}


def _all(found: list[dict[str, Any]], key: str) -> list[float]:
    return [run[key] for run in found]
