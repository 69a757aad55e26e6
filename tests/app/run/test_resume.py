"""A run goes on in its folder, with its config; what cannot be is refused by name."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from same import differences
from training import (
    ROOT,
    Compose,
    interruptible,
    mark,
    mistakes,
    resumed,
    rows,
    run_folder,
    short,
    status_of,
)
from training import trained as trained_in

from forger.app.cli.job import objective
from forger.app.config.command import Command
from forger.app.config.schema import SCHEDULED
from forger.app.run import resume
from forger.app.run.folder import locked
from forger.app.run.load import load_run, load_sampler
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError, DataError, DivergedError, RunError
from forger.whole_files import write_whole

EVERY_2 = "callbacks.checkpoint.every_n_steps=2"


def last(run: Path) -> dict[str, Any]:
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    del content["config"]
    return content


def untimed(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows(run)]


def iterations(run: Path) -> list[int]:
    return [int(row["step"]) for row in rows(run)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four iterations, with the choices of a command line on record."""
    run = trained_in(tmp_path_factory.mktemp("trained"), "loss=r3gan", EVERY_2, steps=4)
    environment = json.loads((run / "environment.json").read_text())
    environment["choices"] = {
        **{"model": "vanilla", "loss": "r3gan", "data": "mnist_sample", "trainer": "cpu"},
        **{"optimizer": "adam", "experiment": None, "logger": "csv", "debug": None},
        **{"metrics": "none", "schedule": "constant"},
    }
    (run / "environment.json").write_text(json.dumps(environment))
    return run


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint of iteration 2."""
    run = trained_in(tmp_path_factory.mktemp("earlier"), "loss=r3gan")
    return run / "checkpoints" / "last.ckpt"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "logs" / "default" / trained.name))


class TestGoingOn:
    def test_it_goes_on_in_its_folder(
        self, run: Path, tmp_path: Path, composed: Compose, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        before = status_of(run)
        metrics = train(resumed(run, "trainer.max_steps=9"))
        assert "last.ckpt, iteration 4, in epoch 1" in caplog.text
        assert iterations(run) == list(range(1, 10))
        status = status_of(run)
        assert (status["status"], status["iteration"]) == ("finished", 9)
        assert status["started"] == before["started"]
        assert OmegaConf.load(run / "config.yaml").trainer.max_steps == 9
        (entry,) = json.loads((run / "resumes.json").read_text())["resumes"]
        assert entry["iteration"] == 4
        assert run_folder(tmp_path) == run

        longer = short(tmp_path / "long", "loss=r3gan", EVERY_2, "metrics=none", steps=9)
        assert train(composed(*longer)).keys() == metrics.keys()
        assert not differences(last(run), last(run_folder(tmp_path / "long")))
        assert untimed(run) == untimed(run_folder(tmp_path / "long"))

    def test_rows_beyond_the_checkpoint_are_written_anew(self, run: Path, earlier: Path) -> None:
        expected = untimed(run)
        shutil.copy(earlier, run / "checkpoints" / "last.ckpt")
        text = (run / "metrics.csv").read_text()
        (run / "metrics.csv").write_text(text[:-20])  # cut off in its last row
        mark(run, "running")
        train(resumed(run))
        assert untimed(run) == expected
        assert last(run)["global_step"] == 4

    def test_before_the_first_checkpoint_it_begins_again(self, run: Path) -> None:
        expected, rows_before = last(run), untimed(run)
        left = [f".status.json.{'0' * 32}.tmp", f"checkpoints/.best.ckpt.{'0' * 32}.tmp"]
        for file in (run / "checkpoints").iterdir():
            file.unlink()
        for name in left:  # by a process that was killed
            (run / name).write_bytes(b"half of it")
        mark(run, "running")
        train(resumed(run))
        assert not differences(last(run), expected)
        assert untimed(run) == rows_before
        assert not [name for name in left if (run / name).exists()]

    def test_a_damaged_checkpoint_gives_way_to_the_one_before(
        self, run: Path, earlier: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected, path = last(run), run / "checkpoints" / "last.ckpt"
        shutil.copy(earlier, run / "checkpoints" / "previous.ckpt")
        path.write_bytes(path.read_bytes()[:1000])
        train(resumed(run))
        assert "taking the one before it, of iteration 2" in caplog.text
        assert not differences(last(run), expected)
        assert (run / "checkpoints" / "damaged.ckpt").exists()

    def test_a_run_killed_when_all_was_written_but_that_is_finished(self, run: Path) -> None:
        table, content = (run / "metrics.csv").read_bytes(), last(run)
        mark(run, "running")
        cfg = resumed(run, "objective=train/loss_d")
        assert objective(cfg, train(cfg)) == float(rows(run)[-1]["train/loss_d"])
        assert status_of(run)["status"] == "finished"
        assert (run / "metrics.csv").read_bytes() == table
        assert not differences(last(run), content)

    def test_what_fails_after_training_loses_none_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path, content: bytes) -> None:
            if path.name.startswith("000002"):
                raise OSError(28, "No space left on device")
            write_whole(path, content)

        with monkeypatch.context() as patch:
            patch.setattr("forger.callbacks.sample_grid.write_whole", fail)
            with pytest.raises(RunError, match=r"No space left .* stopped at iteration 2"):
                trained_in(tmp_path)
        run = run_folder(tmp_path)
        assert (last(run)["global_step"], status_of(run)["status"]) == (2, "failed")
        assert train(resumed(run)).keys() >= {"train/loss_g", "train/loss_d"}
        assert status_of(run)["status"] == "finished"
        assert (run / "samples" / "000002_ema.png").is_file()
        assert iterations(run) == [1, 2]

    def test_each_limit_that_is_reached_is_named(self, tmp_path: Path) -> None:
        run = trained_in(tmp_path, "trainer.max_steps=-1", "trainer.max_time=00:00:00:01")
        reached = r"has reached trainer\.max_time=00:00:00:01 .*max_time=<"
        with pytest.raises(ConfigError, match=reached):
            train(resumed(run))
        more = ("trainer.max_time=00:00:01:01", "trainer.max_epochs=1")
        iteration = last(run)["global_step"]
        with pytest.raises(ConfigError, match=r"max_steps=1 .*write trainer.max_steps=<more>"):
            train(resumed(run, "trainer.max_steps=1", *more))
        train(resumed(run, f"trainer.max_steps={iteration + 1}", *more))
        assert last(run)["global_step"] == iteration + 1

    def test_a_run_of_a_version_without_task_condition_and_augment(
        self, run: Path, earlier: Path
    ) -> None:
        """Nor schedules but those of learning rates: in config, checkpoint and record."""
        expected, images = last(run), load_sampler(run)[1].sample(3)
        content, path = read_checkpoint(earlier), run / "checkpoints" / "last.ckpt"
        config = OmegaConf.load(run / "config.yaml")
        for part in (config, content["config"]):
            del part["task"], part["condition"], part["augment"], part["model"]["ema_half_life"]
            for name in SCHEDULED:
                del part["schedule"][name]
        del content["task"], content["classes"]
        torch.save(content, path)
        OmegaConf.save(config, run / "config.yaml")
        mark(run, "running")
        assert "the run resumed has condition=none" in mistakes(run, "condition=label")[0]
        train(resumed(run, "condition=none", "augment=none", "task=from_noise"))
        assert not differences(last(run), expected)
        content = read_checkpoint(path)
        del content["config"]["task"], content["config"]["condition"], content["classes"]
        torch.save(content, path)
        assert torch.equal(load_sampler(run)[1].sample(3), images)
        assert load_run(run).gan.task.prior == "normal"

    def test_other_images_under_the_same_root_are_refused(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        others = {"image": torch.zeros(4500, 1, 28, 28, dtype=torch.uint8)}
        monkeypatch.setattr("forger.data.MNISTSample.read", lambda *_: others)
        with pytest.raises(ConfigError, match="training images are others than the run's"):
            train(resumed(run, "trainer.max_steps=9"))

    def test_a_checkpoint_without_the_place_is_refused(self, run: Path) -> None:
        path = run / "checkpoints" / "last.ckpt"
        content = read_checkpoint(path)
        del content["exact_resume"]
        torch.save(content, path)
        with pytest.raises(ConfigError, match=r"does not hold all .*init_from="):
            train(resumed(run, "trainer.max_steps=9"))


def test_a_run_that_ended_early_goes_on_with_more_patience_alone(tmp_path: Path) -> None:
    """Images seen never get fewer."""
    words = ["callbacks=early_stopping", "callbacks.early_stopping.metric=train/images_seen"]
    words += ["callbacks.early_stopping.mode=min", "callbacks.early_stopping.patience=2"]
    run = trained_in(tmp_path, *words, steps=9)
    status = status_of(run)
    assert (status["status"], status["iteration"]) == ("finished", 3)
    assert status["reason"] == (
        "ended early: train/images_seen was 2 times in a row no better than 8, of iteration 1"
    )
    mark(run, "running")  # killed before that was written
    train(resumed(run))
    status = status_of(run)
    assert (status["status"], status["iteration"], len(rows(run))) == ("finished", 3, 3)
    limit = r"has reached callbacks.early_stopping.patience=2 .*early_stopping.patience=<more>"
    with pytest.raises(ConfigError, match=limit):
        train(resumed(run))
    train(resumed(run, "callbacks.early_stopping.patience=4"))
    assert status_of(run)["iteration"] == 5


@pytest.mark.parametrize(
    "words",
    [
        "trainer.max_steps=100",
        "trainer.max_epochs=3 trainer.max_time=00:01:00:00 trainer.threads=2",
        "trainer=ddp_cpu logger=tensorboard",
        "logger=wandb logger.offline=true",
        "callbacks.samples=null callbacks.checkpoint.every_n_minutes=5",
        "model=vanilla loss=r3gan data=mnist_sample seed=0",
        "loss.gamma=0.05 optimizer.lr=2e-4",
        "dry_run=true",
    ],
)
def test_what_may_change(words: str, run: Path) -> None:
    assert not mistakes(run, *words.split())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model=dcgan", "model=dcgan: the run resumed has model=vanilla, and keeps it; "),
        ("data=cifar10", "data=cifar10: the run resumed has data=mnist_sample, "),
        ("experiment=quickstart", "the run resumed has experiment=null"),
        ("loss=hinge", "the run resumed has loss=r3gan"),
        ("optimizer.lr=1e-3", "optimizer.lr=1e-3: the run resumed has optimizer.lr=0.0002, "),
        ("seed=1", "the run resumed has seed=0"),
        ("data.batch_size=16", "the run resumed has data.batch_size=8"),
        ("model.generator.hidden=[3]", "the run resumed has model.generator.hidden=["),
        ("trainer.precision=64-true", "the run resumed has trainer.precision="),
        ("paths.log_dir=elsewhere", "the run resumed has paths.log_dir="),
        ("+loss.margin=1", "loss.margin=1: unknown setting of forger.losses.R3GAN"),
        ("+trainer.limit_train_batches=3", "limit_train_batches=3: the run resumed lacks it"),
        ("trainer.max_stps=3", "unknown setting of lightning.Trainer; did you mean 'max_steps'"),
        ("trainer.max_steps=many", "trainer.max_steps=many: must be "),
        ("modle=dcgan", "modle=dcgan: unknown setting; did you mean 'model'?"),
        ("model=dcgna", "model=dcgna: no such choice; did you mean 'dcgan'?"),
    ],
)
def test_what_may_not_change(word: str, message: str, run: Path) -> None:
    found = "\n".join(mistakes(run, word))
    assert message in found
    assert f"init_from={run}" in found or "the run resumed" not in message


def going_on(*overrides: str, multirun: bool = False) -> Any:
    return resume.prepare(Command(ROOT / "configs", "train", overrides, multirun=multirun))


class TestWhichRun:
    def test_no_run(self, run: Path, tmp_path: Path) -> None:
        for value in (tmp_path / "none", tmp_path, run / "checkpoints"):
            with pytest.raises(ConfigError, match=f"resume={value}: is no run folder; write"):
                resumed(value)
        for value, multirun in (("", False), (f"{run},{run}", False), (run, True)):
            with pytest.raises(ConfigError, match="goes on with one run"):
                going_on(f"resume={value}", multirun=multirun)

    def test_the_last_one(self, run: Path, tmp_path: Path) -> None:
        older = Path(shutil.copytree(run, run.with_name("older")))
        (older / "status.json").write_text(json.dumps(status_of(run) | {"started": "2001"}))
        overrides = ("resume=last", f"paths.log_dir={tmp_path / 'logs'}")
        command, cfg = going_on(*overrides)
        assert command.overrides == (f"resume='{run}'",)
        assert (cfg.resume, cfg.hydra.run.dir) == (str(run), str(run))
        with pytest.raises(ConfigError, match=r"there is no run in .*/else; write"):
            going_on(*overrides, "name=else")

    def test_a_live_one(self, run: Path) -> None:
        cfg = resumed(run, "trainer.max_steps=9")
        mark(run, "running")
        with locked(run):
            assert "is being trained by process" in mistakes(run)[0]
            with pytest.raises(ConfigError, match="is being trained by process"):
                train(cfg)
        assert len(rows(run)) == 4


class TestInitFrom:
    def test_a_new_run_starts_from_old_weights(self, run: Path, tmp_path: Path) -> None:
        words = ["loss=hinge", f"init_from={run}", "optimizer.lr=1e-30", "seed=4"]
        folder = trained_in(tmp_path / "new", *words, steps=1)
        new, old = last(folder), last(run)
        assert (new["global_step"], new["images_seen"], iterations(folder)) == (1, 8, [1])
        for name, weight in old["state_dict"].items():
            if name.startswith("discriminator."):
                torch.testing.assert_close(new["state_dict"][name], weight)
        # The average's warm-up goes on where it was.
        assert new["earlier_updates"] == old["global_step"] > 0
        updates = old["global_step"] + 1
        name = "generator.layers.0.weight"
        average = f"ema_{name.replace('.', '.module.', 1)}"
        share = 1 - (1 + updates) / (10 + updates)
        expected = torch.lerp(old["state_dict"][average], old["state_dict"][name], share)
        torch.testing.assert_close(new["state_dict"][average], expected)

    def test_what_cannot_be_taken(self, run: Path, composed: Compose, tmp_path: Path) -> None:
        words = [f"init_from={run}", "model.generator.latent_dim=7"]
        with pytest.raises(ConfigError, match=r"size mismatch for generator.layers.0.weight: "):
            train(composed(*short(tmp_path / "new", *words)))
        path = run / "checkpoints" / "last.ckpt"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(DataError, match="cannot be read as a checkpoint"):
            train(composed(*short(tmp_path / "new", f"init_from={path}")))
        assert not (tmp_path / "new" / "logs").exists()


def test_training_that_diverges_keeps_the_last_good_checkpoint(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = ["callbacks.checkpoint.every_n_steps=1", "optimizer=sgd", "optimizer.lr=1e30"]
    with pytest.raises(DivergedError, match=r"diverged at iteration \d+: the \w+'s \w+ "):
        train(composed(*short(tmp_path, *words, steps=100)))
    run = run_folder(tmp_path)
    status = status_of(run)
    assert (status["status"], status["error"]) == ("failed", "DivergedError")
    assert status["reason"].startswith("training diverged at iteration")
    assert "to go on" not in caplog.text, "it would diverge again"
    assert "what helps      the same settings would diverge again; lower" in caplog.text
    for path in (run / "checkpoints").glob("last.ckpt"):
        weights = read_checkpoint(path)["state_dict"].values()
        assert all(w.isfinite().all() for w in weights if w.is_floating_point())


def test_a_signal_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    """The real command, from a terminal's view."""
    words = ["trainer.threads=1", "data.batch_size=64", "metrics=none"]
    words = short(tmp_path, *words, steps=100_000)
    with interruptible(str(ROOT / "train.py"), *words) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            tables = list((tmp_path / "logs").rglob("metrics.csv"))
            if tables and rows(tables[0].parent):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM" in errors
    assert "Traceback" not in errors
    run = run_folder(tmp_path)
    status = status_of(run)
    assert (status["status"], status["reason"]) == ("interrupted", "SIGTERM")
    stopped = status["iteration"]
    assert last(run)["global_step"] == stopped > 0
    train(resumed(run, f"trainer.max_steps={stopped + 5}", "callbacks.samples=null"))
    assert iterations(run) == list(range(1, stopped + 6))
    assert len((run / "metrics.csv").read_text().splitlines()) == stopped + 6
