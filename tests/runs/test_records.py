"""What somebody else's run may bring: classes of known packages and nothing that runs."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import PLACES, Trap, put
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from test_generate import config as settings_of_generate
from training import ROOT, run_folder, short

import forger
from forger.errors import ConfigError, UserError
from forger.runs import resume
from forger.runs.checking.records import find_untrusted, is_named
from forger.runs.checking.words import Command
from forger.runs.evaluate import evaluate
from forger.runs.generate import generate
from forger.runs.load import load_run
from forger.runs.train import train

TINY = ("model.generator.hidden=[8]", "model.discriminator.hidden=[8]")


def composed(name: str, *words: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, overrides=list(words))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    train(composed("train", *short(folder, *TINY, "metrics=none")))
    return run_folder(folder)


@pytest.fixture(scope="module")
def known(trained: Path) -> dict[str, Any]:
    """Its config."""
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    found: dict[str, Any] = content["config"]
    found["metrics"] = {"features": {"_target_": "forger.metrics.classifier.Classifier"}, "k": 3}
    return found


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """Somebody's files, in a folder that modules are found in, as the user's own is."""
    (tmp_path / "trap").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "trap"))
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    return Trap(tmp_path / "trap")


Forge = Callable[[Callable[[dict[str, Any]], Any]], Path]


@pytest.fixture
def forged(trained: Path, tmp_path: Path) -> Forge:
    """Changes the config of a copy of the run, in its checkpoint and its file."""
    copied = Path(shutil.copytree(trained, tmp_path / "somebodys"))
    path = copied / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    original = content["config"]

    def forge(change: Callable[[dict[str, Any]], Any]) -> Path:
        content["config"] = copy.deepcopy(original)
        change(content["config"])
        torch.save(content, path)
        (copied / "config.yaml").write_text(OmegaConf.to_yaml(content["config"]))
        return copied

    return forge


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


def mistakes(run: Path, *words: str) -> list[str]:
    words = (f"resume={run}", *words)
    return resume.find_mistakes(Command(ROOT / "configs", "train", list(words)), run)


def going_on(run: Path) -> None:
    """As a notebook would: the run's own file, and nothing checked before."""
    cfg = OmegaConf.load(run / "config.yaml")
    assert isinstance(cfg, DictConfig)
    cfg.resume = str(run)
    train(cfg)


def from_the_command_line(run: Path) -> None:
    problems = mistakes(run)
    if problems:
        raise ConfigError("\n".join(problems))


