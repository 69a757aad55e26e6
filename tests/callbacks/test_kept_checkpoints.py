"""Numbered checkpoints: all that were due, or the best by score; the same in a run that goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import fit, make_gan
from lightning import Trainer
from lightning.pytorch import Callback
from same import differences
from short_run import After, last
from short_run import run as train
from test_scores import Told

from forger.callbacks.checkpoint import Checkpoint, save_now
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.scores import ScoreCallback
from forger.checkpoints import numbered
from forger.checkpoints.writing import WholeCheckpointIO, keep_as
from forger.errors import ConfigError, RunError
from forger.whole_files import remove_leftovers

NAN = math.nan


def kept(folder: Path) -> list[int]:
    """Iterations of numbered checkpoints, each of which holds its own."""
    found = [
        int(path.stem.removeprefix("iteration_")) for path in folder.glob("checkpoints/iteration_*")
    ]
    for iteration in found:
        assert last(folder, Path(numbered(iteration)).stem)["global_step"] == iteration
    return sorted(found)


def run(folder: Path, *callbacks: Any, **settings: Any) -> Trainer:
    return train(folder, *callbacks, plugins=[WholeCheckpointIO()], **settings)


def scored(folder: Path, fids: Sequence[float], keep: Any, **settings: Any) -> Trainer:
    """Scores every second iteration, as `fids` say."""
    scores = ScoreCallback(lambda _: Told(list(fids)), every_n_steps=2, num_fake=40)
    callbacks = [ExactResume(), scores, Checkpoint(every_n_steps=3, keep=keep)]
    defaults = {"max_steps": 2 * len(fids), "enable_checkpointing": True}
    return fit(make_gan(), folder, callbacks=callbacks, **(defaults | settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_n_steps": 4}, [4, 8, 10]),
        ({"every_n_epochs": 1}, [7, 10]),
        ({"every_n_steps": 5, "every_n_epochs": 1}, [5, 7, 10]),
        ({}, [10]),
    ],
)
def test_all_that_were_due_and_the_end_are_kept(
    settings: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    limits = {"max_steps": 10, "max_epochs": -1, "batches": 7}
    run(tmp_path, Checkpoint(keep="all", **settings), **limits)
    assert kept(tmp_path) == expected
    run(tmp_path / "b", Checkpoint(**settings), **limits)
    assert kept(tmp_path / "b") == []


class AtTheEnd(Callback):
    """What scores and samples do at the end."""

    done = False

    def on_train_end(self, *_: Any) -> None:
        self.done = True

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}


def test_the_end_is_kept_with_all_that_belongs_to_it_and_takes_no_room_of_its_own(
    tmp_path: Path,
) -> None:
    run(tmp_path, Checkpoint(keep="all"), AtTheEnd())
    assert last(tmp_path, "iteration_10")["callbacks"]["AtTheEnd"]["done"]
    files = [tmp_path / "checkpoints" / name for name in ("last.ckpt", "iteration_10.ckpt")]
    assert len({file.stat().st_ino for file in files}) == 1


def test_what_an_interrupt_saves_is_not_kept(tmp_path: Path) -> None:
    stop = After(lambda trainer: save_now(trainer) if trainer.global_step == 3 else None)
    run(tmp_path, stop, Checkpoint(every_n_steps=4, keep="all"))
    assert kept(tmp_path) == [4, 8, 10]


@pytest.mark.parametrize(
    ("fids", "keep", "expected"),
    [
        ([5, 4, 3, 2, 1], 2, [8, 10]),
        ([1, 2, 3, 4, 5], 2, [2, 4]),
        ([5, 1, 4, 2, 3], 3, [4, 8, 10]),
        ([5, 1, 4, 2, 3], 1, [4]),
        ([5, 4, 3], 9, [2, 4, 6]),
        ([2, 2, 2], 2, [2, 4]),  # the earlier of equals
        ([NAN, 5, NAN, 4, NAN], 3, [4, 8]),
    ],
)
def test_the_best_by_score_are_kept(
    fids: list[float], keep: int, expected: list[int], tmp_path: Path
) -> None:
    scored(tmp_path, fids, keep)
    assert kept(tmp_path) == expected


@pytest.mark.parametrize("keep", ["all", 2])
@pytest.mark.parametrize("at", [3, 4, 5, 6, 7])
def test_a_run_that_goes_on_keeps_what_it_would_have_kept(
    keep: Any, at: int, tmp_path: Path
) -> None:
    """Cut off after iteration `at`, by then with the checkpoint of iteration 3 or 6."""
    fids = [5.0, 3, 4, 2, 6]
    scored(tmp_path / "whole", fids, keep)
    folder = tmp_path / "cut"

    def cut(trainer: Trainer) -> None:
        if trainer.global_step == at:
            raise KeyError("killed")

    killed = [
        ExactResume(),
        ScoreCallback(lambda _: Told(list(fids)), every_n_steps=2, num_fake=40),
        Checkpoint(every_n_steps=3, keep=keep),
    ]
    killed.insert(2, After(cut))  # before the checkpoint of that iteration
    with pytest.raises(KeyError, match="killed"):
        fit(make_gan(), folder, callbacks=killed, max_steps=10, enable_checkpointing=True)
    path = folder / "checkpoints" / "last.ckpt"
    begun = 0
    if path.is_file():
        begun = last(folder)["global_step"]
    scored(folder, fids[begun // 2 :], keep, max_steps=10, ckpt_path=path if begun else None)
    assert kept(folder) == kept(tmp_path / "whole") != []
    for iteration in kept(folder):
        name = Path(numbered(iteration)).stem
        one, other = (dict(last(tmp_path / run, name)["state_dict"]) for run in ("cut", "whole"))
        assert not differences(one, other)


def test_a_number_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keep=3: keeps the best by FID, and this run does not"):
        run(tmp_path, Checkpoint(keep=3))
    with pytest.raises(ConfigError, match=r"keep=3: .*write metrics=quick, or .*keep=all"):
        run(tmp_path, Checkpoint(keep=3), ScoreCallback(lambda _: Told([]), 2, wanted=False))


@pytest.mark.parametrize("keep", [0, -1, 1.5, "best", True])
def test_values_that_mean_nothing(keep: Any) -> None:
    with pytest.raises(ConfigError, match=rf"callbacks\.checkpoint\.keep={keep}"):
        Checkpoint(keep=keep)


def test_a_file_system_without_links_gets_a_whole_copy_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run(tmp_path, Checkpoint(every_n_steps=4, keep="all"))
    assert kept(tmp_path) == [4, 8, 10]
    checkpoints = tmp_path / "checkpoints"
    assert (checkpoints / "iteration_10.ckpt").read_bytes() == (
        checkpoints / "last.ckpt"
    ).read_bytes()
    monkeypatch.setattr("shutil.copyfileobj", refuse)
    with pytest.raises(RunError, match=r"iteration_5\.ckpt: .* cannot be written: no links"):
        keep_as(checkpoints / "last.ckpt", "iteration_5.ckpt")
    assert {path.name for path in checkpoints.iterdir()} == {
        *("last.ckpt", "previous.ckpt"),
        *map(numbered, (4, 8, 10)),
    }


def test_what_a_kill_between_two_names_leaves_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"whole")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        keep_as(tmp_path / "last.ckpt", "iteration_5.ckpt")
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path, older_than=0)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
