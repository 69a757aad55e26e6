"""The command line: mistakes are told early and plainly, whatever else is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from training import interruptible

from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

ROOT = Path(__file__).parents[3]


def python(
    script: Path | str, *words: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    hidden = {"HYDRA_FULL_ERROR", "LOCAL_RANK"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def mistakes(*words: str, multirun: bool = False) -> list[str]:
    return find_mistakes(Command(ROOT / "configs", "train", words, multirun))


class TestMistakesInWords:
    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("model=3", "model=3: no such choice. Allowed: dcgan, "),
            ("model=null", "model=null: no such choice. Allowed: dcgan, "),
            ("model={a:1}", "model={a:1}: must name a file; write model.a=1"),
            ("+model=dcgan", "+model=dcgan: write model=dcgan"),
            ("data=[mnist,cifar10]", "data=[mnist,cifar10]: takes one choice. Allowed: cifar10, "),
            ("logger=[csv,wnadb]", "logger=wnadb: no such choice; did you mean 'wandb'?"),
            ("experiment=nope", "experiment=nope: no such choice. Allowed: "),
            ("model=dcgan,vanilla", "several values; add -m for a run of each"),
            ("modle=dcgan", "modle=dcgan: unknown setting; did you mean 'model'? Allowed: "),
            ("loss.gama=1", "loss.gama=1: unknown setting of forger.losses.NonSaturating"),
            ("loss.gama=1", "did you mean 'r1_gamma'? Allowed: label_smoothing, n_critic, "),
            ("data.batch_sise=3", "data.batch_sise=3: unknown setting of forger.data.MNIST; "),
            ("seed.x=1", "seed={x:1}: must be a whole number"),
            ("trainer.benchmark=true", "to add it, write +trainer.benchmark=true"),
            ("trainer.max_depth=3", "trainer.max_depth=3: unknown setting of lightning.Trainer"),
            ("trainer.max_steps=", "trainer.max_steps='': must be a whole number of at least 1"),
            ("+seed=1", "+seed=1: is already there; write seed=1"),
            ("~loss.gama", "~loss.gama: there is nothing to remove"),
            ("nonsense", "nonsense: is not a setting; write <setting>=<value>"),
            ("name=[a", "name=[a: cannot be read; quote a value"),
            ("data=image_folder", "data.root: is needed; write data.root=<folder of images>"),
        ],
    )
    def test_message(self, word: str, message: str) -> None:
        (found,) = mistakes(word)
        assert message in found

    def test_all_at_once(self) -> None:
        found = mistakes("modle=dcgan", "loss=hing", "data.batch_size=0", "seed", "trainer.x=1")
        assert len(found) == 5

    def test_hydras_words_may_come_twice(self) -> None:
        """A run adds its folder for the processes that it starts."""
        assert mistakes("hydra.run.dir=a", "hydra.run.dir=b") == []

    def test_right_commands_have_none(self) -> None:
        assert mistakes() == []
        assert mistakes("model=dcgan", "loss=hinge", "+trainer.benchmark=true", "seed=null") == []
        assert mistakes("~callbacks.samples", "callbacks.progress=null") == []
        assert mistakes("logger=[wandb,tensorboard]", "logger.offline=true") == []

    def test_a_setting_of_another_choice_is_told_where_it_belongs(self) -> None:
        (found,) = mistakes("logger.offline=true")
        assert found == "logger.offline=true: unknown setting; it is a setting of logger=wandb"
        (found,) = mistakes("loss.gamma=1")
        assert found.endswith("it is a setting of loss=r3gan")

    def test_a_sweep_is_refused_for_any_of_its_words(self) -> None:
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
        command = Command(
            ROOT / "configs", "train", ("experiment=mine",), extra_config_dir=str(tmp_path)
        )
        (found,) = find_mistakes(command)
        assert found.startswith("model=dcgna, which a chosen file asks for: no such choice")


class TestTrainPy:
    """The real entry point, in a process of its own."""

    def test_one_message_and_no_folder(self, tmp_path: Path) -> None:
        done = python(ROOT / "train.py", "model=dcgna", "data.batch_size=-1", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines() == [
            "error: 2 problems:",
            "  model=dcgna: no such choice; did you mean 'dcgan'?"
            " Allowed: dcgan, subpixel, vanilla",
            "  data.batch_size=-1: must be a whole number of at least 1",
        ]
        assert list(tmp_path.iterdir()) == []

    def test_the_traceback_on_request(self, tmp_path: Path) -> None:
        done = python(ROOT / "train.py", "model=dcgna", cwd=tmp_path, HYDRA_FULL_ERROR="1")
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert "ConfigError: model=dcgna: no such choice" in done.stderr

    def test_nothing_heavy_is_imported(self, tmp_path: Path) -> None:
        script = tmp_path / "look.py"
        script.write_text(
            dedent(
                f"""
                import runpy, sys
                sys.argv = ["train.py", "data.batch_size=-1", "trainer=gpu"]
                try:
                    runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
                finally:
                    print(sorted({{"torch", "lightning", "numpy", "wandb"}} & set(sys.modules)))
                """
            )
        )
        assert python(script, cwd=tmp_path).stdout == "[]\n"

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            (["--help"], "model: dcgan, subpixel, vanilla"),
            (["--cfg", "job"], "_target_: lightning.Trainer"),
            (["--hydra-help"], "Hydra"),
            (["--info", "searchpath"], "Provider"),
            (["--cfg", "job", "-p", "loss", "loss=hinge"], "_target_: forger.losses.Hinge"),
        ],
    )
    def test_hydras_own_flags(self, flags: list[str], expected: str, tmp_path: Path) -> None:
        done = python(ROOT / "train.py", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["train", "evaluate", "generate"])
    def test_help_fits_80_columns(self, name: str, tmp_path: Path) -> None:
        done = python(ROOT / f"{name}.py", "--help", cwd=tmp_path, COLUMNS="80")
        assert max(map(len, done.stdout.splitlines())) <= 80
        losses = sorted(path.stem for path in (ROOT / "configs" / "loss").glob("*.yaml"))
        assert name != "train" or f"loss: {', '.join(losses)}" in " ".join(done.stdout.split())

    def test_hydras_own_flags_with_a_mistake(self, tmp_path: Path) -> None:
        done = python(ROOT / "train.py", "--cfg", "job", "modle=dcgan", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: modle=dcgan: unknown setting")


SCRIPT = """
    import sys, time
    from pathlib import Path
    from forger.errors import DataError
    from forger.app.cli import job, main

    CONFIGS = Path({configs!r})

    def work(cfg, command):
        if cfg.seed == 1:
            raise DataError("data.root=x: is damaged")
        if cfg.seed == 2:
            raise RuntimeError("a bug")
        if cfg.seed == 3:
            print("ready", flush=True)
            time.sleep(60)
        return job.objective(cfg, {{"train/loss_g": 1.0}})

    if __name__ == "__main__":
        job.WORK["train"] = work
        main.run("train", CONFIGS)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(dedent(SCRIPT.format(configs=str(ROOT / "configs"))))
    return path


