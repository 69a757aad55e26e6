"""Every key of a config is held against what it will reach, wherever it came from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from composing import compose_config
from omegaconf import DictConfig, OmegaConf, open_dict

from forger import hardware
from forger.app.config.check import check, find_problems
from forger.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
GROUPS = (
    *("model", "loss", "data", "optimizer", "schedule", "trainer", "metrics", "metrics/features"),
    *("callbacks", "logger", "experiment", "debug"),
)
CHOICES = [f"{g}={path.stem}" for g in GROUPS for path in sorted((CONFIGS / g).glob("*.yaml"))]

Compose = Callable[..., DictConfig]


def refused(cfg: DictConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        check(cfg)
    return str(caught.value)


def set_node(cfg: DictConfig, key: str, node: Any) -> DictConfig:
    """Sets a part of a config, or with `...` takes it out."""
    owner, _, name = key.rpartition(".")
    with open_dict(cfg):
        if node is ...:
            del (OmegaConf.select(cfg, owner) if owner else cfg)[name]
        else:
            OmegaConf.update(cfg, key, node, merge=False)
    return cfg


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_passes(
    choice: str, composed: Compose, gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus(2)
    if choice == "trainer=mps":
        monkeypatch.setattr(hardware, "has_mps", lambda: True)
    if choice.startswith("trainer=multi_node"):
        each = 1 if choice.endswith("cpu") else 2
        started = {"TORCHELASTIC_RUN_ID": "1", "RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0}
        started |= {"WORLD_SIZE": 2 * each, "LOCAL_WORLD_SIZE": each, "GROUP_WORLD_SIZE": 2}
        for name, value in started.items():
            monkeypatch.setenv(name, str(value))
    root = [f"data.root={tmp_path}"] if choice.endswith("_folder") else []
    assert find_problems(composed(choice, *root)) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=true", "data.batch_size=true: must be a whole number of at least 1"),
        ("data.flip=1", "data.flip=1: must be true or false"),
        (
            "seed=4294967296",
            "seed=4294967296: must be a whole number from 0 to 4294967295, or null",
        ),
        ("seed=100000000000000000000", "must be below 2**63"),
        ("model.ema_decay=1", "model.ema_decay=1: must be a number of at least 0 and below 1"),
        ("model.prior=uniforn", "must be one of normal, uniform; did you mean 'uniform'?"),
        ("model.accumulate.generator=0.5", "must be a whole number of at least 1"),
        ("model.gradient_clip.generator=0", "must be a number above 0, or null"),
        ("model.generator.hidden=[64,x]", "must be a list, each a whole number of at least 1"),
        ("model.discriminator.norm=bacth", "did you mean 'batch'?"),
        ("optimizer.betas=[0.5]", "optimizer.betas=[0.5]: must be a list of 2"),
        ("optimizer.betas=[0.5,1]", "must be a list, each a number of at least 0 and below 1"),
        ("trainer.max_steps=1e3", "must be a whole number of at least 1, or -1; write 1000"),
        ("trainer.precision=16", "trainer.precision=16: must be one of auto, 32-true, 32"),
        ("trainer.max_time=0:0:0:1", "must be days:hours:minutes:seconds"),
        ("trainer.max_time=00:00:00:00", "must be above zero"),
        ("trainer.deterministic=3", "must be true or false, or warn, or null"),
        ("trainer.strategy={}", "trainer.strategy={}: must be one of auto"),
        ("trainer.strategy=fsdp", "must be one of auto, single_device, ddp, ddp_find_unused"),
        ("trainer.strategy={_target_:forger.losses.Hnige}", "did you mean 'Hinge'?"),
        ("+trainer.plugins=[slurm]", "each a mapping with a _target_"),
        ("+trainer.accumulate_grad_batches=2", "write model.accumulate.generator=<batches>"),
        ("+trainer.limit_test_batches=3", "is for what train.py never does; leave it out"),
        ("+trainer.max_depth=3", "trainer.max_depth=3: unknown setting of lightning.Trainer"),
        ("+data.seed=3", "data.seed=3: comes from the run's seed; write seed=<number>"),
        ("+data.bach_size=3", "unknown setting of forger.data.MNIST; did you mean 'batch_size'?"),
        ("+model.generator.image_shape=3", "comes from the data; set data.image_size"),
        ("+optimizer.lrr=1", "optimizer.lrr=1: unknown setting; did you mean 'lr'?"),
        ("+paths._target_=x", "paths._target_=x: unknown setting"),
        ("+callbacks.mine.n=3", "callbacks.mine={n:3}: must be null or name a _target_"),
        ("+callbacks.mine={_target_:forger.callbacks.SampelGrid}", "did you mean 'SampleGrid'?"),
        ("loss._target_=nowhere.Loss", "no module 'nowhere' is installed or in this folder"),
        ("loss._target_=3", "must be a dotted name"),
        ("loss._target_=forger.losses", "is a module; name a class or a function in it"),
        ("model.generator._target_=torch.nn.Linear", "torch.nn.Linear takes no image_shape, which"),
        ("trainer._target_=lightning.Fabric", "must derive from lightning.Trainer"),
        ("~loss._target_", "loss: has no _target_; choose loss=<choice>"),
        ("~trainer.max_steps", "trainer.max_steps: is needed and missing"),
        ("data.root=null", "data.root=null: must be text"),
        ("data.root=${nothing}", "data.root=${nothing}: Interpolation key 'nothing' not found"),
        ("seed=${seed}", "seed=${seed}: Recursive interpolation detected"),
        ("objective=3", "objective=3: must be text, or null; write \"objective='3'\""),
        ("data.batch_size='64'", "data.batch_size=64: must be a whole number of at least 1"),
    ],
)
def test_refusals(override: str, message: str, composed: Compose) -> None:
    found = refused(composed(override))
    assert message in found
    assert "\n" not in found, "one mistake makes one line"


def test_all_problems_at_once(composed: Compose) -> None:
    found = refused(composed("seed=-1", "data.batch_size=0", "+loss.gama=1"))
    assert found.startswith("3 problems:\n")
    assert len(found.splitlines()) == 4
    assert "loss.gama=1: unknown setting of forger.losses.NonSaturating" in found


@pytest.mark.parametrize(
    ("key", "node"),
    [
        *(
            ("metrics", {"num_fake": 300}),
            ("metrics", {"a": 1}),
            ("model", {}),
            ("model", {"a": 1}),
        ),
        *(("model.accumulate", {}), ("optimizer", {}), ("optimizer", {"a": 1}), ("schedule", {})),
        *(("sweep", {}), ("model", None), ("model.generator", None), ("trainer", None)),
        *(("data", None), ("data", "mnist"), ("optimizer", "foo"), ("optimizer.generator", "foo")),
        *(("paths", None), ("paths", "foo"), ("paths", ...), ("paths.data_dir", "${nothing}")),
        *(("optimizer.lr", "${nothing}"), ("optimizer.lr", ...), ("optimizer.betas", ...)),
        *(("metrics.min_accuracy", "${nothing}"), ("model", ...), ("trainer", ...), ("data", ...)),
        *(("logger.wandb.project", 3), ("trainer.devices", 10**9), ("logger.wandb", {})),
    ],
)
def test_what_follows_from_one_wrong_value_is_not_listed(
    key: str, node: Any, composed: Compose, gpus: Any
) -> None:
    gpus(0)
    (problem,) = find_problems(set_node(composed("logger=wandb", "metrics=quick"), key, node))
    assert problem.text.startswith(key.partition(".")[0])


def test_a_main_config_without_ours(composed: Compose) -> None:
    found = refused(OmegaConf.create({"seed": 1, "data": composed().data}))
    assert "needed and missing; begin the main config with 'defaults: [train, _self_]'" in found
    assert "\n" not in found


def test_keys_from_an_experiment_file_are_checked(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    recipe = "# @package _global_\noptimizer:\n  learning_rate: 1e-4\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(recipe)
    cfg = compose_config("train", f"hydra.searchpath=[{tmp_path}]", "experiment=mine")
    assert "optimizer.learning_rate=0.0001: unknown setting" in refused(cfg)


def test_settings_that_refer_to_others(composed: Compose) -> None:
    assert find_problems(composed("+optimizer.fast=1e-3", "optimizer.generator.lr=${..fast}")) == []
    assert refused(composed("optimizer.lr=0")) == "optimizer.lr=0: must be a number above 0"
    found = refused(composed("optimizer.generator.lr=0"))
    assert found == "optimizer.generator.lr=0: must be a number above 0"
    cfg = set_node(composed(), "optimizer.lr", "${optimizer.generator.lr}")
    assert "optimizer.lr=${optimizer.generator.lr}: Recursive interpolation" in refused(cfg)
    cfg = set_node(composed(), "loss.r1_gamma", math.nan)
    assert "loss.r1_gamma=nan: must be a number of at least 0" in refused(cfg)


def test_keys_of_secrets_hide_their_values(composed: Compose) -> None:
    found = refused(composed("+logger.api_key=hunter2"))
    assert "logger.api_key=***" in found
    assert "hunter2" not in found


def test_a_notebook_may_leave_metrics_out(composed: Compose) -> None:
    for nothing in (None, {}):
        assert find_problems(set_node(composed(), "metrics", nothing)) == []
    assert refused(set_node(composed(), "metrics", 3)) == "metrics=3: must be a group of settings"


USERS_MODULE = """
    from lightning import LightningDataModule
    from torch import nn  # never run by the check

    class Net(nn.Module):
        def __init__(self, image_shape, depth: int, width: int = 8): ...
    class Blind(nn.Module):
        def __init__(self, depth: int = 1): ...
    class Data(LightningDataModule):
        def __init__(self, folder: str, seed: int): ...
"""


def test_classes_of_the_users_own(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_own_nets.py").write_text(dedent(USERS_MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    net: dict[str, Any] = {"_target_": "users_own_nets.Net", "depth": 2}
    check(set_node(composed(), "model.generator", net))
    data = {"_target_": "users_own_nets.Data", "folder": "."}
    check(set_node(composed(), "data", data))
    cases: list[tuple[dict[str, Any], str]] = [
        (net | {"widht": 3}, "did you mean 'width'?"),
        (net | {"width": "wide"}, "model.generator.width=wide: must be a whole number"),
        ({"_target_": net["_target_"]}, "generator.depth: is needed and missing; write +model.gen"),
        ({"_target_": net["_target_"], "dpeth": 2}, "of users_own_nets.Net; did you mean 'depth'?"),
        ({"_target_": "users_own_nets.Blind"}, "users_own_nets.Blind takes no image_shape"),
    ]
    for node, message in cases:
        (problem,) = find_problems(set_node(composed(), "model.generator", node))
        assert message in problem.text


def test_it_is_quick(composed: Compose) -> None:
    cfg = composed()
    check(cfg)
    started = time.perf_counter()
    for _ in range(10):
        check(cfg)
    assert (time.perf_counter() - started) / 10 < 0.05
