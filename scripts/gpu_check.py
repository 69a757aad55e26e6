"""What `gpu_check.sh` needs beside: which packages, their wheels, and one report of all results."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
GIVEN = ("torch", "torchvision", "lightning")  # with all that they need
TOOLS = ("pytest>=8", "pytest-xdist>=3.7")
TIMED_OUT = 124  # the exit code of `timeout`


def requirements() -> list[str]:
    """Returns what the project and its tests need, as pyproject.toml has it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    return [*re.findall(r'^\s*"([^"]+)"', listed[1], re.MULTILINE), *TOOLS]


def missing(folder: Path) -> list[str]:
    """Returns the wheels of what this environment lacks, or has too old for the project.

    Raises:
        SystemExit: there is no wheel of something that the project needs.
    """
    wheels = {_name(path.name.partition("-")[0]): path for path in folder.glob("*.whl")}
    lacks = {_name(one): one for one in requirements() if not _is_met(one)}
    without = [one for name, one in lacks.items() if name not in wheels]
    if without:
        raise SystemExit(f"gpu_check: {folder} has no wheel of {', '.join(without)}")
    return [str(p) for name, p in wheels.items() if name in lacks or _version(name) == "none"]


def _is_met(requirement: str) -> bool:
    from packaging.requirements import Requirement  # Lightning brings it

    one, version = Requirement(requirement), _version(_name(requirement))
    return version != "none" and one.specifier.contains(version, prereleases=True)


def collect_wheels(folder: Path) -> None:
    """Makes wheels of all of that, as it is installed here, but for what a GPU machine has."""
    wanted: dict[str, str] = {}
    left = [_name(one) for one in requirements()]
    while left:
        name = left.pop()
        if name not in wanted and name not in GIVEN:
            found = metadata.distribution(name)
            wanted[name] = f"{name}=={found.version}"
            left += [*_needed(found)]
    command = ["-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, *command, *sorted(wanted.values())], check=True)


def _needed(distribution: metadata.Distribution) -> Iterator[str]:
    """Yields the names of what a distribution needs here, without its extras."""
    from packaging.requirements import Requirement

    for line in distribution.requires or ():
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            yield _name(one.name)


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def read_tests(path: Path) -> dict[str, Any]:
    """Reads pytest's XML: how many passed, and which failed or were left out, with the reason.

    Beside it lies the exit code, where that is not 0.
    """
    found: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}, "seconds": 0.0}
    if not path.is_file():
        return found | {"broken": "pytest wrote no report: it was ended, or could not begin"}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        found["seconds"] += float(case.get("time", 0))
        name = f"{case.get('classname')}::{case.get('name')}"
        parts = {part.tag: part.get("message", "") for part in case}
        fault = parts.get("failure", parts.get("error"))
        if fault is not None:
            found["failed"][name] = fault.strip().partition("\n")[0][:300]
        elif "skipped" in parts:
            found["skipped"].setdefault(parts["skipped"], []).append(name)
        else:
            found["passed"] += 1
    code = path.with_suffix(".code")
    if code.is_file() and int(code.read_text()) == TIMED_OUT:
        found["skipped"]["its time was up before it ended"] = ["the last that was begun"]
    return found


def report(work: Path, output: Path, device: str) -> int:
    """Writes one JSON and one Markdown of what tests and benchmark left; returns the exit code."""
    tests, speed = read_tests(work / "tests.xml"), _read_json(work / "throughput.json")
    versions = {name: _version(name) for name in GIVEN}
    found = {
        **{"device": device, "name": _device_name(device), "python": platform.python_version()},
        **{"versions": versions, "tests": tests, "throughput": speed},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [f"# {found['name']}", "", ", ".join(f"{k} {v}" for k, v in versions.items()), ""]
    lines += [*_describe_tests(tests), ""]
    table = work / "throughput.md"
    lines.append(table.read_text() if table.is_file() else "The benchmark measured nothing.")
    output.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
    print(f"{output}.json, {output}.md: {lines[4]}")
    return int(bool(tests["failed"] or tests.get("broken") or not tests["passed"] or speed is None))


def _describe_tests(tests: dict[str, Any]) -> Iterator[str]:
    skipped = sum(map(len, tests["skipped"].values()))
    counts = f"{tests['passed']} tests passed, {len(tests['failed'])} failed, {skipped} not run"
    yield f"{counts}, in {tests['seconds']:.0f} s. {tests.get('broken', '')}".strip()
    yield from (f"- failed: {name}: {fault}" for name, fault in tests["failed"].items())
    yield from (f"- {len(names)} not run: {why}" for why, names in tests["skipped"].items())


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _device_name(device: str) -> str:
    if device == "cpu":
        return f"CPU ({platform.machine()})"
    import torch

    return str(torch.cuda.get_device_name())


def main() -> None:
    """Does what the first word says."""
    word, *rest = sys.argv[1:] or [""]
    if word == "missing":
        print(*missing(Path(rest[0])), sep="\n")
    elif word == "wheels":
        collect_wheels(Path(rest[0]) if rest else ROOT / "scripts" / "wheels")
    elif word == "report":
        sys.exit(report(Path(rest[0]), Path(rest[1]), rest[2]))
    else:
        sys.exit("usage: gpu_check.py missing FOLDER | wheels [FOLDER] | report WORK OUTPUT DEVICE")


if __name__ == "__main__":
    main()
