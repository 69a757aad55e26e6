"""What a run says first and last, and that the commands it ends with work as they are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from training import ROOT, command, resumed, run_folder, short

from forger.app.config.messages import quoted
from forger.app.run import resume
from forger.errors import ConfigError

CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run in a folder of an odd name, by relative paths; and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "lr=1,2 [it's] é"
    folder.mkdir()
    words = [word.replace(f"{folder}/", "") for word in short(folder, "metrics=none")]
    done = command(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_first_line_comes_before_pytorch(started: tuple[Path, str]) -> None:
    assert started[1].splitlines()[0] == "loading PyTorch, which takes some seconds"


def test_a_run_ends_with_the_commands_that_follow(started: tuple[Path, str]) -> None:
    folder, printed = started
    lines = printed.splitlines()
    name, evaluate, generate, *report = lines[lines.index("next:") :]
    run = run_folder(folder).relative_to(folder)
    assert name == "next:"
    assert evaluate == f"  python {ROOT / 'evaluate.py'} run={run}"
    assert generate == f"  python {ROOT / 'generate.py'} run={run}"
    assert "report.html" in "".join(line.strip() for line in report)
    line = generate.replace("python", sys.executable).replace(f"run={run}", "run=last") + " n=4"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / run / "generated").glob("*/images/*.png"))) == 4


def test_a_run_goes_on_from_anywhere(started: tuple[Path, str]) -> None:
    run = run_folder(started[0])
    recorded = OmegaConf.load(run / "config.yaml")
    assert recorded.paths.log_dir == str(started[0] / "logs")
    assert recorded.paths.cache_dir == str(started[0] / "cache")
    assert Path.cwd() != started[0]
    assert resumed(quoted(run)).paths.log_dir == str(started[0] / "logs")


def test_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run=last: there is no run in logs; write run=<run"):
        resume.newest_run(CONFIGS)
    for day, name in enumerate(("b/x", "a/multirun/s/0", "a/y")):
        run = tmp_path / "logs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
        (run / "status.json").write_text(json.dumps({"started": f"2026-01-0{3 - day}"}))
        assert resume.newest_run(CONFIGS) == Path("logs/b/x")
    (tmp_path / "logs/a/multirun/s/0/status.json").write_text('{"started": "2026-02-01"}')
    assert resume.newest_run(CONFIGS) == Path("logs/a/multirun/s/0")


def test_a_sweep_says_where_its_jobs_run(tmp_path: Path) -> None:
    work = tmp_path / "work.py"
    work.write_text(
        "from pathlib import Path\nfrom forger.app.cli import job, main\n"
        "job.work = lambda script, cfg, agreed: None\n"
        f"main.run('train', Path({str(CONFIGS)!r}))\n"
    )
    words = ["seed=0", "-m", "model=vanilla", "hydra.sweep.dir=sweep"]
    done = command(*words, cwd=tmp_path, script=work, environment={"COLUMNS": "80"})
    assert done.stdout.splitlines()[0].split() == ["sweep", "folder", "sweep"]
    assert (tmp_path / "sweep").is_dir()


def test_the_plan_names_optimizers_as_their_classes(started: tuple[Path, str]) -> None:
    assert started[1].count("Adam(lr=0.0002") == 2
