"""Searches of real trainings from the command line, killed and gone on with."""

from __future__ import annotations

import shlex
import signal
import time
from pathlib import Path

import optuna
import pytest
import torch
from training import command, interruptible, short

from forger.app.run.folder import read_status
from forger.app.sweep.study import INTERRUPTED, REPEATS

RECIPE = """# @package _global_
defaults:
  - override /hydra/sweeper: optuna
  - override /hydra/sweeper/pruner: median
  - override /optimizer: sgd
objective: train/loss_d
hydra:
  sweeper:
    n_trials: 12
    pruner: {n_startup_trials: 3, n_warmup_steps: 5}
    params:
      optimizer.lr: tag(log,interval(1e-3,1e3))  # most make SGD diverge
      loss: choice(hinge,non_saturating)
"""


def trained(folder: Path) -> list[Path]:
    """Folders of runs that have trained at all."""
    return sorted(path.parent for path in (folder / "logs").rglob("config.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_search_killed_and_gone_on_with_ends_with_12_trials(
    launcher: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipes" / "hparams_search" / "tiny.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE)
    own = short(tmp_path, "hparams_search=tiny", f"hydra/launcher={launcher}", steps=20)
    own = ["--config-dir", str(tmp_path / "recipes"), "-m", *own]
    with interruptible("train.py", *own) as search:
        until = time.monotonic() + 500
        while len(trained(tmp_path)) < 5 and search.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        search.kill()
        search.communicate()
    assert search.returncode == -signal.SIGKILL, "it was killed in the middle"
    sweep = trained(tmp_path)[0].parent
    done = command(
        "--config-dir", str(tmp_path / "recipes"), "-m", f"sweep.resume={sweep}", timeout=900
    )
    assert done.returncode == 0, done.stderr

    study = optuna.load_study(study_name="default", storage=f"sqlite:///{sweep}/optuna.db")
    killed = [t for t in study.trials if t.user_attrs.get(INTERRUPTED)]
    others = [t for t in study.trials if not t.user_attrs.get(INTERRUPTED)]
    assert [t.state.name for t in others if t.state.name not in ("COMPLETE", "PRUNED")] == []
    assert len(others) == 12
    assert any("diverged" in (t.user_attrs["reason"] or "") for t in others)
    assert any(t.state.name == "COMPLETE" for t in others)
    for trial in killed:
        (again,) = (t for t in others if t.user_attrs.get(REPEATS) == trial.number)
        assert again.params == trial.params
    for trial in others:
        run = Path(trial.user_attrs["folder"])
        if "falls behind" in (trial.user_attrs["reason"] or ""):
            status = read_status(run)
            assert status is not None
            assert status["status"] == "pruned"
            saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
            assert saved["global_step"] == status["iteration"] < 20

    (line,) = (x for x in done.stdout.splitlines() if x.startswith("again "))
    python, script, *best = shlex.split(line.removeprefix("again"))
    assert (python, script) == ("python", "train.py")
    before = len(trained(tmp_path))  # a trial may be killed before its run has a folder
    again_done = command(*best)
    assert again_done.returncode == 0, again_done.stderr
    assert len(trained(tmp_path)) == before + 1
