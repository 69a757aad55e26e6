"""What somebody else's run may bring: classes of known packages and nothing that runs."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from composing import compose_config
from hostile import PLACES, Trap, put
from omegaconf import DictConfig, OmegaConf
from own_project import NETWORK
from training import ROOT, mistakes, resumed, run_folder, short

import forger
from forger.app.cli.ending import ending_of
from forger.app.config import signatures
from forger.app.config.records import find_untrusted
from forger.app.config.source import find_module
from forger.app.config.trust import is_named, links_out_of
from forger.app.run.evaluate import evaluate
from forger.app.run.generate import generate
from forger.app.run.load import load_run
from forger.app.run.train import train
from forger.app.sweep.folder import Outcome
from forger.app.sweep.pictures import read_samples
from forger.array_files import DamagedError, map_array
from forger.errors import ConfigError, UserError
from forger.metrics.classifier import load_classifier
from forger.metrics.inception import Inception

TINY = ("model.generator.hidden=[8]", "model.discriminator.hidden=[8]")


def settings_of_generate(run: Any, **settings: Any) -> DictConfig:
    cfg = compose_config("generate", f"run={run}", "device=cpu")
    return OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(cfg)), settings)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    train(compose_config("train", *short(folder, *TINY, "metrics=none")))
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


def rewrite(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the config of a run, in its checkpoint and its file."""
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content["config"])
    torch.save(content, path)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(content["config"]))


@pytest.fixture
def forged(trained: Path, tmp_path: Path) -> Forge:
    """Changes the config of a copy of the run."""

    def forge(change: Callable[[dict[str, Any]], Any]) -> Path:
        shutil.copytree(trained, tmp_path / "somebodys", dirs_exist_ok=True)
        rewrite(tmp_path / "somebodys", change)
        return tmp_path / "somebodys"

    return forge


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


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
    "evaluate": lambda run: evaluate(
        compose_config("evaluate", f"run={run}", "metrics.num_fake=2")
    ),
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
    for node in trap.nodes[::15]:  # of all of them, `find_untrusted` tells above
        run = forged(lambda config, node=node: put(config, place, node))
        before = everything(run)
        with pytest.raises(UserError) as caught:
            ENTRIES[entry](run)
        assert place in str(caught.value)
        assert ending_of(caught.value).code == 2
        assert everything(run) == before, node
        assert not trap.sprung, node


def test_what_training_starts_from_is_weights_alone(
    forged: Forge, trap: Trap, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        for place in ("model.generator.hidden", "data", "callbacks.evil", "logger"):
            put(config, place, trap.nodes[0])

    run = forged(change)
    train(compose_config("train", *short(tmp_path, *TINY, "metrics=none", f"init_from={run}")))
    assert not trap.sprung


def node(target: str, **arguments: str) -> dict[str, str]:
    return {"_target_": f"lightning.pytorch.{target}", **arguments}


READS = "a record holds values"
DECIDES = "does not decide"


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("name", "${oc.env:HOME}", READS),
        ("model.generator.hidden", ["${hydra:runtime.cwd}"], READS),
        ("loss._target_", "forger.losses.AdversarialLos", None),
        ("loss._target_", "torch.nn.BCELoss", "a record may name classes of forger here"),
        ("task._target_", "torch.nn.Bilinear", "a record may name classes of forger here"),
        ("task._target_", "forger.conditions.Labels", "must derive from forger.tasks.Task"),
        ("condition._target_", "torch.nn.Module", "a record may name classes of forger here"),
        ("loss._target_", "forger.networks.mlp.Generator", "must derive from forger.losses"),
        ("model.generator._target_", "torch.optim.Adam", "must derive from torch.nn.Module"),
        ("model.generator._target_", "torchmetrics.image.fid.FrechetInceptionDistance", "classes"),
        ("model.generator._target_", "lightning.pytorch.demos.boring_classes.BoringModel", "may"),
        ("model.generator._target_", "torch.testing._internal.common_utils.TestCase", "may name"),
        ("model.generator._args_", [1], "has no place in a record"),
        ("model.generator._partial_", True, "has no place in a record"),
        ("data._target_", "lightning.pytorch.demos.mnist_datamodule.MNISTDataModule", "forger"),
        ("data._target_", "lightning.LightningDataModule", "a record may name classes of forger"),
        ("callbacks.x", node("callbacks.Timer"), None),
        ("callbacks.x", node("callbacks.LambdaCallback", on_fit_start="x"), None),
        (
            "callbacks.x",
            node("callbacks.ModelCheckpoint", dirpath="here"),
            f"=here: a record {DECIDES}",
        ),
        ("callbacks.x", node("callbacks.ModelCheckpoint", filename="../../x"), DECIDES),
        ("callbacks.x", {"_target_": "forger.networks.mlp.Generator"}, "must derive from"),
        ("trainer.profiler", node("profilers.SimpleProfiler"), None),
        ("trainer.profiler", node("profilers.AdvancedProfiler", dirpath="/tmp"), DECIDES),
        ("trainer.profiler", node("Trainer"), "no such object belongs"),
        ("trainer.default_root_dir", "/tmp", DECIDES),
        ("trainer.max_steps", {"_target_": "torch.nn.Linear"}, "no such object belongs"),
        ("trainer.plugins", [node("plugins.io.TorchCheckpointIO")], None),
        ("logger.x", node("loggers.CSVLogger", name="/tmp"), DECIDES),
        (
            "logger.x",
            {"_target_": "forger.loggers.MLflow", "tracking_uri": "http://a.b"},
            f"tracking_uri=http://a.b: a record {DECIDES}",
        ),
    ],
)
def test_classes_of_the_right_kind_and_others(
    place: str, value: Any, told: str | None, known: dict[str, Any]
) -> None:
    problems = find_untrusted(put(copy.deepcopy(known), place, value), build=[""])
    assert len(problems) == (told is not None)
    if told is not None:
        assert place in problems[0]
        assert re.search(told, problems[0])


