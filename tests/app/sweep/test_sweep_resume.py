"""What somebody else's sweep may decide for whoever goes on with it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from searching import FakeEngine, by_rate, run_search
from training import ROOT, command

from forger.app.config.command import Command
from forger.app.run.resume import trust_of
from forger.app.sweep.resume import (
    resumed_command,
    untrusted_overrides,
    without_folders_elsewhere,
)
from forger.errors import ConfigError
from forger.trials import PRUNER, open_trial

HARMLESS = """
seed=0,1,2
model=vanilla,dcgan
loss=choice(hinge,wgan_gp)
optimizer.lr=tag(log,interval(1e-5,1e-2))
model.generator.hidden=[128,256]
~callbacks.samples
+trainer.gradient_clip_val=1
hydra/launcher=joblib
hydra.launcher.n_jobs=2
hydra.launcher.partition=gpu
hydra/sweeper=optuna
hydra.sweeper.n_trials=12
+hydra.sweeper.params.optimizer.lr='interval(1e-5,1e-2)'
hydra.sweep.subdir=${hydra.job.override_dirname}
hydra.mode=MULTIRUN
paths.log_dir=/somewhere/logs
logger.tags=[a,b]
optimizer.discriminator.lr=${optimizer.generator.lr}
callbacks.checkpoint._target_=forger.callbacks.Checkpoint
trainer.max_time='00:01:00:00'
""".strip().splitlines()
HOSTILE = """
model.generator._target_='${name}'
model.generator._target_=os.system
model.generator._target_=torch.load
model.generator._target_=forger.networks.mlp.Generator,os.system
+model.generator.hidden={_target_:shutil.copy,src:a,dst:b}
+callbacks.x={deep:[{_target_:os.system,command:touch}]}
name=../../elsewhere
name=${oc.env:HOME}
hydra.sweep.subdir=../../x
hydra.sweep.subdir=/x
hydra.sweep.subdir=${oc.env:HOME}
hydra.run.dir=/x
hydra.launcher._target_=os.system
hydra.sweeper._target_=os.system
hydra.sweeper.sampler._target_=a.B
hydra.sweeper.storage=sqlite:////x/y.db
+hydra.launcher.setup=[touch x]
hydra.launcher.partition='x\\n touch y'
+hydra.callbacks.x._target_=os.system
+hydra.job.env_set.LD_PRELOAD=x.so
hydra.job_logging.handlers.file.filename=/x
hydra.searchpath=[file:///x]
+hydra.job_logging.handlers.x={(): os.system}
hydra.output_subdir=/x
hydra={job:{name:x}}
+hydra.sweeper.params.model.generator._target_=os.system
hydra.sweeper.params={model.generator._target_: 'choice(os.system)'}
logger.tracking_uri=http://there
+logger.mlflow.local_dir=/x
data.root=/nowhere
+sweep.trial={storage:sqlite:////x.db}
+callbacks.x.dirpath=/x
+callbacks.x={_target_:os.mkdir,path:'/x/***'}
not an override =
""".strip().splitlines()


def test_settings_are_let_through_and_what_runs_or_writes_elsewhere_is_not() -> None:
    assert untrusted_overrides(HARMLESS, []) == []
    assert untrusted_overrides([*HARMLESS, *HOSTILE], []) == HOSTILE
    named = ["loss._target_=own.Loss", "logger.tracking_uri=http://there", "data.root=/mine/a"]
    assert untrusted_overrides(named, ["own", "http://there", "/mine"]) == []
    for data in ("image_folder", "paired_folder"):
        assert untrusted_overrides([f"data={data}", "data.root=/a"], []) == []


def test_folders_beside_the_sweep_are_left_to_the_command(tmp_path: Path) -> None:
    sweep = tmp_path / "logs" / "default" / "multirun" / "x"
    own = ["seed=0", f"paths.log_dir={tmp_path / 'logs'}"]
    elsewhere = ["paths.log_dir=/x", f"paths.cache_dir={tmp_path / 'c'}", "+data.cache_dir=/x"]
    assert without_folders_elsewhere([*own, *elsewhere], sweep) == own
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "images-64px.npy").touch()
    assert without_folders_elsewhere(elsewhere, sweep) == elsewhere[1:2]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    record(tmp_path / "sweep")
    return tmp_path / "sweep"


def record(folder: Path, **changes: object) -> None:
    folder.mkdir(exist_ok=True)
    known = {"words": ["seed=0,1"], "flags": [], "cwd": str(Path.cwd()), "jobs": []}
    (folder / "sweep.json").write_text(json.dumps(known | changes))


def resumed(sweep: Path, *overrides: str, flags: tuple[str, ...] = ()) -> Command:
    """The command that `python train.py sweep.resume=<sweep> <overrides>` stands for."""
    own, program = (f"sweep.resume={sweep}", *overrides), (sys.executable, str(ROOT / "train.py"))
    return resumed_command(
        Command(ROOT / "configs", "train", own, program=program, config_flags=flags)
    )


def test_a_doubtful_override_is_written_again(sweep: Path) -> None:
    record(sweep, words=["seed=0,1", "loss._target_=own.Loss"])
    with pytest.raises(ConfigError, match=r"its loss\._target_=own\.Loss is not for a record"):
        resumed(sweep)
    typed = resumed(sweep, "loss._target_=my.Loss")
    assert typed.overrides[:2] == ("seed=0,1", "loss._target_=my.Loss")
    trusting = resumed(sweep, "trust=[own]")
    assert trusting.overrides[:3] == ("seed=0,1", "loss._target_=own.Loss", "trust=[own]")
    with pytest.raises(ConfigError, match="must be a list"):
        resumed(sweep, "trust=own")
    with pytest.raises(ConfigError, match="goes on with its own overrides"):
        resumed(sweep, "seed=3")
    record(sweep, words=["seed=0,1", "logger.api_key=***", "hydra/launcher=joblib"])
    with pytest.raises(ConfigError, match=r"logger\.api_key looks secret and is not on record"):
        resumed(sweep)
    again = resumed(sweep, "logger.api_key=x", "hydra/launcher=basic").overrides
    assert again[:3] == ("seed=0,1", "logger.api_key=x", "hydra/launcher=basic")


def test_what_is_no_sweep(sweep: Path, tmp_path: Path) -> None:
    damaged = [("words", "seed=0"), ("words", [{"a": 1}]), ("flags", None), ("cwd", 3)]
    for key, content in damaged:
        record(sweep, **{key: content})
        with pytest.raises(ConfigError, match=r"no whole sweep\.json"):
            resumed(sweep)
    with pytest.raises(ConfigError, match=r"no whole sweep\.json"):
        resumed(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"is one run of a sweep; write sweep.resume={sweep}"):
        resumed(sweep / "0")


def test_where_it_was_begun(sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    record(sweep, cwd=str(tmp_path))
    with pytest.raises(ConfigError, match=r"was begun in .*; go there first"):
        resumed(sweep)
    assert Path.cwd() == ROOT
    resumed(sweep, f"trust=['{tmp_path}']")
    assert Path.cwd() == tmp_path
    record(sweep, cwd=str(ROOT))
    resumed(sweep)
    assert Path.cwd() == ROOT, "that of train.py is trusted"


def test_where_config_files_lie_is_written_again(sweep: Path, tmp_path: Path) -> None:
    for flag in ("--config-dir", "--config-name", "--config-path"):
        record(sweep, flags=[flag, str(tmp_path)])
        with pytest.raises(ConfigError, match=f"write {flag} {tmp_path} again"):
            resumed(sweep)
    flags = ("--config-dir", str(tmp_path))
    assert resumed(sweep, flags=flags).config_flags == flags


def test_links_out_of_it_are_refused(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (sweep / ".jobs").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="is a link to"):
        resumed(sweep)


def test_the_pruner_in_a_stranger_s_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    study = optuna.create_study(storage=url, study_name="s")
    study.ask()
    for target in ("evil_module.Pruner", "optuna.samplers.TPESampler", "os.system"):
        study.set_user_attr(PRUNER, {"_target_": target})
        with pytest.raises(ValueError, match=f"{target}: is no pruner of Optuna's"):
            open_trial(url, "s", 0)


def test_nothing_of_a_hostile_sweep_runs(sweep: Path, tmp_path: Path) -> None:
    mark = tmp_path / "sprung"
    record(sweep, cwd=str(ROOT), words=[f"+callbacks.x={{_target_:os.mkdir,path:'{mark}'}}"])
    before = sorted(sweep.rglob("*"))
    done = command(f"sweep.resume={sweep}")
    assert done.returncode == 2
    assert "is not for a record to decide" in done.stderr
    assert sorted(sweep.rglob("*")) == before
    assert not mark.exists()


def test_the_state_of_cmaes_is_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: True if name == "cmaes" else found(name)
    )
    own = ["objective=train/loss_d", "optimizer.lr=interval(1e-4,1e-2)", "sweep.resume=x"]
    engine = FakeEngine(tmp_path / "sweep", by_rate)
    with pytest.raises(ConfigError, match=r"can run code; .* write trust=\[cmaes\]"):
        run_search(engine, *own, "hydra/sweeper/sampler=cmaes", checked=True)
    assert not engine.folder.path.exists()


def test_a_sweep_of_one_s_own_goes_on_with_what_it_names() -> None:
    cfg = OmegaConf.create(
        {
            "trust": ["more"],
            "moved": {"a.B": "c.D"},
            "model": {"generator": {"_target_": "own.G"}},
            "loss": {"_target_": "forger.losses.Hinge"},
            "paths": {"log_dir": "/logs", "cache_dir": "/cache"},
            "logger": {"mlflow": {"tracking_uri": "http://there", "local_dir": None}},
        }
    )
    assert trust_of(cfg, own=True) == ["trust=[more,own.G,http://there]", "moved={'a.B':'c.D'}"]
    assert trust_of(cfg, own=False) == ["trust=[more]", "moved={'a.B':'c.D'}"]
