"""The sweep file for agents of W&B, with the command made by W&B's own code. Needs no account."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from offline_wandb import read_offline_runs
from omegaconf import OmegaConf
from training import ROOT, Compose, run_folder, short
from wandb import wandb_agent

from forger.app.config.check import check
from forger.app.run.train import train

CONFIG = yaml.safe_load((ROOT / "wandb_sweep.yaml").read_text())
PARAMETERS = CONFIG["parameters"]


@pytest.fixture(autouse=True)
def settings_forgotten() -> Iterator[None]:
    """W&B reads the environment once per process."""
    yield
    wandb.teardown()


def extremes(parameter: dict[str, Any]) -> list[Any]:
    """The values that a parameter may have, or its ends."""
    ends = [parameter[end] for end in ("value", "min", "max") if end in parameter]
    return list(parameter.get("values", ends))


def command_of(
    values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], dict[str, str]]:
    """The command of a job with these values, and its environment, as W&B's agent makes them."""
    made: dict[str, Any] = {}

    def taken(**settings: Any) -> Any:
        made.update(settings)
        return type("Process", (), {})()

    monkeypatch.setattr(wandb_agent, "AgentProcess", taken)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # the agent sets them: so they are put back
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    agent = wandb_agent.Agent(None, None, sweep_id="s1")
    agent._sweep_command = list(CONFIG["command"])
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "r1", "program": CONFIG["program"], "args": args})
    return made["command"], made["env"]


def test_every_job_of_the_sweep_has_a_command_that_the_check_passes(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CONFIG["metric"] == {"name": "best/classifier_fid", "goal": "minimize"}
    longest = max(len(extremes(parameter)) for parameter in PARAMETERS.values())
    for turn in range(longest):
        values = {
            name: next(itertools.islice(itertools.cycle(extremes(parameter)), turn, None))
            for name, parameter in PARAMETERS.items()
        }
        command, _ = command_of(values, tmp_path, monkeypatch)
        assert command[:3] == ["/usr/bin/env", "python", "train.py"]
        assert f"optimizer.lr={values['optimizer.lr']}" in command
        check(composed(*command[3:]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # W&B's open file
def test_a_job_of_an_agent_takes_what_the_server_decides(
    composed: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values: dict[str, Any] = {name: extremes(node)[0] for name, node in PARAMETERS.items()}
    values |= dict(override.split("=", 1) for override in short(tmp_path, "metrics=none"))
    del values["metrics.every_n_steps"]
    command, environment = command_of(values, tmp_path, monkeypatch)
    environment |= {"WANDB_MODE": "offline", "WANDB_PROJECT": "theirs"}
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, environment[name])
    wandb.teardown()  # it reads the environment once
    train(composed(*command[3:]))

    run = run_folder(tmp_path)
    (tracked,) = read_offline_runs(run)
    assert tracked.config["optimizer"]["lr"] == extremes(PARAMETERS["optimizer.lr"])[0]
    assert OmegaConf.load(run / "config.yaml").logger.wandb.id == "r1"  # to go on with it
    assert (tracked.run.run_id, tracked.run.sweep_id) == ("r1", "s1")
    assert (tracked.run.project, tracked.run.job_type) == ("theirs", "sweep")
    assert tracked.exit_code == 0
    assert "Ignoring" not in capsys.readouterr().err  # settings that contradict the sweep's