class TestJobs:
    def test_a_run_gets_a_folder_of_its_own(self, script: Path, tmp_path: Path) -> None:
        done = python(script, "name=mine", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        (folder,) = (tmp_path / "logs" / "mine").iterdir()
        stamp = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
        pattern = rf"{stamp}_vanilla-non_saturating-mnist-s0_[0-9a-f]{{6}}"
        assert re.fullmatch(pattern, folder.name)

    def test_a_users_mistake_in_a_run(self, script: Path, tmp_path: Path) -> None:
        done = python(script, "seed=1", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, "error: data.root=x: is damaged\n")
        assert list((tmp_path / "logs").rglob("*.log")) == []

    def test_a_bug_shows_its_traceback(self, script: Path, tmp_path: Path) -> None:
        done = python(script, "seed=2", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith("RuntimeError: a bug")
        (log,) = (tmp_path / "logs").rglob("*.log")
        assert "Traceback" in log.read_text()
        assert "RuntimeError: a bug" in log.read_text()

    def test_ctrl_c(self, script: Path, tmp_path: Path) -> None:
        with interruptible(str(script), "seed=3", cwd=tmp_path) as process:
            assert process.stdout is not None
            while "ready" not in process.stdout.readline():
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "interrupted by Ctrl-C\n")

    def test_the_objective(self, script: Path, tmp_path: Path) -> None:
        assert python(script, "objective=train/loss_g", cwd=tmp_path).returncode == 0
        done = python(script, "objective=val/fdi", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == (
            "error: objective=val/fdi: no such metric was logged. Allowed: train/loss_g\n"
        )

    def test_one_failing_job_does_not_stop_the_others(self, script: Path, tmp_path: Path) -> None:
        done = python(script, "-m", "seed=1,-1,2,0", "hydra.sweep.dir=sweep", cwd=tmp_path)
        assert done.returncode == 1, "a bug among them"
        (log,) = (tmp_path / "sweep").glob("*/*.log")
        assert log.parent.name.startswith("2_"), "others have left no folder"
        assert "RuntimeError: a bug" in log.read_text()
        summary = done.stderr[done.stderr.index("error: 3 of 4 jobs not finished:") :]
        for job in ("#0 seed=1", "#1 seed=-1", "#2 seed=2"):
            assert job in summary

    def test_a_sweep_of_mistakes_exits_with_2(self, script: Path, tmp_path: Path) -> None:
        assert python(script, "-m", "seed=0,-1", cwd=tmp_path).returncode == 2
        assert python(script, "-m", "seed=0,4", cwd=tmp_path).returncode == 0

    def test_a_misspelt_sweep_starts_nothing(self, script: Path, tmp_path: Path) -> None:
        done = python(script, "-m", "model=dcgan,vanila", cwd=tmp_path)
        assert done.returncode == 2
        assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", ["evaluate", "generate"])
class TestEvaluateAndGeneratePy:
    """What reads a run: no folder and no file of its own, whatever happens."""

    def test_one_message_and_no_folder(self, name: str, tmp_path: Path) -> None:
        done = python(ROOT / f"{name}.py", "run=logs/x", "device=gpu", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines() == [
            "error: 2 problems:",
            "  run=logs/x: there is no such folder or file",
            "  device=gpu: must be one of auto, cpu, cuda, cuda:<number>, mps; write device=cuda",
        ]
        assert list(tmp_path.iterdir()) == []

    def test_nothing_heavy_is_imported(self, name: str, tmp_path: Path) -> None:
        script = tmp_path / "look.py"
        script.write_text(
            dedent(
                f"""
                import runpy, sys
                sys.argv = ["{name}.py", "run=logs/x", "device=cuda"]
                try:
                    runpy.run_path({str(ROOT / f"{name}.py")!r}, run_name="__main__")
                finally:
                    print(sorted({{"torch", "lightning", "numpy", "wandb"}} & set(sys.modules)))
                """
            )
        )
        assert python(script, cwd=tmp_path).stdout == "[]\n"

    def test_a_sweep_is_refused(self, name: str, tmp_path: Path) -> None:
        done = python(ROOT / f"{name}.py", "-m", "run=a,b", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: -m: {name}.py runs once; ")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("flags", "expected"), [(["--help"], "run=<run folder>"), (["--cfg", "job"], "run: ???")]
    )
    def test_hydras_own_flags(
        self, name: str, flags: list[str], expected: str, tmp_path: Path
    ) -> None:
        done = python(ROOT / f"{name}.py", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("error", "code"), [('DataError("data.root=x: no")', 2), ('RuntimeError("a bug")', 1)]
    )
    def test_a_failure_leaves_the_folder_alone(
        self, name: str, error: str, code: int, tmp_path: Path
    ) -> None:
        """It is where the command was typed: a log there, alone, is the user's."""
        home, run = tmp_path / "home", tmp_path / "run"
        home.mkdir()
        (home / "mine.log").write_text("kept")
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04")
        script = tmp_path / "work.py"
        text = SCRIPT.replace('"train"', f'"{name}"').format(configs=str(ROOT / "configs"))
        head = "    if cfg.seed == 1:"
        script.write_text(dedent(text).replace(head, f"    raise {error}\n{head}", 1))
        done = python(script, f"run={run}", cwd=home)
        assert done.returncode == code, done.stderr
        assert ("Traceback" in done.stderr) == (code == 1)
        assert [path.name for path in home.iterdir()] == ["mine.log"]
