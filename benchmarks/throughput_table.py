"""From timed runs to medians, ratios and a table. Pure functions of what the clocks found."""

from __future__ import annotations

from statistics import median
from typing import Any

Runs = dict[str, list[dict[str, Any]]]


def summarise(runs: Runs, machine: dict[str, Any]) -> dict[str, Any]:
    """Returns the medians of one workload.

    A ratio is the median over pairs of runs that followed each other, with the smallest and the
    largest of them beside it: what slows the machine for a while slows both.
    """
    speeds = {program: _all(found, "images_per_second") for program, found in runs.items()}
    summary: dict[str, Any] = {"images_per_second": {k: median(v) for k, v in speeds.items()}}
    for other in ("reference", "naive"):
        if "product" in speeds and other in speeds:
            pairs = zip(speeds["product"], speeds[other], strict=True)
            summary[f"product/{other}"] = _spread([ours / theirs for ours, theirs in pairs])
    for other in ("processes", "conditional"):
        if "product" in speeds and other in speeds:
            pairs = zip(speeds[other], speeds["product"], strict=True)
            summary[f"{other}/product"] = _spread([theirs / ours for theirs, ours in pairs])
    if "turns" in runs:
        summary["turns"] = _spread(_all(runs["turns"], "ratio"))
    for program in ("product", "reference"):
        if program in runs:
            above = [found["peak_mib"] - found["after_import_mib"] for found in runs[program]]
            summary[f"{program}_memory_mib"] = median(above)
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
    return "\n".join(f"| {' | '.join(row)} |" for row in table) + f"\n\n{about}\n"


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
