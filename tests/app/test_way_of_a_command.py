"""From the shell to the first iteration: the files that a command passes, as docs/design.md has it.

A file is passed where one of its functions still runs when the first iteration begins, or is called
by one of those that do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 15

FOLLOW = """
import json, os, runpy, sys

root, out, script = sys.argv[1:4]
sys.argv = sys.argv[3:]
source = os.path.join(root, "src", "forger") + os.sep
names, calls = {}, []


def name_of(frame):  # of a file of ours; "" of others
    file = frame.f_code.co_filename
    if file not in names:
        path = os.path.abspath(file)
        names[file] = os.path.basename(script) if path == os.path.abspath(script) else (
            path.removeprefix(source) if path.startswith(source) else "")
    return names[file]


def follow(frame, event, _):
    if event != "call" or not name_of(frame) or frame.f_code.co_name == "<module>":
        return
    calls.append((frame.f_back, name_of(frame)))
    if frame.f_code.co_name == "training_step":
        sys.setprofile(None)
        running = []
        while frame is not None:
            running.append(frame)
            frame = frame.f_back
        stack = [name for name in map(name_of, reversed(running)) if name]
        passed = [stack[0]]
        for caller, name in calls:
            if name_of(caller) and any(caller is one for one in running) and name not in passed:
                passed.append(name)
        passed += [name for name in stack if name not in passed]
        with open(out, "w") as file:
            json.dump({"stack": stack, "passed": passed}, file)
        os._exit(0)


sys.setprofile(follow)
runpy.run_path(script, run_name="__main__")
"""


def test_a_command_passes_the_files_that_the_design_names_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "follow.py").write_text(FOLLOW)
    command = [tmp_path / "follow.py", ROOT, tmp_path / "way.json", ROOT / "train.py"]
    settings = ["debug=smoke", "data=mnist_sample", f"paths.log_dir={tmp_path / 'logs'}"]
    subprocess.run([sys.executable, *command, *settings], check=True, cwd=tmp_path)
    way = json.loads((tmp_path / "way.json").read_text())
    section = (ROOT / "docs" / "design.md").read_text().partition("## The way of a command")[2]
    told = re.findall(r"^\d+\. `([\w/.]+)`", section.partition("\n## ")[0], re.MULTILINE)
    assert way["passed"] == told
    assert len(told) <= MOST
    steps = [
        name
        for name, before in zip(way["stack"], ["", *way["stack"]], strict=False)
        if name != before
    ]
    assert len(steps) == len(set(steps)), "the way leads back to a file that it has left"
