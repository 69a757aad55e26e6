from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forger.data import ImageFolder, folder_cache, folder_listing
from forger.errors import ConfigError, DataError


def put(path: Path, value: int = 100, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def make(tmp_path: Path, root: Path) -> Callable[..., ImageFolder]:
    def build(**changes: Any) -> ImageFolder:
        settings = {"root": root, "cache_dir": tmp_path / "cache", "image_size": 8, "channels": 1}
        data = ImageFolder(**{**settings, **changes})
        data.prepare_data()
        data.setup("fit")
        return data

    return build


Make = Callable[..., ImageFolder]


def firsts(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_train_and_test_folders_are_the_splits(make: Make, root: Path) -> None:
    for value, name in enumerate(["train/b/2.png", "train/a/1.png", "train/a/x/3.PNG"]):
        put(root / name, value, size=(20, 10 + value))
    put(root / "test/b/9.png", 9)
    put(root / "val/a/7.png", 7)
    data = make()
    assert data.classes == ("a", "b")
    assert data.image_shape == (1, 8, 8)
    assert firsts(data.train_images) == [1, 2, 0]
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 0, 1]
    assert firsts(data.test_images) == [9]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1]


def test_a_flat_folder_has_no_classes_and_a_part_is_held_out(make: Make, root: Path) -> None:
    for value in range(20):
        put(root / f"{value:02}.png", value)
    data = make(test_fraction=0.2)
    assert data.classes is None
    assert data.train_labels is None
    assert data.num_train_images == 16
    assert sorted(firsts(data.train_images) + firsts(data.test_images)) == list(range(20))
    assert firsts(make(test_fraction=0.2, seed=1).test_images) == firsts(data.test_images)


def test_part_of_train_is_held_out_where_there_is_no_test(make: Make, root: Path) -> None:
    for value in range(10):
        put(root / "train" / "ab"[value % 2] / f"{value}.png", value)
    data = make()
    assert data.num_train_images == 9
    assert data.test_images.shape == (1, 1, 8, 8)
    assert data.classes == ("a", "b")


def test_a_new_image_moves_hardly_any_other(make: Make, root: Path) -> None:
    for value in range(100):
        put(root / f"{value}.png", value)
    before = set(firsts(make().test_images))
    put(root / "new.png", 200)
    assert len(before - set(firsts(make().test_images))) <= 1


def test_nothing_held_out_is_said_when_scores_ask_for_it(make: Make, root: Path) -> None:
    put(root / "a.png")
    data = make(test_fraction=0.0)
    assert data.num_train_images == 1
    with pytest.raises(DataError, match=r"has no test images; .*data\.test_fraction=0\.1"):
        _ = data.test_images
    with pytest.raises(DataError, match="would hold out all of the 1 images"):
        make()


