"""What `pip install .` gives: a command with its configs, from a wheel, in any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import forger
from forger import __main__ as forger_command
from forger import errors
from forger.app.cli.arguments import program_again
from forger.app.config.command import type_program

ROOT = Path(__file__).parents[1]
TINY = ("data=mnist_sample", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    builders = pytest.importorskip("hatchling.builders.wheel")
    folder = tmp_path_factory.mktemp("wheel")
    built = builders.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(next(built)) as file:
        yield file


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pip unpacks, to stand before the clone on the path."""
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


def test_the_wheel_holds_the_configs_and_the_command(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    private = {name for name in configs if name.startswith("configs/local/")}
    assert {f"forger/{name}" for name in configs - private} <= names
    assert not {f"forger/{name}" for name in private} & names, "git ignores them"
    assert {"forger/py.typed", "forger/__main__.py"} <= names
    assert {f"forger/app/report/page.{kind}" for kind in ("html", "css", "js")} <= names
    assert {"hydra_plugins/forger_sweeps/__init__.py"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        *("forger", "hydra_plugins", "forger_gan")
    }
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "forger = forger.__main__:main" in wheel.read(points).decode()


def test_what_the_quickstart_needs_is_installed_along(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = wheel.read(name).decode()
    assert "\nName: forger-gan\n" in metadata, "forger is a stranger's on the index"
    assert f"\nVersion: {forger.__version__}\n" in metadata
    assert re.search(r"^Requires-Dist: mlxtend[^;]*$", metadata, re.MULTILINE)


def run(cwd: Path, *command: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80"} | ({"PYTHONPATH": str(site)} if site else {})
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def typed(cwd: Path, *command: str, site: Path | None = None) -> str:
    """What a command prints that ends well."""
    done = run(cwd, *command, site=site)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_settings_are_found_in_any_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "configs" / "loss").mkdir(parents=True)
    own = "_target_: forger.losses.Hinge\nn_critic: 7\n"
    (tmp_path / "configs" / "loss" / "mine.yaml").write_text(own)
    command = ["-m", "forger", "train", "--config-dir", "configs", "--cfg", "job", "loss=mine"]
    assert "n_critic: 7" in typed(tmp_path, *command, site=installed)
    for name in ("train", "evaluate", "generate", "explore", "export"):
        told = typed(tmp_path, "-m", "forger", name, "--help", site=installed)
        assert f"  forger {name} " in told
        assert ".py" not in told
    (tmp_path / "own").symlink_to(ROOT / "configs")  # --config-path as a user types it
    command = [str(ROOT / "train.py"), "--config-path", "own", "--info", "searchpath"]
    assert str(tmp_path / "own") in typed(tmp_path, *command)


def test_a_job_of_a_sweep_is_started_by_the_same_command(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "forger", "train", "-m", "seed=-1", site=installed)
    assert done.returncode == 2
    assert "#0 : seed=-1" in done.stderr
    assert "seed=-1: must be a whole number" in done.stderr


@pytest.mark.slow
def test_processes_of_a_sweep_and_of_a_run_are_started_again(
    installed: Path, tmp_path: Path
) -> None:
    """By the launcher, for a job of its own, and in it by torch's launcher, for the second rank."""
    settings = [*TINY, "trainer.max_steps=2", "metrics=none", "trainer=ddp_cpu"]
    launcher = ["hydra/launcher=joblib", "hydra.sweep.dir=sweep", "trainer.threads=1"]
    told = typed(tmp_path, "-m", "forger", "train", "-m", *settings, *launcher, site=installed)
    assert "1 of 1 jobs finished" in told
    assert list(tmp_path.glob("sweep/0*/checkpoints/last.ckpt"))
    assert list(tmp_path.glob("sweep/0*/train.log"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "usage: forger <command>"),
        (["--help"], 0, "usage: forger <command>"),
        (["--version"], 0, f"forger {forger.__version__}\n"),
        (["trian"], 2, "error: forger trian: no such command; did you mean 'train'? Allowed: "),
        (["seed=1"], 2, "the command comes first; write forger train seed=1\n"),
        (["-m", "evaluate", "run=a b"], 2, "write forger evaluate -m 'run=a b'\n"),
    ],
)
def test_what_is_no_command(
    words: list[str],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["forger", *words])
    ended = 0
    try:
        forger_command.main()
    except SystemExit as error:
        ended = error.code  # type: ignore[assignment]
    output = capsys.readouterr()
    assert ended == code
    assert told in (output.err if code else output.out)


def test_a_program_is_started_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(sys, "argv", ["/clone/train.py", "seed=1"])
    monkeypatch.setattr(main, "__spec__", None)
    script = program_again()
    assert script == (sys.executable, "/clone/train.py")
    assert type_program(script, "evaluate") == "python evaluate.py"
    monkeypatch.setattr(sys, "argv", ["/venv/bin/forger", "train", "seed=1"])
    assert program_again(["train"]) == (sys.executable, "/venv/bin/forger", "train")
    monkeypatch.setattr(main, "__spec__", forger_command.__spec__)
    module = program_again(["train"])
    assert module == (sys.executable, "-m", "forger.__main__", "train")
    assert type_program(module, "evaluate") == "forger evaluate"


def test_extras_are_installed_from_where_the_package_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `errors.py` names the distribution, since it knows that it is installed."""
    assert errors.install_command("optuna") == 'pip install -e ".[optuna]"'
    monkeypatch.setattr(errors, "_CLONE", tmp_path)
    assert errors.install_command("optuna") == 'pip install "forger-gan[optuna]"'
    files = [path for folder in ("src", "configs", "docs") for path in (ROOT / folder).rglob("*.*")]
    for path in [*files, ROOT / "README.md"]:
        if path.suffix in (".py", ".yaml", ".md") and path.name != "errors.py":
            found = re.search(r"install [\"']?forger.*", path.read_text())
            assert found is None, (path, found)