def test_every_choice_of_ours_is_let_through() -> None:
    groups = ("model", "loss", "data", "optimizer", "schedule", "callbacks", "logger", "metrics")
    groups += ("task", "condition", "augment")
    features = sorted((ROOT / "configs" / "metrics" / "features").glob("*.yaml"))
    words = [f"metrics/features={path.stem}" for path in features]
    for group in groups:
        for path in sorted((ROOT / "configs" / group).glob("*.yaml")):
            words.append(f"{group}={path.stem}")
    for word in words:
        config = OmegaConf.to_container(compose_config("train", word), resolve=True)
        assert isinstance(config, dict)
        trust = [config["paths"]["log_dir"]] if word == "logger=mlflow" else []
        assert find_untrusted(config, trust, build=[""]) == [], word


def test_what_trust_names() -> None:
    assert is_named("my_nets.deep.G", ["other", "my_nets.deep"])
    assert not is_named("my_nets_too.G", ["my_nets"])
    assert is_named("/data/a/b", ["/data/a"])
    assert not is_named("/data/a/../b", ["/data/a"])


class TestOwnClasses:
    """A run whose networks are in a module of the user's own."""

    @pytest.fixture
    def run(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> Path:
        monkeypatch.syspath_prepend(str(tmp_path))
        factory = "def make(image_shape):\n    return Generator(image_shape)\n"
        (tmp_path / "own_nets.py").write_text(f"{NETWORK}\n\n{factory}")
        modules = {"generator": "Generator", "discriminator": "Discriminator"}
        (tmp_path / "recipes" / "model").mkdir(parents=True)
        (tmp_path / "recipes" / "model" / "own.yaml").write_text(
            "".join(f"{key}:\n  _target_: own_nets.{name}\n" for key, name in modules.items())
        )
        search = f"hydra.searchpath=[{tmp_path / 'recipes'}]"
        train(compose_config("train", *short(tmp_path, "model=own", "metrics=none", search)))
        following = capsys.readouterr().out.splitlines()[-2:]
        assert all(line.endswith(" 'trust=[own_nets]'") for line in following), following
        self.forget(monkeypatch)
        return run_folder(tmp_path)

    @staticmethod
    def forget(monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a new process."""
        find_module.cache_clear()
        signatures._read_signature.cache_clear()
        for name in ("own_nets", "new_nets"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    def test_they_are_refused_until_trusted(self, run: Path) -> None:
        for entry in ENTRIES.values():
            with pytest.raises(ConfigError) as caught:
                entry(run)
            assert "model.generator._target_=own_nets.Generator" in str(caught.value)
            assert "write trust=[own_nets]" in str(caught.value)
        assert "own_nets" not in sys.modules
        assert len(forger.load(run, trust=["own_nets"]).sample(2)) == 2
        assert load_run(run, trust=["own_nets.Generator", "own_nets.Discriminator"]).iteration == 2
        generate(settings_of_generate(run, trust=["own_nets"], n=1))
        assert mistakes(run, "trust=[own_nets]") == []
        # what is typed is the user's, and so is what the command's own config names
        typed = ("generator._target_=own_nets.Generator",)
        assert "discriminator" in mistakes(run, *(f"model.{word}" for word in typed))[0]
        typed = (*typed, "discriminator._target_=own_nets.Discriminator")
        assert mistakes(run, *(f"model.{word}" for word in typed)) == []

    def test_a_moved_module_is_found_at_its_new_place(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "own_nets.py").rename(tmp_path / "new_nets.py")
        self.forget(monkeypatch)
        with pytest.raises(ConfigError) as caught:
            forger.load(run, trust=["own_nets"])
        assert "no module 'own_nets' is installed or in this folder" in str(caught.value)
        assert "write moved={own_nets.Generator:<its new place>}" in str(caught.value)
        assert "version" not in str(caught.value)
        moved = {"own_nets": "new_nets"}
        assert len(forger.load(run, moved=moved).sample(2)) == 2
        each = {f"own_nets.{name}": f"new_nets.{name}" for name in ("Generator", "Discriminator")}
        assert load_run(run, moved=each).iteration == 2
        generate(settings_of_generate(run, moved=moved, n=1))
        assert "write moved=" in mistakes(run, "trust=[own_nets]")[0]
        assert mistakes(run, "moved={own_nets:new_nets}") == []
        train(resumed(run, "moved={own_nets:new_nets}", "trainer.max_steps=3"))
        config = OmegaConf.load(run / "config.yaml")
        assert config.model.generator._target_ == "new_nets.Generator"
        assert "trust" not in config
        assert "moved" not in config

    def test_a_function_is_named_itself(self, run: Path) -> None:
        rewrite(run, lambda content: put(content, PLACES[0] + "._target_", "own_nets.make"))
        with pytest.raises(ConfigError, match=r"is no class.* write trust=.own_nets\.make"):
            forger.load(run, trust=["own_nets"])
        forger.load(run, trust=["own_nets", "own_nets.make"])


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": {"features": {"_target_": "torch.load"}}},
        {"metrics": {"features": {"_target_": "forger.networks.mlp.Generator"}}},
        {"metrics": {"features": {"_target_": "own.Features"}}},
        {"metrics": {"k": {"_target_": "os.system"}}},
        {"metrics": {"k": "${oc.env:HOME}"}},
        {"run": "elsewhere"},
        {"paths": {"cache_dir": "/elsewhere"}},
        {"checkpoint": "../../best"},
        {"device": "cpu", "data": {"root": "/elsewhere"}},
    ],
)
def test_a_protocol_is_a_record_too(
    settings: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"protocol": {"settings": settings}}))
    before = everything(trained)
    with pytest.raises(UserError):
        evaluate(compose_config("evaluate", f"run={trained}", f"protocol={path}"))
    assert everything(trained) == before


class TestFiles:
    """Files with something to run in them, in a run's folder."""

    def test_yaml(self, forged: Forge, trap: Trap) -> None:
        run = forged(lambda _: None)
        text = (run / "config.yaml").read_text()
        for tag in ("!!python/object/apply:os.system", "!!python/name:os.system"):
            (run / "config.yaml").write_text(f"{text}\nextra: {tag} ['touch {trap.mark}']\n")
            (found,) = mistakes(run)
            assert "config.yaml cannot be read" in found
        assert not trap.sprung

    @pytest.mark.parametrize("name", ["last.ckpt", "previous.ckpt"])
    def test_checkpoints(self, name: str, forged: Forge, trap: Trap) -> None:
        run = forged(lambda _: None)
        for whole in ("last.ckpt", "previous.ckpt"):
            (run / "checkpoints" / whole).unlink(missing_ok=True)
        torch.save({"state_dict": trap.payload}, run / "checkpoints" / name)
        for entry in ("load_run", "generate", "train"):
            with pytest.raises(UserError):
                ENTRIES[entry](run)
        words = short(run, *TINY, f"init_from={run / 'checkpoints' / name}")
        with pytest.raises(UserError, match="could run code"):
            train(compose_config("train", *words))
        shutil.copy(trap.pickle, run / "checkpoints" / name)
        with pytest.raises(UserError):
            forger.load(run / "checkpoints" / name)
        assert not trap.sprung

    def test_arrays_classifiers_and_weights(self, trap: Trap, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([trap.payload], dtype=object), allow_pickle=True)
        with pytest.raises((DamagedError, ValueError)):
            map_array(tmp_path / "a.npy", torch.uint8, (None,))
        torch.save({"seal": trap.payload}, tmp_path / "classifier.pt")
        assert load_classifier(tmp_path / "classifier.pt") is None
        data: Any = SimpleNamespace(train_images=torch.zeros(1, 1, 8, 8))
        with pytest.raises(ConfigError):
            Inception(weights=tmp_path / "classifier.pt").prepare(data, tmp_path)
        assert not trap.sprung

    def test_images(self, forged: Forge) -> None:
        """PostScript is a program, which Pillow would have Ghostscript run."""
        run = forged(lambda _: None)
        script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
        (run / "samples" / "last.png").write_bytes(script)
        outcome = Outcome(number=0, overrides=(), folder=run, status="finished")
        with patch("PIL.EpsImagePlugin.Ghostscript", side_effect=AssertionError):
            assert read_samples(outcome, 64) is None


class TestPlaces:
    """What a record says of where to write."""

    def test_caches_of_a_run_that_goes_on(self, forged: Forge, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        run = forged(lambda config: put(config, "paths.cache_dir", str(elsewhere)))
        assert resumed(run).paths.cache_dir == compose_config("train").paths.cache_dir
        typed = f"paths.cache_dir={elsewhere}"
        assert resumed(run, typed).paths.cache_dir == str(elsewhere)
        elsewhere.mkdir()
        (elsewhere / "classifier-01.pt").touch()
        assert resumed(run).paths.cache_dir == str(elsewhere)  # in use already

    def test_downloads(self, forged: Forge, tmp_path: Path) -> None:
        node = {"_target_": "forger.data.MNIST", "root": str(tmp_path), "download": True}
        run = forged(lambda config: put(config, "data", {**node, "batch_size": 8}))
        assert resumed(run).data.download is False
        with pytest.raises(UserError, match=r"data\.download=false"):
            evaluate(compose_config("evaluate", f"run={run}"))
        assert not (tmp_path / "MNIST").exists()

    @pytest.mark.parametrize("name", ["samples", "train.log", "generated", "scores"])
    def test_links(self, name: str, forged: Forge, tmp_path: Path) -> None:
        run = forged(lambda _: None)
        (tmp_path / "mine").mkdir()
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        (run / name).symlink_to(tmp_path / "mine")
        assert f"is a link to {tmp_path / 'mine'}" in mistakes(run)[0]
        assert mistakes(run, f"trust=['{tmp_path / 'mine'}']") == []
        if name in ("generated", "scores"):
            entry = {"generated": "generate", "scores": "evaluate"}[name]
            with pytest.raises(UserError, match="is a link to"):
                ENTRIES[entry](run)
        assert not list((tmp_path / "mine").iterdir())

    def test_the_link_that_wandb_makes(self, tmp_path: Path) -> None:
        """It leads to a log in the user's cache, and nobody opens it by this name."""
        run, elsewhere = tmp_path / "run", tmp_path / "wandb" / "logs" / "x.log"
        (run / "wandb" / "offline-run-1" / "logs").mkdir(parents=True)
        (run / "wandb" / "offline-run-1" / "logs" / "debug-core.log").symlink_to(elsewhere)
        assert links_out_of(run) == []
        for name in ("train.log", "wandb/offline-run-1/logs/debug.log", "logs/debug-core.log"):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).symlink_to(elsewhere)
            assert f"is a link to {elsewhere}" in links_out_of(run)[0]
            (run / name).unlink()

    def test_files_that_lightnings_callbacks_would_replace(self, forged: Forge) -> None:
        run = forged(lambda _: None)
        path = run / "checkpoints" / "last.ckpt"
        content = torch.load(path, weights_only=True)
        content["callbacks"] = {"ModelCheckpoint": {"best_k_models": {f"{run}/../../x": 1.0}}}
        torch.save(content, path)
        with pytest.raises(ConfigError, match="name files above a folder"):
            going_on(run)

    def test_searches_and_servers(self, forged: Forge, tmp_path: Path) -> None:
        trial = {"study": "x", "number": 0, "metric": "val/fid"}
        for storage in (f"sqlite:///{tmp_path / 'x.db'}", "postgresql://there/x"):
            node = {**trial, "storage": storage}
            run = forged(lambda config, node=node: put(config, "sweep.trial", node))
            assert "sweep.trial.storage" in mistakes(run)[0]
            assert mistakes(run, f"trust=['{storage}']") == []
        node = {"_target_": "forger.loggers.MLflow", "local_dir": str(tmp_path / "db")}
        run = forged(lambda config: put(config, "logger", {"mlflow": node}))
        assert "logger.mlflow.local_dir" in mistakes(run)[0]
        assert mistakes(run, f"logger.mlflow.local_dir={tmp_path}") == []