ENTRIES: dict[str, Callable[[Path], Any]] = {
    "forger.load": forger.load,
    "load_run": load_run,
    "generate": lambda run: generate(settings_of_generate(run)),
    "evaluate": lambda run: evaluate(composed("evaluate", f"run={run}", "metrics.num_fake=2")),
    "resume": from_the_command_line,
    "train": going_on,
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_hostile_is_let_through_anywhere(
    place: str, known: dict[str, Any], trap: Trap
) -> None:
    for node in trap.nodes:
        found = find_untrusted(put(copy.deepcopy(known), place, node), build=[""])
        assert any(place in problem for problem in found), (node, found)
        assert not trap.sprung, node
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("place", ["model.generator", "model.generator.hidden", "callbacks.evil"])
def test_no_entry_runs_it(entry: str, place: str, forged: Forge, trap: Trap) -> None:
    nodes = trap.nodes if entry == "forger.load" else trap.nodes[:: 6 if entry != "resume" else 15]
    for node in nodes:
        run = forged(lambda config, node=node: put(config, place, node))
        before = everything(run)
        with pytest.raises(UserError) as caught:
            ENTRIES[entry](run)
        assert place in str(caught.value)
        assert everything(run) == before, node
        assert not trap.sprung, node


def test_what_training_starts_from_is_weights_alone(
    forged: Forge, trap: Trap, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        for place in ("model.generator.hidden", "data", "callbacks.evil", "logger"):
            put(config, place, trap.nodes[0])

    run = forged(change)
    train(composed("train", *short(tmp_path, *TINY, "metrics=none", f"init_from={run}")))
    assert not trap.sprung


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("name", "${oc.env:HOME}", "a record holds values"),
        ("model.generator.hidden", ["${hydra:runtime.cwd}"], "a record holds values"),
        ("loss._target_", "forger.losses.AdversarialLos", None),
        ("loss._target_", "torch.nn.BCELoss", "a record may name classes of forger here"),
        ("loss._target_", "forger.networks.mlp.Generator", "must derive from forger.losses"),
        ("model.generator._target_", "torch.optim.Adam", "must derive from torch.nn.Module"),
        ("model.generator._target_", "torchmetrics.image.fid.FrechetInceptionDistance", "classes"),
        ("model.generator._target_", "lightning.pytorch.demos.boring_classes.BoringModel", "may"),
        ("model.generator._target_", "torch.testing._internal.common_utils.TestCase", "may name"),
        ("model.generator._args_", [1], "has no place in a record"),
        ("model.generator._partial_", True, "has no place in a record"),
        ("data._target_", "lightning.pytorch.demos.mnist_datamodule.MNISTDataModule", "forger"),
        ("data._target_", "lightning.LightningDataModule", "a record may name classes of forger"),
        ("callbacks.x", {"_target_": "lightning.pytorch.callbacks.Timer"}, None),
        (
            "callbacks.x",
            {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "here"},
            "dirpath=here: a record does not decide where things are written",
        ),
        (
            "callbacks.x",
            {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "filename": "../../x"},
            "does not decide where things are written",
        ),
        (
            "callbacks.x",
            {"_target_": "lightning.pytorch.callbacks.LambdaCallback", "on_fit_start": "x"},
            None,
        ),
        ("callbacks.x", {"_target_": "forger.networks.mlp.Generator"}, "must derive from"),
        ("trainer.profiler", {"_target_": "lightning.pytorch.profilers.SimpleProfiler"}, None),
        (
            "trainer.profiler",
            {"_target_": "lightning.pytorch.profilers.AdvancedProfiler", "dirpath": "/tmp"},
            "dirpath=/tmp: a record does not decide",
        ),
        ("trainer.profiler", {"_target_": "lightning.pytorch.Trainer"}, "no such object belongs"),
        ("trainer.default_root_dir", "/tmp", "does not decide"),
        ("trainer.max_steps", {"_target_": "torch.nn.Linear"}, "no such object belongs"),
        (
            "trainer.plugins",
            [{"_target_": "lightning.pytorch.plugins.io.TorchCheckpointIO"}],
            None,
        ),
        ("logger.x", {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "/tmp"}, "decide"),
        (
            "logger.x",
            {"_target_": "forger.loggers.MLflow", "tracking_uri": "http://a.b"},
            "tracking_uri=http://a.b: a record does not decide",
        ),
    ],
)
def test_classes_of_the_right_kind_and_others(
    place: str, value: Any, told: str | None, known: dict[str, Any]
) -> None:
    problems = find_untrusted(put(copy.deepcopy(known), place, value), build=[""])
    if told is None:
        assert not problems
    else:
        assert len(problems) == 1
        assert place in problems[0]
        assert told in problems[0]


def test_every_choice_of_ours_is_let_through() -> None:
    for words in (
        ["model=dcgan", "metrics=paper", "data=cifar10", "loss=wgan_gp", "optimizer=rmsprop"],
        ["model=subpixel", "data=image_folder", "schedule=cosine", "logger=[wandb,tensorboard]"],
    ):
        config = OmegaConf.to_container(composed("train", *words), resolve=True)
        assert isinstance(config, dict)
        assert find_untrusted(config, build=[""]) == []


def test_what_trust_names() -> None:
    assert is_named("my_nets.G", ["my_nets"])
    assert is_named("my_nets.deep.G", ["other", "my_nets.deep"])
    assert is_named("my_nets.G", ["my_nets.G"])
    assert not is_named("my_nets_too.G", ["my_nets"])
    assert is_named("/data/a/b", ["/data/a"])
    assert not is_named("/data/a/../b", ["/data/a"])
