"""`compile=true`, as a user meets it: what is told, what is refused, and what may change."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit, make_gan
from own_project import own, write_own
from same import differences
from training import command, mistakes, resumed, rows, run_folder, short, trained

from forger.app.run.compilation import Compilation
from forger.app.run.train import train
from forger.callbacks.interrupts import Interrupts
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError, Interrupted

# torch's compiler looks at it and hides the warning when shown; here it is raised first
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def refuses(graph: Any, inputs: Any) -> Any:
    raise NotImplementedError("no code for this\nand a page of advice")


def test_the_log_tells_how_long_it_took(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "forger")
    compilation = Compilation(Interrupts(), "eager")
    compilation.check(torch.device("cpu"))
    with compilation.errors_worded():
        fit(make_gan(), tmp_path, callbacks=[compilation])
    (told,) = [r.getMessage() for r in caplog.records if r.name.startswith("forger")]
    assert "both networks; the first iteration took" in told


def test_what_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    compilation = Compilation(Interrupts(), refuses)
    message = "compile=true: torch cannot compile this here: .*no code for this; .*compile=false"
    with pytest.raises(ConfigError, match=message):
        compilation.check(torch.device("cpu"))
    with pytest.raises(ConfigError, match=message), compilation.errors_worded():
        fit(make_gan(), tmp_path, callbacks=[compilation])
    compilation.interrupts.asked = signal.SIGINT  # which ended the compiler too
    with pytest.raises(Interrupted) as caught, compilation.errors_worded():
        fit(make_gan(), tmp_path, callbacks=[compilation])
    assert caught.value.cause == "Ctrl-C"


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), KeyboardInterrupt()])
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, Compilation(Interrupts()).errors_worded():
        raise error
    assert caught.value is error


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state


def test_a_run_is_resumed_with_it_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = partial(Compilation, backend="aot_eager")
    monkeypatch.setattr("forger.app.run.train.Compilation", backend)
    small = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]")
    run = trained(tmp_path / "cut", "compile=true", *small)
    more = ("compile=false", "trainer.max_steps=4")
    assert mistakes(run, *more) == []
    train(resumed(run, *more))
    whole = trained(tmp_path / "whole", *small, steps=4)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert [row["step"] for row in rows(run)] == ["1", "2", "3", "4"]


@pytest.mark.slow
class TestInductor:
    @pytest.fixture
    def compiling(self, tmp_path: Path) -> Callable[..., Any]:
        """Runs train.py with compilers' files below the test's folder."""
        own_cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
        return partial(command, environment=own_cache)

    def test_a_run_that_was_cut_off_ends_with_the_same_bits(
        self, tmp_path: Path, compiling: Callable[..., Any]
    ) -> None:
        words = ["compile=true", "trainer.threads=1", "loss=r3gan", "callbacks.samples.n=70"]
        for folder, steps in (("cut", 2), ("whole", 5)):
            done = compiling(*short(tmp_path / folder, *words, steps=steps))
            assert done.returncode == 0, done.stderr
            assert "compiled        both networks" in done.stderr + done.stdout
            assert "both networks, but D under gradient penalties" in done.stderr + done.stdout
        run = run_folder(tmp_path / "cut")
        assert compiling(f"resume={run}", "trainer.max_steps=5").returncode == 0
        assert not differences(weights(run), weights(run_folder(tmp_path / "whole")))

    def test_two_processes(self, tmp_path: Path, compiling: Callable[..., Any]) -> None:
        """Compute what they do without; no batch statistics, which would differ anyway."""
        states = []
        for word in ("compile=false", "compile=true"):
            folder = tmp_path / word.partition("=")[2]
            write_own(folder)
            words = ["model=linear", "data=stripes", "loss=wgan_gp", "trainer=ddp_cpu", word]
            words += ["metrics=none", "trainer.threads=1", "data.batch_size=2"]
            done = compiling(*own(folder, *words), cwd=folder)
            assert done.returncode == 0, done.stderr
            states.append(weights(run_folder(folder)))
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5, msg=name)

    def test_a_compiler_that_does_not_work(self, tmp_path: Path) -> None:
        own_cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
        done = command(*short(tmp_path, "compile=true"), environment=own_cache | {"CXX": "false"})
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert "compile=true: torch cannot compile this here" in line
        assert not list((tmp_path / "logs").rglob("status.json"))
        assert "Traceback" not in done.stderr