def test_hidden_and_other_files_are_skipped(make: Make, root: Path) -> None:
    put(root / "a.png", 1)
    put(root / "b.JPEG", 2)
    for name in (".c.png", ".git/d.png", "__MACOSX/e.png"):
        put(root / name)
    (root / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    data = make(test_fraction=0.0)
    assert data.num_train_images == 2
    assert data.classes is None


def test_colour(make: Make, root: Path) -> None:
    put(root / "a.png", 5)
    assert make(channels=3, test_fraction=0.0).train_images.shape == (1, 3, 8, 8)


def test_later_runs_use_the_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    first = make(test_fraction=0.0)
    monkeypatch.setattr(folder_cache, "decode", None)
    again = make(test_fraction=0.0)
    assert torch.equal(first.train_images, again.train_images)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


@pytest.mark.parametrize("change", ["pixels", "time", "name", "more", "size", "channels", "root"])
def test_any_change_builds_another_cache(
    make: Make, root: Path, tmp_path: Path, change: str
) -> None:
    path = put(root / "a.png", 1)
    make(test_fraction=0.0)
    settings: dict[str, Any] = {}
    if change == "pixels":
        put(path, 2, size=(30, 40))
    elif change == "time":
        os.utime(path, ns=(0, 0))
    elif change == "name":
        path.rename(root / "b.png")
    elif change == "more":
        put(root / "b.png", 1)
    elif change == "root":
        settings = {"root": root.rename(tmp_path / "moved")}
    else:
        settings = {"image_size": 9} if change == "size" else {"channels": 3}
    make(test_fraction=0.0, **settings)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_nothing_is_written_into_the_root(
    make: Make, root: Path, fingerprint: Callable[[Path], dict[str, str]]
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    before = fingerprint(root)
    assert make().test_images is not None
    assert fingerprint(root) == before


def test_a_build_cut_off_leaves_no_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "a.png")

    def cut(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_cache, "_decode_all", cut)
    with pytest.raises(KeyboardInterrupt):
        make(test_fraction=0.0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_half_a_file_of_a_killed_build_is_not_taken_for_the_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process cannot clean up: what it leaves must have another name."""
    put(root / "a.png", 3)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with monkeypatch.context() as patch:
        patch.setattr(folder_cache, "_decode_all", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(test_fraction=0.0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".tmp"]
    assert firsts(make(test_fraction=0.0).train_images) == [3]


def test_two_builds_at_once_both_finish(make: Make, root: Path, tmp_path: Path) -> None:
    for value in range(50):
        put(root / f"{value:02}.png", value)
    found: list[list[int]] = []
    barrier = threading.Barrier(2)

    def build() -> None:
        barrier.wait()
        found.append(firsts(make(test_fraction=0.0).train_images))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(50))] * 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_order_holds_over_many_tasks_and_threads(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_cache, "_TASK", 3)
    monkeypatch.setattr(folder_cache, "_AHEAD", 2)
    monkeypatch.setattr(folder_cache, "_TINY", 0)
    monkeypatch.setattr(folder_cache, "_PATIENCE", 0)  # with the progress bar
    for value in range(20):
        put(root / f"{value:02}.png", value)
    assert firsts(make(test_fraction=0.0).train_images) == list(range(20))


def test_unreadable_images_are_named(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "good.png")
    for index in range(6):
        (root / f"bad{index}.png").write_bytes(b"no image")
    cut = put(root / "cut.jpg", size=(64, 64))
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(DataError, match="7 of 8 images cannot be read") as caught:
        make(test_fraction=0.0)
    message = str(caught.value)
    assert str(root / "bad0.png") in message
    assert message.endswith("and 2 more")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cut_photo_is_unreadable(make: Make, root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    root.mkdir()
    path = root / "cut.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"cut\.jpg: .*truncated"):
        make(test_fraction=0.0)


def test_a_link_to_nowhere_is_named(make: Make, root: Path) -> None:
    root.mkdir()
    (root / "a.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        make(test_fraction=0.0)


def test_root_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: .*as in data\.root=path/to/images"):
        ImageFolder(cache_dir=tmp_path)


def test_missing_empty_and_wrong_folders(make: Make, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        make()
    root.mkdir()
    with pytest.raises(DataError, match=r"no images in .*\.jpg, \.jpeg"):
        make()
    with pytest.raises(DataError, match="is a file"):
        make(root=put(tmp_path / "one.png"))


def test_no_permission(make: Make, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patched, because the administrator, who runs tests in containers, may read everything."""
    put(root / "cats" / "a.png")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folder_listing.os, "scandir", refuse)
    with pytest.raises(DataError, match="cats cannot be read: Permission denied"):
        make()


def test_cache_that_cannot_be_written(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "a.png")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*cannot take the decoded images"):
        make(test_fraction=0.0)


def test_images_beside_class_folders_are_ambiguous(make: Make, root: Path) -> None:
    put(root / "a.png")
    put(root / "cats" / "b.png")
    with pytest.raises(DataError, match=r"directly \(1, such as a\.png\) and .*cats/b\.png"):
        make()


def test_test_classes_must_be_among_those_of_train(make: Make, root: Path) -> None:
    put(root / "train/cats/a.png")
    put(root / "train/dogs/a.png")
    put(root / "test/cats/b.png")
    assert make().classes == ("cats", "dogs")
    put(root / "test/cows/b.png")
    with pytest.raises(DataError, match="test/ has the class 'cows', which train/ lacks"):
        make()


def test_test_without_class_folders(make: Make, root: Path) -> None:
    put(root / "train/cats/a.png")
    put(root / "test/b.png")
    with pytest.raises(DataError, match="train/ has class folders, and test/ has none"):
        make()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 2}, r"data\.channels=2: must be 1 \(grey\) or 3 \(colour\)"),
        ({"test_fraction": 1.0}, r"data\.test_fraction=1\.0"),
        ({"image_size": 0}, r"data\.image_size=0"),
        ({"image_size": None}, r"data\.image_size=None"),
    ],
)
def test_wrong_settings_are_named(make: Make, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**settings)
