"""What torchrun and SLURM tell a process, and what is refused because of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from lightning.fabric.plugins.environments import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf

from forger.app.config.check import find_problems
from forger.app.config.command import Command
from forger.app.run import resume, several_processes
from forger.app.run.several_processes import Agreed, _complaint, agree
from forger.errors import ConfigError
from forger.processes import Process, rank, slurm_job, this_process, was_requeued

CONFIGS = Path(__file__).parents[3] / "configs"
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    **{"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"},
    **{"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"},
}
SRUN = {
    **{"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "gan", "SLURM_STEP_ID": "0"},
    **{"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
    **{"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"},
    "SLURM_NODELIST": "node[07-08]",
}

Environment = Callable[[dict[str, str]], None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Has this process be launched so."""
    before = dict(os.environ)
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "LOCAL_RANK")):
            monkeypatch.delenv(name)

    def launch(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    yield launch
    for name in os.environ.keys() - before.keys():
        del os.environ[name]  # what Lightning adds


def test_torchrun_counts_processes_over_machines(environment: Environment) -> None:
    assert this_process() is None  # alone
    assert rank() == 0
    environment({**SRUN, **TORCHRUN})  # torchrun may itself be run by srun
    own = this_process()
    assert own == Process("torchrun", 3, 1, 1, 4, 2, 2)
    assert rank() == 3
    assert not own.speaks


def test_srun_is_read_as_lightning_reads_it(environment: Environment) -> None:
    environment(SRUN)
    own, theirs = this_process(), SLURMEnvironment()
    assert own is not None
    assert SLURMEnvironment.detect()
    assert (own.rank, own.local_rank) == (theirs.global_rank(), theirs.local_rank())
    assert (own.machine, own.count) == (theirs.node_rank(), theirs.world_size())
    theirs.validate_settings(num_devices=2, num_nodes=2)
    assert theirs.main_address == "node07"


def test_an_interactive_job_starts_its_own_processes(environment: Environment) -> None:
    for name in ("interactive", "bash"):
        environment({**SRUN, "SLURM_JOB_NAME": name})
        assert this_process() is None
        assert not SLURMEnvironment.detect()


def test_a_requeued_job_has_the_name_that_it_had(environment: Environment) -> None:
    environment(SRUN)
    words = ["model=dcgan", "seed=1"]
    assert not was_requeued()
    name = slurm_job(words)
    environment({"SLURM_RESTART_COUNT": "1"})
    assert was_requeued()
    assert slurm_job(words) == name
    assert slurm_job(["model=dcgan", "seed=2"]) != name
    environment({"SLURM_STEP_ID": "1"})
    assert slurm_job(words) != name


Composed = Callable[..., DictConfig]


def problems(composed: Composed, *words: str) -> list[str]:
    return [problem.text for problem in find_problems(composed("data=mnist_sample", *words))]


@pytest.mark.parametrize(("by", "variables"), [("torchrun", TORCHRUN), ("srun", SRUN)])
def test_other_processes_than_asked_for_are_refused(
    by: str, variables: dict[str, str], environment: Environment, composed: Composed
) -> None:
    environment(variables)
    fitting = ("trainer=multi_node_cpu", "trainer.devices=2")
    assert problems(composed, *fitting) == []
    (problem,) = problems(composed, "trainer=multi_node_cpu")
    assert problem.startswith("trainer.devices=1: trainer.num_nodes=2 trainer.devices=1 are not")
    assert f"what {by} started, which is 2 processes on each of 2 machines" in problem
    assert "write trainer.num_nodes=2 trainer.devices=2" in problem
    (problem,) = problems(composed, *fitting, "trainer.num_nodes=3", "data.batch_size=60")
    assert problem.startswith("trainer.num_nodes=3: ")
    (problem,) = problems(composed, "trainer=ddp_cpu", "trainer.devices=4")  # as many, elsewhere
    assert "trainer.num_nodes=1 trainer.devices=4 are not what" in problem


def test_several_machines_without_a_launcher_are_refused(
    environment: Environment, composed: Composed
) -> None:
    (problem,) = problems(composed, "trainer=multi_node_cpu", "trainer.devices=2")
    assert "this process was started alone" in problem
    assert "torchrun --nnodes=2 --nproc-per-node=2 --node-rank=<0 to 1>" in problem
    # Lightning raises an error of its own there.
    environment({key: SRUN[key] for key in SRUN if key != "SLURM_NTASKS_PER_NODE"})
    (problem,) = problems(composed, "trainer=multi_node_cpu", "trainer.devices=2")
    assert "srun --ntasks-per-node=<n>" in problem


def prepare(command: Command) -> Agreed:
    """Stands in for the check of a command."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = list(command.overrides)
        return Agreed(command, compose("train", words, return_hydra_config=True))


def resumed(command: Command) -> tuple[Command, DictConfig]:
    return command, prepare(command).config


def agreed(folder: Path, *words: str) -> Agreed:
    """What a process alone in its SLURM job is to do."""
    words = (*words, "data=mnist_sample", f"paths.log_dir={folder / 'logs'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(several_processes, "_prepare", prepare)
        patch.setattr(resume, "prepare", resumed)
        found = agree(Command(CONFIGS, "train", words))
    assert found is not None
    return found


def record(run: Path, status: str, **environment: Any) -> None:
    """Writes what a run leaves."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "environment.json").write_text(json.dumps({"choices": {}} | environment))
    (run / "status.json").write_text(json.dumps({"status": status, "started": "2026"}))


ONE = {**SRUN, "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"}
ONE |= dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")


def test_a_requeued_job_goes_on_in_its_folder(environment: Environment, tmp_path: Path) -> None:
    environment(ONE)
    first = agreed(tmp_path, "seed=null")
    folder = Path(first.config.hydra.run.dir)
    assert folder.parent == tmp_path / "logs" / "default"
    assert 0 <= first.config.seed < 2**32
    record(folder, "interrupted", job=slurm_job(first.command.overrides))
    OmegaConf.save(OmegaConf.masked_copy(first.config, ["seed"]), folder / "config.yaml")
    environment({"SLURM_RESTART_COUNT": "1"})
    second = agreed(tmp_path, "seed=null")
    assert second.command.overrides[0] == f"resume='{folder}'"
    record(folder, "finished", job=slurm_job(first.command.overrides))
    with pytest.raises(SystemExit) as done:
        agreed(tmp_path, "seed=null")
    assert done.value.code == 0
    environment({"SLURM_JOB_ID": "4712"})
    assert agreed(tmp_path, "seed=null").config.hydra.run.dir != str(folder)


def test_a_sweep_by_several_processes_is_refused(environment: Environment) -> None:
    environment({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"})
    with pytest.raises(ConfigError, match=r"^-m: "):
        agree(Command(CONFIGS, "train", (), multirun=True))


def test_commands_that_differ_between_machines_are_told() -> None:
    plan = {"typed": ["loss=hinge", "data.root=/a"], "checkpoint": None, "folder": "x"}
    assert _complaint(plan, ["data.root=/b", "loss=hinge"]) is None
    told = _complaint(plan, ["loss=wgan"])
    assert told is not None
    assert told.startswith("was started with loss=wgan where rank 0 has loss=hinge")
