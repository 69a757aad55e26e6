from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from helpers import make_gan
from lightning.pytorch import Callback
from same import differences
from short_run import After, last
from short_run import run as train

from forger.callbacks import Checkpoint
from forger.checkpoints.writing import WholeCheckpointIO


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations at which a checkpoint is written."""
    steps: list[int] = []
    write = WholeCheckpointIO.save_checkpoint

    def counted(self: Any, checkpoint: dict[str, Any], *rest: Any, **more: Any) -> None:
        steps.append(checkpoint["global_step"])
        write(self, checkpoint, *rest, **more)

    monkeypatch.setattr(WholeCheckpointIO, "save_checkpoint", counted)
    return steps


def run(folder: Path, *callbacks: Any, **settings: Any) -> None:
    train(folder, *callbacks, plugins=[WholeCheckpointIO()], **settings)


def test_the_newest_state_and_the_one_before_load_as_weights_only(tmp_path: Path) -> None:
    gan = make_gan()
    run(tmp_path, Checkpoint(every_n_steps=3), gan=gan, max_epochs=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["last.ckpt", "previous.ckpt"]  # and nothing half written
    assert last(tmp_path)["global_step"] == 20
    assert last(tmp_path, "previous")["global_step"] == 20, "before and after the last scores"
    assert not differences(dict(gan.state_dict()), dict(last(tmp_path)["state_dict"]))


@pytest.mark.parametrize(
    ("settings", "limits", "expected"),
    [
        ({}, {}, [14, 14]),
        ({"every_n_steps": 7}, {}, [7, 14, 14]),
        ({"every_n_epochs": 2}, {}, [14, 14]),
        ({"every_n_steps": 5, "every_n_epochs": 1}, {}, [5, 7, 10, 14, 14]),
        ({"every_n_epochs": 1}, {"max_steps": 13}, [7, 13, 13]),  # an epoch that is cut off is none
    ],
)
def test_saves_at_its_intervals_and_at_the_end(
    settings: dict[str, Any],
    limits: dict[str, int],
    expected: list[int],
    tmp_path: Path,
    saves: list[int],
) -> None:
    run(tmp_path, Checkpoint(**settings), **({"max_epochs": 2, "batches": 7} | limits))
    assert saves == expected


def test_saves_by_the_clock(
    tmp_path: Path, saves: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    half_a_minute = After(lambda _: now.append(now.pop() + 30.0))
    run(tmp_path, half_a_minute, Checkpoint(every_n_minutes=1.2))
    assert saves == [3, 6, 9, 10, 10]


class Last(Callback):
    """What scores and samples do at the end; `stops` ends training early by itself."""

    def __init__(self, folder: Path, stops: str = "", fails: bool = False) -> None:
        self.folder, self.stops, self.fails = folder, stops, fails
        self.done = False

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.stops == "iteration" and trainer.global_step == 7:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        if self.stops == "epoch":
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        assert last(self.folder)["global_step"] == trainer.global_step
        assert not last(self.folder)["callbacks"]["Last"]["done"]
        if self.fails:
            raise RuntimeError("no score")
        self.done = True

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}


@pytest.mark.parametrize(
    ("stops", "settings", "iteration"),
    [
        ("", {"max_steps": 5}, 5),
        ("", {"max_epochs": 2}, 20),
        ("iteration", {"max_epochs": 2}, 7),
        ("epoch", {"max_epochs": 3}, 10),
    ],
)
def test_the_end_is_saved_before_what_other_callbacks_do_there_and_after_it(
    stops: str, settings: dict[str, int], iteration: int, tmp_path: Path
) -> None:
    run(tmp_path, Checkpoint(), Last(tmp_path, stops), **settings)
    content = last(tmp_path)
    assert (content["global_step"], content["callbacks"]["Last"]["done"]) == (iteration, True)

    with pytest.raises(RuntimeError, match="no score"):
        run(tmp_path / "b", Checkpoint(), Last(tmp_path / "b", stops, fails=True), **settings)
    assert last(tmp_path / "b")["global_step"] == iteration


def test_a_stop_that_must_wait_for_min_steps_saves_no_more_than_usual(
    tmp_path: Path, saves: list[int]
) -> None:
    run(tmp_path, Checkpoint(), Last(tmp_path, "iteration"), min_steps=9, max_epochs=2)
    assert saves == [10, 10], "Lightning ends the epoch first"


def test_a_failed_run_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    def fail(trainer: Any) -> None:
        if trainer.global_step == 8:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run(tmp_path, Checkpoint(every_n_steps=3), After(fail))
    assert last(tmp_path)["global_step"] == 6
